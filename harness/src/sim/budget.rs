//! What a calm seed may spend: messages for each chosen slot and each read, and time for each command.
//!
//! A cluster that keeps all its promises can still be wrong by saying everything twice, or by waiting for timers where
//! an answer would do. Where nothing goes wrong both show, as numbers above these.

use std::collections::{BTreeMap, BTreeSet};

use paxos_core::{Body, Instant, NodeId};
use transport_sim::{Fact, Moment, OperationId, Quality, START, Scenario, Violation};

use crate::invariants::Tally;

/// Between the leader and each other node a slot costs an Accept and an Accepted, if it is alone in its run.
const MESSAGES_PER_SLOT: u64 = 2;
/// Where half of the voters or fewer choose, or the window has room for hardly a slot, others are told of choices by
/// Success besides, before they answered to the bid.
const MESSAGES_PER_SLOT_TOLD: u64 = 4;
/// A change of the leader costs each other node a Prepare, a Promise of a few chunks at the most, and the prefix.
const MESSAGES_PER_BALLOT: u64 = 8;
/// In a hundredth: holes are asked for, and what is chosen last is told, by messages of their own.
const MESSAGES_SLACK: u64 = 102;
/// A sync in the tail takes longer than an acknowledgement is waited for. What it holds up is said again, by Accept or
/// by Success, and answered again, twice at the most before the next sync.
const MESSAGES_PER_LATE_SYNC: u64 = 8;
/// A round of reads costs each other node a heartbeat and its echo.
const HEARTBEATS_PER_READ: u64 = 2;
/// In a hundredth: heartbeats are not sent at the very moment at which they are due, but never more often.
const HEARTBEATS_SLACK: u64 = 105;
/// How many times the mean of its messages and its sync a command may take.
const COMMAND_MEANS: u64 = 2;

/// Counts what a world spends, if it is calm.
#[derive(Debug)]
pub struct Budget {
    calm: bool,
    peers: u64,
    messages_per_slot: u64,
    heartbeat_us: u64,
    election_timeout_us: u64,
    /// How long an acknowledgement is waited for, less the way there and back.
    resend_us: u64,
    /// Syncs under way, and how many took so long that what waited for them was said again.
    syncing: BTreeMap<NodeId, Instant>,
    late_syncs: u64,
    /// What a command takes on average on these links and disks, alone.
    command_us: u64,
    heartbeats: u64,
    messages: u64,
    reads: u64,
    answered: u64,
    open: BTreeSet<OperationId>,
    /// Time in which some command was open, since the first answer.
    busy_us: u64,
    first_answer: Option<Instant>,
    last: Instant,
}

impl Budget {
    /// Nothing spent.
    pub fn new(scenario: &Scenario) -> Budget {
        let Quality { delay_us_min, jitter_us, .. } = Quality::CALM;
        let disk = scenario.disk;
        let membership = scenario.genesis.membership();
        let voters = membership.voters().len();
        let told = 2 * membership.quorum().phase2_size(voters) <= voters || scenario.config.window_slots <= 2;
        Budget {
            calm: scenario.is_calm(),
            peers: (membership.members().count() as u64).saturating_sub(1),
            messages_per_slot: if told { MESSAGES_PER_SLOT_TOLD } else { MESSAGES_PER_SLOT },
            heartbeat_us: scenario.config.heartbeat_us,
            election_timeout_us: scenario.config.election_timeout_us,
            resend_us: scenario.config.resend_us.saturating_sub(2 * (delay_us_min + jitter_us)),
            syncing: BTreeMap::new(),
            late_syncs: 0,
            // From the client to the leader, to a quorum whose slower half syncs, and back.
            command_us: 4 * (delay_us_min + jitter_us) + disk.sync_us_min + 2 * disk.sync_jitter_us,
            heartbeats: 0,
            messages: 0,
            reads: 0,
            answered: 0,
            open: BTreeSet::new(),
            busy_us: 0,
            first_answer: None,
            last: START,
        }
    }

    /// Looks at one fact.
    pub fn see(&mut self, moment: Moment, fact: &Fact<'_>) {
        if !self.calm {
            return;
        }
        if self.first_answer.is_some() && !self.open.is_empty() {
            self.busy_us += moment.now.since_us(self.last);
        }
        self.last = moment.now;
        match fact {
            Fact::Posted { message, .. } if matches!(message.body, Body::Heartbeat(_)) => self.heartbeats += 1,
            Fact::Posted { .. } => self.messages += 1,
            Fact::Syncing { .. } => {
                self.syncing.insert(moment.node, moment.now);
            }
            Fact::Synced => {
                // A record waits for the sync before its own too.
                let took_us = self.syncing.remove(&moment.node).map_or(0, |begun| moment.now.since_us(begun));
                self.late_syncs += u64::from(2 * took_us >= self.resend_us);
            }
            Fact::Asked(operation) => {
                self.reads += u64::from(operation.is_read());
                self.open.insert(operation.id);
            }
            Fact::Answered { id, .. } => {
                self.open.remove(id);
                self.answered += 1;
                self.first_answer.get_or_insert(moment.now);
            }
            Fact::Unknown { id } => {
                self.open.remove(id);
            }
            _ => {}
        }
    }

    /// Compares what a calm world spent with what it may.
    ///
    /// # Errors
    /// `message-budget` or `throughput-budget`.
    pub fn judge(&self, tally: &Tally) -> Result<(), Violation> {
        if !self.calm {
            return Ok(());
        }
        let spent = |what: &str, spent: u64, budget: u64| format!("{spent} {what}, the budget is {budget}; {self:?}");
        let each = self.messages_per_slot * tally.chosen + MESSAGES_PER_BALLOT * tally.ballots_led;
        let messages_max = self.peers * each * MESSAGES_SLACK / 100 + MESSAGES_PER_LATE_SYNC * self.late_syncs;
        if self.messages > messages_max {
            let why = spent("messages but heartbeats", self.messages, messages_max);
            return Err(Violation::new("message-budget", why));
        }
        let links = self.peers * (self.peers + 1);
        let intervals = self.last.since_us(START) / self.heartbeat_us + 2;
        let heartbeats_max = links * intervals * HEARTBEATS_SLACK / 100 + HEARTBEATS_PER_READ * self.peers * self.reads;
        if self.heartbeats > heartbeats_max {
            return Err(Violation::new("message-budget", spent("heartbeats", self.heartbeats, heartbeats_max)));
        }
        // A new leader, if there is a reason for one, may take its time; then commands take what messages and disks take.
        let busy_us_max =
            self.answered * COMMAND_MEANS * self.command_us + tally.ballots_led * self.election_timeout_us;
        if self.busy_us > busy_us_max {
            let what = format!("us for {} commands", self.answered);
            return Err(Violation::new("throughput-budget", spent(&what, self.busy_us, busy_us_max)));
        }
        Ok(())
    }

    /// Commands answered for each second in which there were any to answer, and messages but heartbeats for each
    /// chosen slot and peer, in hundredths; `None` for a world that is not calm.
    pub fn spent(&self, tally: &Tally) -> Option<(u64, u64)> {
        let slots = (self.peers * tally.chosen).max(1);
        self.calm.then(|| (self.answered * 1_000_000 / self.busy_us.max(1), self.messages * 100 / slots))
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::ElectionPolicy;
    use transport_sim::{Observer, Trace, World};

    use super::*;
    use crate::invariants::Invariants;

    struct Watch {
        judge: Invariants,
        budget: Budget,
    }

    impl Observer for Watch {
        fn see(&mut self, moment: Moment, fact: &Fact<'_>) -> Result<(), Violation> {
            self.budget.see(moment, fact);
            self.judge.see(moment, fact)
        }
    }

    /// What a scenario breaks if its budget is that of a calm world.
    fn broken(scenario: &Scenario) -> Option<&'static str> {
        let budget = Budget { calm: true, ..Budget::new(scenario) };
        let watch = Watch { judge: Invariants::with_clients(scenario.limits.sessions_max), budget };
        let mut world = World::new(scenario.clone(), watch, Trace::silent()).expect("starts");
        world.run(u64::MAX).expect("comes to rest");
        let Watch { judge, budget } = &world.observer;
        budget.judge(&judge.tally()).err().map(|violation| violation.invariant)
    }

    /// The same seeds are within their budget as they are, and beyond it where links lose messages or hold them up, so
    /// that things are said again and waited for.
    #[test]
    fn what_is_said_again_or_waited_for_is_beyond_the_budget() {
        let calm = (1..).filter_map(|seed| {
            let scenario = Scenario::draw(seed, ElectionPolicy::Stable).ok()?;
            (scenario.is_calm() && scenario.genesis.membership().voters().len() >= 3).then_some(scenario)
        });
        let (mut lossy, mut late) = (BTreeSet::new(), BTreeSet::new());
        for scenario in calm.take(3) {
            assert_eq!(broken(&scenario), None, "seed {}", scenario.seed);
            let loss = Quality { loss: 300_000, ..Quality::CALM };
            lossy.extend(broken(&Scenario { quality: loss, ..scenario.clone() }));
            let delay = Quality { delay_us_min: 20_000, ..Quality::CALM };
            late.extend(broken(&Scenario { quality: delay, ..scenario }));
        }
        assert!(lossy.contains("message-budget"), "{lossy:?}");
        assert!(late.contains("throughput-budget"), "{late:?}");
    }
}
