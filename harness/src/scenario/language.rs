//! The language of scripts: one command a line. What is no command is told by what it should have been.

use paxos_core::{Ballot, NodeId, Slot};

/// Who takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cluster {
    pub(super) voters: u32,
    pub(super) learners: u32,
    pub(super) window: u32,
    /// Most entries in one message.
    pub(super) run: usize,
}

/// Messages in flight: of whom, for whom, of which kind. `None` is any; any kind is any but heartbeats.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Selection {
    pub(super) from: Option<NodeId>,
    pub(super) to: Option<NodeId>,
    pub(super) kind: Option<String>,
    /// Only the oldest.
    pub(super) first: bool,
}

/// What is chosen to be delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Parcel {
    InFlight(Selection),
    /// What `hold` took aside under this name; it can be delivered again and again.
    Held(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Forgery {
    Prepare { ballot: Ballot, from: Slot },
    Accept { ballot: Ballot, slot: Slot, prefix: Slot },
    Refused { ballot: Ballot, promised: Ballot },
    Heartbeat { ballot: Ballot, prefix: Slot },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Expectation {
    /// What a node holds in a slot, in words: `empty`, `accepted BALLOT TEXT`, `chosen TEXT`.
    Slot {
        node: NodeId,
        slot: Slot,
        holds: String,
    },
    /// following, preparing, leading or ready.
    Role {
        node: NodeId,
        role: String,
    },
    Promised {
        node: NodeId,
        ballot: Option<Ballot>,
    },
    FirstUnchosen {
        node: NodeId,
        slot: Slot,
    },
    /// open, `applied SLOT`, refused, in-doubt, `ready SLOT` or failed.
    Tag {
        tag: String,
        outcome: String,
    },
    /// Every entry that the node applied, in order.
    Applied {
        node: NodeId,
        entries: Vec<String>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Cluster(Cluster),
    Campaign(NodeId),
    Propose {
        node: NodeId,
        text: String,
        tag: String,
    },
    Read {
        node: NodeId,
        tag: String,
    },
    Tick(NodeId),
    Deliver(Parcel),
    Drop(Selection),
    Hold {
        selection: Selection,
        name: String,
    },
    Disk {
        node: NodeId,
        waits: bool,
    },
    Persist {
        node: NodeId,
        count: usize,
    },
    Crash(NodeId),
    Restart(NodeId),
    /// Each sender with each receiver.
    Cut(Vec<(NodeId, NodeId)>),
    /// Of no link in particular: all.
    Mend(Vec<(NodeId, NodeId)>),
    Run,
    Beat(NodeId),
    Wait {
        ms: u64,
        only: Option<NodeId>,
    },
    HandOver {
        from: NodeId,
        to: NodeId,
    },
    Forge {
        from: NodeId,
        to: NodeId,
        forgery: Forgery,
    },
    Expect(Expectation),
}

/// Each command as it is written; the message of a line that is none of them.
const COMMANDS: &[&str] = &[
    "cluster VOTERS [learners N] [window N] [run N]",
    "campaign NODE",
    "propose NODE TEXT [as TAG]",
    "read NODE as TAG",
    "tick NODE",
    "deliver FROM>TO [KIND] [first]",
    "deliver NAME",
    "drop FROM>TO [KIND] [first]",
    "hold FROM>TO [KIND] [first] as NAME",
    "disk NODE waits|writes",
    "persist NODE [COUNT]",
    "crash NODE",
    "restart NODE",
    "cut FROM,...>TO,... (or <>)",
    "mend [FROM,...>TO,... (or <>)]",
    "run",
    "beat NODE",
    "wait MS [NODE]",
    "handover FROM TO",
    "forge FROM>TO prepare BALLOT from SLOT",
    "forge FROM>TO accept BALLOT SLOT prefix SLOT",
    "forge FROM>TO refused BALLOT promised BALLOT",
    "forge FROM>TO heartbeat BALLOT prefix SLOT",
    "expect NODE slot SLOT empty|accepted BALLOT TEXT|chosen TEXT",
    "expect NODE role following|preparing|leading|ready",
    "expect NODE promised BALLOT|none",
    "expect NODE first_unchosen SLOT",
    "expect NODE applied [TEXT ...]",
    "expect TAG open|applied SLOT|refused|in-doubt|ready SLOT|failed",
];

/// Kinds of messages, as scripts name them.
const KINDS: &[&str] = &[
    "prepare",
    "promise",
    "refused",
    "accept",
    "accepted",
    "success",
    "successreply",
    "heartbeat",
    "fetch",
    "handover",
];

fn number<T: std::str::FromStr>(what: &str, word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{what} is a number, not `{word}`"))
}

fn node(word: &str) -> Result<NodeId, String> {
    number("a node", word).map(NodeId)
}

fn slot(word: &str) -> Result<Slot, String> {
    Slot::new(number("a slot", word)?).ok_or_else(|| "slots count from 1".to_owned())
}

fn ballot(word: &str) -> Result<Ballot, String> {
    let wrong = || format!("a ballot is ROUND.NODE, not `{word}`");
    let (round, owner) = word.split_once('.').ok_or_else(wrong)?;
    match (round.parse(), owner.parse()) {
        (Ok(round), Ok(owner)) => Ok(Ballot { round, node: NodeId(owner), generation: 0 }),
        _ => Err(wrong()),
    }
}

fn link(word: &str) -> Result<(Option<NodeId>, Option<NodeId>), String> {
    let (from, to) = word.split_once('>').ok_or_else(|| format!("a link is FROM>TO, not `{word}`"))?;
    let end = |word: &str| if word == "*" { Ok(None) } else { node(word).map(Some) };
    Ok((end(from)?, end(to)?))
}

fn one_link(word: &str) -> Result<(NodeId, NodeId), String> {
    match link(word)? {
        (Some(from), Some(to)) => Ok((from, to)),
        _ => Err(format!("`{word}` must name one sender and one receiver")),
    }
}

/// `1,2>3` is what 1 and 2 send to 3, `1,2<>3` also what it sends to them.
fn links(word: &str) -> Result<Vec<(NodeId, NodeId)>, String> {
    let wrong = || format!("links are FROM,...>TO,... or FROM,...<>TO,..., not `{word}`");
    let (from, to) = word.split_once('>').ok_or_else(wrong)?;
    let (from, both) = from.strip_suffix('<').map_or((from, false), |from| (from, true));
    let nodes = |list: &str| list.split(',').map(node).collect::<Result<Vec<NodeId>, String>>();
    let mut links = Vec::new();
    for from in nodes(from)? {
        for to in nodes(to)? {
            links.push((from, to));
            links.extend(both.then_some((to, from)));
        }
    }
    Ok(links)
}

fn selection(words: &[&str]) -> Result<Selection, String> {
    let Some((ends, rest)) = words.split_first() else { return Err("whose message? FROM>TO".into()) };
    let (from, to) = link(ends)?;
    let (rest, first) = match rest {
        [rest @ .., "first"] => (rest, true),
        rest => (rest, false),
    };
    let kind = match rest {
        [] => None,
        [kind] if KINDS.contains(kind) => Some((*kind).to_owned()),
        [kind] => return Err(format!("`{kind}` is no kind of message; there are {}", KINDS.join(", "))),
        more => return Err(format!("`{}` is too much", more.join(" "))),
    };
    Ok(Selection { from, to, kind, first })
}

fn cluster(voters: &str, mut rest: &[&str]) -> Result<Cluster, String> {
    let mut cluster = Cluster { voters: number("voters", voters)?, learners: 0, window: 64, run: 16 };
    while let [name, value, more @ ..] = rest {
        match *name {
            "learners" => cluster.learners = number(name, value)?,
            "window" => cluster.window = number(name, value)?,
            "run" => cluster.run = number(name, value)?,
            _ => return Err(format!("`{name}` is nothing that a cluster has; learners, window, run")),
        }
        rest = more;
    }
    if rest.is_empty() { Ok(cluster) } else { Err(format!("`{}` has no number", rest.join(" "))) }
}

fn expectation(words: &[&str]) -> Result<Expectation, String> {
    match words {
        [who, "slot", at, holds @ ..] if !holds.is_empty() => {
            Ok(Expectation::Slot { node: node(who)?, slot: slot(at)?, holds: holds.join(" ") })
        }
        [who, "role", role @ ("following" | "preparing" | "leading" | "ready")] => {
            Ok(Expectation::Role { node: node(who)?, role: (*role).to_owned() })
        }
        [who, "promised", "none"] => Ok(Expectation::Promised { node: node(who)?, ballot: None }),
        [who, "promised", promised] => Ok(Expectation::Promised { node: node(who)?, ballot: Some(ballot(promised)?) }),
        [who, "first_unchosen", at] => Ok(Expectation::FirstUnchosen { node: node(who)?, slot: slot(at)? }),
        [who, "applied", entries @ ..] if who.parse::<u32>().is_ok() => {
            let entries = entries.iter().map(|entry| (*entry).to_owned()).collect();
            Ok(Expectation::Applied { node: node(who)?, entries })
        }
        [tag, outcome @ ("open" | "refused" | "in-doubt" | "failed")] => {
            Ok(Expectation::Tag { tag: (*tag).to_owned(), outcome: (*outcome).to_owned() })
        }
        [tag, outcome @ ("applied" | "ready"), at] => {
            Ok(Expectation::Tag { tag: (*tag).to_owned(), outcome: format!("{outcome} {}", slot(at)?) })
        }
        _ => Err(unknown("expect")),
    }
}

/// What a line that begins with this word should have been.
fn unknown(verb: &str) -> String {
    let like: Vec<&str> = COMMANDS.iter().filter(|form| form.split(' ').next() == Some(verb)).copied().collect();
    if like.is_empty() {
        let mut verbs: Vec<&str> = COMMANDS.iter().filter_map(|form| form.split(' ').next()).collect();
        verbs.dedup();
        return format!("`{verb}` is no command; there are {}", verbs.join(", "));
    }
    format!("it should be `{}`", like.join("` or `"))
}

impl Command {
    /// Reads a line without its comment.
    pub(super) fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match &words[..] {
            ["cluster", voters, rest @ ..] => Command::Cluster(cluster(voters, rest)?),
            ["campaign", who] => Command::Campaign(node(who)?),
            ["propose", who, text] => {
                Command::Propose { node: node(who)?, text: (*text).to_owned(), tag: (*text).to_owned() }
            }
            ["propose", who, text, "as", tag] => {
                Command::Propose { node: node(who)?, text: (*text).to_owned(), tag: (*tag).to_owned() }
            }
            ["read", who, "as", tag] => Command::Read { node: node(who)?, tag: (*tag).to_owned() },
            ["tick", who] => Command::Tick(node(who)?),
            ["deliver", name] if !name.contains('>') => Command::Deliver(Parcel::Held((*name).to_owned())),
            ["deliver", rest @ ..] => Command::Deliver(Parcel::InFlight(selection(rest)?)),
            ["drop", rest @ ..] => Command::Drop(selection(rest)?),
            ["hold", rest @ .., "as", name] => Command::Hold { selection: selection(rest)?, name: (*name).to_owned() },
            ["disk", who, "waits"] => Command::Disk { node: node(who)?, waits: true },
            ["disk", who, "writes"] => Command::Disk { node: node(who)?, waits: false },
            ["persist", who] => Command::Persist { node: node(who)?, count: usize::MAX },
            ["persist", who, count] => Command::Persist { node: node(who)?, count: number("a count", count)? },
            ["crash", who] => Command::Crash(node(who)?),
            ["restart", who] => Command::Restart(node(who)?),
            ["cut", ends] => Command::Cut(links(ends)?),
            ["mend"] => Command::Mend(Vec::new()),
            ["mend", ends] => Command::Mend(links(ends)?),
            ["run"] => Command::Run,
            ["beat", who] => Command::Beat(node(who)?),
            ["wait", ms] => Command::Wait { ms: number("milliseconds", ms)?, only: None },
            ["wait", ms, who] => Command::Wait { ms: number("milliseconds", ms)?, only: Some(node(who)?) },
            ["handover", from, to] => Command::HandOver { from: node(from)?, to: node(to)? },
            ["forge", ends, rest @ ..] => {
                let (from, to) = one_link(ends)?;
                Command::Forge { from, to, forgery: forgery(rest)? }
            }
            ["expect", rest @ ..] => Command::Expect(expectation(rest)?),
            [verb, ..] => return Err(unknown(verb)),
            [] => return Err("nothing".into()),
        })
    }
}

fn forgery(words: &[&str]) -> Result<Forgery, String> {
    Ok(match words {
        ["prepare", of, "from", at] => Forgery::Prepare { ballot: ballot(of)?, from: slot(at)? },
        ["accept", of, at, "prefix", prefix] => {
            Forgery::Accept { ballot: ballot(of)?, slot: slot(at)?, prefix: slot(prefix)? }
        }
        ["refused", of, "promised", promised] => Forgery::Refused { ballot: ballot(of)?, promised: ballot(promised)? },
        ["heartbeat", of, "prefix", prefix] => Forgery::Heartbeat { ballot: ballot(of)?, prefix: slot(prefix)? },
        _ => return Err(unknown("forge")),
    })
}
