//! The room for finding slots again: which stretches of the log hold which range of slots. Sparse: one `Block` per
//! 64 KiB of log, never anything per slot.

use paxos_core::Slot;

/// A block takes no further record once it has this many bytes: what one read of a lone slot costs.
const BLOCK_BYTES: usize = 64 << 10;

/// The segment that a block lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Home {
    pub(super) segment: u64,
    /// Groups begin at multiples of this there.
    pub(super) align: u32,
}

/// Records that follow each other in one segment, and the range that their slots lie in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Block {
    /// Where its first record begins in the segment.
    pub(super) at: u32,
    /// Where its last record ends.
    pub(super) end: u32,
    /// Where the group of its first record begins.
    pub(super) group_at: u32,
    /// Where the records of that group end.
    pub(super) group_end: u32,
    /// That group's sequence.
    pub(super) sequence: u64,
    /// The slots of its records, lowest and highest.
    pub(super) slots: Span,
}

impl Block {
    /// How many bytes from its first record to its last.
    pub(super) fn bytes(&self) -> usize {
        self.end.saturating_sub(self.at) as usize
    }
}

/// Slots from `first` to `last`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Span {
    /// The slots of a run of `count`; `None` for none.
    pub(super) fn of(first: Slot, count: usize) -> Option<Span> {
        let more = u64::try_from(count).ok()?.checked_sub(1)?;
        Some(Span { first: first.get(), last: first.get().saturating_add(more) })
    }

    /// How many slots.
    pub(super) fn count(self) -> usize {
        usize::try_from((self.last - self.first).saturating_add(1)).unwrap_or(usize::MAX)
    }

    fn with(self, other: Span) -> Span {
        Span { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    pub(super) fn meets(self, other: Span) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

#[derive(Debug)]
struct SegmentBlocks {
    home: Home,
    slots: Span,
    blocks: Vec<Block>,
}

/// All blocks of the log, in log order.
#[derive(Debug, Default)]
pub(super) struct Index {
    segments: Vec<SegmentBlocks>,
}

impl Index {
    /// Takes note of a record that holds slots; `record` is the block it would be by itself.
    pub(super) fn note(&mut self, home: Home, record: Block) {
        match self.segments.last_mut() {
            Some(last) if last.home == home => {
                last.slots = last.slots.with(record.slots);
                match last.blocks.last_mut() {
                    Some(block) if block.bytes() < BLOCK_BYTES => {
                        block.end = record.end;
                        block.slots = block.slots.with(record.slots);
                    }
                    Some(_) | None => last.blocks.push(record),
                }
            }
            Some(_) | None => {
                self.segments.push(SegmentBlocks { home, slots: record.slots, blocks: vec![record] });
            }
        }
    }

    /// The blocks that may hold one of these slots, with their segments, in log order.
    pub(super) fn meeting(&self, slots: Span) -> impl Iterator<Item = (Home, Block)> {
        self.segments
            .iter()
            .filter(move |segment| segment.slots.meets(slots))
            .flat_map(|segment| segment.blocks.iter().map(|block| (segment.home, *block)))
            .filter(move |(_, block)| block.slots.meets(slots))
    }

    /// Bytes of memory that the index takes.
    pub(super) fn bytes(&self) -> usize {
        let blocks: usize = self.segments.iter().map(|segment| segment.blocks.capacity()).sum();
        blocks * size_of::<Block>() + self.segments.capacity() * size_of::<SegmentBlocks>()
    }
}
