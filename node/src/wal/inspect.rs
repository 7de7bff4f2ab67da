//! The room for showing a log to people: everything in it in order, damage included, and nothing changed.

use std::collections::VecDeque;

use paxos_core::{ClusterId, Incarnation, NodeId, Record};

use super::error::{Corruption, Damage, KnownBy, WalError};
use super::files::Files;
use super::layout::{GROUP_HEAD_BYTES, SegmentHead, padded, segment_name};
use super::record;
use super::recover::segments;
use super::scan::{Damaged, Found, Segment, checked_record};

/// Something in a log.
#[derive(Debug)]
pub struct Inspected {
    /// The number of its segment.
    pub segment: u64,
    /// Where in the segment it begins.
    pub offset: u64,
    /// What it is, or what is wrong.
    pub item: Result<Item, WalError>,
}

/// What a log is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// The head of a segment.
    Segment {
        /// How long the segment is.
        bytes: u64,
        /// Groups begin at multiples of this.
        align_bytes: u32,
        /// Whose log it is a piece of.
        cluster: ClusterId,
        /// That node.
        node: NodeId,
        /// That life of its disk.
        incarnation: Incarnation,
    },
    /// The head of a whole group: what one sync made durable.
    Group {
        /// From 1, one more with each group.
        sequence: u64,
        /// How many records follow.
        records: u32,
        /// How long they are.
        bytes: u32,
    },
    /// A record of that group.
    Record(Record),
    /// The mark behind the last group of a segment.
    End,
    /// The last group, not whole, with nothing behind it: opening the log drops it, unless it finds that a lone
    /// bit was flipped.
    Torn {
        /// How many bytes of it there are.
        bytes: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Room that no group has used yet.
    Unused {
        /// How many bytes.
        bytes: u64,
    },
}

/// Everything in a log, in order.
#[derive(Debug)]
pub struct Inspect<F> {
    files: F,
    numbers: VecDeque<u64>,
    /// The number that comes next if none is missing.
    next_number: u64,
    current: Option<(Segment, SegmentHead, u64)>,
    ready: VecDeque<Inspected>,
}

impl<F: Files> Inspect<F> {
    /// Shows the log of a directory; only reads.
    ///
    /// # Errors
    /// `NotFormatted`, or what the operating system says of the directory. Anything else is shown in its place.
    pub fn new(mut files: F) -> Result<Inspect<F>, WalError> {
        let (numbers, _) = segments(&mut files)?;
        if numbers.is_empty() {
            return Err(WalError::NotFormatted);
        }
        Ok(Inspect { files, numbers: numbers.into(), next_number: 1, current: None, ready: VecDeque::new() })
    }

    fn show(&mut self, segment: u64, offset: u64, item: Result<Item, WalError>) {
        self.ready.push_back(Inspected { segment, offset, item });
    }

    fn enter(&mut self, number: u64) {
        let entered = Segment::open(&mut self.files, number)
            .and_then(|mut segment| segment.head(&mut self.files).map(|head| (segment, head)));
        match entered {
            Ok((segment, head)) => {
                let SegmentHead { owner, bytes, align, .. } = head;
                let (cluster, node, incarnation) = (owner.cluster, owner.node, owner.incarnation);
                let item = Item::Segment { bytes, align_bytes: align, cluster, node, incarnation };
                self.show(number, 0, Ok(item));
                let first = head.first_group();
                self.current = Some((segment, head, first));
            }
            Err(error) => self.show(number, 0, Err(error)),
        }
    }

    /// Shows what is at one place and says where to go on.
    fn step(&mut self, segment: &mut Segment, head: &SegmentHead, at: u64) -> Result<Option<u64>, WalError> {
        let number = segment.number;
        let seed = head.owner.seed();
        match segment.at(&mut self.files, head, seed, at)? {
            Found::Group(group, body) => {
                let (sequence, records, bytes) = (group.sequence, group.records, group.body_bytes);
                self.show(number, at, Ok(Item::Group { sequence, records, bytes }));
                let mut next = 0;
                while let Some(placed) = checked_record(&body, next) {
                    next = placed.end();
                    let offset = at + (GROUP_HEAD_BYTES + placed.at) as u64;
                    let record = record::decode(placed.head.kind, &placed.body(&body));
                    let item = record.map(Item::Record).map_err(|why| segment.corrupt(&self.files, offset, why));
                    self.show(number, offset, item);
                }
                Ok(Some(at + padded(group.bytes(), head.align)))
            }
            Found::End(_) => {
                self.show(number, at, Ok(Item::End));
                Ok(None)
            }
            Found::Damaged(damaged) => self.damaged(segment, head, at, damaged),
        }
    }

    fn damaged(
        &mut self,
        segment: &mut Segment,
        head: &SegmentHead,
        at: u64,
        damaged: Damaged,
    ) -> Result<Option<u64>, WalError> {
        let number = segment.number;
        let Some(last) = segment.last_written(&mut self.files, at, segment.bytes)? else {
            self.show(number, at, Ok(Item::Unused { bytes: segment.bytes.saturating_sub(at) }));
            return Ok(None);
        };
        let later = segment.later_write(&mut self.files, head, head.owner.seed(), (at, damaged), last)?;
        let Damaged { offset, damage, head: _ } = damaged;
        let (item, next) = match later {
            Some(known_by) => {
                let next = match known_by {
                    KnownBy::LaterGroup { offset } => Some(offset),
                    KnownBy::First | KnownBy::LaterBytes { .. } | KnownBy::LaterSegment | KnownBy::OneBit { .. } => {
                        None
                    }
                };
                (Err(segment.corrupt(&self.files, offset, Corruption::Group { damage, known_by })), next)
            }
            None => (Ok(Item::Torn { bytes: last - at + 1, damage }), None),
        };
        self.show(number, offset, item);
        Ok(next)
    }
}

impl<F: Files> Iterator for Inspect<F> {
    type Item = Inspected;

    fn next(&mut self) -> Option<Inspected> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if let Some((mut segment, head, at)) = self.current.take() {
                match self.step(&mut segment, &head, at) {
                    Ok(Some(next)) => self.current = Some((segment, head, next)),
                    Ok(None) => {}
                    Err(error) => self.show(segment.number, at, Err(error)),
                }
            } else {
                let number = *self.numbers.front()?;
                let expected = std::mem::replace(&mut self.next_number, number);
                if number == expected {
                    self.numbers.pop_front();
                    self.next_number += 1;
                    self.enter(number);
                } else {
                    let (path, reason) = (self.files.path(&segment_name(expected)), Corruption::Missing);
                    let missing = WalError::Corrupt { path, segment: expected, offset: 0, reason };
                    self.show(expected, 0, Err(missing));
                }
            }
        }
    }
}
