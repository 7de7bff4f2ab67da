//! The room for what a node's disk does: syncs that take time, what is durable behind them, what a crash left of the
//! rest, and reads of the log.

use node::wal::Wal;
use node::{Input, LogReadId};
use paxos_core::{Entries, Receipt, Record, Recovered, Recovery, RecoveryError, SlotRange};

use crate::decisions::{Fate, Stream};
use crate::observer::{Fact, Observer, Violation};
use crate::rng::Rng;
use crate::scenario::DiskQuality;
use crate::seat::{LogRead, Seat, State, broken};
use crate::world::{Event, World};

pub(crate) fn recovery_of<'a>(records: impl Iterator<Item = &'a Record>) -> Result<Recovered, RecoveryError> {
    let mut recovery = Recovery::new();
    for record in records {
        recovery.record(record.clone())?;
    }
    recovery.finish()
}

impl<O: Observer> World<O> {
    pub(crate) fn sync_us(&mut self, seat: usize) -> u64 {
        let id = self.seats[seat].id;
        let slow = self.scenario.slow_disks.iter().find(|(node, _)| *node == id);
        let quality = match (self.healed, slow) {
            (Some(_), _) => DiskQuality::CALM,
            (None, Some((_, quality))) => *quality,
            (None, None) => self.scenario.disk,
        };
        let stall = self.seats[seat].stalled_until.since_us(self.now);
        let late = |rng: &mut Rng| Fate { late_us: rng.exponential(quality.sync_jitter_us), ..Fate::default() };
        quality.sync_us_min + self.decisions.decide(self.now, Stream::Sync { node: id }, late).late_us + stall
    }

    /// Hands everything that waits to the disk, if it is free: one sync for all.
    pub(crate) fn write(&mut self, seat: usize) -> Result<(), Violation> {
        let Seat { state, writing, .. } = &mut self.seats[seat];
        let State::Up(process) = state else { return Ok(()) };
        if process.syncing || process.queue.is_empty() {
            return Ok(());
        }
        let mut failed = false;
        for (ticket, record) in process.queue.drain(..) {
            failed |= process.wal.append(&record).is_err();
            process.tickets.push(ticket);
            writing.push(record);
        }
        failed |= process.wal.sync().is_err();
        if failed {
            return self.input(seat, Input::PersistFailed);
        }
        process.syncing = true;
        let records = process.tickets.len();
        let life = self.seats[seat].life;
        let sync_us = self.sync_us(seat);
        self.after(sync_us, Event::Synced { seat, life });
        self.see(self.seats[seat].id, &Fact::Syncing { records })
    }

    /// The disk has done what it was asked for.
    pub(crate) fn synced(&mut self, seat: usize, life: u64) -> Result<(), Violation> {
        if self.seats[seat].life != life {
            return Ok(());
        }
        // A disk works on while the process stands still.
        if !self.seats[seat].writing.is_empty() {
            self.seats[seat].files.commit();
            self.seats[seat].durable_before = self.seats[seat].durable.len();
            for record in std::mem::take(&mut self.seats[seat].writing) {
                self.durable(seat, record)?;
            }
        }
        self.see(self.seats[seat].id, &Fact::Synced)?;
        /// One in so many syncs is checked by a whole recovery, which costs as much as the log is long.
        const SYNCS_PER_IMAGE: u64 = 128;
        self.syncs += 1;
        if self.syncs.is_multiple_of(SYNCS_PER_IMAGE) {
            self.worst_image_is_whole(seat)?;
        }
        if self.seats[seat].paused {
            self.seats[seat].backlog.push(Event::Synced { seat, life });
            return Ok(());
        }
        let State::Up(process) = &mut self.seats[seat].state else { return Ok(()) };
        process.syncing = false;
        let tickets = std::mem::take(&mut process.tickets);
        process.durable += tickets.len() as u64;
        // Preparing the next segment may fail; the log goes on without.
        if process.wal.wants_next() {
            let _ = process.wal.prepare_next();
        }
        self.read_what_is_ready(seat);
        let mut receipt: Option<Receipt> = None;
        for ticket in tickets {
            receipt = match receipt.take() {
                None => Some(ticket.redeem()),
                Some(receipt) => match receipt.and(ticket) {
                    Ok(receipt) => Some(receipt),
                    Err(apart) => {
                        self.input(seat, Input::Persisted(apart.receipt))?;
                        Some(apart.ticket.redeem())
                    }
                },
            };
        }
        match receipt {
            Some(receipt) => self.input(seat, Input::Persisted(receipt)),
            None => self.write(seat),
        }
    }

    pub(crate) fn read_what_is_ready(&mut self, seat: usize) {
        let life = self.seats[seat].life;
        while let State::Up(process) = &mut self.seats[seat].state
            && process.reads.front().is_some_and(|read| read.after <= process.durable)
            && let Some(LogRead { id, slots, bytes_max, .. }) = process.reads.pop_front()
        {
            let disk = if self.healed.is_some() { DiskQuality::CALM } else { self.scenario.disk };
            let read_us = disk.sync_us_min;
            self.after(read_us, Event::LogRead { seat, life, id, slots, bytes_max });
        }
    }

    pub(crate) fn log_read(
        &mut self,
        seat: usize,
        life: u64,
        id: LogReadId,
        slots: SlotRange,
        bytes_max: usize,
    ) -> Result<(), Violation> {
        if self.seats[seat].life != life {
            return Ok(());
        }
        if self.seats[seat].paused {
            self.seats[seat].backlog.push(Event::LogRead { seat, life, id, slots, bytes_max });
            return Ok(());
        }
        let node = self.seats[seat].id;
        let State::Up(process) = &mut self.seats[seat].state else { return Ok(()) };
        let entries: Entries = match process.wal.read(slots, bytes_max) {
            Ok(entries) => entries,
            Err(error) => return Err(broken("log-reads-what-is-chosen", node, &error)),
        };
        self.see(node, &Fact::LogRead { first: slots.first, entries: entries.len() })?;
        self.input(seat, Input::LogRead { id, first: slots.first, entries })
    }

    /// Recovers the worst image that could survive now, on the side: it implies every durable record.
    pub(crate) fn worst_image_is_whole(&mut self, seat: usize) -> Result<(), Violation> {
        let Seat { id, files, durable, .. } = &self.seats[seat];
        self.report.images += 1;
        let opened = Wal::open(files.worst(), self.scenario.wal);
        let (_, recovered) = opened.map_err(|error| broken("log-opens-after-a-crash", *id, &error))?;
        match recovery_of(durable.iter()) {
            Ok(expected) if expected == recovered => Ok(()),
            Ok(_) | Err(_) => Err(Violation::new(
                "worst-image-holds-what-is-durable",
                format!("{id:?} after {} records", durable.len()),
            )),
        }
    }

    /// What was recovered is what was durable, and of what the disk was at when it stopped, a first part: its length.
    pub(crate) fn survived(&mut self, seat: usize, recovered: &Recovered) -> Result<usize, Violation> {
        let id = self.seats[seat].id;
        let writing = std::mem::take(&mut self.seats[seat].writing);
        for kept in (0..=writing.len()).rev() {
            let expected = recovery_of(self.seats[seat].durable.iter().chain(&writing[..kept]));
            if expected.is_ok_and(|expected| expected == *recovered) {
                for record in writing.into_iter().take(kept) {
                    self.durable(seat, record)?;
                }
                return Ok(kept);
            }
        }
        let why = format!(
            "{id:?} recovered promise {:?}, first_unchosen {}, {} held slots, boot {:?}: no prefix of what was written",
            recovered.promised(),
            recovered.first_unchosen(),
            recovered.held_slots(),
            recovered.boot()
        );
        Err(Violation::new("recovery-is-what-was-durable", why))
    }

    pub(crate) fn durable(&mut self, seat: usize, record: Record) -> Result<(), Violation> {
        let id = self.seats[seat].id;
        let told = match &record {
            Record::Started(boot) => self.see(id, &Fact::Started { boot: *boot }),
            Record::Formatted(_)
            | Record::Promised(_)
            | Record::Accepted { .. }
            | Record::Learned { .. }
            | Record::Chosen { .. } => self.see(id, &Fact::Durable(&record)),
        };
        self.seats[seat].durable.push(record);
        told
    }
}
