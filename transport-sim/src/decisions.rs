//! The room for the small decisions of a world: how late a message is and whether it is lost, how long a sync takes,
//! what a crash leaves of unsynced bytes.
//!
//! Every decision has an address, its stream and its number in it, and is drawn from the seed and the address alone.
//! So a decision that falls away shifts no other one, and what was decided can be written down as a list of departures
//! from the plain world (nothing late, nothing lost) and be read back, with as much of it left out as one likes.

use std::collections::BTreeMap;

use paxos_core::NodeId;

use crate::rng::{Concern, Rng};

/// What decisions are numbered by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stream {
    /// Messages from one node to another.
    Link {
        /// Sender.
        from: NodeId,
        /// Receiver.
        to: NodeId,
    },
    /// Whatever goes from a client to nodes.
    ToNode {
        /// Which client.
        client: u32,
    },
    /// Whatever goes from nodes to a client.
    ToClient {
        /// Which client.
        client: u32,
    },
    /// Syncs of a node's disk.
    Sync {
        /// Which node.
        node: NodeId,
    },
    /// Crashes of a node that find something unsynced.
    Crash {
        /// Which node.
        node: NodeId,
    },
}

/// How one decision departs from the plain world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Departure {
    /// It takes so much longer than the minimum, in microseconds.
    Late(u64),
    /// It never arrives.
    Lost,
    /// It arrives once more, so many microseconds behind the first time.
    Again(u64),
    /// It arrives at another node.
    Astray,
    /// Its second arrival is at another node.
    AgainAstray,
    /// A crash keeps of unsynced writes what this number says.
    Torn(u64),
    /// A crash keeps every unsynced write.
    Kept,
}

/// One departure at its address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Decision {
    /// Where.
    pub stream: Stream,
    /// Which one there, from 1.
    pub number: u32,
    /// What.
    pub departure: Departure,
}

/// What a crash leaves of writes that nothing had synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Leaves {
    /// Nothing: the worst image.
    #[default]
    Nothing,
    /// What this number says, sector by sector.
    Torn(u64),
    /// All of it.
    Kept,
}

/// Everything that is decided at one address; what does not apply there stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fate {
    /// Beyond the minimum, in microseconds.
    pub late_us: u64,
    /// It never arrives.
    pub lost: bool,
    /// It arrives again, so many microseconds later.
    pub again_us: Option<u64>,
    /// It arrives at another node.
    pub astray: bool,
    /// The second time it does.
    pub again_astray: bool,
    /// What a crash leaves.
    pub leaves: Leaves,
}

/// All decisions of a world: drawn from its seed, or listed.
#[derive(Debug)]
pub struct Decisions {
    /// `None`: only what is listed departs from the plain world.
    seed: Option<u64>,
    streams: BTreeMap<Stream, Taken>,
    kept: Option<Vec<Decision>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: u32,
    /// By rising number; those before `at` are taken.
    listed: Vec<(u32, Departure)>,
    at: usize,
    base: u64,
}

impl Decisions {
    /// Every decision is drawn.
    pub fn drawn(seed: u64) -> Decisions {
        Decisions { seed: Some(seed), streams: BTreeMap::new(), kept: None }
    }

    /// Nothing departs from the plain world but these.
    pub fn listed(decisions: &[Decision]) -> Decisions {
        let mut streams: BTreeMap<Stream, Taken> = BTreeMap::new();
        for decision in decisions {
            streams.entry(decision.stream).or_default().listed.push((decision.number, decision.departure));
        }
        streams.values_mut().for_each(|taken| taken.listed.sort_unstable());
        Decisions { seed: None, streams, kept: None }
    }

    /// From now on departures are written down.
    pub fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// The departures that were written down.
    pub fn kept(&self) -> &[Decision] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// The next number of a stream is used up, and nothing is decided: the message met a cut, say.
    pub fn skip(&mut self, stream: Stream) {
        self.take(stream);
    }

    /// The next decision of a stream; `draw` makes it if decisions are drawn.
    pub fn decide(&mut self, stream: Stream, draw: impl FnOnce(&mut Rng) -> Fate) -> Fate {
        let (number, mut listed) = self.take(stream);
        let fate = match &mut listed {
            Some(rng) => draw(rng),
            None => self.listed_fate(stream, number),
        };
        if let Some(kept) = &mut self.kept {
            kept.extend(fate.departures().map(|departure| Decision { stream, number, departure }));
        }
        fate
    }

    /// The next number of a stream, and what draws are made from, if they are.
    fn take(&mut self, stream: Stream) -> (u32, Option<Rng>) {
        let taken = self.streams.entry(stream).or_default();
        if taken.count == 0
            && let Some(seed) = self.seed
        {
            taken.base = stream.base(seed);
        }
        taken.count += 1;
        (taken.count, self.seed.map(|_| Rng::numbered(taken.base, u64::from(taken.count))))
    }

    fn listed_fate(&mut self, stream: Stream, number: u32) -> Fate {
        let mut fate = Fate::default();
        let Some(taken) = self.streams.get_mut(&stream) else { return fate };
        while let Some((listed, departure)) = taken.listed.get(taken.at)
            && *listed <= number
        {
            if *listed == number {
                fate.depart(*departure);
            }
            taken.at += 1;
        }
        fate
    }
}

impl Stream {
    /// What draws of this stream begin from.
    fn base(self, seed: u64) -> u64 {
        let (concern, kind, one, two) = match self {
            Stream::Link { from, to } => (Concern::Network, 0, from.0, to.0),
            Stream::ToNode { client } => (Concern::Network, 1, client, 0),
            Stream::ToClient { client } => (Concern::Network, 2, client, 0),
            Stream::Sync { node } => (Concern::Disk, 0, node.0, 0),
            Stream::Crash { node } => (Concern::Disk, 1, node.0, 0),
        };
        Rng::keyed(seed, concern, kind << 32 | u64::from(one), u64::from(two)).draw()
    }
}

impl Fate {
    fn depart(&mut self, departure: Departure) {
        match departure {
            Departure::Late(us) => self.late_us = us,
            Departure::Lost => self.lost = true,
            Departure::Again(us) => self.again_us = Some(us),
            Departure::Astray => self.astray = true,
            Departure::AgainAstray => self.again_astray = true,
            Departure::Torn(number) => self.leaves = Leaves::Torn(number),
            Departure::Kept => self.leaves = Leaves::Kept,
        }
    }

    fn departures(self) -> impl Iterator<Item = Departure> {
        let leaves = match self.leaves {
            Leaves::Nothing => None,
            Leaves::Torn(number) => Some(Departure::Torn(number)),
            Leaves::Kept => Some(Departure::Kept),
        };
        [
            (self.late_us > 0).then_some(Departure::Late(self.late_us)),
            self.lost.then_some(Departure::Lost),
            self.again_us.map(Departure::Again),
            self.astray.then_some(Departure::Astray),
            self.again_astray.then_some(Departure::AgainAstray),
            leaves,
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Stream = Stream::Link { from: NodeId(1), to: NodeId(2) };
    const BACK: Stream = Stream::Link { from: NodeId(2), to: NodeId(1) };

    fn rough(rng: &mut Rng) -> Fate {
        Fate { late_us: rng.below(3), lost: rng.coin(), again_us: rng.coin().then_some(7), ..Fate::default() }
    }

    #[test]
    fn what_was_kept_decides_the_same_when_it_is_listed() {
        let mut drawn = Decisions::drawn(5);
        drawn.keep();
        let fates: Vec<Fate> = (0..200)
            .map(|at| {
                if at % 5 == 0 {
                    drawn.skip(LINK);
                }
                drawn.decide(if at % 3 == 0 { BACK } else { LINK }, rough)
            })
            .collect();
        let mut listed = Decisions::listed(drawn.kept());
        for (at, fate) in fates.iter().enumerate() {
            if at % 5 == 0 {
                listed.skip(LINK);
            }
            let again = listed.decide(if at % 3 == 0 { BACK } else { LINK }, |_| unreachable!("it is listed"));
            assert_eq!(again, *fate, "decision {at}");
        }
        assert!(fates.iter().any(|fate| fate.lost) && fates.iter().any(|fate| *fate == Fate::default()));
    }

    #[test]
    fn a_decision_that_falls_away_shifts_no_other_stream() {
        let (mut one, mut other) = (Decisions::drawn(5), Decisions::drawn(5));
        other.skip(LINK);
        let pair: Vec<(Fate, Fate)> = (0..50).map(|_| (one.decide(BACK, rough), other.decide(BACK, rough))).collect();
        assert!(pair.iter().all(|(one, other)| one == other));
        assert_ne!(Decisions::drawn(6).decide(BACK, |rng| Fate { late_us: rng.draw(), ..Fate::default() }).late_us, {
            Decisions::drawn(5).decide(BACK, |rng| Fate { late_us: rng.draw(), ..Fate::default() }).late_us
        });
    }
}
