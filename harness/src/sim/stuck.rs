//! Why a healed world does not come to rest: a class that explains it, from ghost state, or none, and then it is a
//! violation. Faults that leave too little alive for service are legal; a cluster that could serve and does not is wrong.

use node::Node;
use paxos_core::NodeId;
use transport_sim::{Quality, Scenario, Violation, World};

use super::cluster::Watch;

/// What keeps a world from its rest and is no defect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// No node that is left holds some chosen entry.
    CopiesLost,
    /// The voters that are left, the fenced ones included, make no quorum.
    NoQuorum,
    /// They would, but too many of them have fenced themselves.
    FencedDisks,
    /// The nodes agree and one of them leads; a client hangs up before any answer can reach it.
    ClientPatience,
}

impl Class {
    /// Every class, in the order in which they are looked for: one that comes first explains those behind it.
    pub const ALL: [Class; 4] = [Class::CopiesLost, Class::NoQuorum, Class::FencedDisks, Class::ClientPatience];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::CopiesLost => "copies lost",
            Class::NoQuorum => "no quorum",
            Class::FencedDisks => "fenced disks",
            Class::ClientPatience => "client patience",
        }
    }
}

/// How a stuck world stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Standing {
    /// Every chosen entry is on the disk of a node that is left.
    copies: bool,
    /// Both quorums can be had among the nodes that are left.
    quorums: bool,
    /// And among those of them that are not fenced.
    unfenced_quorums: bool,
    /// The nodes hold the same state.
    agree: bool,
    /// A node leads and is ready.
    led: bool,
    /// Some client that is not done waits less than an answer takes.
    impatient: bool,
}

impl Standing {
    fn class(self) -> Option<Class> {
        let explains = |class: &Class| match class {
            Class::CopiesLost => !self.copies,
            Class::NoQuorum => !self.quorums,
            Class::FencedDisks => !self.unfenced_quorums,
            Class::ClientPatience => self.agree && self.led && self.impatient,
        };
        Class::ALL.into_iter().find(explains)
    }

    fn of(world: &World<Watch>) -> Standing {
        let (judge, scenario) = (world.observer.judge(), world.observer.scenario());
        let left: Vec<NodeId> = world.nodes().map(|node| node.formatted().node).collect();
        let working: Vec<&Node> = world.nodes().filter(|node| node.replica().fenced().is_none()).collect();
        let unfenced: Vec<NodeId> = working.iter().map(|node| node.formatted().node).collect();
        let mut states = working.iter().map(|node| (node.status().applied, node.status().digest));
        let first = states.next();
        let leads = |node: &&Node| matches!(node.replica().role(), paxos_core::Role::Leading { ready: true });
        Standing {
            copies: judge.lost_copy(&left).is_none(),
            quorums: judge.has_quorums(&left),
            unfenced_quorums: judge.has_quorums(&unfenced),
            agree: states.all(|state| Some(state) == first),
            led: working.iter().any(leads),
            impatient: scenario.clients.iter().any(|manner| manner.patience_us < answer_us(scenario)),
        }
    }
}

/// What an answer takes at the least: there and back between client and leader, and between leader and quorum, and a sync.
fn answer_us(scenario: &Scenario) -> u64 {
    4 * Quality::CALM.delay_us_min + scenario.disk.sync_us_min
}

/// What keeps this world from its rest, or that nothing does which would be no defect.
///
/// # Errors
/// `stuck`, with what was seen.
pub fn classify(world: &World<Watch>, seen: &Violation) -> Result<Class, Violation> {
    let standing = Standing::of(world);
    standing.class().ok_or_else(|| Violation::new("stuck", format!("unexplained: {}; {standing:?}", seen.detail)))
}

#[cfg(test)]
mod tests {
    use paxos_core::{ElectionPolicy, Genesis, Incarnation, Instant, Member, Membership, QuorumSystem};
    use transport_sim::{Fault, START};

    use super::*;
    use crate::sim::cluster::{Wanted, run_scenario};

    const WELL: Standing =
        Standing { copies: true, quorums: true, unfenced_quorums: true, agree: true, led: true, impatient: false };

    #[test]
    fn a_cluster_that_could_serve_has_no_excuse() {
        let lost = Standing { copies: false, quorums: false, unfenced_quorums: false, ..WELL };
        let cases = [
            (WELL, None),
            (Standing { agree: false, led: false, ..WELL }, None),
            (Standing { led: false, impatient: true, ..WELL }, None),
            (Standing { agree: false, impatient: true, ..WELL }, None),
            (Standing { impatient: true, ..WELL }, Some(Class::ClientPatience)),
            (Standing { unfenced_quorums: false, ..WELL }, Some(Class::FencedDisks)),
            (Standing { quorums: false, unfenced_quorums: false, ..WELL }, Some(Class::NoQuorum)),
            (lost, Some(Class::CopiesLost)),
        ];
        for (standing, class) in cases {
            assert_eq!(standing.class(), class, "{standing:?}");
        }
    }

    /// Three voters on calm links with these quorums, and what happens to them.
    fn scenario(quorum: QuorumSystem, faults: Vec<(Instant, Fault)>) -> Scenario {
        let member = |node| Member { node: NodeId(node), incarnation: Incarnation(u64::from(node)), generation: 0 };
        let membership = Membership::new((1..=3).map(member).collect(), Vec::new(), quorum).expect("legal");
        let drawn = Scenario::draw(1, ElectionPolicy::Stable).expect("legal");
        let genesis = Genesis::new(membership, drawn.genesis.alpha()).expect("legal");
        let (quality, faults_us) = (Quality::CALM, 10_000_000);
        Scenario { genesis, quality, slow_disks: Vec::new(), late: Vec::new(), drift: 0, faults_us, faults, ..drawn }
    }

    fn ending(scenario: Scenario) -> (Option<Class>, Option<&'static str>) {
        let outcome = run_scenario(scenario, Wanted::nothing()).outcome;
        (outcome.stuck, outcome.violation.map(|violation| violation.invariant))
    }

    #[test]
    fn what_is_left_explains_why_nothing_goes_on() {
        let at = |us: u64| START.plus_us(us);
        assert_eq!(ending(scenario(QuorumSystem::Majority, Vec::new())), (None, None));
        let remove = |node| Fault::Remove { node: NodeId(node) };
        let two_gone = vec![(at(2_000_000), remove(1)), (at(2_000_000), remove(2))];
        assert_eq!(ending(scenario(QuorumSystem::Majority, two_gone)), (Some(Class::NoQuorum), None));
        let mut impatient = scenario(QuorumSystem::Majority, Vec::new());
        impatient.clients.iter_mut().for_each(|manner| manner.patience_us = 100);
        assert_eq!(ending(impatient), (Some(Class::ClientPatience), None));
    }

    /// A leader that chooses alone is cut off, chooses on, and goes for good: what it chose last is nowhere.
    #[test]
    fn an_entry_whose_only_holder_is_gone_is_lost() {
        let alone = QuorumSystem::Flexible { phase1: 3, phase2: 1 };
        let endings: Vec<Option<Class>> = (1..=3)
            .map(|leader| {
                let others = (1..=3).filter(|node| *node != leader);
                let cuts = others.map(|other| (NodeId(leader), NodeId(other))).collect();
                let cut = (START.plus_us(3_000_000), Fault::Partition { cuts, us: 5_000_000 });
                let gone = (START.plus_us(3_200_000), Fault::Remove { node: NodeId(leader) });
                let (class, violation) = ending(scenario(alone, vec![cut, gone]));
                assert_eq!(violation, None, "node {leader}");
                class
            })
            .collect();
        assert!(endings.contains(&Some(Class::CopiesLost)), "{endings:?}");
    }
}
