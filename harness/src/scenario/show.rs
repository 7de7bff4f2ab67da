//! What replicas say and write, in words short enough for a transcript.

use paxos_core::{Body, Entry, Record, Role, SlotRange};

pub(super) fn kind_of(body: &Body) -> &'static str {
    match body {
        Body::Prepare(_) => "prepare",
        Body::Promise(_) => "promise",
        Body::Refused(_) => "refused",
        Body::Accept(_) => "accept",
        Body::Accepted(_) => "accepted",
        Body::Success(_) => "success",
        Body::SuccessReply(_) => "successreply",
        Body::Heartbeat(_) => "heartbeat",
        Body::Fetch(_) => "fetch",
        Body::HandOver(_) => "handover",
    }
}

pub(super) fn entry(entry: &Entry) -> String {
    match entry {
        Entry::Noop => "noop".into(),
        Entry::Command { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        Entry::Membership(_) => "membership".into(),
    }
}

fn entries(first: paxos_core::Slot, list: &[Entry]) -> String {
    let shown: Vec<String> =
        (0u64..).zip(list).map(|(at, held)| format!("{}={}", first.plus(at), entry(held))).collect();
    shown.join(" ")
}

/// `3..5` is what holds slots 3 and 4.
fn slots(range: SlotRange) -> String {
    format!("{}..{}", range.first, range.end)
}

pub(super) fn body(body: &Body) -> String {
    match body {
        Body::Prepare(prepare) => format!("prepare {} from {}", prepare.ballot, prepare.from),
        Body::Promise(promise) => {
            let held: Vec<String> = promise
                .held
                .iter()
                .map(|held| {
                    let how = held.accepted.map_or("chosen".into(), |ballot| format!("@{ballot}"));
                    format!(" {}={} {how}", held.slot, entry(&held.entry))
                })
                .collect();
            let last = if promise.last { " last" } else { "" };
            let covers = slots(promise.covers);
            format!(
                "promise {} {covers}{last}, first_unchosen {}:{}",
                promise.ballot,
                promise.first_unchosen,
                held.join("")
            )
        }
        Body::Refused(refused) => format!("refused {}, promised {}", refused.ballot, refused.promised),
        Body::Accept(accept) => {
            format!("accept {} {}, prefix {}", accept.ballot, entries(accept.first, &accept.entries), accept.prefix)
        }
        Body::Accepted(accepted) => {
            format!(
                "accepted {} {}, first_unchosen {}",
                accepted.ballot,
                slots(accepted.slots),
                accepted.first_unchosen
            )
        }
        Body::Success(success) => format!("success {}", entries(success.first, &success.entries)),
        Body::SuccessReply(reply) => format!("successreply first_unchosen {}", reply.first_unchosen),
        Body::Heartbeat(heartbeat) => {
            let leads = heartbeat.leading.map_or("leads nobody".into(), |ballot| format!("leads {ballot}"));
            format!("heartbeat {leads}, prefix {}, round {}", heartbeat.prefix, heartbeat.round)
        }
        Body::Fetch(fetch) => format!("fetch {}", slots(fetch.slots)),
        Body::HandOver(hand_over) => format!("handover {}", hand_over.ballot),
    }
}

pub(super) fn record(record: &Record) -> String {
    match record {
        Record::Formatted(_) => "formatted".into(),
        Record::Started(boot) => format!("started {}", boot.counter),
        Record::Promised(ballot) => format!("promised {ballot}"),
        Record::Accepted { ballot, first, entries: list } => format!("accepted {ballot} {}", entries(*first, list)),
        Record::Learned { first, entries: list } => format!("learned {}", entries(*first, list)),
        Record::Chosen { below } => format!("chosen below {below}"),
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Following => "following",
        Role::Preparing => "preparing",
        Role::Leading { ready: false } => "leading",
        Role::Leading { ready: true } => "ready",
    }
}
