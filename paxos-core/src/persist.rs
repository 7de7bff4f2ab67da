//! The room for durability: records that must survive, the tickets and receipts that say they do, and
//! `Recovered`, what is left of them after a restart.
//!
//! A `Ticket` can be neither copied nor made; a `Receipt` is made only by consuming tickets; and handing a
//! receipt in is the only way to release the testimony that waits for it (rule 6).

use alloc::collections::BTreeMap;

use thiserror::Error;

use crate::ballot::Ballot;
use crate::entry::{Entries, Entry};
use crate::membership::{Genesis, MembershipError};
use crate::node_id::{Boot, ClusterId, Incarnation, NodeId};
use crate::slot::Slot;

/// What must survive a crash. Append-only: drivers give each variant a number on disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Record {
    /// The first record of a log: who this disk belongs to. Written once, by `format`.
    Formatted(Formatted),
    /// A process started on this disk. Durable before the replica says its first word.
    Started(Boot),
    /// The acceptor promised this ballot; for the proposer's own ballot, also that it may be used.
    Promised(Ballot),
    /// The acceptor accepted these entries under this ballot.
    Accepted {
        /// The ballot.
        ballot: Ballot,
        /// The slot of the first entry.
        first: Slot,
        /// The entries of `first` and the slots after it.
        entries: Entries,
    },
    /// These entries are chosen, as told by a replica that knew.
    Learned {
        /// The slot of the first entry.
        first: Slot,
        /// The entries of `first` and the slots after it.
        entries: Entries,
    },
    /// Every slot below is chosen, and the last record of each of those slots holds its chosen entry.
    Chosen {
        /// The first slot that is not covered.
        below: Slot,
    },
}

/// Identity of a disk and the genesis of its cluster.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Formatted {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// This disk's life.
    pub incarnation: Incarnation,
    /// The membership of slot 1, the same on every node.
    pub genesis: Genesis,
}

/// Which process a ticket belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Owner {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) boot: Boot,
}

/// Stands for one record that is not durable yet. Neither `Clone` nor `Copy`: whoever holds it can redeem it
/// once. Dropping it only withholds what waits for it.
///
/// ```compile_fail
/// fn twice(ticket: paxos_core::Ticket) -> (paxos_core::Receipt, paxos_core::Receipt) {
///     (ticket.redeem(), ticket.redeem()) // a ticket is consumed by its receipt
/// }
/// ```
/// ```compile_fail
/// fn copy(ticket: &paxos_core::Ticket) -> paxos_core::Ticket {
///     ticket.clone() // a ticket cannot be copied
/// }
/// ```
/// ```compile_fail
/// let ticket = paxos_core::Ticket { sequence: 7 }; // nor made
/// ```
#[derive(Debug)]
#[cfg_attr(paxos_model, derive(Clone, PartialEq, Eq, Hash))]
#[must_use = "testimony waits until the ticket is redeemed"]
pub struct Ticket {
    owner: Owner,
    sequence: u64,
}

impl Ticket {
    pub(crate) fn new(owner: Owner, sequence: u64) -> Ticket {
        Ticket { owner, sequence }
    }

    /// The record of this ticket is durable.
    pub fn redeem(self) -> Receipt {
        Receipt { owner: self.owner, first: self.sequence, last: self.sequence }
    }
}

/// Proof that the records of consecutive tickets are durable. Made only from tickets.
///
/// ```compile_fail
/// let receipt = paxos_core::Receipt { first: 1, last: 9 }; // cannot be made without tickets
/// ```
#[derive(Debug)]
#[cfg_attr(paxos_model, derive(Clone, PartialEq, Eq, Hash))]
#[must_use = "testimony waits until the receipt is handed in as Event::Persisted"]
pub struct Receipt {
    owner: Owner,
    first: u64,
    last: u64,
}

/// A ticket that does not follow the last one of a receipt; both come back unharmed.
#[derive(Debug)]
pub struct OutOfOrder {
    /// The receipt as it was.
    pub receipt: Receipt,
    /// The ticket that did not fit.
    pub ticket: Ticket,
}

impl Receipt {
    /// Adds the next ticket: one sync for many.
    ///
    /// # Errors
    /// `OutOfOrder` if the ticket is another process's or not the next one; redeem it by itself then.
    pub fn and(self, ticket: Ticket) -> Result<Receipt, OutOfOrder> {
        if ticket.owner == self.owner && ticket.sequence == self.last.saturating_add(1) {
            return Ok(Receipt { last: ticket.sequence, ..self });
        }
        Err(OutOfOrder { receipt: self, ticket })
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

/// Why records cannot be what a replica wrote.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecoveryError {
    /// Nothing says who this disk belongs to.
    #[error("the log does not begin with a Formatted record")]
    NotFormatted,
    /// Two identities in one log.
    #[error("a second Formatted record")]
    FormattedTwice,
    /// The genesis is none.
    #[error("genesis: {0}")]
    Genesis(#[from] MembershipError),
    /// The disk's node or incarnation is no member.
    #[error("this node's incarnation is not in the genesis membership")]
    NotAMember,
    /// Boots only count up.
    #[error("boot {found} after boot {last}")]
    BootNotRising {
        /// The boot counter before.
        last: u64,
        /// The one found.
        found: u64,
    },
    /// Promises never go down.
    #[error("promise {found} after {promised}")]
    PromiseFell {
        /// The promise before.
        promised: Ballot,
        /// The one found.
        found: Ballot,
    },
    /// A chosen slot holds another entry later on.
    #[error("slot {0} changes after it was chosen")]
    ChosenChanged(Slot),
    /// The chosen prefix covers a slot that no record holds.
    #[error("slot {0} is said to be chosen and is nowhere")]
    ChosenMissing(Slot),
    /// More undecided slots than any window admits.
    #[error("more than {0} undecided slots")]
    TooManyUndecided(usize),
}

/// What a slot held when the process stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RecoveredSlot {
    /// `None`: chosen.
    pub(crate) accepted: Option<Ballot>,
    pub(crate) entry: Entry,
}

/// The validator of records: fed every record of the log in order, it yields `Recovered`.
#[derive(Debug, Default)]
pub struct Recovery {
    formatted: Option<Formatted>,
    boot: Option<Boot>,
    promised: Option<Ballot>,
    first_unchosen: Option<Slot>,
    held: BTreeMap<Slot, RecoveredSlot>,
}

/// What survived: built only by `Recovery`, so that a replica never starts from what no replica wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    pub(crate) formatted: Formatted,
    pub(crate) boot: Option<Boot>,
    pub(crate) promised: Option<Ballot>,
    pub(crate) first_unchosen: Slot,
    pub(crate) held: BTreeMap<Slot, RecoveredSlot>,
}

impl Recovery {
    /// Nothing read yet.
    pub fn new() -> Recovery {
        Recovery::default()
    }

    /// Takes the next record of the log.
    ///
    /// # Errors
    /// `RecoveryError` if no replica could have written this record after the ones before.
    pub fn record(&mut self, record: Record) -> Result<(), RecoveryError> {
        if self.formatted.is_none() != matches!(record, Record::Formatted(_)) {
            return Err(match record {
                Record::Formatted(_) => RecoveryError::FormattedTwice,
                Record::Started(_)
                | Record::Promised(_)
                | Record::Accepted { .. }
                | Record::Learned { .. }
                | Record::Chosen { .. } => RecoveryError::NotFormatted,
            });
        }
        match record {
            Record::Formatted(mut formatted) => {
                formatted.genesis = formatted.genesis.validated()?;
                let member = formatted.genesis.membership().member(formatted.node);
                if member.is_none_or(|member| member.incarnation != formatted.incarnation) {
                    return Err(RecoveryError::NotAMember);
                }
                self.formatted = Some(formatted);
                Ok(())
            }
            Record::Started(boot) => {
                let last = self.boot.map_or(0, |boot| boot.counter);
                if boot.counter <= last {
                    return Err(RecoveryError::BootNotRising { last, found: boot.counter });
                }
                self.boot = Some(boot);
                Ok(())
            }
            Record::Promised(ballot) => self.promise(ballot),
            Record::Accepted { ballot, first, entries } => {
                self.promise(ballot)?;
                self.hold(Some(ballot), first, &entries)
            }
            Record::Learned { first, entries } => self.hold(None, first, &entries),
            Record::Chosen { below } => self.choose(below),
        }
    }

    fn promise(&mut self, found: Ballot) -> Result<(), RecoveryError> {
        if let Some(promised) = self.promised
            && found < promised
        {
            return Err(RecoveryError::PromiseFell { promised, found });
        }
        self.promised = Some(found);
        Ok(())
    }

    fn hold(&mut self, accepted: Option<Ballot>, first: Slot, entries: &[Entry]) -> Result<(), RecoveryError> {
        /// Four times the largest window: one of accepted slots, one of learned ones, and both again for
        /// marks that are persisted lazily.
        const UNDECIDED_MAX: usize = 4 << 20;
        let first_unchosen = self.first_unchosen.unwrap_or(Slot::FIRST);
        for (offset, entry) in (0u64..).zip(entries) {
            let slot = first.plus(offset);
            if slot < first_unchosen {
                continue; // a repeat of what is chosen: the log's reader compares it when it reads it back
            }
            let held = RecoveredSlot { accepted, entry: entry.clone() };
            let before = self.held.get(&slot);
            if before.is_some_and(|before| before.accepted.is_none() && before.entry != held.entry) {
                return Err(RecoveryError::ChosenChanged(slot));
            }
            if before.is_some_and(|before| before.accepted.is_none()) {
                continue;
            }
            self.held.insert(slot, held);
        }
        if self.held.len() > UNDECIDED_MAX {
            return Err(RecoveryError::TooManyUndecided(UNDECIDED_MAX));
        }
        Ok(())
    }

    fn choose(&mut self, below: Slot) -> Result<(), RecoveryError> {
        let mut first_unchosen = self.first_unchosen.unwrap_or(Slot::FIRST);
        while first_unchosen < below {
            match self.held.first_key_value() {
                Some((slot, _)) if *slot == first_unchosen => self.held.pop_first(),
                Some(_) | None => return Err(RecoveryError::ChosenMissing(first_unchosen)),
            };
            first_unchosen = first_unchosen.next();
        }
        self.first_unchosen = Some(first_unchosen);
        Ok(())
    }

    /// What the log says, now that all of it was read.
    ///
    /// # Errors
    /// `RecoveryError::NotFormatted` if there was no record at all.
    pub fn finish(self) -> Result<Recovered, RecoveryError> {
        let formatted = self.formatted.ok_or(RecoveryError::NotFormatted)?;
        Ok(Recovered {
            formatted,
            boot: self.boot,
            promised: self.promised,
            first_unchosen: self.first_unchosen.unwrap_or(Slot::FIRST),
            held: self.held,
        })
    }
}

impl Recovered {
    /// Who this disk belongs to.
    pub fn formatted(&self) -> &Formatted {
        &self.formatted
    }

    /// The newest start of a process on this disk.
    pub fn boot(&self) -> Option<Boot> {
        self.boot
    }

    /// The boot that the next process must make durable as `Record::Started` before it makes a replica.
    pub fn next_boot(&self, nonce: u64) -> Boot {
        Boot { counter: self.boot.map_or(0, |boot| boot.counter).saturating_add(1), nonce }
    }

    /// Takes note that `Record::Started(boot)` is durable.
    ///
    /// # Errors
    /// `RecoveryError::BootNotRising` unless it follows the newest boot.
    pub fn started(&mut self, boot: Boot) -> Result<(), RecoveryError> {
        let last = self.boot.map_or(0, |boot| boot.counter);
        if boot.counter <= last {
            return Err(RecoveryError::BootNotRising { last, found: boot.counter });
        }
        self.boot = Some(boot);
        Ok(())
    }

    /// The highest ballot promised.
    pub fn promised(&self) -> Option<Ballot> {
        self.promised
    }

    /// Every slot below is known chosen and can be read back from the log.
    pub fn first_unchosen(&self) -> Slot {
        self.first_unchosen
    }

    /// How many slots from `first_unchosen` on hold an accepted or chosen entry.
    pub fn held_slots(&self) -> usize {
        self.held.len()
    }
}
