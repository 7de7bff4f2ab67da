//! What a healed world owes beside its rest (`World` waits for all clients to finish and all replicas to hold one state):
//! soon it decides something new, and no node that works waits for nothing.

use std::collections::BTreeMap;

use paxos_core::Instant;
use transport_sim::{Fact, Moment, Operation, OperationId, Quality, Scenario, Violation};

use crate::invariants::{Invariants, TooLarge};

/// Watches a world from the moment when all is well.
#[derive(Debug)]
pub struct Healing {
    calm_from: Instant,
    bound_us: u64,
    healed: bool,
    /// When a client first wrote something new.
    since: Option<Instant>,
    /// Writes that began since and have not ended.
    fresh: BTreeMap<OperationId, Operation>,
    decided_us: Option<u64>,
}

impl Healing {
    /// Nothing seen yet.
    pub fn new(scenario: &Scenario) -> Healing {
        /// In the tail of exponential delays; few messages take longer.
        const MEANS: u64 = 8;
        /// The slowest disk that a seed draws; a script does not say how slow its disks may be on average.
        const DISK_US: u64 = 5_000 + MEANS * 20_000;
        let round_trip_us = 2 * (Quality::CALM.delay_us_min + MEANS * Quality::CALM.jitter_us) + DISK_US;
        // A client whose connection died unnoticed sends nothing new before it has lost its patience.
        let patience_us = scenario.clients.iter().map(|manner| manner.patience_us).max().unwrap_or(0);
        Healing {
            calm_from: scenario.calm_from(),
            bound_us: 20 * scenario.election_timeout_us() + 10 * round_trip_us + patience_us,
            healed: false,
            since: None,
            fresh: BTreeMap::new(),
            decided_us: None,
        }
    }

    /// How long the first new command took to be decided, in microseconds, if there was one.
    pub fn decided_us(&self) -> Option<u64> {
        self.decided_us
    }

    /// Looks at one fact.
    ///
    /// # Errors
    /// `decides-when-healed` or `work-has-a-timer`.
    pub fn see(&mut self, moment: Moment, fact: &Fact<'_>, judge: &Invariants) -> Result<(), Violation> {
        match fact {
            Fact::Healed => self.healed = true,
            Fact::Served(node) if node.replica().fenced().is_none() && node.deadline().is_none() => {
                let why = format!("{:?} works and has no timer", moment.node);
                return Err(Violation::new("work-has-a-timer", why));
            }
            Fact::Asked(operation) if !operation.is_read() => {
                let is_calm = self.healed && moment.now >= self.calm_from;
                if is_calm && self.decided_us.is_none() {
                    self.since.get_or_insert(moment.now);
                    self.fresh.insert(operation.id, (*operation).clone());
                }
            }
            // What is too large is never decided.
            Fact::Answered { id, reply } if TooLarge::of(reply).is_some() => {
                self.fresh.remove(id);
                if self.fresh.is_empty() {
                    self.since = None;
                }
            }
            Fact::Durable(_) if self.decided_us.is_none() && self.since.is_some() => return self.look(moment, judge),
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, moment: Moment, judge: &Invariants) -> Result<(), Violation> {
        let Some(since) = self.since else { return Ok(()) };
        let waited = moment.now.since_us(since);
        if self.fresh.values().any(|operation| judge.slot_of(operation).is_some()) {
            self.decided_us = Some(waited);
            self.fresh.clear();
        }
        if waited > self.bound_us {
            let why = format!("nothing new was decided for {waited} us, the bound is {}", self.bound_us);
            return Err(Violation::new("decides-when-healed", why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{Ballot, ElectionPolicy, NodeId, Record};
    use transport_sim::{FAULTS_US_MIN, START};

    use super::*;

    /// A write that begins so long after the faults ended, and a disk that works so long after that.
    fn broken(asked_us: u64, worked_us: u64) -> Option<&'static str> {
        let scenario = Scenario::draw(1, ElectionPolicy::Stable).expect("a legal scenario");
        let mut healing = Healing::new(&scenario);
        let judge = Invariants::new();
        let healed = scenario.calm_from().max(START.plus_us(FAULTS_US_MIN));
        let mut see = |us: u64, fact: &Fact<'_>| {
            healing.see(Moment { step: 0, now: healed.plus_us(us), node: NodeId(1) }, fact, &judge)
        };
        let (id, args) = (OperationId { client: 1, number: 1 }, vec!["SET".into(), "k".into(), "v".into()]);
        let seen = [
            see(0, &Fact::Healed),
            see(asked_us, &Fact::Asked(&Operation { id, args, once: None })),
            see(worked_us, &Fact::Durable(&Record::Promised(Ballot { round: 1, node: NodeId(1), generation: 0 }))),
        ];
        seen.into_iter().find_map(Result::err).map(|violation| violation.invariant)
    }

    #[test]
    fn a_new_command_that_is_not_decided_in_time_is_a_violation() {
        assert_eq!(broken(0, 1_000_000), None);
        assert_eq!(broken(20_000_000, 21_000_000), None, "nobody asked before");
        assert_eq!(broken(0, 60_000_000), Some("decides-when-healed"));
    }
}
