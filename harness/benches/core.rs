//! Processor time per chosen entry of three in-memory replicas, ours and the rivals', in interleaved rounds.
//!
//! Processor time and not the clock's: on an idle machine they are the same, since all of it is one thread, and a
//! busy one then only adds what it does to the caches.
//!
//! `cargo bench -p harness --features rivals --bench core`; ours alone without the feature.

use std::time::Duration;

use bytes::Bytes;
use harness::rivals::{Ours, Trio};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 7;
const ROUND_TIME: Duration = Duration::from_millis(250);

struct Contender {
    name: String,
    trio: Box<dyn Trio>,
    /// Nanoseconds per chosen entry, one per round.
    rounds: Vec<f64>,
}

fn contenders(outstanding: usize) -> Vec<Contender> {
    let contender = |name: &str, trio: Box<dyn Trio>| Contender { name: name.into(), trio, rounds: Vec::new() };
    #[cfg(not(feature = "rivals"))]
    let rivals = {
        let _ = outstanding;
        vec![]
    };
    #[cfg(feature = "rivals")]
    let rivals = {
        use harness::rivals::{Omni, Raft};
        let mut rivals = vec![contender("omnipaxos 0.2", Box::new(Omni::new(1)))];
        if outstanding > 1 {
            rivals.push(contender("omnipaxos 0.2, batched", Box::new(Omni::new(outstanding))));
        }
        rivals.push(contender("raft-rs 0.7", Box::new(Raft::new())));
        rivals
    };
    std::iter::once(contender("paxos-core", Box::new(Ours::new()))).chain(rivals).collect()
}

/// Rounds of `outstanding` proposals until the time is over; nanoseconds per chosen entry.
fn measure(trio: &mut dyn Trio, payload: &Bytes, outstanding: usize) -> f64 {
    let before = trio.chosen();
    let begun = processor_time();
    let mut used = Duration::ZERO;
    while used < ROUND_TIME {
        for _ in 0..16 {
            trio.choose(payload, outstanding);
        }
        used = processor_time() - begun;
    }
    used.as_nanos() as f64 / (trio.chosen() - before) as f64
}

/// What this process has used so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn main() {
    println!(
        "ns of processor time per chosen entry, three replicas in one thread: median of {ROUNDS} interleaved rounds (min – max)"
    );
    println!("| entry bytes | outstanding | library | median | min | max | ÷ paxos-core |");
    println!("| ---: | ---: | --- | ---: | ---: | ---: | ---: |");
    for bytes in [16, 1024] {
        let payload = Bytes::from(vec![7; bytes]);
        for outstanding in [1, 64, 256] {
            let mut contenders = contenders(outstanding);
            for contender in &mut contenders {
                measure(&mut *contender.trio, &payload, outstanding); // warms caches and growth
            }
            for _ in 0..ROUNDS {
                for contender in &mut contenders {
                    let ns = measure(&mut *contender.trio, &payload, outstanding);
                    contender.rounds.push(ns);
                }
            }
            let mut ours = None;
            for Contender { name, rounds, .. } in &mut contenders {
                rounds.sort_by(f64::total_cmp);
                let (min, median, max) = (rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
                let ours = *ours.get_or_insert(median);
                println!(
                    "| {bytes} | {outstanding} | {name} | {median:.0} | {min:.0} | {max:.0} | {:.2} |",
                    median / ours
                );
            }
        }
    }
}
