//! Measures the log on real files against bare writes: `cargo run --release -p node --example wal_bench [DIR]`.
//!
//! Rounds of bare `pwrite` + `fdatasync` and of the log alternate, since a shared machine drifts; medians are
//! printed with the least and the most. Then one million records are opened and read back.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use node::wal::{Files, Wal, WalError, WalSettings};
use paxos_core::{
    Ballot, Boot, ClusterId, CommandId, Entries, Entry, Formatted, Genesis, Incarnation, Member, Membership, NodeId,
    QuorumSystem, Record, Slot, SlotRange,
};

const PAYLOAD_BYTES: usize = 120;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(400);
const RECORDS: u64 = 1_000_000;

struct Directory {
    path: PathBuf,
    open: BTreeMap<String, File>,
}

impl Directory {
    fn new(path: &Path) -> io::Result<Directory> {
        fs::create_dir_all(path)?;
        Ok(Directory { path: path.to_owned(), open: BTreeMap::new() })
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
            self.open.insert(name.to_owned(), file);
        }
        self.open.get(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for Directory {
    fn list(&mut self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file(name)?.read_at(buffer, offset)
    }

    fn create(&mut self, name: &str, bytes_zeroed: u64) -> io::Result<()> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(self.path.join(name))?;
        zero(&file, bytes_zeroed)?;
        self.open.insert(name.to_owned(), file);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.open.remove(from);
        self.open.remove(to);
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        fs::remove_file(self.path.join(name))
    }
}

fn zero(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let piece = zeros.len().min((bytes - at) as usize);
        file.write_all_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    file.sync_data()
}

fn formatted() -> Result<Formatted, Box<dyn std::error::Error>> {
    let voter = Member { node: NodeId(1), incarnation: Incarnation(7), generation: 0 };
    let membership = Membership::new(vec![voter], Vec::new(), QuorumSystem::Majority)?;
    let genesis = Genesis::new(membership, 1 << 20)?;
    Ok(Formatted { cluster: ClusterId::new(1), node: NodeId(1), incarnation: Incarnation(7), genesis })
}

fn record(slot: u64, payload: &Bytes) -> Record {
    let id = CommandId { node: NodeId(1), incarnation: Incarnation(0x9e37_79b9_7f4a_7c15), boot: 1, sequence: slot };
    Record::Accepted {
        ballot: Ballot { round: 3, node: NodeId(1), generation: 0 },
        first: Slot::FIRST.plus(slot - 1),
        entries: Entries::one(Entry::Command { id, bytes: payload.clone() }),
    }
}

/// Records per second of one round, for as long as a round lasts.
fn round(per_sync: u64, mut sync: impl FnMut(u64) -> Result<(), WalError>) -> Result<f64, WalError> {
    let start = Instant::now();
    let mut records = 0;
    while start.elapsed() < ROUND {
        sync(per_sync)?;
        records += per_sync;
    }
    Ok(records as f64 / start.elapsed().as_secs_f64())
}

/// Processor time of this process so far, where the system tells it: on a busy machine the only steady figure.
fn processor_time() -> Duration {
    let told = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn median(mut rates: Vec<f64>) -> String {
    rates.sort_by(f64::total_cmp);
    format!("{:9.0} ({:.0} to {:.0})", rates[rates.len() / 2], rates[0], rates[rates.len() - 1])
}

fn groups(dir: &Path, payload: &Bytes) -> Result<(), Box<dyn std::error::Error>> {
    println!("records of {PAYLOAD_BYTES} B per second, median of {ROUNDS} rounds, alternating");
    for (per_sync, align_bytes) in [(1, 512), (1, 4096), (16, 512), (16, 4096), (128, 512), (128, 4096)] {
        let bare = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(dir.join("bare"))?;
        zero(&bare, 64 << 20)?;
        let settings = WalSettings { align_bytes, ..WalSettings::default() };
        let log = dir.join(format!("log-{per_sync}-{align_bytes}"));
        Wal::format(Directory::new(&log)?, settings, formatted()?)?;
        let (mut wal, _) = Wal::open(Directory::new(&log)?, settings)?;
        let (mut slot, mut at, mut buffer) = (0, 0, Vec::new());
        let (mut bare_rates, mut log_rates, mut prepared) = (Vec::new(), Vec::new(), Duration::ZERO);
        for _ in 0..ROUNDS {
            bare_rates.push(round(per_sync, |records| {
                buffer.clear();
                (0..records).for_each(|_| buffer.extend_from_slice(payload));
                let written = bare.write_all_at(&buffer, at).and_then(|()| bare.sync_data());
                at = (at + buffer.len() as u64) % (63 << 20);
                written.map_err(|source| WalError::Io { operation: "write", path: "bare".to_owned(), source })
            })?);
            log_rates.push(round(per_sync, |records| {
                for _ in 0..records {
                    slot += 1;
                    wal.append(&record(slot, payload))?;
                }
                wal.sync()
            })?);
            if wal.wants_next() {
                let start = Instant::now();
                wal.prepare_next()?;
                prepared += start.elapsed();
            }
        }
        println!("{per_sync:4} per sync, groups at multiples of {align_bytes}:");
        println!("  bare {}", median(bare_rates));
        println!("  log  {}   {} ms for segments made ahead", median(log_rates), prepared.as_millis());
        fs::remove_dir_all(&log)?;
    }
    Ok(())
}

fn million(dir: &Path, payload: &Bytes) -> Result<(), Box<dyn std::error::Error>> {
    let settings = WalSettings::default();
    let log = dir.join("million");
    Wal::format(Directory::new(&log)?, settings, formatted()?)?;
    let (mut wal, recovered) = Wal::open(Directory::new(&log)?, settings)?;
    let boot: Boot = recovered.next_boot(1);
    wal.append(&Record::Started(boot))?;
    let start = Instant::now();
    for slot in 1..=RECORDS {
        wal.append(&record(slot, payload))?;
        if slot % 1000 == 0 {
            wal.append(&Record::Chosen { below: Slot::FIRST.plus(slot) })?;
            wal.sync()?;
        }
    }
    println!("{RECORDS} records written, 1000 per sync: {} ms", start.elapsed().as_millis());
    for _ in 0..5 {
        let (start, processor) = (Instant::now(), processor_time());
        let (mut wal, recovered) = Wal::open(Directory::new(&log)?, settings)?;
        let opened = (start.elapsed(), processor_time() - processor);
        let (start, processor) = (Instant::now(), processor_time());
        let (mut next, mut bytes) = (Slot::FIRST, 0);
        while next < recovered.first_unchosen() {
            let entries = wal.read(SlotRange { first: next, end: recovered.first_unchosen() }, 1 << 20)?;
            bytes += entries.iter().map(Entry::payload_bytes).sum::<usize>();
            next = next.plus(entries.len() as u64);
        }
        let read = (start.elapsed(), processor_time() - processor);
        println!(
            "opened in {} ms ({} of processor), {} entries ({bytes} B) read back in {} ms ({}), index {} B",
            opened.0.as_millis(),
            opened.1.as_millis(),
            next.since(Slot::FIRST),
            read.0.as_millis(),
            read.1.as_millis(),
            wal.index_bytes()
        );
    }
    fs::remove_dir_all(&log)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("wal_bench");
    fs::create_dir_all(&dir)?;
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    million(&dir, &payload)?;
    if std::env::args().nth(2).is_none() {
        groups(&dir, &payload)?;
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}
