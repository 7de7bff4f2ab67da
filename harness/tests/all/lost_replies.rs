//! Lost replies: a proxy that drops them makes a plain command ambiguous, and `ONCE` exact.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use harness::client::{Arguments, Client, ClientError, Connection, Patience, Reply};
use transport_mio::config::Layer;

use crate::trial::{SOON, Trial, eventually, integer};

/// A TCP proxy in front of one node. While `losses` is not 0, the first bytes that the node answers on a
/// connection are dropped with the connection, and `losses` goes down.
struct LossyProxy {
    address: String,
    losses: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl LossyProxy {
    fn before(node: &str) -> LossyProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (losses, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let proxy = LossyProxy { address, losses: losses.clone(), lost: lost.clone() };
        let node = node.to_string();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&node) else { continue };
                let (losses, lost) = (losses.clone(), lost.clone());
                let (mut client_in, mut server_in) =
                    (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                let (mut client_out, mut server_out) = (client, server);
                thread::spawn(move || {
                    let _ = std::io::copy(&mut client_in, &mut server_out);
                    let _ = server_out.shutdown(Shutdown::Both);
                });
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(count) = server_in.read(&mut bytes)
                        && count > 0
                    {
                        if losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                            lost.fetch_add(1, Ordering::SeqCst);
                            break;
                        }
                        if client_out.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = client_out.shutdown(Shutdown::Both);
                    let _ = server_in.shutdown(Shutdown::Both);
                });
            }
        });
        proxy
    }

    fn lose(&self, replies: usize) {
        self.losses.store(replies, Ordering::SeqCst);
    }
}

fn patient(addresses: Vec<String>) -> Client {
    Client::with_patience(addresses, Patience { overall: SOON, ..Patience::default() })
}

#[test]
fn a_plain_command_whose_reply_is_lost_is_ambiguous() {
    let mut trial = Trial::start("lost-plain", 3);
    let leader = trial.leader();
    let proxy = LossyProxy::before(trial.cluster.node(leader).client());
    let mut client = patient(vec![proxy.address.clone()]);
    proxy.lose(1);
    assert!(matches!(client.call(&["INCR", "n"]), Err(ClientError::InDoubt(_))));
    // What client libraries do: they send it again. It was meant once and ran twice.
    assert_eq!(client.call(&["INCR", "n"]).expect("an answer"), Reply::Integer(2));
}

#[test]
fn what_clients_see_whose_replies_are_lost_again_and_again_is_linearizable() {
    let mut trial = Trial::start("lost-witnesses", 3);
    let leader = trial.leader();
    let proxy = LossyProxy::before(trial.cluster.node(leader).client());
    trial.witnessed(vec![proxy.address.clone()], |trial| {
        let applied = |trial: &Trial| trial.status(leader).map_or(0, |status| status.applied);
        let mut before = applied(trial);
        eventually("60 lost replies", || {
            let now = applied(trial);
            if now > before + 10 {
                proxy.lose(1);
                before = now;
            }
            (proxy.lost.load(Ordering::SeqCst) >= 60).then_some(())
        });
        proxy.lose(0);
    });
}

#[test]
fn once_runs_one_command_once_however_many_replies_are_lost() {
    let mut trial = Trial::start("lost-once", 3);
    let leader = trial.leader();
    let proxy = LossyProxy::before(trial.cluster.node(leader).client());
    let mut client = patient(vec![proxy.address.clone()]);
    client.session_id().expect("a session");
    proxy.lose(5);
    assert_eq!(client.once(&["INCR", "n"]).expect("an answer"), Reply::Integer(1));
    assert_eq!(proxy.lost.load(Ordering::SeqCst), 5);
    assert_eq!(client.read(&["GET", "n"]).expect("an answer"), Reply::Bulk(b"1".to_vec()));
}

#[test]
fn a_pipeline_of_16_retried_across_a_fail_over_runs_each_command_once() {
    let mut trial = Trial::start("lost-pipeline", 3);
    let leader = trial.leader();
    let proxy = LossyProxy::before(trial.cluster.node(leader).client());
    // The proxy hides the leader; the other two are there for afterwards.
    let others = trial.cluster.nodes().iter().filter(|node| node.id() != leader).map(|node| node.client().to_string());
    let mut client = patient(std::iter::once(proxy.address.clone()).chain(others).collect());
    client.session_id().expect("a session");
    let incr: Arguments = vec![b"INCR".to_vec(), b"n".to_vec()];
    let commands = vec![incr; 16];
    proxy.lose(1);
    let lost = Arc::clone(&proxy.lost);
    let replies = thread::scope(|scope| {
        let pipeline = scope.spawn(move || client.once_pipeline(&commands));
        // The replies were written, so all 16 ran; now the one who ran them dies.
        eventually("the loss", || (lost.load(Ordering::SeqCst) > 0).then_some(()));
        trial.cluster.node(leader).kill();
        pipeline.join().expect("it ends")
    });
    let replies: Vec<i64> = replies.into_iter().map(|reply| integer(&reply.expect("an answer"))).collect();
    assert_eq!(replies, (1..=16).collect::<Vec<i64>>());
    assert_eq!(integer(&trial.client().read(&["GET", "n"]).expect("an answer")), 16);
}

#[test]
fn a_retry_after_eviction_is_refused_and_never_runs_again() {
    let sessions_max = 4;
    let settings = Layer { sessions_max: Some(sessions_max), ..Layer::default() };
    let mut trial = Trial::start_with("lost-evicted", 3, settings);
    let leader = trial.leader();
    let address = trial.cluster.node(leader).client().to_string();
    let proxy = LossyProxy::before(&address);
    let mut client = trial.client();
    let session = client.session_id().expect("a session");
    let retry = ["ONCE", &session, "1", "INCR", "n"];
    let mut lossy = Connection::open(&proxy.address, SOON, SOON).expect("it listens");
    proxy.lose(1);
    assert!(lossy.call(&retry).is_err(), "the reply is lost");
    let mut direct = Connection::open(&address, SOON, SOON).expect("it listens");
    for _ in 0..sessions_max {
        integer(&direct.call(&["ONCE", "NEW"]).expect("an answer"));
    }
    let refused = direct.call(&retry).expect("an answer");
    assert!(refused.error().is_some_and(|text| text.starts_with("SESSIONEXPIRED")), "{refused}");
    assert_eq!(integer(&direct.call(&["GET", "n"]).expect("an answer")), 1);
}
