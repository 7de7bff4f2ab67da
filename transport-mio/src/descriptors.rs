//! File descriptors are finite: clients may not use up those that peers and the log need.

use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors that are never left to clients: the log's files, links, listeners, the poll, and some spare.
const RESERVED: u64 = 64;

/// Held open, to be given up for a peer when the whole system runs out.
const SPARE: usize = 4;

/// Raises the process's limit as far as it may go, and says how many clients that leaves room for.
pub(crate) fn clients_max(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let room =
        current.map_or(usize::MAX, |current| usize::try_from(current.saturating_sub(RESERVED)).unwrap_or(usize::MAX));
    if room < wanted {
        warn!(max_clients = wanted, room, "the limit on open files leaves room for fewer clients");
    }
    wanted.min(room.max(1))
}

/// A few descriptors kept for the moment when there are no others.
#[derive(Debug)]
pub(crate) struct Spare {
    files: Vec<File>,
}

impl Spare {
    /// Opens them; fewer if there are not enough.
    pub(crate) fn open() -> Spare {
        Spare { files: (0..SPARE).filter_map(|_| File::open("/dev/null").ok()).collect() }
    }

    /// Gives one up. False: none is left.
    pub(crate) fn release(&mut self) -> bool {
        self.files.pop().is_some()
    }

    /// Takes back what was given up, as far as possible.
    pub(crate) fn replenish(&mut self) {
        while self.files.len() < SPARE {
            match File::open("/dev/null") {
                Ok(file) => self.files.push(file),
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_room_for_the_log() {
        assert_eq!(clients_max(1), 1);
        let limit = getrlimit(Resource::Nofile).current;
        assert!(limit.is_none_or(|limit| clients_max(usize::MAX) as u64 <= limit.max(RESERVED + 1) - RESERVED));
    }

    #[test]
    fn spares_are_given_up_one_by_one_and_come_back() {
        let mut spare = Spare::open();
        assert_eq!((0..2 * SPARE).filter(|_| spare.release()).count(), SPARE);
        spare.replenish();
        assert!(spare.release());
    }
}
