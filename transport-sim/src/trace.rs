//! The room for the trace of a world: one rolling hash over everything that happens, and on demand a decoded line
//! for each event.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::Write;

use paxos_core::{Instant, NodeId};

use crate::digest::Digest;

/// The rolling hash of a world's history, and where its lines go, if anywhere.
pub struct Trace {
    digest: Digest,
    lines: Option<Box<dyn Write>>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.hash())
    }
}

impl Trace {
    /// Only the hash.
    pub fn silent() -> Trace {
        Trace { digest: Digest::default(), lines: None }
    }

    /// The hash, and every line to `out`.
    pub fn to(out: impl Write + 'static) -> Trace {
        Trace { digest: Digest::default(), lines: Some(Box::new(out)) }
    }

    /// Adds what happened at a node to the hash.
    #[inline]
    pub fn fold(&mut self, now: Instant, node: NodeId, what: &impl Hash) {
        self.digest.write_u64(now.as_us());
        self.digest.write_u32(node.0);
        what.hash(&mut self.digest);
    }

    /// Whether anybody reads the lines; ask before making one.
    #[inline]
    pub fn prints(&self) -> bool {
        self.lines.is_some()
    }

    /// Writes a line. Output that cannot be written (a closed pipe) turns the lines off.
    pub fn line(&mut self, step: u64, now: Instant, node: Option<NodeId>, what: fmt::Arguments<'_>) {
        let Some(out) = &mut self.lines else { return };
        let (seconds, micros) = (now.as_us() / 1_000_000, now.as_us() % 1_000_000);
        let written = match node {
            Some(node) => writeln!(out, "{step:>7} {seconds:>3}.{micros:06} n{node:<2} {what}"),
            None => writeln!(out, "{step:>7} {seconds:>3}.{micros:06} --  {what}"),
        };
        if written.is_err() {
            self.lines = None;
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.digest.value()
    }
}
