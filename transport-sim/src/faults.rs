//! The room for how faults strike a world, how they end, and when a healed world is at rest.

use node::{Input, Node};
use paxos_core::{Instant, NodeId, Role};

use crate::ambush::Ambush;
use crate::client::Client;
use crate::nemesis::{Fault, Lone};
use crate::network::Quality;
use crate::observer::{Fact, Observer, Violation};
use crate::seat::Seat;
use crate::world::{Event, NOBODY, World};

/// When the faults ended, and how long the world may take from then on to come to rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Healed {
    pub(crate) at: Instant,
    pub(crate) patience_us: u64,
}

impl<O: Observer> World<O> {
    pub(crate) fn seat_of(&self, node: NodeId) -> usize {
        self.seats.iter().position(|seat| seat.id == node).unwrap_or(0)
    }

    pub(crate) fn strike(&mut self, fault: &Fault) -> Result<(), Violation> {
        if self.healed.is_some() || !self.can_afford(fault) {
            return Ok(());
        }
        if self.trace.prints() {
            self.trace.line(self.report.steps, self.now, None, format_args!("fault {fault:?}"));
        }
        self.report.faults[fault.kind()] += 1;
        self.see(NOBODY, &Fact::Struck(fault))?;
        match fault {
            Fault::Crash { node, down_us } => self.crash(self.seat_of(*node), Some(*down_us), true),
            Fault::PowerLoss { nodes, down_us } => {
                nodes.iter().try_for_each(|node| self.crash(self.seat_of(*node), Some(*down_us), false))
            }
            Fault::Terminate { node, down_us } => self.terminate(self.seat_of(*node), *down_us),
            Fault::Pause { node, us } => self.pause(self.seat_of(*node), *us),
            Fault::Partition { cuts, us } => {
                cuts.iter().for_each(|(from, to)| self.network.cut(*from, *to));
                self.after(*us, Event::Mend { cuts: cuts.clone() });
                Ok(())
            }
            Fault::Clog { from, to, us } => {
                self.network.clog(*from, *to, self.now.plus_us(*us));
                Ok(())
            }
            Fault::CutClients { node, us } => {
                let seat = self.seat_of(*node);
                self.unreachable.insert(seat);
                self.after(*us, Event::MendClients { seat });
                Ok(())
            }
            Fault::ResetClients { node } => self.reset_clients(self.seat_of(*node)),
            Fault::HandOver { to } => {
                (0..self.seats.len()).try_for_each(|seat| self.input(seat, Input::HandOver { to: *to }))
            }
            Fault::DiskStall { node, us } => {
                let seat = self.seat_of(*node);
                self.seats[seat].stalled_until = self.now.plus_us(*us);
                Ok(())
            }
            Fault::DiskFailure { node, operations, once, down_us } => {
                let seat = self.seat_of(*node);
                if self.seats[seat].node().is_some() {
                    self.seats[seat].down_us = *down_us;
                    self.seats[seat].files.fail_in(*operations, *once);
                }
                Ok(())
            }
            Fault::Decapitate { down_us } => self.decapitate(*down_us),
            Fault::Storm { loss, us, down_us } => {
                self.network.storm(self.now.plus_us(*us), *loss);
                if let Some(down_us) = down_us {
                    self.after(*us, Event::Decapitate { down_us: *down_us });
                }
                Ok(())
            }
            Fault::Ambush { late_us, us, then } => {
                self.ambush = Some(Ambush { late_us: *late_us, us: *us, then: *then, victim: None });
                Ok(())
            }
            Fault::Wipe { node, down_us, remedy } => self.wipe(self.seat_of(*node), *down_us, *remedy),
            Fault::OldImage { node, us, down_us } => self.back_up(self.seat_of(*node), *us, *down_us),
            Fault::Rot { node, down_us, number } => self.rot(self.seat_of(*node), *down_us, *number),
            Fault::FreezeClock { node, us } => {
                let seat = self.seat_of(*node);
                self.seats[seat].clock.freeze(self.now, *us);
                Ok(())
            }
            Fault::CutLeader { lone, us } => {
                self.cut_leader(*lone, *us);
                Ok(())
            }
            Fault::SlowReader { client, us } => self.stop_reading(*client, *us),
            Fault::Crowd { node, connections, us } => {
                self.crowd(self.seat_of(*node), *connections, *us);
                Ok(())
            }
            Fault::Remove { node } => {
                let seat = self.seat_of(*node);
                self.seats[seat].removed = true;
                self.crash(seat, None, false)
            }
        }
    }

    /// Whoever leads loses its links for a while, or one direction of them.
    fn cut_leader(&mut self, lone: Lone, us: u64) {
        let Some(seat) = self.leader() else { return };
        let node = self.seats[seat].id;
        let others = self.seats.iter().map(|seat| seat.id).filter(|other| *other != node);
        let cuts: Vec<(NodeId, NodeId)> = others
            .flat_map(|other| match lone {
                Lone::Deaf => vec![(other, node)],
                Lone::Mute => vec![(node, other)],
                Lone::Alone | Lone::Gone => vec![(other, node), (node, other)],
            })
            .collect();
        cuts.iter().for_each(|(from, to)| self.network.cut(*from, *to));
        self.after(us, Event::Mend { cuts });
        if lone == Lone::Gone {
            self.unreachable.insert(seat);
            self.after(us, Event::MendClients { seat });
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |seat: &Seat| seat.node().is_some_and(|node| matches!(node.replica().role(), Role::Leading { .. }));
        self.seats.iter().position(leads)
    }

    pub(crate) fn decapitate(&mut self, down_us: u64) -> Result<(), Violation> {
        match self.leader() {
            Some(seat) if self.healed.is_none() => self.crash(seat, Some(down_us), true),
            Some(_) | None => Ok(()),
        }
    }

    /// Ends the faults when their time is over, and then looks whether all is done: true if so.
    pub(crate) fn look(&mut self) -> Result<bool, Violation> {
        /// Between two looks, in microseconds.
        const LOOK_US: u64 = 20_000;
        let Some(healed) = self.healed else {
            self.heal()?;
            self.after(LOOK_US, Event::Look);
            return Ok(false);
        };
        let waited = self.now.since_us(healed.at);
        self.report.healed_in_us = waited;
        if self.is_done() {
            self.counts_connections()?;
            return Ok(true);
        }
        if waited > healed.patience_us {
            return Err(Violation::new("liveness", self.stuck()));
        }
        self.after(LOOK_US, Event::Look);
        Ok(false)
    }

    /// All faults end: links are good, whoever is down is started, whoever stood still goes on.
    fn heal(&mut self) -> Result<(), Violation> {
        if self.trace.prints() {
            self.trace.line(self.report.steps, self.now, None, format_args!("all faults end"));
        }
        self.see(NOBODY, &Fact::Healed)?;
        self.healed = Some(Healed { at: self.now, patience_us: self.patience_us() });
        self.network.heal(Quality::CALM);
        self.unreachable.clear();
        self.ambush = None;
        self.take_strangers_away()?;
        for seat in 0..self.seats.len() {
            self.seats[seat].stalled_until = self.now;
            self.seats[seat].down_us = 0;
            self.seats[seat].files.fail_no_more();
            if self.seats[seat].removed {
                continue;
            }
            self.seats[seat].clock.thaw(self.now);
            self.arm(seat);
            let life = self.seats[seat].life;
            self.resume(seat, life)?;
            if self.seats[seat].is_down() {
                self.start(seat)?;
            }
        }
        self.end_bad_manners()?;
        for client in 0..self.clients.len() {
            self.serve(client, Client::hurry)?;
        }
        Ok(())
    }

    /// How long the healed world may take, if the scenario does not say: 20 election time-outs, and what clients need
    /// at the most to notice that an old connection is dead, to hear CLUSTERDOWN, and to ask for what they had not asked
    /// for yet.
    fn patience_us(&self) -> u64 {
        /// One operation of many, on calm links and disks.
        const OPERATION_US: u64 = 5_000;
        if let Some(rest_us) = self.scenario.rest_us {
            return rest_us;
        }
        let patience = self.scenario.clients.iter().map(|manner| manner.patience_us).max().unwrap_or(0);
        let operations: u64 = self.clients.iter().map(Client::left).sum();
        let due_us = self.clients.iter().map(|client| client.due_for_us(self.now)).max().unwrap_or(0);
        20 * self.scenario.election_timeout_us() + 4 * patience + operations * OPERATION_US + due_us
    }

    fn is_done(&self) -> bool {
        if !self.clients.iter().all(Client::is_done) {
            return false;
        }
        let mut states = self.seats.iter().filter(|seat| !seat.removed).map(|seat| {
            seat.node().map(|node| {
                let status = node.status();
                (status.applied, status.digest)
            })
        });
        let first = states.next().flatten();
        first.is_some() && states.all(|state| state == first)
    }

    /// What there is to see of a world that does not come to rest.
    fn stuck(&self) -> String {
        let clients: Vec<String> = self
            .clients
            .iter()
            .filter(|client| !client.is_done())
            .map(|client| format!("client {} has {} open operations", client.name(), client.open()))
            .collect();
        let nodes: Vec<String> = self
            .seats
            .iter()
            .map(|seat| match seat.node().map(Node::status) {
                Some(status) => format!(
                    "{:?} {:?} {:?} leader {:?} first_unchosen {} applied {} digest {:016x}",
                    seat.id,
                    status.role,
                    status.ballot,
                    status.leader,
                    status.first_unchosen,
                    status.applied,
                    status.digest
                ),
                None => format!("{:?} down{}", seat.id, if seat.removed { " for good" } else { "" }),
            })
            .collect();
        format!("the healed world does not come to rest: {clients:?} {nodes:?}")
    }
}
