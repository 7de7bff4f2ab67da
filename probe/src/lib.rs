//! A program without std around `paxos-core`: one replica, alone, chooses one command. `check.sh` links it with
//! a C `main`, runs it, and shows that a core which names std could not be linked like this.
#![no_std]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use paxos_core::{
    Action, Boot, ClusterId, Config, Entry, Event, Formatted, Genesis, Incarnation, Instant, Member, Membership,
    NodeId, QuorumSystem, Record, Recovery, Replica, Tag,
};

/// More than the default windows of a lone replica take.
const HEAP_BYTES: usize = 64 << 20;

/// Hands out a static array from front to back and takes nothing back.
struct Heap {
    bytes: UnsafeCell<[u8; HEAP_BYTES]>,
    used: AtomicUsize,
}

// SAFETY: every allocation reserves its own range of `bytes` by one atomic step.
unsafe impl Sync for Heap {}

// SAFETY: ranges never overlap, are aligned as asked, and live for ever.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.bytes.get() as usize;
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let at = (start + used).next_multiple_of(layout.align()) - start;
            let Some(end) = at.checked_add(layout.size()).filter(|end| *end <= HEAP_BYTES) else {
                return core::ptr::null_mut();
            };
            match self.used.compare_exchange(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (start + at) as *mut u8,
                Err(now) => used = now,
            }
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: Heap = Heap { bytes: UnsafeCell::new([0; HEAP_BYTES]), used: AtomicUsize::new(0) };

unsafe extern "C" {
    fn abort() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: libc's abort has no preconditions.
    unsafe { abort() }
}

/// Runs the probe: 0 if the command was chosen and applied, else the step that failed.
#[unsafe(no_mangle)]
pub extern "C" fn probe() -> i32 {
    match run() {
        Ok(()) => 0,
        Err(step) => step,
    }
}

fn run() -> Result<(), i32> {
    let (node, incarnation) = (NodeId(1), Incarnation(7));
    let voters = vec![Member { node, incarnation, generation: 0 }];
    let membership = Membership::new(voters, vec![], QuorumSystem::Majority).map_err(|_| 1)?;
    let genesis = Genesis::new(membership, 4_096).map_err(|_| 2)?;
    let mut recovery = Recovery::new();
    let formatted = Formatted { cluster: ClusterId::new(1), node, incarnation, genesis };
    recovery.record(Record::Formatted(formatted)).map_err(|_| 3)?;
    let mut recovered = recovery.finish().map_err(|_| 4)?;
    recovered.started(Boot { counter: 1, nonce: 1 }).map_err(|_| 5)?;
    let mut now = Instant::from_us(0);
    let mut replica = Replica::new(Config::default(), recovered, now, 1).map_err(|_| 6)?;

    let mut actions = Vec::new();
    let mut proposed = false;
    for _ in 0..10_000 {
        now = now.plus_us(1_000);
        replica.handle(now, Event::Tick, &mut actions);
        if !proposed && replica.propose_room() > 0 {
            proposed = true;
            replica.handle(now, Event::Propose { tag: Tag(1), command: Bytes::from_static(b"hello") }, &mut actions);
        }
        while !actions.is_empty() {
            for action in core::mem::take(&mut actions) {
                match action {
                    Action::Persist { ticket, .. } => {
                        replica.handle(now, Event::Persisted(ticket.redeem()), &mut actions);
                    }
                    Action::Apply { tag: Some(Tag(1)), entries, .. }
                        if entries.first().and_then(Entry::command).is_some_and(|bytes| bytes == "hello") =>
                    {
                        return Ok(());
                    }
                    _ => {}
                }
            }
        }
    }
    Err(7)
}
