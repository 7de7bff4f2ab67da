//! The room for the small decisions of a world: how late a message is and whether it is lost, how long a sync takes,
//! what a crash leaves of unsynced bytes.
//!
//! Every decision has an address, its stream and its number in it, and is drawn from the seed and the address alone.
//! So a decision that falls away shifts no other one, and what was decided can be written down as a list of departures
//! from the plain world (nothing late, nothing lost) and be read back, with as much of it left out as one likes.

use std::collections::BTreeMap;

use paxos_core::{Instant, NodeId};

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
    /// Its bytes are not what was sent.
    Garbled(Garble),
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

/// How bytes can differ from what was sent where no checksum of a link can tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Garble {
    /// Only so many bytes of the frame are left, counted again from 0 where it ends.
    Short(u64),
    /// The frame twice, as one.
    Joined,
    /// The same message, as of another cluster.
    Foreign,
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
    /// Its bytes are not what was sent.
    pub garble: Option<Garble>,
    /// What a crash leaves.
    pub leaves: Leaves,
}

/// All decisions of a world: drawn from its seed, or listed.
#[derive(Debug)]
pub struct Decisions {
    /// `None`: only what is listed departs from the plain world.
    seed: Option<u64>,
    streams: BTreeMap<Stream, Taken>,
    kept: Option<Vec<(Instant, Decision)>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: u32,
    /// By rising number; those before `at` are taken.
    listed: Vec<Listed>,
    at: usize,
    base: u64,
}

/// A departure of a list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Listed {
    number: u32,
    /// Whatever has its turn then departs, whichever number that is now; without it the number decides.
    moment: Option<Instant>,
    departure: Departure,
}

impl Decisions {
    /// Every decision is drawn.
    pub fn drawn(seed: u64) -> Decisions {
        Decisions { seed: Some(seed), streams: BTreeMap::new(), kept: None }
    }

    /// Nothing departs from the plain world but these.
    pub fn listed(decisions: &[Decision]) -> Decisions {
        Decisions::of(decisions.iter().map(|decision| (None, *decision)))
    }

    /// The same, but each departure meets what has its turn at its moment, or next after it. So a list of one run can
    /// be tried on another one in which less is sent, and the same things have other numbers.
    pub fn timed(decisions: &[(Instant, Decision)]) -> Decisions {
        Decisions::of(decisions.iter().map(|(moment, decision)| (Some(*moment), *decision)))
    }

    fn of(decisions: impl Iterator<Item = (Option<Instant>, Decision)>) -> Decisions {
        let mut streams: BTreeMap<Stream, Taken> = BTreeMap::new();
        for (moment, Decision { stream, number, departure }) in decisions {
            streams.entry(stream).or_default().listed.push(Listed { number, moment, departure });
        }
        streams.values_mut().for_each(|taken| taken.listed.sort_unstable());
        Decisions { seed: None, streams, kept: None }
    }

    /// From now on departures are written down.
    pub fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// The departures that were written down, each with its moment.
    pub fn kept(&self) -> &[(Instant, Decision)] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// The next number of a stream is used up, and nothing is decided: the message met a cut, say.
    pub fn skip(&mut self, stream: Stream) {
        self.take(stream);
    }

    /// The next decision of a stream; `draw` makes it if decisions are drawn.
    pub fn decide(&mut self, now: Instant, stream: Stream, draw: impl FnOnce(&mut Rng) -> Fate) -> Fate {
        let (number, mut listed) = self.take(stream);
        let fate = match &mut listed {
            Some(rng) => draw(rng),
            None => self.listed_fate(now, stream, number),
        };
        if let Some(kept) = &mut self.kept {
            kept.extend(fate.departures().map(|departure| (now, Decision { stream, number, departure })));
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

    fn listed_fate(&mut self, now: Instant, stream: Stream, number: u32) -> Fate {
        let mut fate = Fate::default();
        let Some(taken) = self.streams.get_mut(&stream) else { return fate };
        let mut together = None;
        while let Some(Listed { number: listed, moment, departure }) = taken.listed.get(taken.at).copied() {
            let departs = match moment {
                // What was decided at one address stays together, and nothing else joins it.
                Some(moment) if moment > now || together.is_some_and(|number| number != listed) => break,
                Some(_) => true,
                None if listed > number => break,
                None => listed == number,
            };
            if departs {
                together = Some(listed);
                fate.depart(departure);
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
            Departure::Garbled(garble) => self.garble = Some(garble),
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
            self.garble.map(Departure::Garbled),
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
    const NOW: Instant = Instant::from_us(7);

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
                drawn.decide(Instant::from_us(at), if at % 3 == 0 { BACK } else { LINK }, rough)
            })
            .collect();
        let numbered: Vec<Decision> = drawn.kept().iter().map(|(_, decision)| *decision).collect();
        for mut listed in [Decisions::listed(&numbered), Decisions::timed(drawn.kept())] {
            for (at, fate) in (0..).zip(&fates) {
                if at % 5 == 0 {
                    listed.skip(LINK);
                }
                let stream = if at % 3 == 0 { BACK } else { LINK };
                let again = listed.decide(Instant::from_us(at), stream, |_| unreachable!("it is listed"));
                assert_eq!(again, *fate, "decision {at}");
            }
        }
        assert!(fates.iter().any(|fate| fate.lost) && fates.iter().any(|fate| *fate == Fate::default()));
    }

    #[test]
    fn what_is_taken_again_at_its_moment_meets_what_comes_then_one_by_one() {
        let at = |us, number, departure| (Instant::from_us(us), Decision { stream: LINK, number, departure });
        let kept = [
            at(10, 4, Departure::Late(3)),
            at(10, 4, Departure::Again(5)),
            at(20, 9, Departure::Lost),
            at(21, 10, Departure::Lost),
        ];
        let mut decisions = Decisions::timed(&kept);
        let mut fate = |us| decisions.decide(Instant::from_us(us), LINK, |_| unreachable!("it is listed"));
        let plain = Fate::default();
        assert_eq!(fate(9), plain);
        assert_eq!(fate(12), Fate { late_us: 3, again_us: Some(5), ..plain });
        assert_eq!(fate(13), plain);
        assert_eq!([fate(22), fate(22), fate(22)], [Fate { lost: true, ..plain }, Fate { lost: true, ..plain }, plain]);
    }

    #[test]
    fn a_decision_that_falls_away_shifts_no_other_stream() {
        let (mut one, mut other) = (Decisions::drawn(5), Decisions::drawn(5));
        other.skip(LINK);
        let pair: Vec<(Fate, Fate)> =
            (0..50).map(|_| (one.decide(NOW, BACK, rough), other.decide(NOW, BACK, rough))).collect();
        assert!(pair.iter().all(|(one, other)| one == other));
        assert_ne!(
            Decisions::drawn(6).decide(NOW, BACK, |rng| Fate { late_us: rng.draw(), ..Fate::default() }).late_us,
            { Decisions::drawn(5).decide(NOW, BACK, |rng| Fate { late_us: rng.draw(), ..Fate::default() }).late_us }
        );
    }
}
