//! Small disks that are filled to the last byte: what was acknowledged is there once there is room again, whoever
//! took the room, and even if it happens to all nodes at once.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::load::{self, Verdict};
use transport_mio::config::Layer;

use crate::damage::{Mount, copy_dir};
use crate::trial::{SOON, Trial, eventually, skip};

/// The smallest there are: a node needs a new one all the time.
const SEGMENT_BYTES: u64 = 64 << 10;

/// Puts the data of these nodes on a file system of their own.
fn moved(trial: &mut Trial, ids: &[u32], place: &Path) {
    for id in ids {
        let there = place.join(format!("node-{id}"));
        copy_dir(&trial.cluster.node(*id).data_dir(), &there);
        trial.cluster.node(*id).reconfigure(|layer| Layer { data_dir: Some(there), ..layer }).expect("a configuration");
    }
}

/// Takes all the room there is, to the last byte, and says how much that was.
fn fill(place: &Path) -> u64 {
    let mut filler = File::create(place.join("filler")).expect("a file");
    let mut taken = 0;
    for piece in [64 << 10, 4 << 10, 1] {
        let piece = vec![0x5a; piece];
        loop {
            match filler.write(&piece) {
                Ok(written) => taken += written as u64,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
                    break;
                }
            }
        }
    }
    taken
}

#[test]
fn nodes_on_a_disk_filled_to_the_last_byte_stop_and_room_brings_them_back() {
    let settings = Layer { segment_bytes: Some(SEGMENT_BYTES), ..Layer::default() };
    let mut trial = Trial::prepare("last-byte", 3, settings);
    let place = trial.scratch.path().join("small");
    let Some(_disk) = Mount::small(&place, 6 << 20) else {
        return skip("a file system can only be mounted as root");
    };
    moved(&mut trial, &[1, 2, 3], &place);
    trial.cluster.start_all().expect("the nodes start");
    trial.leader();
    let mut load = trial.checked_load(SOON);
    load.reads_percent = 0;
    let over = AtomicBool::new(false);
    // Under load somebody else takes the room of all three, so that each stops where its segment ends.
    let (report, written) = thread::scope(|scope| {
        let running = scope.spawn(|| load::run(&load, &|| over.load(Ordering::Relaxed)));
        eventually("the nodes work", || trial.status(1).filter(|status| status.applied > 300));
        let taken = fill(&place);
        assert!(taken > 0);
        // The last one has nobody to write with, and no more to write: it need not stop.
        let mut stopped = Vec::new();
        eventually("two nodes stop", || {
            for id in 1..=3 {
                if let Some(status) = trial.cluster.node(id).exited() {
                    assert_eq!(status.code(), Some(9), "node {id}");
                    stopped.push(id);
                }
            }
            (stopped.len() >= 2).then_some(())
        });
        for id in &stopped {
            let last = trial.cluster.node(*id).last_words();
            assert!(last.contains("no space left") && last.contains(".wal"), "{last}");
        }
        println!("{taken} bytes taken, nodes {stopped:?} stopped");
        over.store(true, Ordering::Relaxed);
        running.join().expect("the load ends").expect("load")
    });
    trial.cluster.kill_all();
    // Without room a start either finds enough in the segment it has, or stops for the same reason.
    trial.cluster.start_all().expect("processes");
    for id in 1..=3 {
        let settled = eventually("it works or ends", || match trial.cluster.node(id).exited() {
            Some(status) => Some(status.code()),
            None => trial.status(id).map(|_| None),
        });
        assert!(matches!(settled, None | Some(9)), "node {id}: {settled:?}");
    }
    trial.cluster.kill_all();

    fs::remove_file(place.join("filler")).expect("it is there");
    trial.cluster.start_all().expect("they start again");
    trial.converged();
    let verdict = load::verify(&load, &written).expect("the cluster answers");
    assert_eq!(verdict, Verdict { acknowledged: report.writes, lost: 0, duplicated: 0 });
    assert!(report.writes > 300, "{report}");
    trial.cluster.kill_all();
}
