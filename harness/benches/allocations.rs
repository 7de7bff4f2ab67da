//! Allocations per chosen entry of three in-memory replicas in steady state, ours and the rivals'.
//!
//! Apart from `core`, since counting costs time and would cost the rivals more of it.
//! `cargo bench -p harness --features rivals --bench allocations`.

use std::alloc::System;

use bytes::Bytes;
use harness::rivals::{Ours, Trio};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Entries before counting begins: longer than every window and ring, so that what grows has grown.
const WARM_UP: usize = 20_000;
const COUNTED: usize = 20_000;

fn row(name: &str, mut trio: impl Trio, outstanding: usize) {
    let payload = Bytes::from(vec![7; 16]);
    for _ in 0..WARM_UP / outstanding {
        trio.choose(&payload, outstanding);
    }
    let before = trio.chosen();
    let region = Region::new(ALLOCATOR);
    for _ in 0..COUNTED / outstanding {
        trio.choose(&payload, outstanding);
    }
    let change = region.change();
    let entries = (trio.chosen() - before) as f64;
    let allocations = (change.allocations + change.reallocations) as f64 / entries;
    println!("| {outstanding} | {name} | {allocations:.3} | {:.1} |", change.bytes_allocated as f64 / entries);
}

fn main() {
    println!("Allocations per chosen entry of 16 bytes, three replicas together, the payload's own apart");
    println!("| outstanding | library | allocations | bytes |");
    println!("| ---: | --- | ---: | ---: |");
    for outstanding in [1, 64, 256] {
        row("paxos-core", Ours::new(), outstanding);
        #[cfg(feature = "rivals")]
        {
            use harness::rivals::{Omni, Raft};
            row("omnipaxos 0.2", Omni::new(outstanding), outstanding);
            row("raft-rs 0.7", Raft::new(), outstanding);
        }
    }
}
