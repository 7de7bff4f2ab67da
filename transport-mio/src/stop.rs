//! Why a process of a node ends: one clear line for standard error and one exit code for scripts.
//!
//! The table of codes is in `docs/operations.md`; `Stop::ALL_CODES` keeps the two equal.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use paxos_core::{ClusterId, FenceReason, NodeId};
use thiserror::Error;

/// Why a node does not start, or no longer runs. The text is the one line an operator sees.
#[derive(Debug, Error)]
pub enum Stop {
    /// A setting is missing, unknown or out of range.
    #[error("bad configuration: {0}")]
    Config(String),
    /// The directory that should hold the log is not there.
    #[error("data directory {0} does not exist: `paxos-node format` or `paxos init` makes one")]
    DirectoryMissing(PathBuf),
    /// The directory is there, and no log is in it.
    #[error("data directory {0} is not formatted: a node never starts empty in place of missing data")]
    NotFormatted(PathBuf),
    /// The log belongs to somebody else than the configuration says.
    #[error("data directory {dir} does not fit the configuration: {mismatch}")]
    Identity {
        /// The data directory.
        dir: PathBuf,
        /// What differs.
        mismatch: Mismatch,
    },
    /// Another process runs on the directory.
    #[error("data directory {dir} is locked by another process{}", .pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// Who holds it, if it left its number.
        pid: Option<u32>,
    },
    /// The address to listen on cannot be had.
    #[error("cannot listen on {address} for {whom}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Clients or peers.
        whom: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The log holds bytes that no node wrote there; the text names segment, offset and reason.
    #[error("corrupt log in {dir}: {detail}")]
    Corrupt {
        /// The data directory.
        dir: PathBuf,
        /// Segment, offset and reason.
        detail: String,
    },
    /// The disk is full.
    #[error("no space left: {detail}; free some and start again, nothing acknowledged is lost")]
    NoSpace {
        /// The path and the bytes that were needed.
        detail: String,
    },
    /// The disk failed.
    #[error("disk failed: {detail}")]
    Disk {
        /// What was done to which path, and what the system says.
        detail: String,
    },
    /// The node takes no part any more.
    #[error("fenced: {0}")]
    Fenced(FenceReason),
    /// A second signal came before the clean stop was over.
    #[error("stopped at once by a second signal; what was acknowledged is durable")]
    SecondSignal,
    /// `format` found something where it was to make a new log.
    #[error("{0} is not empty: refusing to format over it")]
    NotEmpty(PathBuf),
    /// The operating system refused something a node cannot do without.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}

/// What of the durable identity differs from the configuration.
#[derive(Debug, Error)]
pub enum Mismatch {
    /// Another node's log.
    #[error("it belongs to node {found}, the configuration says id = {configured}")]
    Node {
        /// What the log says.
        found: NodeId,
        /// What the configuration says.
        configured: NodeId,
    },
    /// Another cluster's log.
    #[error("it belongs to cluster {found}, the configuration says cluster_id = {configured} (wrong cluster id)")]
    Cluster {
        /// What the log says.
        found: ClusterId,
        /// What the configuration says.
        configured: ClusterId,
    },
    /// The membership on disk and the addresses in the configuration name different nodes.
    #[error("its members are {found:?}, the configuration names {configured:?} in id and peers")]
    Members {
        /// What the log says.
        found: Vec<NodeId>,
        /// What the configuration says.
        configured: Vec<NodeId>,
    },
}

impl Stop {
    /// Every exit code with its meaning, in the order of the table in `docs/operations.md`.
    pub const ALL_CODES: [(u8, &'static str); 13] = [
        (0, "clean stop"),
        (1, "operating system error"),
        (2, "bad configuration"),
        (3, "data directory missing"),
        (4, "not formatted"),
        (5, "identity does not fit the configuration"),
        (6, "locked by another process"),
        (7, "cannot listen"),
        (8, "corrupt log"),
        (9, "no space left"),
        (10, "disk failed"),
        (11, "fenced"),
        (12, "second signal"),
    ];

    /// The exit code of the process.
    pub fn code(&self) -> u8 {
        match self {
            Stop::System { .. } => 1,
            Stop::Config(_) | Stop::NotEmpty(_) => 2,
            Stop::DirectoryMissing(_) => 3,
            Stop::NotFormatted(_) => 4,
            Stop::Identity { .. } => 5,
            Stop::Locked { .. } => 6,
            Stop::Listen { .. } => 7,
            Stop::Corrupt { .. } => 8,
            Stop::NoSpace { .. } => 9,
            Stop::Disk { .. } => 10,
            Stop::Fenced(_) => 11,
            Stop::SecondSignal => 12,
        }
    }

    /// Names what was tried in an error of the system; a full disk is told from other failures.
    pub(crate) fn disk(what: &str, path: &Path, source: &io::Error) -> Stop {
        let detail = format!("{what} {}: {source}", path.display());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Stop::NoSpace { detail },
            _ => Stop::Disk { detail },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_operations_document() {
        let document = include_str!("../../docs/operations.md");
        for (code, meaning) in Stop::ALL_CODES {
            let row = format!("| {code} | {meaning} |");
            assert!(document.contains(&row), "docs/operations.md lacks the row {row:?}");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let of = |kind: io::ErrorKind| Stop::disk("write", Path::new("d"), &io::Error::from(kind)).code();
        assert_eq!(of(io::ErrorKind::StorageFull), 9);
        assert_eq!(of(io::ErrorKind::PermissionDenied), 10);
    }
}
