//! The load against a scripted server that keeps one map and forgets some replies.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;
use crate::client::{Reply, ReplyReader};

/// What the server keeps: values, and the sequences that ran per session.
#[derive(Default)]
struct Store {
    values: HashMap<String, String>,
    ran: HashMap<String, i64>,
    sessions: i64,
    appends: u64,
    /// Runs every command, whatever its session says: the fault that `verify` must find.
    forgets_sessions: bool,
    /// Answers but does not keep every tenth append: the other fault.
    forgets_values: bool,
}

impl Store {
    fn run(&mut self, words: &[&str]) -> String {
        match words {
            ["ONCE", "NEW"] => {
                self.sessions += 1;
                format!(":{}\r\n", self.sessions)
            }
            ["ONCE", id, sequence, rest @ ..] => {
                let name = format!("{id}/{sequence}");
                if let Some(length) = self.ran.get(&name)
                    && !self.forgets_sessions
                {
                    return format!(":{length}\r\n");
                }
                let reply = self.run(rest);
                self.ran.insert(name, 1);
                reply
            }
            ["APPEND", key, value] => {
                self.appends += 1;
                if !(self.forgets_values && self.appends.is_multiple_of(10)) {
                    self.values.entry((*key).to_string()).or_default().push_str(value);
                }
                ":1\r\n".into()
            }
            ["SET", key, value] => {
                self.values.insert((*key).to_string(), (*value).to_string());
                "+OK\r\n".into()
            }
            ["GET", key] => {
                self.values.get(*key).map_or("$-1\r\n".into(), |value| format!("${}\r\n{value}\r\n", value.len()))
            }
            other => format!("-ERR unknown {other:?}\r\n"),
        }
    }
}

/// Serves each connection on a thread; every `lose_every`-th command of a connection runs and then loses
/// its reply with the connection.
fn serve(store: Store, lose_every: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let store = Arc::new(Mutex::new(store));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let store = store.clone();
            thread::spawn(move || talk(stream.unwrap(), &store, lose_every));
        }
    });
    address
}

fn talk(mut stream: TcpStream, store: &Mutex<Store>, lose_every: usize) {
    let mut reader = ReplyReader::default();
    let mut bytes = [0; 4096];
    let mut count = 0;
    while let Ok(read) = stream.read(&mut bytes) {
        if read == 0 {
            return;
        }
        reader.feed(&bytes[..read]);
        while let Ok(Some(Reply::Array(words))) = reader.next_reply() {
            let words: Vec<&str> = words.iter().filter_map(Reply::text).collect();
            let reply = store.lock().unwrap().run(&words);
            count += 1;
            if count % lose_every == 0 || stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn options(address: String, check: Check) -> LoadOptions {
    LoadOptions {
        addresses: vec![address],
        clients: 3,
        pipeline: 4,
        value_bytes: 24,
        reads_percent: 20,
        keys: 10,
        limit: Limit::Requests(500),
        check,
        prefix: "t".into(),
    }
}

#[test]
fn plain_load_answers_every_request() {
    let options = options(serve(Store::default(), usize::MAX), Check::None);
    let (report, _) = run(&options, &|| false).unwrap();
    assert_eq!((report.answered, report.errors, report.in_doubt, report.unanswered), (500, 0, 0, 0));
    assert!(report.writes > 300 && report.per_second > 0.0 && report.p50_ms <= report.p999_ms);
}

#[test]
fn plain_writes_with_lost_replies_are_in_doubt() {
    let options = options(serve(Store::default(), 25), Check::None);
    let (report, _) = run(&options, &|| false).unwrap();
    assert!(report.in_doubt > 0 && report.disconnects > 0);
    assert_eq!(report.answered + report.in_doubt, 500);
}

#[test]
fn checked_writes_with_lost_replies_are_there_exactly_once() {
    let options = options(serve(Store::default(), 25), Check::Appends);
    let (report, written) = run(&options, &|| false).unwrap();
    assert!(report.retried > 0);
    assert_eq!((report.answered, report.unanswered), (500, 0));
    let verdict = verify(&options, &written).unwrap();
    assert_eq!(verdict, Verdict { acknowledged: report.writes, lost: 0, duplicated: 0 });
}

#[test]
fn the_check_sees_lost_and_duplicated_writes() {
    let forgetful = Store { forgets_sessions: true, ..Store::default() };
    let options_twice = options(serve(forgetful, 25), Check::Appends);
    let (_, written) = run(&options_twice, &|| false).unwrap();
    assert!(verify(&options_twice, &written).unwrap().duplicated > 0);

    let forgetful = Store { forgets_values: true, ..Store::default() };
    let options_lost = options(serve(forgetful, usize::MAX), Check::Appends);
    let (_, written) = run(&options_lost, &|| false).unwrap();
    assert!(verify(&options_lost, &written).unwrap().lost > 0);
}
