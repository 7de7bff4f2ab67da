//! The steps of a clean stop, each with its time: let open commands finish, hand leadership over, send clients
//! on to the new leader, answer what is still open INDOUBT, let the replies out, leave.

use paxos_core::Instant;

/// For commands that are under way: most are chosen within milliseconds.
const FINISHING_US: u64 = 100_000;
/// For the successor to win its phase 1.
const HANDING_OVER_US: u64 = 300_000;
/// For clients to be told who leads now.
const REDIRECTING_US: u64 = 100_000;
/// For the last replies to leave, and for clients to hang up.
const LEAVING_US: u64 = 500_000;

/// How far the stop has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stopping {
    /// A leader reads nothing more from clients, so that what is open can finish.
    Finishing {
        /// When that is over.
        until: Instant,
    },
    /// Leadership is on its way to another node.
    HandingOver {
        /// When it is given up.
        until: Instant,
    },
    /// Clients are read again, and sent elsewhere.
    Redirecting {
        /// When that is over.
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
    /// Read from clients again.
    Redirect,
    /// Answer every open request.
    AnswerAll,
    /// End the process.
    Leave,
}

/// What the steps depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Situation {
    /// This node leads.
    pub(crate) leads: bool,
    /// Somebody else is there who could.
    pub(crate) successor: bool,
    /// Slots are undecided.
    pub(crate) undecided: bool,
    /// Clients are connected.
    pub(crate) clients: bool,
}

impl Stopping {
    /// The stop was asked for.
    pub(crate) fn begin(now: Instant) -> Stopping {
        Stopping::Finishing { until: now.plus_us(FINISHING_US) }
    }

    /// When `step` is to be called at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        match *self {
            Stopping::Finishing { until }
            | Stopping::HandingOver { until }
            | Stopping::Redirecting { until }
            | Stopping::Leaving { until } => until,
        }
    }

    /// Goes on as far as the situation admits.
    pub(crate) fn step(&mut self, now: Instant, situation: Situation) -> Step {
        let Situation { leads, successor, undecided, clients } = situation;
        let over = now >= self.deadline();
        match self {
            Stopping::Finishing { .. } if leads && undecided && !over => Step::Wait,
            Stopping::Finishing { .. } if leads && successor => {
                *self = Stopping::HandingOver { until: now.plus_us(HANDING_OVER_US) };
                Step::HandOver
            }
            Stopping::HandingOver { .. } if leads && !over => Step::Wait,
            Stopping::Finishing { .. } | Stopping::HandingOver { .. } if !leads && clients => {
                *self = Stopping::Redirecting { until: now.plus_us(REDIRECTING_US) };
                Step::Redirect
            }
            Stopping::Redirecting { .. } if clients && !over => Step::Wait,
            Stopping::Finishing { .. } | Stopping::HandingOver { .. } | Stopping::Redirecting { .. } => {
                *self = Stopping::Leaving { until: now.plus_us(LEAVING_US) };
                Step::AnswerAll
            }
            Stopping::Leaving { .. } if clients && !over => Step::Wait,
            Stopping::Leaving { .. } => Step::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every step but waiting, with its millisecond.
    fn steps(situation: impl Fn(u64) -> Situation) -> Vec<(u64, Step)> {
        let mut stopping = Stopping::begin(Instant::from_us(0));
        let mut steps = Vec::new();
        for ms in 0..2_000 {
            let step = stopping.step(Instant::from_us(ms * 1_000), situation(ms));
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
    fn each_kind_of_node_takes_its_steps() {
        let idle = Situation { leads: false, successor: true, undecided: false, clients: false };
        let leader = |until| move |ms| Situation { leads: ms < until, clients: ms < 300, ..idle };
        let cases = [
            ("idle follower", steps(|_| idle), vec![(0, Step::AnswerAll), (1, Step::Leave)]),
            (
                "follower",
                steps(|ms| Situation { clients: ms < 150, ..idle }),
                vec![(0, Step::Redirect), (100, Step::AnswerAll), (150, Step::Leave)],
            ),
            (
                "idle leader",
                steps(|ms| Situation { leads: ms < 4, ..idle }),
                vec![(0, Step::HandOver), (4, Step::AnswerAll), (5, Step::Leave)],
            ),
            (
                "leader with clients",
                steps(leader(40)),
                vec![(0, Step::HandOver), (40, Step::Redirect), (140, Step::AnswerAll), (300, Step::Leave)],
            ),
            (
                "leader with commands under way",
                steps(|ms| Situation { undecided: ms < 7, ..leader(9)(ms) }),
                vec![(7, Step::HandOver), (9, Step::Redirect), (109, Step::AnswerAll), (300, Step::Leave)],
            ),
            (
                "the only node",
                steps(|ms| Situation { leads: true, successor: false, undecided: ms < 7, clients: ms < 9 }),
                vec![(7, Step::AnswerAll), (9, Step::Leave)],
            ),
            (
                "nobody helps",
                steps(|_| Situation { leads: true, successor: true, undecided: true, clients: true }),
                vec![(100, Step::HandOver), (400, Step::AnswerAll), (900, Step::Leave)],
            ),
        ];
        for (what, found, expected) in cases {
            assert_eq!(found, expected, "{what}");
        }
    }
}
