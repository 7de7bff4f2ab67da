//! The room for disks that are not what they were: wiped, formatted anew, or put back to an older image.
//!
//! The operator of such a disk has lost a node. Its log refuses to open empty; formatted anew it is another incarnation,
//! which no membership admits; an older image is a sound log, which only peers that have met a newer boot of it can
//! tell. So links to such a process greet as real ones do, with the shipped `node::hello`, and what it says is no fact
//! of the node that observers know. A copy that no peer could have noticed lies outside the safety model: there the
//! process is taken away before it is heard, and only the noticing is checked.

use std::collections::BTreeMap;

use node::Input;
use node::hello::{Hello, Identity, Refusal, Side, dials, genesis_digest};
use node::wal::{Wal, WalError};
use paxos_core::{Boot, Formatted, Genesis, Incarnation, Member, Membership, NodeId, Record};

use crate::disk::SimFiles;
use crate::nemesis::Fault;
use crate::observer::{Fact, Observer, Violation};
use crate::rng::Concern;
use crate::seat::{CLUSTER, broken};
use crate::world::{Event, Letter, World};

/// What a disk is to the member whose it was.
#[derive(Debug, Default)]
pub(crate) enum Image {
    /// Its own, as it left it.
    #[default]
    Own,
    /// Empty; the operator notices at the next start.
    Empty(Remedy),
    /// Formatted after it was lost: another incarnation.
    Anew,
    /// Put back to what it was once.
    Older,
    /// A block of it is not what was written.
    Damaged,
}

/// What an operator does about a disk that was wiped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Nothing: the node stays away.
    Away,
    /// Formats it anew and starts on it.
    Anew,
}

/// A disk as it was once, with the records that it held.
#[derive(Debug)]
pub(crate) struct Backup {
    files: SimFiles,
    durable: Vec<Record>,
}

impl<O: Observer> World<O> {
    /// Whether a fault may strike: plans take one node away at the most, and disks are lost only of clusters that have
    /// all of theirs, since a cluster can do without one (`nemesis`).
    pub(crate) fn can_afford(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Remove { .. } => self.lost.is_none(),
            Fault::Wipe { .. } | Fault::OldImage { .. } | Fault::Rot { .. } => {
                self.lost.is_none() && !self.seats.iter().any(|seat| seat.removed)
            }
            _ => true,
        }
    }

    /// The node dies, and its disk is empty.
    pub(crate) fn wipe(&mut self, seat: usize, down_us: u64, remedy: Remedy) -> Result<(), Violation> {
        self.lost = Some(self.seats[seat].id);
        self.crash(seat, Some(down_us), true)?;
        self.replace(seat, SimFiles::new(), Vec::new(), Image::Empty(remedy));
        Ok(())
    }

    /// The disk is copied and the node restarted; later it is restarted once more, on the copy.
    pub(crate) fn back_up(&mut self, seat: usize, us: u64, down_us: u64) -> Result<(), Violation> {
        if self.seats[seat].node().is_none() {
            return Ok(());
        }
        self.lost = Some(self.seats[seat].id);
        let (files, durable) = (self.seats[seat].files.worst(), self.seats[seat].durable.clone());
        self.seats[seat].backup = Some(Backup { files, durable });
        self.after(us, Event::PutBack { seat, down_us });
        self.crash(seat, Some(down_us), true)
    }

    /// The copy takes the place of the disk.
    pub(crate) fn put_back(&mut self, seat: usize, down_us: u64) -> Result<(), Violation> {
        if self.healed.is_some() {
            return Ok(());
        }
        let Some(Backup { files, durable }) = self.seats[seat].backup.take() else { return Ok(()) };
        self.crash(seat, Some(down_us), true)?;
        self.replace(seat, files, durable, Image::Older);
        Ok(())
    }

    fn replace(&mut self, seat: usize, files: SimFiles, durable: Vec<Record>, image: Image) {
        self.muted = Some(self.seats[seat].id);
        let seat = &mut self.seats[seat];
        (seat.files, seat.durable, seat.image) = (files, durable, image);
        seat.writing.clear();
    }

    /// A process that is about to start finds nothing on its disk, and refuses. False if that is the end of it.
    pub(crate) fn finds_a_log(&mut self, seat: usize) -> Result<bool, Violation> {
        let remedy = match self.seats[seat].image {
            Image::Empty(remedy) => remedy,
            Image::Damaged => return self.opens_damaged(seat),
            Image::Own | Image::Anew | Image::Older => return Ok(true),
        };
        let id = self.seats[seat].id;
        match Wal::open(self.seats[seat].files.clone(), self.scenario.wal) {
            Err(WalError::NotFormatted) => {}
            Err(error) => return Err(broken("empty-disks-are-refused", id, &error)),
            Ok(_) => return Err(Violation::new("empty-disks-are-refused", format!("{id:?} opened an empty disk"))),
        }
        let moment = self.moment(id);
        self.observer.see(moment, &Fact::FoundEmpty)?;
        if remedy == Remedy::Away {
            self.seats[seat].removed = true;
            return Ok(false);
        }
        let life = self.seats[seat].life;
        let incarnation = Incarnation(self.rng_of(Concern::Process, id, life).split().split().draw());
        let genesis = self.genesis_with(id, incarnation).map_err(|error| broken("log-can-be-made", id, &error))?;
        let formatted = Formatted { cluster: CLUSTER, node: id, incarnation, genesis };
        Wal::format(self.seats[seat].files.clone(), self.scenario.wal, formatted.clone())
            .map_err(|error| broken("log-can-be-made", id, &error))?;
        self.seats[seat].files.commit();
        self.seats[seat].durable = vec![Record::Formatted(formatted)];
        self.seats[seat].image = Image::Anew;
        Ok(true)
    }

    /// What the operator of one node believes: the members as they are, but for that one.
    fn genesis_with(&self, id: NodeId, incarnation: Incarnation) -> Result<Genesis, paxos_core::MembershipError> {
        let old = self.scenario.genesis.membership();
        let anew = |members: &[Member]| {
            let admit = |member: &Member| if member.node == id { Member { incarnation, ..*member } } else { *member };
            members.iter().map(admit).collect()
        };
        Genesis::new(
            Membership::new(anew(old.voters()), anew(old.learners()), old.quorum())?,
            self.scenario.genesis.alpha(),
        )
    }

    /// A receiver takes note of the start that it hears of, as the links of a process do.
    pub(crate) fn meets(&mut self, seat: usize, from: NodeId, boot: Boot) {
        if !self.remembers {
            return;
        }
        let met = self.seats[seat].met.entry(from).or_insert(boot);
        if boot.counter > met.counter {
            *met = boot;
        }
    }

    /// A process on a disk that is not its own calls: whoever can tell refuses the link, and says why.
    pub(crate) fn greet(&mut self, seat: usize, letter: &Letter) -> Result<(), Violation> {
        let (here, header) = (self.seats[seat].id, letter.message.header);
        let from = self.seat_of(header.from);
        let genesis = |records: &[Record]| match records.first() {
            Some(Record::Formatted(formatted)) => genesis_digest(&formatted.genesis),
            Some(_) | None => 0,
        };
        let identity = |seat: usize, incarnation: Incarnation, boot: Boot| Identity {
            cluster: CLUSTER,
            node: self.seats[seat].id,
            incarnation,
            boot,
            members: self.scenario.genesis.membership().members().copied().collect(),
            genesis: genesis(&self.seats[seat].durable),
        };
        let hello: Hello = identity(from, header.incarnation, header.boot).hello(here);
        let Some(own) = self.seats[seat].node().map(|node| node.replica().header()) else { return Ok(()) };
        let side = if dials(header.from, here) { Side::Accepted } else { Side::Dialled(header.from) };
        let newest = self.seats[seat].met.get(&header.from).copied();
        let judged = identity(seat, own.incarnation, own.boot).judge(side, &hello, newest);
        match (judged, &self.seats[from].image) {
            (Err(why @ Refusal::Incarnation { .. }), Image::Anew) => {
                self.report.turned_away += 1;
                self.see(here, &Fact::TurnedAway(&why))?;
                self.is_refused_by_core(seat, letter)
            }
            (Err(why @ (Refusal::OldBoot { .. } | Refusal::Duplicate { .. })), Image::Older) => {
                self.report.turned_away += 1;
                self.see(here, &Fact::TurnedAway(&why))
            }
            (Ok(()), Image::Older) if newest.is_none_or(|newest| newest.counter < header.boot.counter) => {
                self.report.unnoticed += u64::from(!self.seats[from].removed);
                self.take_away(from)
            }
            (judged, image) => {
                let why = format!("{here:?} met {newest:?}, judges {hello:?} of {image:?}: {judged:?}");
                Err(Violation::new("strangers-are-refused", why))
            }
        }
    }

    /// Behind the greeting there is the core: a frame of an incarnation that is no member is counted and dropped.
    fn is_refused_by_core(&mut self, seat: usize, letter: &Letter) -> Result<(), Violation> {
        let foreign = |world: &World<O>| world.seats[seat].node().map(|node| node.replica().stats().messages_foreign);
        let before = foreign(self);
        self.input(seat, Input::PeerFrame { from: letter.from, frame: letter.frame.clone() })?;
        match (before, foreign(self)) {
            (Some(before), Some(after)) if after != before + 1 => {
                Err(Violation::new("strangers-are-refused", format!("{:?} heeded {:?}", self.seats[seat].id, letter)))
            }
            // Something else ended the process in this turn, or all is as it must be.
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// The operator gives the node up.
    fn take_away(&mut self, seat: usize) -> Result<(), Violation> {
        self.crash(seat, None, true)?;
        self.seats[seat].removed = true;
        Ok(())
    }

    /// The faults end: whoever runs on a disk that is not its own goes for good, and what was copied is forgotten.
    pub(crate) fn take_strangers_away(&mut self) -> Result<(), Violation> {
        for seat in 0..self.seats.len() {
            self.seats[seat].backup = None;
            if !matches!(self.seats[seat].image, Image::Own) {
                self.take_away(seat)?;
            }
        }
        Ok(())
    }
}

/// The newest boots that a process has met.
pub(crate) type Met = BTreeMap<NodeId, Boot>;

#[cfg(test)]
pub(crate) mod tests {
    use paxos_core::{ElectionPolicy, Instant, QuorumSystem};

    use super::*;
    use crate::report::Report;
    use crate::scenario::{START, Scenario};
    use crate::trace::Trace;

    /// Three voters and nothing wrong but these faults.
    pub(crate) fn run(faults: &[(u64, Fault)]) -> Report {
        let three = |scenario: &Scenario| {
            let membership = scenario.genesis.membership();
            membership.voters().len() == 3 && membership.quorum() == QuorumSystem::Majority && scenario.is_calm()
        };
        let drawn = |seed| Scenario::draw(seed, ElectionPolicy::Stable).expect("a legal scenario");
        let calm = (1..).map(drawn).find(three).expect("one of eight seeds is calm");
        let faults: Vec<(Instant, Fault)> =
            faults.iter().map(|(at, fault)| (START.plus_us(*at), fault.clone())).collect();
        let scenario = Scenario { faults, faults_us: 12_000_000, ..calm };
        let mut world = World::new(scenario, (), Trace::silent()).expect("a world");
        world.run(u64::MAX).expect("the others go on, and strangers are refused");
        world.report()
    }

    const NODE: NodeId = NodeId(2);

    #[test]
    fn a_wiped_disk_is_refused_empty_and_by_peers_when_it_is_formatted_anew() {
        for (remedy, refused) in [(Remedy::Away, false), (Remedy::Anew, true)] {
            let report = run(&[(3_000_000, Fault::Wipe { node: NODE, down_us: 500_000, remedy })]);
            assert_eq!(report.turned_away > 0, refused, "{remedy:?}");
            assert_eq!((report.starts, report.unnoticed), (4, 0), "{remedy:?}");
        }
    }

    #[test]
    fn an_older_disk_is_refused_by_those_who_have_met_a_newer_boot() {
        let old = Fault::OldImage { node: NODE, us: 3_000_000, down_us: 100_000 };
        let report = run(&[(2_000_000, old.clone())]);
        assert!(report.turned_away > 0 && report.unnoticed == 0, "{report:?}");
        // Whoever forgot, having been restarted meanwhile, cannot tell.
        let forgets = |node| (5_050_000, Fault::Crash { node: NodeId(node), down_us: 1_000 });
        let report = run(&[(2_000_000, old), forgets(1), forgets(3)]);
        assert_eq!(report.unnoticed, 1, "{report:?}");
    }

    #[test]
    fn a_cluster_does_without_one_node_at_the_most() {
        let wipe = |node| Fault::Wipe { node: NodeId(node), down_us: 1_000, remedy: Remedy::Away };
        let report = run(&[(2_000_000, wipe(1)), (3_000_000, wipe(2)), (4_000_000, Fault::Remove { node: NodeId(3) })]);
        assert_eq!(report.faults.iter().sum::<u64>(), 1);
    }
}
