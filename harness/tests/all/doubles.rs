//! Two processes for one node: on one directory, and on a copy of it. One of them works, the other is told why not.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use harness::client::Reply;

use crate::damage::{copy_dir, stopped_follower};
use crate::trial::{PAXOS, Scratch, Trial, eventually};

/// A process that goes when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> Process {
    let mut command = Command::new(PAXOS);
    command.arg("node").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Process(command.spawn().expect("the binary runs"))
}

impl Process {
    /// Waits for its end: exit code and last line.
    fn end(&mut self) -> (Option<i32>, String) {
        let status = eventually("it ends", || self.0.try_wait().expect("a child"));
        let mut said = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (status.code(), said.lines().last().unwrap_or("").to_string())
    }
}

#[test]
fn a_second_process_on_a_directory_is_refused_and_the_first_goes_on() {
    let mut trial = Trial::start("twice", 3);
    let leader = trial.leader();
    let config = trial.cluster.node(leader).config().display().to_string();
    let pid = trial.cluster.node(leader).pid().expect("it runs").to_string();
    let before = trial.status(leader).expect("it answers");
    for _ in 0..5 {
        let (code, last) = start(&["--config", &config]).end();
        assert_eq!(code, Some(6), "{last}");
        assert!(last.contains("locked by another process") && last.contains(&pid), "{last}");
    }
    trial.client().once(&["SET", "a", "1"]).expect("an answer");
    let after = trial.status(leader).expect("it answers");
    assert_eq!((after.role, after.ballot), (before.role, before.ballot), "it leads on, undisturbed");
    trial.converged();
}

#[test]
fn of_ten_processes_started_at_once_on_a_directory_one_works() {
    let mut trial = Trial::start("ten", 3);
    let id = stopped_follower(&mut trial);
    let config = trial.cluster.node(id).config().display().to_string();
    let mut started: Vec<Process> = (0..10).map(|_| start(&["--config", &config])).collect();
    let mut ends = Vec::new();
    eventually("nine end", || {
        started.retain_mut(|process| match process.0.try_wait().expect("a child") {
            Some(_) => {
                ends.push(process.end());
                false
            }
            None => true,
        });
        (ends.len() >= 9).then_some(())
    });
    assert!(ends.iter().all(|(code, last)| *code == Some(6) && last.contains("locked")), "{ends:?}");
    assert_eq!(started.len(), 1);
    eventually("the last one works", || trial.status(id).filter(|status| status.applied >= 200));
    drop(started);
    trial.cluster.start(id).expect("it starts again");
    trial.converged();
}

#[test]
fn a_process_on_a_copy_of_the_disk_is_told_so_and_takes_no_part() {
    let mut trial = Trial::start("copy", 3);
    // The highest id dials the others, which have met the node itself by then.
    let id = 3;
    trial.leader();
    trial.client().once(&["SET", "a", "1"]).expect("an answer");
    trial.converged();
    assert!(trial.cluster.node(id).stop().expect("it ran").success());
    let copy = Scratch::new("copy-of-3");
    copy_dir(&trial.cluster.node(id).data_dir(), copy.path());
    trial.cluster.start(id).expect("it starts again");
    eventually("it is back", || trial.status(id).filter(|status| status.leader > 0));

    let config = trial.cluster.node(id).config().display().to_string();
    let said = copy.path().join("said");
    let mut command = Command::new(PAXOS);
    command.args(["node", "--config", &config, "--client-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(copy.path()).stdin(Stdio::null());
    let double = Process(command.stderr(fs::File::create(&said).expect("a file")).spawn().expect("the binary runs"));
    eventually("both peers refuse it", || {
        let said = fs::read_to_string(&said).ok()?;
        (said.matches("is its disk a copy?").count() >= 2).then_some(())
    });
    let applied = trial.status(id).expect("it answers").applied;
    for number in 0..50 {
        trial.client().once(&["SET", "a", &number.to_string()]).expect("an answer");
    }
    eventually("the node itself goes on", || trial.status(id).filter(|status| status.applied >= applied + 50));
    let text = fs::read_to_string(&said).expect("a file");
    assert!(!text.contains("peer connected") && !text.contains("role=\"leading"), "{text}");
    drop(double);
    assert_eq!(trial.client().read(&["GET", "a"]).expect("an answer"), Reply::Bulk(b"49".to_vec()));
    trial.converged();
}
