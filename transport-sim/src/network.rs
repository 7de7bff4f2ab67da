//! The room for the links between nodes: each direction has its own delay, loss, duplication and order, and can be
//! cut or clogged.

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos_core::{ClusterId, Header, Instant, Message, NodeId, wire};

use crate::decisions::{Decisions, Fate, Garble, Stream};

/// How good links are. Chances are per million.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quality {
    /// No message is faster, in microseconds.
    pub delay_us_min: u64,
    /// What comes on top, exponential with this mean, in microseconds.
    pub jitter_us: u64,
    /// How many messages are lost.
    pub loss: u64,
    /// How many messages arrive twice.
    pub duplication: u64,
    /// How late a second arrival may be, in microseconds.
    pub replay_us_max: u64,
    /// How many messages arrive at another node than they were sent to.
    pub misrouted: u64,
    /// Of how many messages the bytes are not what was sent.
    pub garbled: u64,
    /// Whether messages may overtake each other.
    pub reorders: bool,
}

impl Quality {
    /// A quiet local network.
    pub const CALM: Quality = Quality {
        delay_us_min: 100,
        jitter_us: 100,
        loss: 0,
        duplication: 0,
        replay_us_max: 0,
        misrouted: 0,
        garbled: 0,
        reorders: false,
    };
}

/// When the copies of one message arrive, if they do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrivals {
    /// The message itself.
    pub first: Option<Arrival>,
    /// Its duplicate.
    pub second: Option<Arrival>,
}

/// When and where a message arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// Not at the node that it was sent to.
    pub astray: bool,
    /// Its bytes are not what was sent.
    pub garble: Option<Garble>,
}

/// What the network did to messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mischief {
    /// Lost by chance.
    pub lost: u64,
    /// Lost because the link was cut.
    pub cut: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Delivered to somebody else.
    pub misrouted: u64,
    /// Delivered cut short, twice in one frame, or as of another cluster.
    pub garbled: u64,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    quality: Quality,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// Until when how many of a million messages are lost beyond the usual.
    storm: (Instant, u64),
    /// What it did so far.
    pub mischief: Mischief,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// How many partitions cut it.
    cuts: u32,
    /// Nothing arrives before.
    clogged: Instant,
    last: Instant,
}

impl Network {
    /// A network whose links are all of this quality.
    pub fn new(quality: Quality) -> Network {
        Network { quality, links: BTreeMap::new(), storm: (Instant::default(), 0), mischief: Mischief::default() }
    }

    /// From now on links are of this quality, no link is cut, and clogs are gone.
    pub fn heal(&mut self, quality: Quality) {
        self.quality = quality;
        self.storm = (Instant::default(), 0);
        for link in self.links.values_mut() {
            link.cuts = 0;
            link.clogged = Instant::default();
        }
    }

    /// Cuts one direction; cuts add up, so that overlapping partitions heal one by one.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.link(from, to).cuts += 1;
    }

    /// Takes one cut back.
    pub fn mend(&mut self, from: NodeId, to: NodeId) {
        let link = self.link(from, to);
        link.cuts = link.cuts.saturating_sub(1);
    }

    /// Nothing that is sent this way arrives before this moment.
    pub fn clog(&mut self, from: NodeId, to: NodeId, until: Instant) {
        let link = self.link(from, to);
        link.clogged = link.clogged.max(until);
    }

    /// Until this moment, so many of a million messages are lost everywhere.
    pub fn storm(&mut self, until: Instant, loss: u64) {
        self.storm = (until, loss);
    }

    /// Whether messages can pass this way.
    pub fn passes(&self, from: NodeId, to: NodeId) -> bool {
        self.links.get(&(from, to)).is_none_or(|link| link.cuts == 0)
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    /// Decides the fate of a message that leaves now.
    pub fn send(&mut self, now: Instant, from: NodeId, to: NodeId, decisions: &mut Decisions) -> Arrivals {
        let quality = self.quality;
        let stream = Stream::Link { from, to };
        if !self.passes(from, to) {
            self.mischief.cut += 1;
            decisions.skip(stream);
            return Arrivals::default();
        }
        let loss = if now < self.storm.0 { self.storm.1.max(quality.loss) } else { quality.loss };
        let fate = decisions.decide(now, stream, |rng| {
            let late_us = rng.exponential(quality.jitter_us);
            let (lost, twice) = (rng.chance(loss), rng.chance(quality.duplication));
            let again_us = twice.then(|| rng.log_uniform(1, quality.replay_us_max.max(1)));
            let astray = !lost && rng.chance(quality.misrouted);
            let again_astray = twice && rng.chance(quality.misrouted);
            let garble = (!lost && rng.chance(quality.garbled)).then(|| match rng.below(3) {
                0 => Garble::Short(rng.below(1 << 16)),
                1 => Garble::Joined,
                _ => Garble::Foreign,
            });
            Fate { late_us, lost, again_us, astray, again_astray, garble, ..Fate::default() }
        });
        let link = self.links.entry((from, to)).or_default();
        let mut at = now.plus_us(quality.delay_us_min + fate.late_us).max(link.clogged);
        if !quality.reorders {
            at = at.max(link.last);
            link.last = at;
        }
        self.mischief.lost += u64::from(fate.lost);
        let first = (!fate.lost).then_some(Arrival { at, astray: fate.astray, garble: fate.garble });
        let second = fate.again_us.map(|us| Arrival { at: at.plus_us(us), astray: fate.again_astray, garble: None });
        self.mischief.garbled += u64::from(first.is_some_and(|arrival| arrival.garble.is_some()));
        self.mischief.duplicated += u64::from(second.is_some());
        let astray = [first, second].into_iter().flatten().filter(|arrival| arrival.astray).count();
        self.mischief.misrouted += astray as u64;
        Arrivals { first, second }
    }

    /// How long nothing takes less than, in microseconds.
    pub fn delay_us_min(&self) -> u64 {
        self.quality.delay_us_min
    }

    /// How long bytes between a client and a node take; a client's stream is never reordered.
    pub fn client_delay(&mut self, now: Instant, stream: Stream, decisions: &mut Decisions) -> u64 {
        /// Clients are near: what they wait for is not their links.
        const JITTER_US_MAX: u64 = 20_000;
        let jitter_us = self.quality.jitter_us.min(JITTER_US_MAX);
        let fate = decisions.decide(now, stream, |rng| Fate { late_us: rng.exponential(jitter_us), ..Fate::default() });
        self.quality.delay_us_min + fate.late_us
    }
}

/// The bytes of a frame as they arrive. Single flipped bits never do: the checksum of the link finds them, and the
/// link is closed.
pub(crate) fn garbled(garble: Garble, frame: &Bytes, message: &Message) -> Bytes {
    /// Another cluster than that of any world.
    const ELSEWHERE: ClusterId = ClusterId::new(0xe15e);
    match garble {
        Garble::Short(bytes) => frame.slice(..bytes as usize % frame.len().max(1)),
        Garble::Joined => Bytes::from([&frame[..], &frame[..]].concat()),
        Garble::Foreign => {
            let mut bytes = Vec::new();
            wire::encode(&Header { cluster: ELSEWHERE, ..message.header }, &message.body, &mut bytes);
            bytes.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    #[test]
    fn streams_keep_their_order_and_datagrams_do_not() {
        let rough = Quality { jitter_us: 50_000, ..Quality::CALM };
        for (quality, ordered) in [(rough, true), (Quality { reorders: true, ..rough }, false)] {
            let (mut network, mut decisions) = (Network::new(quality), Decisions::drawn(5));
            let mut send = |sent: u64| network.send(Instant::from_us(sent * 100), ONE, TWO, &mut decisions).first;
            let arrivals: Vec<Instant> = (0..200).filter_map(&mut send).map(|arrival| arrival.at).collect();
            assert_eq!(arrivals.len(), 200);
            assert_eq!(arrivals.is_sorted(), ordered);
        }
    }

    #[test]
    fn cuts_are_one_way_and_add_up() {
        let (mut network, mut decisions) = (Network::new(Quality::CALM), Decisions::drawn(5));
        network.cut(ONE, TWO);
        network.cut(ONE, TWO);
        network.mend(ONE, TWO);
        assert_eq!(network.send(Instant::default(), ONE, TWO, &mut decisions), Arrivals::default());
        assert!(network.send(Instant::default(), TWO, ONE, &mut decisions).first.is_some());
        network.mend(ONE, TWO);
        assert!(network.send(Instant::default(), ONE, TWO, &mut decisions).first.is_some());
    }

    #[test]
    fn loss_and_duplication_are_as_frequent_as_asked_for() {
        let quality = Quality { loss: 300_000, duplication: 100_000, replay_us_max: 60_000_000, ..Quality::CALM };
        let (mut network, mut decisions) = (Network::new(quality), Decisions::drawn(5));
        let fates: Vec<Arrivals> =
            (0..10_000).map(|_| network.send(Instant::default(), ONE, TWO, &mut decisions)).collect();
        let lost = fates.iter().filter(|fate| fate.first.is_none()).count();
        let twice = fates.iter().filter(|fate| fate.second.is_some()).count();
        assert!((2_800..3_200).contains(&lost) && (900..1_100).contains(&twice), "{lost} {twice}");
    }
}
