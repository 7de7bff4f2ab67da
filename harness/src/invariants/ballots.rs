//! What nodes say, and the ballots they use: each has one owner, in one boot, and leads once.

use paxos_core::{Ballot, Body, Boot, Instant, Membership, Message, Slot};
use transport_sim::{Moment, Violation};

use super::{Invariants, Promises};

/// Ballots that may be led with for the first time while nothing goes wrong: a calm cluster keeps its leader.
const BALLOTS_LED_CALM_MAX: u64 = 2;

/// A ballot in use.
#[derive(Debug)]
pub(super) struct Used {
    boot: Boot,
    /// Since when.
    since: Instant,
    /// The highest prefix sent under it.
    prefix: Slot,
    led: bool,
}

impl Invariants {
    pub(super) fn sent(&mut self, moment: Moment, message: &Message) -> Result<(), Violation> {
        self.tally.messages += 1;
        let (node, header) = (moment.node, &message.header);
        let Some(seen) = self.nodes.get(&node) else {
            return Err(Violation::new("formatted-first", format!("{node:?} speaks before it was formatted")));
        };
        if header.from != node || Some(header.boot) != seen.boot {
            return Err(Violation::new("speaks-for-itself", format!("{node:?} of {:?} sent {header:?}", seen.boot)));
        }
        let image = &seen.image;
        match &message.body {
            Body::Prepare(prepare) => {
                image.testifies(node, "Prepare", Some(prepare.ballot), None)?;
                self.phase1.prepare(prepare.ballot, prepare.from);
                self.uses(moment, header.boot, prepare.ballot, None)
            }
            Body::Promise(promise) => {
                image.testifies(node, "Promise", Some(promise.ballot), Some(promise.first_unchosen))?;
                self.phase1.promise(node, header.boot, promise);
                let voter = self.membership.as_ref().and_then(|membership| membership.voter(node));
                // What a learner promises, asked by a message that went astray, counts for nobody.
                voter.map_or(Ok(()), |voter| self.slots.promise_is_whole(node, voter, promise))
            }
            Body::Refused(refused) if refused.promised <= refused.ballot => {
                Err(Violation::new("refusal-has-reason", format!("{node:?}: {refused:?}")))
            }
            Body::Refused(_) | Body::Fetch(_) => Ok(()),
            Body::Accept(accept) => {
                self.uses(moment, header.boot, accept.ballot, Some(accept.prefix))?;
                let Some(membership) = &self.membership else { return Ok(()) };
                let promises = Promises { membership, nodes: &self.nodes };
                for (offset, entry) in (0u64..).zip(accept.entries.iter()) {
                    self.slots.bid(accept.first.plus(offset), accept.ballot, entry, &promises, &mut self.outcomes)?;
                }
                let end = accept.first.plus(accept.entries.len() as u64);
                self.slots.all_chosen_below(end.minus(self.alpha), "an Accept's window (alpha)")
            }
            Body::Accepted(accepted) => {
                image.testifies(node, "Accepted", Some(accepted.ballot), Some(accepted.first_unchosen))?;
                let voter = self.membership.as_ref().and_then(|membership| membership.voter(node));
                accepted.slots.iter().try_for_each(|slot| {
                    let voted = voter.map(|voter| self.slots.voted(slot, accepted.ballot, voter));
                    // A learner acknowledges too, for flow control; its disk must have held what it says as well.
                    if voted.unwrap_or_else(|| image.voted(slot) >= Some(accepted.ballot)) {
                        return Ok(());
                    }
                    let known = self.slots.bid_entry(slot, accepted.ballot);
                    if known.is_some() && known == image.chosen(slot) {
                        return Ok(());
                    }
                    let why = format!(
                        "{node:?} sent {accepted:?}; its disk has no such vote in slot {slot}: {}",
                        image.at(slot)
                    );
                    Err(Violation::new("durable-before-send", why))
                })
            }
            Body::Success(success) => (0u64..)
                .zip(success.entries.iter())
                .try_for_each(|(offset, entry)| self.slots.is_chosen(success.first.plus(offset), entry, "a Success")),
            Body::SuccessReply(reply) => image.testifies(node, "SuccessReply", None, Some(reply.first_unchosen)),
            Body::Heartbeat(heartbeat) => {
                image.testifies(node, "Heartbeat", None, Some(heartbeat.first_unchosen))?;
                self.slots.all_chosen_below(heartbeat.prefix, "a Heartbeat's prefix")?;
                match heartbeat.leading {
                    Some(ballot) => self.uses(moment, header.boot, ballot, Some(heartbeat.prefix)),
                    None => Ok(()),
                }
            }
            Body::HandOver(hand_over) => self.uses(moment, header.boot, hand_over.ballot, Some(hand_over.prefix)),
        }
    }

    /// A ballot has one owner, in one boot; its prefix holds only chosen slots and never goes down (rule 7).
    fn uses(&mut self, moment: Moment, boot: Boot, ballot: Ballot, prefix: Option<Slot>) -> Result<(), Violation> {
        let Moment { node, now, .. } = moment;
        if ballot.node != node {
            return Err(Violation::new("one-owner-per-ballot", format!("{node:?} uses {ballot:?}")));
        }
        let used = self.ballots.entry(ballot).or_insert(Used { boot, since: now, prefix: Slot::FIRST, led: false });
        if used.boot != boot {
            let why = format!("{node:?} used {ballot:?} in {:?} and again in {boot:?}", used.boot);
            return Err(Violation::new("ballot-never-reused", why));
        }
        let Some(prefix) = prefix else { return Ok(()) };
        if prefix < used.prefix {
            let why = format!("{ballot:?} sent prefix {} and then {prefix}", used.prefix);
            return Err(Violation::new("prefix-never-falls", why));
        }
        used.prefix = prefix;
        self.slots.all_chosen_below(prefix, "a leader's prefix")
    }

    /// A node begins to try; its ballot is used when its own promise is durable.
    pub(super) fn tries(&mut self, moment: Moment, ballot: Ballot) -> Result<(), Violation> {
        if let Some(seen) = self.nodes.get_mut(&moment.node) {
            seen.tried = Some((ballot, moment.now));
        }
        Ok(())
    }

    /// A node leads with a ballot.
    pub(super) fn leads(&mut self, moment: Moment, ballot: Ballot) -> Result<(), Violation> {
        let node = moment.node;
        let boot = self.nodes.get(&node).and_then(|seen| seen.boot);
        let Some(boot) = boot else { return Ok(()) };
        self.uses(moment, boot, ballot, None)?;
        let Some(used) = self.ballots.get_mut(&ballot) else { return Ok(()) };
        if std::mem::replace(&mut used.led, true) {
            return Ok(());
        }
        let tried = self.nodes.get(&node).and_then(|seen| seen.tried).filter(|(tried, _)| *tried == ballot);
        let since = tried.map_or(used.since, |(_, at)| at.min(used.since));
        self.tally.ballots_led += 1;
        // Who tried before all was well may come to lead after it.
        if self.calm_from.is_some_and(|from| since >= from) {
            // Who needs nobody's promise but its own hears of no other candidate before it leads: those who try at the
            // same time, under the same round, all do.
            let alone = |members: &Membership| members.quorum().phase1_size(members.voters().len()) == 1;
            let together = self.membership.as_ref().is_some_and(alone) && self.rounds_led_calm.contains(&ballot.round);
            self.rounds_led_calm.insert(ballot.round);
            self.tally.ballots_led_calm += u64::from(!together);
        }
        if self.tally.ballots_led_calm > BALLOTS_LED_CALM_MAX {
            let why = format!("{node:?} leads with {ballot:?}, the {} since all is well", self.tally.ballots_led_calm);
            return Err(Violation::new("leaders-stay", why));
        }
        match &self.membership {
            Some(membership) => self.phase1.leads(node, ballot, membership),
            None => Ok(()),
        }
    }
}
