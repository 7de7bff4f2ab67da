//! Messages on their way, and which of them can do nothing any more.

use paxos_core::{Accept, Accepted, Body, Message, Slot, SlotRange};

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
    /// It makes the receiver answer and nothing else, or says how its sender is: useless once the sender has no use for
    /// answers, or is another process.
    WhileSenderCares,
    /// None, whatever happens.
    None,
}

impl Envelope {
    pub(super) fn from(&self) -> usize {
        place(self.message.header.from)
    }

    /// Of what use it is to its receiver, now and later.
    pub(super) fn use_to(&self, model: &Exploration, receiver: &Node) -> Use {
        // With slow disks an answer to nobody would still wait for the disk, and so be seen in the state.
        let answered = if model.slow_disks { Use::Some } else { Use::WhileSenderCares };
        match &self.message.body {
            // Durable promises never fall, and refusals are left out.
            Body::Prepare(prepare) => match receiver.disk.promised() {
                promised if promised > Some(prepare.ballot) => Use::None,
                promised if promised == Some(prepare.ballot) => answered,
                _ => Use::Some,
            },
            Body::Accept(accept) => match receiver.disk.promised() {
                promised if promised > Some(accept.ballot) => self.use_when_outvoted(model, accept, receiver, answered),
                promised if promised == Some(accept.ballot) && self.is_repeat(model, accept, receiver) => answered,
                _ => Use::Some,
            },
            // No ballot is tried twice.
            Body::Promise(promise) if receiver.awaits_promises(promise.ballot, promise.asker_boot) => Use::Some,
            Body::Promise(_) => Use::None,
            Body::Accepted(accepted) if self.may_count(model, accepted, receiver) => Use::Some,
            Body::Accepted(accepted) => self.use_of_report(model, accepted.first_unchosen, receiver),
            Body::SuccessReply(reply) => self.use_of_report(model, reply.first_unchosen, receiver),
            // Whoever durably knows everything learns nothing; it only says so.
            Body::Success(_) if receiver.knows_all(model) => answered,
            Body::Success(_) => Use::Some,
            // What the one learns from the answer it confirms to the other, which is of use to leaders.
            Body::Fetch(_) if receiver.may_lead(model) => Use::Some,
            Body::Fetch(_) => answered,
            Body::Heartbeat(_) | Body::Refused(_) | Body::HandOver(_) => Use::Some,
        }
    }

    /// An Accept below the promise can still be answered with what is chosen instead (rule 9), which whoever knows
    /// everything only confirms, of use to leaders alone. Never, once the very same is known to be chosen for good.
    fn use_when_outvoted(&self, model: &Exploration, accept: &Accept, receiver: &Node, answered: Use) -> Use {
        let end = accept.first.plus(accept.entries.len() as u64);
        let silent = || receiver.reaction(model, &self.message).is_some_and(|sent| sent.is_empty());
        match receiver.may_lead(model) {
            _ if receiver.knows_for_good() >= end && silent() => Use::None,
            true => Use::Some,
            false => answered,
        }
    }

    /// An Accept of what its receiver voted for under this very ballot and knows to be chosen, with a prefix that says
    /// nothing new: all that is for good, in the log that survives a restart if there can be one.
    fn is_repeat(&self, model: &Exploration, accept: &Accept, receiver: &Node) -> bool {
        let end = accept.first.plus(accept.entries.len() as u64);
        receiver.knows_for_good() >= end.max(accept.prefix) && receiver.ignores(model, &self.message)
    }

    /// Whether a vote may still count, or join what its voter is known to hold: only for the leader of its ballot, and a
    /// ballot that is over never comes back. A leader forgets what a peer held when that is started anew. A vote that
    /// would not count even if it were for every slot up to its own is counted already, and nothing is missing before it.
    fn may_count(&self, model: &Exploration, accepted: &Accepted, receiver: &Node) -> bool {
        if !receiver.leads() || receiver.replica.ballot() != Some(accepted.ballot) {
            return false;
        }
        let slots = SlotRange { first: Slot::FIRST, end: accepted.slots.end };
        let body = Body::Accepted(Accepted { slots, first_unchosen: Slot::FIRST, ..accepted.clone() });
        !receiver.is_in_last_boot() || !receiver.ignores(model, &Message { body, ..self.message.clone() })
    }

    /// Of what use it is to hear how far a peer is: only to leaders, and only while the peer is the same process (rule 18).
    /// How far it is never falls, and who leads from now on has heard that it begins with the first slot; but it can be
    /// news again to whoever leads once more.
    fn use_of_report(&self, model: &Exploration, first_unchosen: Slot, receiver: &Node) -> Use {
        let nothing_new = first_unchosen == Slot::FIRST || !receiver.may_lead(model);
        let known_for_good = || !receiver.may_campaign(model) && receiver.ignores(model, &self.message);
        if nothing_new || known_for_good() { Use::None } else { Use::WhileSenderCares }
    }

    /// Whether its sender still has a use for answers to it, or is still what it says of itself.
    pub(super) fn is_cared_for(&self, model: &Exploration, sender: &Node) -> bool {
        let boot = self.message.header.boot;
        match &self.message.body {
            Body::Prepare(prepare) => sender.awaits_promises(prepare.ballot, boot),
            Body::Accept(_) => sender.may_lead(model) || !sender.knows_all(model),
            Body::Success(_) => sender.may_lead(model),
            Body::Accepted(_) | Body::SuccessReply(_) => sender.replica.header().boot == boot,
            Body::Fetch(_) => !sender.knows_all(model),
            Body::Promise(_) | Body::Refused(_) | Body::Heartbeat(_) | Body::HandOver(_) => true,
        }
    }
}
