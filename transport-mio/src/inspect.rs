//! Prints what is in a data directory, for people; changes nothing, not even for a node that runs on it.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use node::wal::{Inspect, Inspected, Item};
use paxos_core::{Boot, Entry, Formatted, Record, Slot};

use crate::disk::stop_of;
use crate::files::Directory;
use crate::stop::Stop;

/// Payload bytes shown of an entry.
const PAYLOAD_SHOWN: usize = 48;

/// Entries shown of a run.
const ENTRIES_SHOWN: usize = 8;

/// Prints every record of the log, one a line, damage in its place.
///
/// # Errors
/// What keeps the log from being read, or the first damage, after everything was printed.
pub(crate) fn wal(dir: &Path, out: &mut dyn Write) -> Result<(), Stop> {
    let mut out = BufWriter::new(out);
    let mut damage = None;
    for Inspected { segment, offset, item } in open(dir)? {
        let printed = match item {
            Ok(item) => writeln!(out, "{segment:>6} {offset:>10}  {}", describe(&item)),
            Err(error) => {
                let printed = writeln!(out, "{segment:>6} {offset:>10}  DAMAGED: {error}");
                damage.get_or_insert(error);
                printed
            }
        };
        printed.map_err(output_failed)?;
    }
    out.flush().map_err(output_failed)?;
    damage.map_or(Ok(()), |error| Err(stop_of(dir, error)))
}

/// Prints whose directory it is and how far its log got.
///
/// # Errors
/// What keeps the log from being read, or the first damage in it.
pub(crate) fn identity(dir: &Path, out: &mut dyn Write) -> Result<(), Stop> {
    let mut found = Found::default();
    for Inspected { item, .. } in open(dir)? {
        if let Item::Record(record) = item.map_err(|error| stop_of(dir, error))? {
            found.note(record);
        }
    }
    let Some(formatted) = &found.formatted else { return Err(Stop::NotFormatted(dir.to_owned())) };
    found.print(formatted, out).map_err(output_failed)
}

fn open(dir: &Path) -> Result<Inspect<Directory>, Stop> {
    if !dir.is_dir() {
        return Err(Stop::DirectoryMissing(dir.to_owned()));
    }
    let files = Directory::open_to_read(dir).map_err(|error| Stop::disk("open", dir, &error))?;
    Inspect::new(files).map_err(|error| stop_of(dir, error))
}

fn output_failed(source: io::Error) -> Stop {
    Stop::System { what: "standard output".into(), source }
}

/// What `identity` prints.
#[derive(Default)]
struct Found {
    formatted: Option<Formatted>,
    boot: Option<Boot>,
    promised: Option<paxos_core::Ballot>,
    first_unchosen: Option<Slot>,
    records: u64,
}

impl Found {
    fn note(&mut self, record: Record) {
        self.records += 1;
        match record {
            Record::Formatted(formatted) => self.formatted = Some(formatted),
            Record::Started(boot) => self.boot = Some(boot),
            Record::Promised(ballot) | Record::Accepted { ballot, .. } => self.promised = Some(ballot),
            Record::Chosen { below } => self.first_unchosen = Some(below),
            Record::Learned { .. } => {}
        }
    }

    fn print(&self, formatted: &Formatted, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "cluster         {}", formatted.cluster)?;
        writeln!(out, "node            {}", formatted.node)?;
        writeln!(out, "incarnation     {:016x}", formatted.incarnation.0)?;
        writeln!(out, "genesis         {:016x}", crate::hello::genesis_digest(&formatted.genesis))?;
        writeln!(out, "alpha           {}", formatted.genesis.alpha())?;
        for member in formatted.genesis.membership().members() {
            writeln!(out, "member          {} (incarnation {:016x})", member.node, member.incarnation.0)?;
        }
        writeln!(out, "boot            {}", self.boot.map_or(0, |boot| boot.counter))?;
        match self.promised {
            Some(ballot) => writeln!(out, "promised        {ballot}")?,
            None => writeln!(out, "promised        -")?,
        }
        writeln!(out, "first unchosen  {}", self.first_unchosen.unwrap_or(Slot::FIRST))?;
        writeln!(out, "records         {}", self.records)
    }
}

fn describe(item: &Item) -> String {
    match item {
        Item::Segment { bytes, align_bytes, cluster, node, incarnation } => format!(
            "segment of {bytes} bytes, groups at multiples of {align_bytes}; cluster {cluster}, node {node}, incarnation {:016x}",
            incarnation.0
        ),
        Item::Group { sequence, records, bytes } => format!("group {sequence}: {records} records, {bytes} bytes"),
        Item::Record(record) => format!("  {}", describe_record(record)),
        Item::End => "end of the segment".into(),
        Item::Torn { bytes, damage } => format!("torn group of {bytes} bytes, never acknowledged: {damage}"),
        Item::Unused { bytes } => format!("{bytes} bytes not used yet"),
    }
}

fn describe_record(record: &Record) -> String {
    match record {
        Record::Formatted(formatted) => format!("Formatted node {} of cluster {}", formatted.node, formatted.cluster),
        Record::Started(boot) => format!("Started boot {} nonce {:016x}", boot.counter, boot.nonce),
        Record::Promised(ballot) => format!("Promised {ballot}"),
        Record::Accepted { ballot, first, entries } => {
            format!("Accepted {ballot} {}", describe_run(*first, entries))
        }
        Record::Learned { first, entries } => format!("Learned {}", describe_run(*first, entries)),
        Record::Chosen { below } => format!("Chosen below {below}"),
    }
}

fn describe_run(first: Slot, entries: &[Entry]) -> String {
    let last = first.plus((entries.len() as u64).saturating_sub(1));
    let mut text = if entries.len() == 1 { format!("slot {first}:") } else { format!("slots {first}-{last}:") };
    for entry in entries.iter().take(ENTRIES_SHOWN) {
        text.push(' ');
        text.push_str(&describe_entry(entry));
    }
    if entries.len() > ENTRIES_SHOWN {
        text.push_str(" ...");
    }
    text
}

fn describe_entry(entry: &Entry) -> String {
    match entry {
        Entry::Noop => "no-op".into(),
        Entry::Command { id, bytes } => {
            let shown = bytes.get(..PAYLOAD_SHOWN).unwrap_or(bytes);
            let more = if shown.len() < bytes.len() { "..." } else { "" };
            format!("command {}.{}.{} \"{}{more}\"", id.node, id.boot, id.sequence, shown.escape_ascii())
        }
        Entry::Membership(membership) => format!("membership of {}", membership.members().count()),
    }
}
