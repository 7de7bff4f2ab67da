//! COMMAND: the table of commands as clients ask for it, and as docs/commands.md shows it.

use std::fmt::Write as _;

use crate::commands::{COMMANDS, Keys, Run, Spec, find};
use crate::connection::{Turn, subcommand_unknown, wrong_arity};
use crate::limits::{
    BULK_BYTES_MAX, COMMAND_ARGS_MAX, COMMAND_BYTES_MAX, INLINE_BYTES_MAX, KEY_BYTES_MAX, LOG_RANGE_BYTES_MAX,
    LOG_RANGE_SLOTS_MAX, Limits, REPLY_BYTES_MAX, SCAN_KEYS_MAX, SESSION_REPLY_BYTES_MAX, SESSION_WINDOW,
    VALUE_BYTES_MAX,
};
use crate::node::Node;
use crate::resp::{Writer, integer};

/// `COMMAND [COUNT | LIST | INFO [name …] | DOCS [name …] | GETKEYS command …]`
pub(crate) fn command(_: &Node, turn: &mut Turn<'_>) {
    let mut args = turn.args.clone();
    let writer = &mut turn.writer();
    let Some(sub) = args.next() else {
        writer.array(COMMANDS.len());
        COMMANDS.iter().for_each(|spec| write_spec(writer, spec));
        return;
    };
    let sub = sub.to_ascii_lowercase();
    match sub.as_slice() {
        b"count" => writer.integer(COMMANDS.len() as i64),
        b"list" => {
            writer.array(COMMANDS.len());
            COMMANDS.iter().for_each(|spec| writer.bulk(spec.name.to_lowercase().as_bytes()));
        }
        b"info" if args.len() == 0 => {
            writer.array(COMMANDS.len());
            COMMANDS.iter().for_each(|spec| write_spec(writer, spec));
        }
        b"info" => {
            writer.array(args.len());
            for name in args {
                match find(name) {
                    Some(spec) => write_spec(writer, spec),
                    None => writer.null(),
                }
            }
        }
        b"docs" if args.len() == 0 => {
            writer.map(COMMANDS.len());
            COMMANDS.iter().for_each(|spec| write_docs(writer, spec));
        }
        b"docs" => {
            writer.map(args.clone().filter(|name| find(name).is_some()).count());
            args.filter_map(find).for_each(|spec| write_docs(writer, spec));
        }
        b"getkeys" if args.len() == 0 => wrong_arity(writer, "command|getkeys"),
        b"getkeys" => write_keys(writer, &args.collect::<Vec<_>>()),
        other => subcommand_unknown(writer, other, "COMMAND"),
    }
}

fn write_spec(writer: &mut Writer<'_>, spec: &Spec) {
    writer.array(10);
    writer.bulk(spec.name.to_lowercase().as_bytes());
    writer.integer(i64::from(spec.arity));
    writer.set(spec.flags.len());
    spec.flags.iter().for_each(|flag| writer.simple(flag));
    let Keys { first, last, step } = spec.keys;
    [first, last, step].iter().for_each(|number| writer.integer(i64::from(*number)));
    for _ in 0..4 {
        writer.array(0); // categories, tips, key specifications, subcommands
    }
}

fn write_docs(writer: &mut Writer<'_>, spec: &Spec) {
    writer.bulk(spec.name.to_lowercase().as_bytes());
    writer.map(3);
    for (field, text) in [("summary", spec.summary), ("since", "1.0.0"), ("group", spec.group)] {
        writer.bulk(field.as_bytes());
        writer.bulk(text.as_bytes());
    }
}

fn write_keys(writer: &mut Writer<'_>, args: &[&[u8]]) {
    let Some(spec) = args.first().and_then(|name| find(name)) else {
        writer.error("ERR Invalid command specified");
        return;
    };
    let in_session = matches!(spec.run, Run::Once) && args.get(1).is_some_and(|session| integer(session).is_some());
    if in_session && args.len() > 3 {
        write_keys(writer, args.get(3..).unwrap_or(&[]));
        return;
    }
    if !spec.takes(args.len()) {
        writer.error("ERR Invalid number of arguments specified for command");
        return;
    }
    let keys: Vec<&[u8]> = spec.key_positions(args.len()).filter_map(|at| args.get(at).copied()).collect();
    if keys.is_empty() {
        writer.error("ERR The command has no key arguments");
        return;
    }
    writer.array(keys.len());
    keys.iter().for_each(|key| writer.bulk(key));
}

/// docs/commands.md.
pub fn documentation() -> String {
    let mut text = String::from(
        "# Commands\n\nGenerated from the table of commands in `node/src/commands.rs`; a test compares them.\n\
         Names may be written in any case. Writes are answered after they are chosen, durable on a quorum, and\n\
         applied; reads are linearizable unless the connection sent READONLY.\n",
    );
    let mut groups: Vec<&str> = COMMANDS.iter().map(|spec| spec.group).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let _ = write!(text, "\n## {group}\n\n| command | what it does | how it runs |\n| --- | --- | --- |\n");
        for spec in COMMANDS.iter().filter(|spec| spec.group == group) {
            let syntax = spec.syntax.replace('|', "\\|");
            let _ = writeln!(text, "| `{syntax}` | {} | {} |", spec.summary, how(spec));
        }
    }
    text += REPLIES;
    for (limit, most) in limits() {
        let _ = writeln!(text, "| {limit} | {most} |");
    }
    text
}

const REPLIES: &str = "\n## What replies mean

| reply | what it means | what to do |
| --- | --- | --- |
| `-MOVED slot host:port` | this node does not lead; nothing was proposed | send it there; cluster clients do |
| `-CLUSTERDOWN …` | no leader was found while the request waited, or this node stops or its disk failed; nothing was proposed | send it again, to another node too |
| `-INDOUBT …` | it was proposed and may be applied, now or later | read; or send it again, if it was sent with ONCE |
| `-BUSY …` | a limit, which it names, is reached; nothing was proposed | send less at once |
| `-STALE …` | the sequence is below the window of its session: it ran or never will | go on with later sequences |
| `-SESSIONEXPIRED …` | the session was never opened, or was used least recently of too many | open another one |
| `-ERR Protocol error: …` | the bytes are no request; the connection ends | |

A connection gets its replies in the order of its requests. Its reads see its earlier writes and never its later
ones. LOG.GET and LOG.RANGE, and commands that change the connection, hold back what is behind them.

LOG.GET shows the value of a LOG.APPEND, any other command as an array of its name and arguments (behind `ONCE`,
session and sequence, if it had them), and a slot that a leader filled as the array `NOOP`. It answers nothing
for a slot that is not chosen yet. Commands without a key count as keys of hash slot 0; give cluster clients
that refuse those a node to send them to.

## Limits

Settings are in [operations.md](operations.md); what names no setting is fixed.

| what | at most |
| --- | --- |
";

/// The limits that clients can meet, in nodes as they ship.
fn limits() -> [(&'static str, String); 17] {
    let given = Limits::default();
    let bytes = |bytes: usize| format!("{bytes} bytes");
    [
        ("one argument", bytes(BULK_BYTES_MAX)),
        ("arguments of a command", COMMAND_ARGS_MAX.to_string()),
        ("a command", bytes(COMMAND_BYTES_MAX)),
        ("a typed line", bytes(INLINE_BYTES_MAX)),
        ("a key", bytes(KEY_BYTES_MAX)),
        ("a value, however it grew", bytes(VALUE_BYTES_MAX)),
        ("the values of one MGET", bytes(REPLY_BYTES_MAX)),
        ("slots of one LOG.RANGE", format!("{LOG_RANGE_SLOTS_MAX}, and {LOG_RANGE_BYTES_MAX} bytes")),
        ("keys of one SCAN", SCAN_KEYS_MAX.to_string()),
        ("sequences that a session remembers", SESSION_WINDOW.to_string()),
        ("long replies that a session remembers", bytes(SESSION_REPLY_BYTES_MAX)),
        ("sessions", format!("the setting `sessions_max`, {} if it is not set", given.sessions_max)),
        ("connections of a node", "the setting `max_clients`".to_owned()),
        ("open requests of a connection", given.open_requests_max.to_string()),
        ("requests of a node that wait for a leader or for room", given.parked_requests_max.to_string()),
        ("bytes of commands that wait so", bytes(given.parked_bytes_max)),
        ("milliseconds that a request waits for a leader", (given.park_us / 1_000).to_string()),
    ]
}

fn how(spec: &Spec) -> &'static str {
    match spec.run {
        Run::Write(_) | Run::Barrier => "write, through the log",
        Run::Once => "through the log",
        Run::Read(_) | Run::Browse(_) | Run::Length => "read, by a quorum round",
        Run::History => "any replica, what it applied; the leader for more",
        Run::Local(_) | Run::Turn(_) => "this node",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `UPDATE_DOCS` set, writes the file instead.
    #[test]
    fn the_documentation_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, documentation()).expect("docs/commands.md is written");
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(found, documentation(), "run the tests of node with UPDATE_DOCS=1");
    }
}
