//! The client against scripted servers: each script is what one connection after another is answered.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use super::*;

/// What a scripted server does with one command.
#[derive(Clone, Copy)]
enum Act {
    /// Answers these bytes.
    Say(&'static str),
    /// Reads the command and closes the connection without an answer.
    Lose,
}

/// A server that reads one command after another and does what the script says; ends with the script.
/// Reports every command it read.
fn server(script: &'static [Act]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, seen) = mpsc::channel();
    thread::spawn(move || {
        let mut acts = script.iter();
        'connections: while acts.len() > 0 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = ReplyReader::default();
            let mut bytes = [0; 4096];
            loop {
                while let Some(command) = reader.next_reply().unwrap() {
                    let words: Vec<&str> = command.array().unwrap().iter().map(|word| word.text().unwrap()).collect();
                    if sender.send(words.join(" ")).is_err() {
                        return;
                    }
                    match acts.next() {
                        Some(Act::Say(text)) => stream.write_all(text.as_bytes()).unwrap(),
                        Some(Act::Lose) | None => continue 'connections,
                    }
                }
                match stream.read(&mut bytes) {
                    Ok(count) if count > 0 => reader.feed(&bytes[..count]),
                    Ok(_) | Err(_) => continue 'connections,
                }
            }
        }
    });
    (address, seen)
}

fn impatient() -> Patience {
    Patience { overall: Duration::from_secs(5), ..Patience::default() }
}

#[test]
fn a_lost_reply_leaves_a_plain_command_in_doubt_and_is_not_retried() {
    let (address, seen) = server(&[Act::Lose]);
    let mut client = Client::with_patience([address], impatient());
    assert!(matches!(client.call(&["INCR", "a"]), Err(ClientError::InDoubt(_))));
    assert_eq!(seen.iter().collect::<Vec<_>>(), ["INCR a"]);
}

#[test]
fn a_lost_reply_of_a_session_command_is_retried_with_the_same_sequence() {
    let script = &[Act::Say(":7\r\n"), Act::Lose, Act::Say("-INDOUBT stepped down\r\n"), Act::Say(":1\r\n")];
    let (address, seen) = server(script);
    let mut client = Client::with_patience([address], impatient());
    assert_eq!(client.once(&["INCR", "a"]).unwrap(), Reply::Integer(1));
    drop(client);
    let expected = ["ONCE NEW", "ONCE 7 1 INCR a", "ONCE 7 1 INCR a", "ONCE 7 1 INCR a"];
    assert_eq!(seen.iter().take(4).collect::<Vec<_>>(), expected);
}

#[test]
fn a_pipeline_retries_only_what_has_no_answer() {
    let (address, seen) =
        server(&[Act::Say(":7\r\n"), Act::Say(":1\r\n"), Act::Lose, Act::Say(":2\r\n"), Act::Say(":3\r\n")]);
    let mut client = Client::with_patience([address], impatient());
    let incr: Arguments = owned(&["INCR", "a"]);
    let replies: Vec<Reply> =
        client.once_pipeline(&[incr.clone(), incr.clone(), incr]).into_iter().map(Result::unwrap).collect();
    assert_eq!(replies, [Reply::Integer(1), Reply::Integer(2), Reply::Integer(3)]);
    let sent: Vec<String> = seen.iter().take(5).collect();
    assert_eq!(sent[1..], ["ONCE 7 1 INCR a", "ONCE 7 2 INCR a", "ONCE 7 2 INCR a", "ONCE 7 3 INCR a"]);
}

#[test]
fn refusals_that_say_so_are_retried_and_other_errors_are_answers() {
    let script = &[Act::Say("-CLUSTERDOWN no leader\r\n"), Act::Say("-BUSY window\r\n"), Act::Say("-ERR wrong\r\n")];
    let (address, _seen) = server(script);
    let mut client = Client::with_patience([address], impatient());
    assert_eq!(client.call(&["INCR", "a"]).unwrap(), Reply::Error("ERR wrong".into()));
}

#[test]
fn moved_is_followed_to_an_address_the_client_did_not_know() {
    let (leader, seen) = server(&[Act::Say("+OK\r\n")]);
    let moved: &'static str = Box::leak(format!("-MOVED 15495 {leader}\r\n").into_boxed_str());
    let script: &'static [Act] = Box::leak(Box::new([Act::Say(moved)]));
    let (follower, _seen) = server(script);
    let mut client = Client::with_patience([follower], impatient());
    assert_eq!(client.call(&["SET", "a", "1"]).unwrap(), Reply::Status("OK".into()));
    assert_eq!(client.address(), Some(leader.as_str()));
    assert_eq!(seen.recv().unwrap(), "SET a 1");
}

#[test]
fn a_node_that_knows_no_leader_is_left_for_another() {
    let (lost, asked) = server(&[Act::Say("-CLUSTERDOWN no leader\r\n")]);
    let (leader, _seen) = server(&[Act::Say(":1\r\n")]);
    let mut client = Client::with_patience([lost, leader.clone()], impatient());
    assert_eq!(client.call(&["INCR", "a"]).unwrap(), Reply::Integer(1));
    assert_eq!(client.address(), Some(leader.as_str()));
    assert_eq!(asked.recv().unwrap(), "INCR a");
}

#[test]
fn an_expired_session_is_reported_and_a_new_one_opened_for_the_next_command() {
    let script = &[Act::Say(":7\r\n"), Act::Say("-SESSIONEXPIRED 7\r\n"), Act::Say(":9\r\n"), Act::Say(":1\r\n")];
    let (address, seen) = server(script);
    let mut client = Client::with_patience([address], impatient());
    assert!(matches!(client.once(&["INCR", "a"]), Err(ClientError::SessionLost(_))));
    assert_eq!(client.once(&["INCR", "a"]).unwrap(), Reply::Integer(1));
    let sent: Vec<String> = seen.iter().take(4).collect();
    assert_eq!(sent[2..], ["ONCE NEW", "ONCE 9 1 INCR a"]);
}

#[test]
fn nobody_there_is_unavailable_and_not_in_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let patience = Patience { overall: Duration::from_millis(200), ..Patience::default() };
    let mut client = Client::with_patience([address], patience);
    assert!(matches!(client.call(&["INCR", "a"]), Err(ClientError::Unavailable(_))));
}
