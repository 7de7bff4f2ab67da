//! The room for schedules that are aimed: leaderships that end in mid-work.

use super::MOVE_BYTES;
use super::bytes::Kind;
use crate::rng::Rng;

/// Leaderships that end in mid-work, one after the other: somebody leads, binds what only some hear of, loses office in
/// some way, the others go on, and then what was held back arrives in some order.
pub(super) fn draw(rng: &mut Rng, moves: usize, bytes: &mut Vec<u8>) {
    const LEADER: u8 = 0x80;
    let end = bytes.len() + moves * MOVE_BYTES;
    while bytes.len() < end {
        let mut push = |kind: Kind, one: u8, two: u8, three: u8| bytes.extend([kind as u8, one, two, three]);
        // How bad the weather is differs from run to run; most of the time it is fair.
        let run = |rng: &mut Rng, ms: u64| {
            let root = (1..=255u64).find(|root| 1 + root * root / 64 >= ms).unwrap_or(255) as u8;
            let (two, three) = (rng.draw() as u8, rng.draw() as u8);
            (root, if rng.coin() { two } else { 0 }, if rng.coin() { three } else { 0 })
        };
        let (root, two, three) = run(rng, 300);
        push(Kind::Run, root, two, three);
        let (root, _, _) = run(rng, 450);
        push(Kind::Run, root, 0, 0);
        for _ in 0..rng.between(1, 3) {
            if rng.coin() {
                // Mute: some do not hear what it binds now.
                push(Kind::Depose, LEADER, rng.draw() as u8, 3);
            }
            for _ in 0..rng.between(1, 3) {
                push(Kind::Propose, LEADER, rng.draw() as u8, 0);
            }
            let ms = rng.between(1, 4);
            let (root, two, three) = run(rng, ms);
            push(Kind::Run, root, two, three);
        }
        if rng.coin() {
            // Back and forth, faster than acknowledgements and promises travel, and often with nobody to spare.
            let (late, between) = (rng.between(0x08, 0x5f) as u8 | 1, [rng.draw() as u8, rng.draw() as u8]);
            if rng.coin() {
                push(Kind::Crash, rng.draw() as u8, 0, 0);
            }
            for turn in 0..rng.between(4, 16) as usize {
                push(Kind::HandOver, between[turn % 2], 0, 0);
                let ms = rng.between(1, 12);
                let (root, _, three) = run(rng, ms);
                push(Kind::Run, root, late, three);
                push(Kind::Propose, LEADER, rng.draw() as u8, 0);
                if rng.below(3) == 0 {
                    let node = rng.draw() as u8;
                    push(Kind::Crash, node, rng.draw() as u8, 0);
                    push(Kind::Restart, node, 0, 0);
                }
                let ms = rng.between(1, 60);
                let (root, _, three) = run(rng, ms);
                push(Kind::Run, root, late, three);
            }
        }
        match rng.below(8) {
            0 => push(Kind::HandOver, rng.draw() as u8, 0, 0),
            1 => {}
            2..=4 => push(Kind::Depose, LEADER, 0xff, 5),
            _ => push(Kind::Depose, LEADER, rng.draw() as u8, rng.draw() as u8),
        }
        let ms = rng.between(230, 420);
        let (root, two, three) = run(rng, ms);
        push(Kind::Run, root, two, three);
        for _ in 0..rng.below(8) {
            push(Kind::Propose, LEADER | 1, rng.draw() as u8, 0);
            let ms = rng.between(2, 24);
            let (root, two, three) = run(rng, ms);
            push(Kind::Run, root, two, three);
            push(Kind::Read, if rng.coin() { LEADER } else { rng.draw() as u8 }, 0, 0);
            push(Kind::Tick, rng.draw() as u8, 0, 0);
            if rng.below(8) == 0 {
                let node = rng.draw() as u8;
                push(Kind::Crash, node, rng.draw() as u8, 0);
                push(Kind::Restart, node, 0, 0);
            }
        }
        match rng.below(4) {
            0 => push(Kind::Crash, rng.draw() as u8, rng.draw() as u8, 0),
            1 => push(Kind::Restart, rng.draw() as u8, 0, 0),
            2 => push(Kind::Repeat, rng.draw() as u8, rng.draw() as u8, 0),
            _ => {}
        }
        for _ in 0..rng.below(12) {
            match rng.below(6) {
                0..=2 => push(Kind::Deliver, rng.draw() as u8, rng.draw() as u8, 0),
                3 => push(Kind::Mend, rng.draw() as u8, 1, 0),
                4 => push(Kind::Sync, rng.draw() as u8, rng.draw() as u8, 0),
                _ => push(Kind::Lose, rng.draw() as u8, rng.draw() as u8, 0),
            }
        }
        if rng.coin() {
            push(Kind::Heal, 0, 0, 0);
            push(Kind::Wake, 0, 0, 0);
            for node in 0..5 {
                push(Kind::Restart, node, 0, 0);
            }
        }
    }
}
