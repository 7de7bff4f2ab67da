//! The integration tests of the workspace: real processes, sockets and disks, and the tidiness of the sources.
//!
//! One crate with modules, since each test binary is linked anew. Tests that need more than a plain machine (root,
//! Redis' tools, Python with redis-py) skip by hand with a printed reason; with `CI=true` a skip is a failure.

mod corpus;
mod crashes;
mod damage;
mod doubles;
mod failing_disks;
mod full_disks;
mod lost_replies;
mod namespaces;
mod partitions;
mod replay;
mod stock_clients;
mod tails;
mod tidy;
mod trial;
mod up;
