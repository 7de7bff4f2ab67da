//! Messages, records and commands in a few words.

use bytes::Bytes;
use node::COMMANDS;
use paxos_core::{Ballot, Body, Entries, Entry, NodeId, Record, Role, Slot, SlotRange};
use transport_sim::{Fault, Remedy, Reply, Then};

pub(super) fn body(body: &Body) -> String {
    match body {
        Body::Prepare(prepare) => format!("Prepare {} from slot {}", prepare.ballot, prepare.from),
        Body::Promise(promise) => {
            let held: Vec<String> = promise
                .held
                .iter()
                .map(|held| match held.accepted {
                    Some(ballot) => format!("{}: {} by {ballot}", held.slot, entry(&held.entry)),
                    None => format!("{}: {} chosen", held.slot, entry(&held.entry)),
                })
                .collect();
            let more = if promise.last { "" } else { ", more to come" };
            let (ballot, first_unchosen) = (promise.ballot, promise.first_unchosen);
            format!("Promise {ballot}, all below {first_unchosen} chosen, holds [{}]{more}", held.join(", "))
        }
        Body::Refused(refused) => format!("Refused {}, promised {}", refused.ballot, refused.promised),
        Body::Accept(accept) => {
            format!("Accept {} {}, prefix {}", accept.ballot, run(accept.first, &accept.entries), accept.prefix)
        }
        Body::Accepted(accepted) => {
            let (slots, first_unchosen) = (range(accepted.slots), accepted.first_unchosen);
            format!("Accepted {} {slots}, all below {first_unchosen} chosen", accepted.ballot)
        }
        Body::Success(success) => format!("Success {}", run(success.first, &success.entries)),
        Body::SuccessReply(reply) => format!("SuccessReply, all below {} chosen", reply.first_unchosen),
        Body::Heartbeat(heartbeat) => {
            let who = match (heartbeat.leading, heartbeat.following) {
                (Some(ballot), _) => format!("leads {ballot}"),
                (None, Some(ballot)) => format!("follows {ballot}"),
                (None, None) => "follows nobody".to_owned(),
            };
            format!("Heartbeat, {who}, prefix {}, round {}", heartbeat.prefix, heartbeat.round)
        }
        Body::Fetch(fetch) => format!("Fetch {}", range(fetch.slots)),
        Body::HandOver(hand_over) => format!("HandOver {}, prefix {}", hand_over.ballot, hand_over.prefix),
    }
}

/// What sets messages apart by colour.
pub(super) fn kind(body: &Body) -> &'static str {
    match body {
        Body::Prepare(_) | Body::Promise(_) => "prepare",
        Body::Refused(_) => "refuse",
        Body::Accept(_) | Body::Accepted(_) => "accept",
        Body::Success(_) | Body::SuccessReply(_) | Body::Fetch(_) => "teach",
        Body::Heartbeat(_) => "heartbeat",
        Body::HandOver(_) => "hand",
    }
}

/// Beside an arrow.
pub(super) fn short(body: &Body) -> String {
    match body {
        Body::Prepare(prepare) => format!("Prepare {}", prepare.ballot),
        Body::Promise(promise) => format!("Promise {}", promise.ballot),
        Body::Refused(refused) => format!("Refused {}", refused.promised),
        Body::Accept(accept) => {
            let end = accept.first.plus(accept.entries.len() as u64);
            format!("Accept {} {}", accept.ballot, range(SlotRange { first: accept.first, end }))
        }
        Body::Accepted(accepted) => format!("Accepted {} {}", accepted.ballot, range(accepted.slots)),
        Body::Success(success) => {
            let end = success.first.plus(success.entries.len() as u64);
            format!("Success {}", range(SlotRange { first: success.first, end }))
        }
        Body::SuccessReply(reply) => format!("SuccessReply <{}", reply.first_unchosen),
        Body::Heartbeat(_) => "Heartbeat".to_owned(),
        Body::Fetch(fetch) => format!("Fetch {}", range(fetch.slots)),
        Body::HandOver(hand_over) => format!("HandOver {}", hand_over.ballot),
    }
}

pub(super) fn record(record: &Record) -> String {
    match record {
        Record::Formatted(_) => "formatted".to_owned(),
        Record::Started(boot) => format!("boot {}", boot.counter),
        Record::Promised(ballot) => format!("promise {ballot}"),
        Record::Accepted { ballot, first, entries } => format!("accepted {ballot} {}", run(*first, entries)),
        Record::Learned { first, entries } => format!("learned {}", run(*first, entries)),
        Record::Chosen { below } => format!("all below {below} chosen"),
    }
}

pub(super) fn role(role: Role, ballot: Option<Ballot>) -> String {
    let ballot = ballot.map_or(String::new(), |ballot| format!(" {ballot}"));
    match role {
        Role::Following => "follows".to_owned() + &ballot,
        Role::Preparing => format!("prepares{ballot}"),
        Role::Leading { ready: false } => format!("leads{ballot}, not ready yet"),
        Role::Leading { ready: true } => format!("leads{ballot}"),
    }
}

fn range(slots: SlotRange) -> String {
    if slots.first.next() == slots.end {
        format!("slot {}", slots.first)
    } else {
        format!("slots {}..{}", slots.first, slots.end)
    }
}

/// The first few entries of a run.
fn run(first: Slot, entries: &Entries) -> String {
    /// Entries that are spelled out.
    const SHOWN: usize = 4;
    let shown: Vec<String> = (0u64..)
        .zip(entries.iter())
        .take(SHOWN)
        .map(|(at, entry)| format!("{}: {}", first.plus(at), self::entry(entry)))
        .collect();
    let more = if entries.len() > SHOWN { format!(", … {} entries", entries.len()) } else { String::new() };
    format!("[{}{more}]", shown.join(", "))
}

fn entry(entry: &Entry) -> String {
    match entry {
        Entry::Noop => "no-op".to_owned(),
        Entry::Membership(_) => "membership".to_owned(),
        Entry::Command { bytes, .. } => match node::decode(bytes) {
            Ok(command) => {
                let name = COMMANDS.iter().find(|spec| spec.number == command.number).map_or("?", |spec| spec.name);
                let once = command.once.map(|once| format!("ONCE {} {} ", once.session.0, once.sequence));
                let args: Vec<Bytes> = command.args.clone().map(|arg| command.args.share(arg)).collect();
                format!("{}{name} {}", once.unwrap_or_default(), self::command(&args)).trim_end().to_owned()
            }
            Err(_) => format!("{} bytes", bytes.len()),
        },
    }
}

pub(super) fn command(args: &[Bytes]) -> String {
    args.iter().map(|arg| cut(&arg.escape_ascii().to_string())).collect::<Vec<_>>().join(" ")
}

/// What went over a client's connection, without what only counts bytes.
pub(super) fn resp(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<String> =
        text.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty()).map(cut).collect();
    if words.is_empty() && text.starts_with('$') { "nil".to_owned() } else { words.join(" ") }
}

pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Status(text) | Reply::Error(text) => cut(text),
        Reply::Number(number) => number.to_string(),
        Reply::Bulk(bytes) => cut(&bytes.escape_ascii().to_string()),
        Reply::Nil => "nil".to_owned(),
        Reply::Array(items) => format!("{} items", items.len()),
    }
}

pub(super) fn fault(fault: &Fault) -> String {
    let ms = |us: &u64| format!("{} ms", us / 1_000);
    match fault {
        Fault::Crash { node, down_us } => format!("crash of n{node} for {}", ms(down_us)),
        Fault::PowerLoss { nodes, down_us } => {
            let nodes: Vec<String> = nodes.iter().map(|node| format!("n{node}")).collect();
            format!("power loss of {} for {}", nodes.join(" "), ms(down_us))
        }
        Fault::Terminate { node, down_us } => format!("n{node} is terminated for {}", ms(down_us)),
        Fault::Pause { node, us } => format!("n{node} stands still for {}", ms(us)),
        Fault::Partition { cuts, us } => format!("cut for {}: {}", ms(us), links(cuts)),
        Fault::Clog { from, to, us } => format!("n{from}>n{to} is clogged for {}", ms(us)),
        Fault::CutClients { node, us } => format!("no client reaches n{node} for {}", ms(us)),
        Fault::ResetClients { node } => format!("connections of n{node} are reset"),
        Fault::HandOver { to } => format!("whoever leads is asked to hand over to n{to}"),
        Fault::DiskStall { node, us } => format!("disk of n{node} stalls for {}", ms(us)),
        Fault::DiskFailure { node, operations, once, down_us } => {
            let fails = if *once { "fails once" } else { "fails for good" };
            format!("disk of n{node} {fails} after {operations} operations; down for {}", ms(down_us))
        }
        Fault::Decapitate { down_us } => format!("the leader dies for {}", ms(down_us)),
        Fault::Storm { us, .. } => format!("storm for {}", ms(us)),
        Fault::Ambush { then: Then::Dies { .. }, .. } => "an Accept is held back, and its leader will die".to_owned(),
        Fault::Ambush { then: Then::Stands { .. }, .. } => {
            "an Accept is held back, and its leader will stand still".to_owned()
        }
        Fault::Wipe { node, down_us, remedy } => {
            let then = match remedy {
                Remedy::Away => "nobody formats it",
                Remedy::Anew => "it is formatted anew",
            };
            format!("n{node} goes for {} and its disk is wiped; {then}", ms(down_us))
        }
        Fault::OldImage { node, us, down_us } => {
            format!("disk of n{node} is copied, and put back after {}; each time down for {}", ms(us), ms(down_us))
        }
        Fault::Rot { node, down_us, .. } => {
            format!("n{node} goes for {}, and a block of its disk is damaged", ms(down_us))
        }
        Fault::FreezeClock { node, us } => format!("clock of n{node} stands still for {}", ms(us)),
        Fault::SlowReader { client, us } => format!("c{client} reads nothing for {}", ms(us)),
        Fault::Crowd { node, connections, us } => format!("{connections} connect to n{node} and leave in {}", ms(us)),
        Fault::CutLeader { lone, us } => format!("whoever leads is {} for {}", lone.name(), ms(us)),
        Fault::Remove { node } => format!("n{node} goes for good"),
    }
}

pub(super) fn links(cuts: &[(NodeId, NodeId)]) -> String {
    cuts.iter().map(|(from, to)| format!("{from}>{to}")).collect::<Vec<_>>().join(" ")
}

/// A text that is not too long.
fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}
