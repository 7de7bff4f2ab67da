//! Messages on their way, and which of them can do nothing any more.

use paxos_core::{Ballot, Body, Boot, Message};

use super::disk::place;
use super::model::Exploration;
use super::node::Node;

/// A message on its way to somebody, for good: it can arrive late, twice or never.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Envelope {
    pub(super) to: usize,
    pub(super) message: Message,
}

/// Of what use a message still is, as far as its receiver can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// It may change something.
    Some,
    /// It makes the receiver answer and nothing else: useless once the sender has no use for answers.
    Answer,
    /// None, whatever happens.
    None,
}

impl Envelope {
    pub(super) fn from(&self) -> usize {
        place(self.message.header.from)
    }

    /// Of what use it is to its receiver, now and later.
    pub(super) fn use_to(&self, model: &Exploration, receiver: &Node) -> Use {
        match &self.message.body {
            // Durable promises never fall, and refusals are left out.
            Body::Prepare(prepare) => match receiver.disk.promised() {
                promised if promised > Some(prepare.ballot) => Use::None,
                // With slow disks an answer to nobody would still wait for the disk, and so be seen in the state.
                promised if promised == Some(prepare.ballot) && !model.slow_disks => Use::Answer,
                _ => Use::Some,
            },
            Body::Accept(accept) if receiver.disk.promised() > Some(accept.ballot) => Use::None,
            Body::Accept(_) => Use::Some,
            // No ballot is tried twice.
            Body::Promise(promise) if receiver.awaits_promises(promise.ballot, promise.asker_boot) => Use::Some,
            Body::Promise(_) => Use::None,
            // For leaders alone.
            Body::Accepted(_) | Body::SuccessReply(_) if receiver.may_lead(model) => Use::Some,
            Body::Accepted(_) | Body::SuccessReply(_) => Use::None,
            Body::Success(_) | Body::Fetch(_) | Body::Heartbeat(_) | Body::Refused(_) | Body::HandOver(_) => Use::Some,
        }
    }

    /// Whether its sender still has a use for answers to it.
    pub(super) fn awaits_answer(&self, sender: &Node) -> bool {
        match &self.message.body {
            Body::Prepare(prepare) => awaits(sender, prepare.ballot, self.message.header.boot),
            _ => true,
        }
    }
}

fn awaits(sender: &Node, ballot: Ballot, boot: Boot) -> bool {
    sender.awaits_promises(ballot, boot)
}
