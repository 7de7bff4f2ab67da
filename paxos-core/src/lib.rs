//! Sans-IO Multi-Paxos: events in, actions out.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(any(test, feature = "quickcheck"))]
extern crate std;

pub mod wire;

mod action;
mod ballot;
mod config;
mod entry;
mod event;
pub mod limits;
mod membership;
mod message;
mod node_id;
mod persist;
mod quorum;
mod replica;
mod rng;
mod slot;
mod stats;
mod time;

pub use action::{Action, FenceReason, ProposeError, ReadError, Recipients, Role, RoleReason};
pub use ballot::Ballot;
pub use config::{Config, ConfigError, ElectionPolicy};
pub use entry::{CommandId, Entries, Entry};
pub use event::{Event, FetchId, Tag};
pub use membership::{Genesis, Member, Membership, MembershipError};
pub use message::{
    Accept, Accepted, Body, Echo, Fetch, HandOver, Header, Heartbeat, Held, Message, Prepare, Promise, Refused,
    Success, SuccessReply,
};
pub use node_id::{Boot, ClusterId, Incarnation, NodeId};
pub use persist::{Formatted, OutOfOrder, Receipt, Record, Recovered, Recovery, RecoveryError, Ticket};
pub use quorum::{QuorumSystem, VoterSet};
pub use replica::{Reason, Replica, StartError};
pub use slot::{Slot, SlotRange};
pub use stats::Stats;
pub use time::Instant;
