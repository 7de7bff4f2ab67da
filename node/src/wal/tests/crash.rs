//! Power cuts at any point with any part of the unsynced bytes kept, dropped or garbled: what was acknowledged is
//! there again, what else is there was appended, and opening twice finds the same.

use quickcheck::QuickCheck;

use super::*;
use crate::wal::Fate;

/// What the disk does to unsynced sectors. Garbling is legal only where groups share no sector.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Power {
    DropsAll,
    KeepsAll,
    DropsSome,
    Garbles,
}

fn crash(files: &mut MemoryFiles, draw: &mut Draw, power: Power) {
    files.crash(|| match (power, draw.below(3)) {
        (Power::DropsAll, _) | (Power::DropsSome | Power::Garbles, 0) => Fate::Dropped,
        (Power::Garbles, 1) => Fate::Garbled(draw.draw()),
        (Power::KeepsAll | Power::DropsSome | Power::Garbles, _) => Fate::Kept,
    });
}

/// One life of a log after the other, each ended by a failing disk or a power cut at a random point.
struct Lives {
    draw: Draw,
    power: Power,
    settings: WalSettings,
    files: MemoryFiles,
    /// Everything that may be in the log, of which the first `acknowledged` must be.
    appended: Vec<Record>,
    acknowledged: usize,
    round: u64,
    next: u64,
}

impl Lives {
    fn new(seed: u64) -> Lives {
        let mut draw = Draw(seed);
        let powers = [Power::DropsAll, Power::KeepsAll, Power::DropsSome, Power::Garbles];
        let power = powers[draw.below(4) as usize];
        let align_bytes = if power == Power::Garbles { 512 << draw.below(2) } else { 8 << draw.below(10) };
        let settings = WalSettings { segment_bytes: 2048 << draw.below(4), align_bytes };
        let appended = vec![Record::Formatted(formatted())];
        let files = MemoryFiles::new();
        Lives { draw, power, settings, files, appended, acknowledged: 0, round: 1, next: 1 }
    }

    fn format(&mut self) {
        if self.draw.below(2) == 0 {
            self.files.fail_after(self.draw.below(9));
        }
        while self.acknowledged == 0 {
            let formatted = Wal::format(&mut self.files, self.settings, formatted());
            if formatted.is_ok() {
                self.acknowledged = 1;
                break;
            }
            self.stop();
            match Wal::open(&mut self.files, self.settings) {
                Ok(_) => self.acknowledged = 1,
                Err(error) => assert!(matches!(error, WalError::NotFormatted), "{error}"),
            }
        }
        crash(&mut self.files, &mut self.draw, self.power);
    }

    /// Opens the log, with the disk failing in between now and then, and checks what is in it.
    fn open(&mut self) -> Wal<MemoryFiles> {
        while self.draw.below(3) == 0 {
            self.files.fail_after(self.draw.below(4));
            let _ = Wal::open(&mut self.files, self.settings);
            self.stop();
        }
        let (_, recovered) = Wal::open(&mut self.files, self.settings).expect("a crash never corrupts");
        let found = records(&mut self.files).expect("a whole log");
        assert_eq!(recovered, validated(&found));
        assert!(found.len() >= self.acknowledged, "{} of {}", found.len(), self.acknowledged);
        assert_eq!(found, self.appended[..found.len()]);
        // What was read is durable: whoever acts on it may.
        self.stop();
        let (wal, again) = Wal::open(std::mem::take(&mut self.files), self.settings).expect("a whole log");
        assert_eq!(again, recovered);
        assert_eq!(wal.torn_tail(), None);
        self.acknowledged = found.len();
        self.appended = found;
        wal
    }

    /// The process ends; more often than not the power goes too. If not, the page cache shows the next life what
    /// the disk may not have.
    fn stop(&mut self) {
        self.files.fail_after(u64::MAX);
        if self.draw.below(3) > 0 {
            crash(&mut self.files, &mut self.draw, self.power);
        }
    }

    fn live(&mut self, boot: u64) {
        let mut wal = self.open();
        if self.draw.below(2) == 0 {
            wal.files.fail_after(self.draw.below(40));
        }
        let mut appended = Vec::new();
        for turn in 0..self.draw.below(30) {
            let record = self.record(turn, boot);
            if wal.append(&record).is_err() {
                break;
            }
            appended.push(record);
            let done = match self.draw.below(8) {
                0..4 => wal.sync(),
                4 => wal.seal(),
                5 => {
                    let _ = wal.prepare_next(); // its failure is not final
                    continue;
                }
                _ => continue,
            };
            if done.is_err() {
                break;
            }
            self.acknowledged = self.appended.len() + appended.len();
        }
        self.files = wal.into_files();
        self.appended.extend(appended);
        self.stop();
    }

    fn record(&mut self, turn: u64, boot: u64) -> Record {
        if turn == 0 {
            return started(boot);
        }
        self.round += self.draw.below(2);
        match self.draw.below(4) {
            0 => Record::Promised(ballot(self.round)),
            _ => {
                let (first, count, bytes) = (self.next, 1 + self.draw.below(4), self.draw.below(900));
                self.next += count;
                accepted(self.round, first, count, bytes as usize)
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_any_crash() {
    fn survives(seed: u64) -> bool {
        let mut lives = Lives::new(seed);
        lives.format();
        (1..8).for_each(|boot| lives.live(boot));
        lives.open();
        true
    }
    QuickCheck::new().tests(300).quickcheck(survives as fn(u64) -> bool);
}

/// A process that is killed between a write and its sync leaves a group that the page cache has and the disk has
/// not: opening makes it durable before anyone acts on it.
#[test]
fn what_opening_reads_is_durable() {
    let (mut wal, _) = Wal::open(fresh(SMALL), SMALL).expect("a new log");
    append_all(&mut wal, &[started(1), Record::Promised(ballot(5))]);
    wal.files.fail_after(1);
    assert!(wal.sync().is_err(), "written, not synced");
    let mut files = wal.into_files();
    files.fail_after(u64::MAX);
    let (_, recovered) = Wal::open(&mut files, SMALL).expect("a whole log");
    assert_eq!(recovered.promised(), Some(ballot(5)));
    files.crash(|| Fate::Dropped);
    let (_, again) = Wal::open(&mut files, SMALL).expect("a whole log");
    assert_eq!(again, recovered);
}

/// The disk lies: a failed sync drops what it could not write, and the page cache goes on showing it. The loss is
/// found as soon as it can be, and refused.
#[test]
fn pages_lost_by_a_failed_sync_are_found() {
    let (mut wal, _) = Wal::open(fresh(SMALL), SMALL).expect("a new log");
    append_all(&mut wal, &[started(1), Record::Promised(ballot(5))]);
    wal.sync().expect("in truth it failed, before this life");
    let mut lost = wal.into_files();
    // A later life reads the group from the cache and writes behind it; then the power goes.
    let (mut wal, _) = Wal::open(&mut lost, SMALL).expect("the cache has it");
    append_all(&mut wal, &[started(2)]);
    wal.sync().expect("this one is written");
    lost.edit("0000000000000001.wal", |whole| whole[1024..1536].fill(0));
    assert!(matches!(Wal::open(&mut lost, SMALL), Err(WalError::Corrupt { offset: 1024, .. })));
}
