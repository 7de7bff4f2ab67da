//! The room for the turns of a node: what reaches it, and how its outputs are carried out.

use std::rc::Rc;

use bytes::Bytes;
use node::{Input, Output};
use paxos_core::{NodeId, Recipients, wire};

use super::{LogRead, State, broken};
use crate::network::garbled;
use crate::observer::{Fact, Observer, Violation};
use crate::world::{Event, Letter, LetterKind, World};

impl<O: Observer> World<O> {
    /// Puts a frame on its way to each of its receivers.
    fn post(&mut self, id: NodeId, to: &Recipients, frame: Bytes) -> Result<(), Violation> {
        let message = wire::decode(&frame).map_err(|error| broken("frames-decode", id, &error))?;
        let message = Rc::new(message);
        self.see(id, &Fact::Sent { to, message: &message })?;
        let late_us = self.held_back_us(id, &message);
        for to in to {
            let cut = !self.network.passes(id, to);
            let mut arrivals = self.network.send(self.now, id, to, &mut self.decisions);
            for arrival in [&mut arrivals.first, &mut arrivals.second].into_iter().flatten() {
                arrival.at = arrival.at.plus_us(late_us);
            }
            self.letters += 1;
            let number = self.letters;
            self.see(id, &Fact::Posted { letter: number, to, message: &message, arrivals, cut })?;
            for arrival in [arrivals.first, arrivals.second].into_iter().flatten() {
                let mut seat = self.seats.iter().position(|seat| seat.id == to).unwrap_or(0);
                if arrival.astray {
                    seat = (seat + 1) % self.seats.len();
                }
                let (kind, frame) = match arrival.garble {
                    _ if self.muted == Some(id) => (LetterKind::Strange, frame.clone()),
                    Some(garble) => (LetterKind::Garbled, garbled(garble, &frame, &message)),
                    None => (LetterKind::Whole, frame.clone()),
                };
                let letter = Letter { number, from: id, frame, message: Rc::clone(&message), kind };
                self.heap.push(arrival.at, Event::Frame { seat, letter });
            }
        }
        Ok(())
    }

    /// A message reaches a node, if its process is there.
    pub(crate) fn receive(&mut self, seat: usize, letter: Letter) -> Result<(), Violation> {
        if self.seats[seat].waits() {
            self.seats[seat].backlog.push(Event::Frame { seat, letter });
            return Ok(());
        }
        if self.seats[seat].node().is_none() {
            return Ok(());
        }
        if self.muted == Some(self.seats[seat].id) {
            // No link comes up to whoever is refused.
            return Ok(());
        }
        let Letter { number, from, frame, message, kind } = letter;
        match kind {
            LetterKind::Strange => return self.greet(seat, &Letter { number, from, frame, message, kind }),
            LetterKind::Garbled => return self.is_not_heeded(seat, from, frame),
            LetterKind::Whole => self.meets(seat, message.header.from, message.header.boot),
        }
        self.see(self.seats[seat].id, &Fact::Received { letter: number, message: &message })?;
        self.input(seat, Input::PeerFrame { from, frame })
    }

    /// What was garbled on its way is counted, and that is all.
    fn is_not_heeded(&mut self, seat: usize, from: NodeId, frame: Bytes) -> Result<(), Violation> {
        let dropped = |world: &World<O>| {
            let node = world.seats[seat].node()?;
            Some(node.status().frames_refused + node.replica().stats().messages_foreign)
        };
        let before = dropped(self);
        let id = self.seats[seat].id;
        self.see(id, &Fact::Garbled)?;
        self.input(seat, Input::PeerFrame { from, frame: frame.clone() })?;
        match (before, dropped(self)) {
            (Some(before), Some(after)) if after != before + 1 => {
                Err(Violation::new("garbled-frames-are-dropped", format!("{id:?} heeded {frame:?} from {from:?}")))
            }
            // Something else ended the process in this turn, or all is as it must be.
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// Hands an input to a node that runs, and carries out what it asks for.
    pub(crate) fn input(&mut self, seat: usize, input: Input) -> Result<(), Violation> {
        if self.seats[seat].paused || self.seats[seat].node().is_none() {
            return Ok(());
        }
        let State::Up(mut process) = std::mem::replace(&mut self.seats[seat].state, State::Down) else {
            return Ok(());
        };
        let id = self.seats[seat].id;
        let local = self.seats[seat].clock.read(self.now);
        if self.trace.prints() {
            self.print_input(id, &input);
        }
        let mut outputs = std::mem::take(&mut process.outputs);
        process.node.handle(local, input, &mut outputs);
        let stepped = Fact::Stepped { replica: process.node.replica(), outputs: outputs.len() };
        let mut verdict = self.see(id, &stepped).and_then(|()| self.see(id, &Fact::Served(&process.node)));
        self.seats[seat].state = State::Up(process);
        let mut fenced = false;
        for output in outputs.drain(..) {
            if self.trace.prints() {
                self.print_output(id, &output);
            }
            fenced |= matches!(output, Output::Fenced { .. });
            verdict = verdict.and_then(|()| self.carry_out(seat, output));
        }
        if let State::Up(process) = &mut self.seats[seat].state {
            process.outputs = outputs;
        }
        verdict?;
        if fenced {
            let down_us = self.seats[seat].down_us;
            return self.crash(seat, Some(down_us), true);
        }
        self.write(seat)?;
        self.arm(seat);
        self.press(seat)
    }

    fn carry_out(&mut self, seat: usize, output: Output) -> Result<(), Violation> {
        let id = self.seats[seat].id;
        let now = self.now;
        match output {
            Output::ToPeers { to, frame } => {
                self.trace.fold(now, id, &frame);
                self.post(id, &to, frame)?;
            }
            Output::Persist { ticket, record } => {
                self.trace.fold(now, id, &record);
                if let State::Up(process) = &mut self.seats[seat].state {
                    process.queue.push_back((ticket, record));
                    process.given += 1;
                }
            }
            Output::ToClient { client, bytes } => {
                self.trace.fold(now, id, &(client, &bytes));
                self.reply(client, bytes)?;
            }
            Output::CloseClient { client, reason } => self.close(client, reason)?,
            Output::PauseClient { client } => self.pause_client(client, true),
            Output::ResumeClient { client } => self.pause_client(client, false),
            Output::ReadLog { id, slots, bytes_max } => {
                if let State::Up(process) = &mut self.seats[seat].state {
                    process.reads.push_back(LogRead { after: process.given, id, slots, bytes_max });
                }
                self.read_what_is_ready(seat);
            }
            Output::RoleChanged { role, ballot, reason, .. } => {
                self.trace.fold(now, id, &(role, ballot));
                self.see(id, &Fact::Role { role, ballot, reason })?;
            }
            Output::Fenced { reason } => self.see(id, &Fact::Fenced { reason })?,
        }
        Ok(())
    }

    fn print_input(&mut self, id: NodeId, input: &Input) {
        let (step, now) = (self.report.steps, self.now);
        match input {
            Input::PeerFrame { from, frame } => match wire::decode(frame) {
                Ok(message) => self.trace.line(step, now, Some(id), format_args!("<- {from:?} {:?}", message.body)),
                Err(error) => self.trace.line(step, now, Some(id), format_args!("<- {from:?} {error}")),
            },
            Input::ClientOpened { .. }
            | Input::ClientBytes { .. }
            | Input::ClientEnded { .. }
            | Input::ClientClosed { .. }
            | Input::ClientStalled { .. }
            | Input::ClientDrained { .. }
            | Input::Persisted(_)
            | Input::PersistFailed
            | Input::LogRead { .. }
            | Input::HandOver { .. }
            | Input::Tick
            | Input::Stop => self.trace.line(step, now, Some(id), format_args!("<- {input:?}")),
        }
    }

    fn print_output(&mut self, id: NodeId, output: &Output) {
        let (step, now) = (self.report.steps, self.now);
        match output {
            Output::ToPeers { to, frame } => match wire::decode(frame) {
                Ok(message) => self.trace.line(step, now, Some(id), format_args!("-> {to:?} {:?}", message.body)),
                Err(error) => self.trace.line(step, now, Some(id), format_args!("-> {to:?} {error}")),
            },
            Output::Persist { record, .. } => {
                self.trace.line(step, now, Some(id), format_args!("-> disk {record:?}"));
            }
            Output::ToClient { .. }
            | Output::CloseClient { .. }
            | Output::PauseClient { .. }
            | Output::ResumeClient { .. }
            | Output::ReadLog { .. }
            | Output::RoleChanged { .. }
            | Output::Fenced { .. } => self.trace.line(step, now, Some(id), format_args!("-> {output:?}")),
        }
    }
}
