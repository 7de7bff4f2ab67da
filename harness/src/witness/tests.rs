//! Witnesses of a scripted server that keeps what it should, or has one of the faults that they must uncover.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::client::ReplyReader;
use crate::linearizability::{Model, Store};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Every tenth read is answered with the value before the last one.
    StaleReads,
    /// Every tenth write is acknowledged, logged and not done.
    LostWrites,
    /// Runs every command of a session whenever it comes.
    ForgetsSessions,
    /// The log has two neighbours in the wrong order now and then; what clients see is right.
    SwappedLog,
}

type State = <Store as Model>::State;

struct Server {
    fault: Fault,
    states: HashMap<Vec<u8>, [State; 2]>,
    ran: HashMap<(Vec<u8>, Vec<u8>), Answer>,
    log: Vec<Vec<Vec<u8>>>,
    count: u64,
}

impl Server {
    fn run(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        match &words.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] {
            [b"LOG.LEN"] => format!(":{}\r\n", self.log.len()).into_bytes(),
            [b"LOG.RANGE", from, to] => {
                let number = |word: &[u8]| std::str::from_utf8(word).unwrap().parse::<usize>().unwrap();
                let mut out = Vec::new();
                // Fewer than were asked for, as a server may.
                let to = number(to).min(number(from) + 99);
                let entries = &self.log[number(from) - 1..to];
                write!(out, "*{}\r\n", entries.len()).unwrap();
                entries.iter().for_each(|entry| crate::client::encode_command(entry, &mut out));
                out
            }
            [b"ONCE", b"NEW"] => {
                self.log.push(words.to_vec());
                format!(":{}\r\n", self.log.len()).into_bytes()
            }
            [b"ONCE", id, sequence, ..] => {
                self.log.push(words.to_vec());
                let identity = (id.to_vec(), sequence.to_vec());
                if let Some(answer) = self.ran.get(&identity)
                    && self.fault != Fault::ForgetsSessions
                {
                    return encoded(answer);
                }
                let answer = self.apply(&words[3..]);
                let reply = encoded(&answer);
                self.ran.insert(identity, answer);
                reply
            }
            _ => {
                let command = Command::parse(words).unwrap();
                if !Store.is_read(&command, None) {
                    self.log.push(words.to_vec());
                    let last = self.log.len();
                    if self.fault == Fault::SwappedLog && last.is_multiple_of(20) {
                        self.log.swap(last - 1, last - 2);
                    }
                }
                encoded(&self.apply(words))
            }
        }
    }

    fn apply(&mut self, words: &[Vec<u8>]) -> Answer {
        let command = Command::parse(words).unwrap();
        let read = Store.is_read(&command, None);
        self.count += 1;
        let strikes = self.count.is_multiple_of(10);
        let [before, now] = self.states.entry(command.key.clone()).or_default();
        if read && strikes && self.fault == Fault::StaleReads {
            return Store.run(before, &command).1;
        }
        let (after, answer) = Store.run(now, &command);
        let lost = strikes && self.fault == Fault::LostWrites;
        if !read && !lost {
            *before = std::mem::replace(now, after);
        }
        answer
    }
}

fn encoded(answer: &Answer) -> Vec<u8> {
    let mut out = Vec::new();
    match answer {
        Answer::Nil => out.extend(b"$-1\r\n"),
        Answer::Integer(number) => write!(out, ":{number}\r\n").unwrap(),
        Answer::Text(text) => {
            write!(out, "${}\r\n", text.len()).unwrap();
            out.extend(text);
            out.extend(b"\r\n");
        }
        Answer::Error(error) => write!(out, "-ERR {error}\r\n").unwrap(),
    }
    out
}

/// Serves each connection on a thread; a connection breaks after so many replies, with the next one lost.
fn serve(fault: Fault, replies_per_connection: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (states, ran, log) = (HashMap::new(), HashMap::new(), Vec::new());
    let server = Arc::new(Mutex::new(Server { fault, states, ran, log, count: 0 }));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let server = Arc::clone(&server);
            thread::spawn(move || talk(stream.unwrap(), &server, replies_per_connection));
        }
    });
    address
}

fn talk(mut stream: TcpStream, server: &Mutex<Server>, replies: usize) {
    let mut reader = ReplyReader::default();
    let mut bytes = [0; 4096];
    let mut sent = 0;
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        reader.feed(&bytes[..read]);
        while let Ok(Some(Reply::Array(words))) = reader.next_reply() {
            let words: Vec<Vec<u8>> = words.iter().map(Reply::raw).collect();
            let reply = server.lock().unwrap().run(&words);
            sent += 1;
            if sent > replies || stream.write_all(&reply).is_err() {
                return;
            }
        }
    }
}

fn testify(fault: Fault) -> (History, bool, String) {
    let address = serve(fault, 60);
    let mut options = WitnessOptions::new(vec![address.clone()], "w".into());
    options.pause = Duration::from_micros(200);
    options.operations_max = 1_500;
    let testimony = run(&options, &AtomicU64::new(0), &|| false).unwrap();
    let history = testimony.with_slots(&mut Client::new([address])).unwrap();
    let (right, text, page) = judge(&history);
    assert_eq!(page.is_some(), text.contains("NOT linearizable"));
    (history, right, text)
}

#[test]
fn a_right_server_is_found_right_although_replies_are_lost() {
    let (history, right, text) = testify(Fault::None);
    assert!(right, "{text}");
    assert!(history.len() > 1_400, "{}", history.len());
    let unknown = history.iter().filter(|operation| operation.returned.is_none());
    assert!(unknown.clone().count() > 0, "some plain commands lost their reply: {text}");
    assert!(unknown.clone().any(|operation| operation.slot.is_some()), "and ran: {text}");
    let clients: std::collections::BTreeSet<u64> = history.iter().map(|operation| operation.client).collect();
    assert_eq!(clients.len(), 8);
}

#[test]
fn every_fault_of_a_server_is_uncovered() {
    for (fault, said) in [
        (Fault::StaleReads, "NOT linearizable"),
        (Fault::LostWrites, "NOT linearizable"),
        (Fault::ForgetsSessions, "NOT linearizable"),
        (Fault::SwappedLog, "NOT in slot order"),
    ] {
        let (_, right, text) = testify(fault);
        assert!(!right && text.contains(said), "{fault:?}: {text}");
        assert!(text.contains("NOT in slot order"), "the oracle sees {fault:?} too: {text}");
    }
}

#[test]
fn witnesses_stop_when_told_to() {
    let options = WitnessOptions::new(vec![serve(Fault::None, usize::MAX)], "w".into());
    let testimony = run(&options, &AtomicU64::new(0), &|| true).unwrap();
    assert!(testimony.history.is_empty());
}
