//! The room for making segments: zero-filled to their whole length, durable, and only then named.

use paxos_core::{Formatted, Record};

use super::WalSettings;
use super::error::WalError;
use super::files::Files;
use super::layout::{Owner, Seal, SegmentHead, padded, segment_name};
use super::pending::Group;
use super::scan::{failed, unwritten};

/// How long the first segment is at the most; each following one may be twice as long, up to the setting.
const FIRST_BYTES_MAX: u64 = 4 << 20;

/// Whether a group of this size fits at `at` and leaves room for the mark that ends the segment.
pub(super) fn fits(segment: &SegmentHead, at: u64, group_bytes: u64) -> bool {
    at + padded(group_bytes, segment.align) + segment.end_room() <= segment.bytes
}

/// The segment behind this one, long enough for a group of this size.
pub(super) fn next(settings: &WalSettings, last: &SegmentHead, group_bytes: u64) -> SegmentHead {
    sized(settings, last.owner, last.number + 1, group_bytes)
}

fn sized(settings: &WalSettings, owner: Owner, number: u64, group_bytes: u64) -> SegmentHead {
    let align = settings.align_bytes;
    let doubled = u32::try_from(number - 1).ok().and_then(|doublings| FIRST_BYTES_MAX.checked_shl(doublings));
    let ramp = doubled.filter(|bytes| *bytes >= FIRST_BYTES_MAX).unwrap_or(u64::MAX);
    let mut head = SegmentHead { owner, number, bytes: 0, align };
    let least = head.first_group() + padded(group_bytes, align) + head.end_room();
    head.bytes = padded(settings.segment_bytes.min(ramp).max(least), align);
    head
}

/// Makes the first segment: it has its name only once the identity in it is durable.
pub(super) fn make_first<F: Files>(
    files: &mut F,
    settings: &WalSettings,
    formatted: Formatted,
) -> Result<(), WalError> {
    let owner = Owner::of(&formatted);
    let mut group = Group::new(owner.seed(), 1);
    group.append(&Record::Formatted(formatted))?;
    let head = sized(settings, owner, 1, group.bytes());
    let padded = padded(group.bytes(), head.align);
    let bytes = group.finish(owner.seed(), 1, head.first_group(), Seal::default(), padded);
    let unfinished = format!("{}.new", segment_name(1));
    fill(files, &head, &unfinished, Some(bytes))?;
    name(files, &unfinished, 1)
}

/// Makes a segment and names it.
pub(super) fn make<F: Files>(files: &mut F, head: &SegmentHead) -> Result<SegmentHead, WalError> {
    let unfinished = format!("{}.new", segment_name(head.number));
    fill(files, head, &unfinished, None)?;
    name(files, &unfinished, head.number)?;
    Ok(*head)
}

/// Makes a durable file with this head, and with this first group if there is one. What is left of it when there
/// is no room is removed.
fn fill<F: Files>(
    files: &mut F,
    head: &SegmentHead,
    unfinished: &str,
    first_group: Option<&[u8]>,
) -> Result<(), WalError> {
    let filled = files
        .create(unfinished, head.bytes)
        .and_then(|()| files.write_at(unfinished, 0, &head.encode()))
        .and_then(|()| first_group.map_or(Ok(()), |group| files.write_at(unfinished, head.first_group(), group)))
        .and_then(|()| files.sync(unfinished));
    filled.map_err(|error| {
        let error = unwritten(files, "create", unfinished, head.bytes, error);
        let _ = files.remove(unfinished); // the next opening removes it if this could not
        error
    })
}

fn name<F: Files>(files: &mut F, unfinished: &str, number: u64) -> Result<(), WalError> {
    let name = segment_name(number);
    files.rename(unfinished, &name).map_err(|error| failed(files, "rename to", &name, error))?;
    files.sync_dir().map_err(|error| failed(files, "sync directory of", &name, error))
}

/// The job of making the next segment, to be run off the hot path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preparation {
    head: SegmentHead,
}

impl Preparation {
    pub(super) fn of(head: SegmentHead) -> Preparation {
        Preparation { head }
    }

    /// How many bytes it will write.
    pub fn bytes(&self) -> u64 {
        self.head.bytes
    }

    /// Makes the segment, under a name that no log reads.
    ///
    /// # Errors
    /// `NoSpace`, or what the operating system says; nothing is lost by it.
    pub fn run<F: Files>(self, files: &mut F) -> Result<Prepared, WalError> {
        // Not the name that `make` uses: should the log need the segment before this job ends, each writes its own.
        let unfinished = format!("{}.ahead", segment_name(self.head.number));
        fill(files, &self.head, &unfinished, None)?;
        Ok(Prepared { head: self.head, unfinished })
    }
}

/// A segment that was made ahead and waits to be adopted.
#[derive(Debug)]
#[must_use = "the segment is of use only once the log adopts it"]
pub struct Prepared {
    head: SegmentHead,
    unfinished: String,
}

impl Prepared {
    pub(super) fn number(&self) -> u64 {
        self.head.number
    }

    /// Names the file if it is wanted, else removes it.
    pub(super) fn place<F: Files>(self, files: &mut F, wanted: bool) -> Result<SegmentHead, WalError> {
        if wanted {
            name(files, &self.unfinished, self.head.number)?;
        } else {
            files.remove(&self.unfinished).map_err(|error| failed(files, "remove", &self.unfinished, error))?;
        }
        Ok(self.head)
    }
}
