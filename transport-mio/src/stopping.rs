//! The steps of a clean stop, each with its time: finish what is open, hand leadership over, answer the rest
//! INDOUBT, let the replies out, leave.

use paxos_core::Instant;

/// For commands that are under way: most are chosen within milliseconds.
const FINISHING_US: u64 = 100_000;
/// For the successor to win its phase 1.
const HANDING_OVER_US: u64 = 300_000;
/// For the last replies to leave.
const LEAVING_US: u64 = 500_000;

/// How far the stop has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stopping {
    /// Open commands may finish.
    Finishing {
        /// When that is over.
        until: Instant,
    },
    /// Leadership is on its way to another node.
    HandingOver {
        /// When it is given up.
        until: Instant,
    },
    /// Everything was answered; replies leave.
    Leaving {
        /// When it is given up.
        until: Instant,
    },
}

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing yet.
    Wait,
    /// Hand leadership over.
    HandOver,
    /// Answer every open request.
    AnswerAll,
    /// End the process.
    Leave,
}

impl Stopping {
    /// The stop was asked for.
    pub(crate) fn begin(now: Instant) -> Stopping {
        Stopping::Finishing { until: now.plus_us(FINISHING_US) }
    }

    /// When `step` is to be called at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        match *self {
            Stopping::Finishing { until } | Stopping::HandingOver { until } | Stopping::Leaving { until } => until,
        }
    }

    /// Goes on. `leads`: this node leads and somebody else could; `quiet`: every client has gone.
    pub(crate) fn step(&mut self, now: Instant, leads: bool, quiet: bool) -> Step {
        let over = now >= self.deadline();
        match self {
            Stopping::Finishing { .. } if !over => Step::Wait,
            Stopping::Finishing { .. } if leads => {
                *self = Stopping::HandingOver { until: now.plus_us(HANDING_OVER_US) };
                Step::HandOver
            }
            Stopping::HandingOver { .. } if leads && !over => Step::Wait,
            Stopping::Finishing { .. } | Stopping::HandingOver { .. } => {
                *self = Stopping::Leaving { until: now.plus_us(LEAVING_US) };
                Step::AnswerAll
            }
            Stopping::Leaving { .. } if quiet || over => Step::Leave,
            Stopping::Leaving { .. } => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(leads: impl Fn(u64) -> bool, quiet: impl Fn(u64) -> bool) -> Vec<(u64, Step)> {
        let mut stopping = Stopping::begin(Instant::from_us(0));
        let mut steps = Vec::new();
        for ms in 0..2_000 {
            let step = stopping.step(Instant::from_us(ms * 1_000), leads(ms), quiet(ms));
            if step != Step::Wait {
                steps.push((ms, step));
            }
            if step == Step::Leave {
                break;
            }
        }
        steps
    }

    #[test]
    fn a_follower_finishes_answers_and_leaves() {
        assert_eq!(steps(|_| false, |_| true), [(100, Step::AnswerAll), (101, Step::Leave)]);
    }

    #[test]
    fn a_leader_hands_over_first_and_waits_until_it_has() {
        assert_eq!(steps(|ms| ms < 150, |_| true), [(100, Step::HandOver), (150, Step::AnswerAll), (151, Step::Leave)]);
    }

    #[test]
    fn nobody_can_keep_it_from_leaving() {
        assert_eq!(steps(|_| true, |_| false), [(100, Step::HandOver), (400, Step::AnswerAll), (900, Step::Leave)]);
    }
}
