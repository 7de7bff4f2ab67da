//! What one connection has chosen, and the commands that choose it: HELLO, CLIENT, READONLY and their like.

use bytes::BytesMut;

use crate::command::Args;
use crate::limits::{CLIENT_LIST_MAX, CLIENT_NAME_BYTES_MAX};
use crate::node::Node;
use crate::output::ClientId;
use crate::resp::{Protocol, Writer, integer};

/// What a connection has chosen; the default is how every connection begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    pub(crate) protocol: Protocol,
    /// Reads what this replica has applied.
    pub(crate) readonly: bool,
    pub(crate) name: String,
    pub(crate) library: String,
    pub(crate) library_version: String,
}

/// One command that this node answers by itself, at the front of its connection's requests.
#[derive(Debug)]
pub struct Turn<'a> {
    pub(crate) client: ClientId,
    pub(crate) connection: &'a mut Connection,
    pub(crate) args: Args<'a>,
    pub(crate) out: &'a mut BytesMut,
    /// Set by a command that ends the connection.
    pub(crate) close: Option<&'static str>,
}

impl Turn<'_> {
    /// Writes the answer in the protocol of the connection.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out, self.connection.protocol)
    }
}

pub(crate) fn wrong_arity(writer: &mut Writer<'_>, name: &str) {
    writer.error(format_args!("ERR wrong number of arguments for '{name}' command"));
}

pub(crate) fn subcommand_unknown(writer: &mut Writer<'_>, sub: &[u8], name: &str) {
    let sub = sub.get(..sub.len().min(128)).unwrap_or(sub).escape_ascii();
    writer.error(format_args!("ERR unknown subcommand '{sub}'. The command {name} does not have it."));
}

/// `ASKING`
pub(crate) fn ok(_: &Node, turn: &mut Turn<'_>) {
    turn.writer().simple("OK");
}

/// `PING [message]`
pub(crate) fn ping(_: &Node, turn: &mut Turn<'_>) {
    let mut args = turn.args.clone();
    match (args.next(), args.next()) {
        (None, _) => turn.writer().simple("PONG"),
        (Some(message), None) => turn.writer().bulk(message),
        (Some(_), Some(_)) => wrong_arity(&mut turn.writer(), "ping"),
    }
}

/// `ECHO message`
pub(crate) fn echo(_: &Node, turn: &mut Turn<'_>) {
    let message = turn.args.clone().next().unwrap_or(&[]);
    turn.writer().bulk(message);
}

/// `QUIT`
pub(crate) fn quit(_: &Node, turn: &mut Turn<'_>) {
    turn.writer().simple("OK");
    turn.close = Some("quit");
}

/// `SELECT 0`
pub(crate) fn select(_: &Node, turn: &mut Turn<'_>) {
    match turn.args.clone().next().and_then(integer) {
        Some(0) => turn.writer().simple("OK"),
        Some(_) => turn.writer().error("ERR SELECT is not allowed in cluster mode"),
        None => turn.writer().error("ERR value is not an integer or out of range"),
    }
}

/// `READONLY`
pub(crate) fn readonly(_: &Node, turn: &mut Turn<'_>) {
    turn.connection.readonly = true;
    turn.writer().simple("OK");
}

/// `READWRITE`
pub(crate) fn readwrite(_: &Node, turn: &mut Turn<'_>) {
    turn.connection.readonly = false;
    turn.writer().simple("OK");
}

/// `RESET`
pub(crate) fn reset(_: &Node, turn: &mut Turn<'_>) {
    *turn.connection = Connection::default();
    turn.writer().simple("RESET");
}

/// `AUTH [username] password`
pub(crate) fn auth(_: &Node, turn: &mut Turn<'_>) {
    let mut args = turn.args.clone();
    match (args.next(), args.next(), args.next()) {
        (Some(user), Some(_), None) if user == b"default" => turn.writer().simple("OK"),
        (Some(_), Some(_), None) => turn.writer().error(WRONG_PASSWORD),
        (Some(_), None, _) => turn.writer().error(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ),
        (_, _, _) => turn.writer().error("ERR syntax error"),
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// A name without blanks or control characters, within its bound.
fn checked_name(name: &[u8]) -> Option<String> {
    let fine = name.len() <= CLIENT_NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
    fine.then(|| String::from_utf8_lossy(name).into_owned())
}

/// `HELLO [2|3 [AUTH username password] [SETNAME name]]`
pub(crate) fn hello(node: &Node, turn: &mut Turn<'_>) {
    let mut args = turn.args.clone();
    let mut chosen = turn.connection.clone();
    if let Some(version) = args.next() {
        chosen.protocol = match integer(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return turn.writer().error("NOPROTO unsupported protocol version"),
            None => return turn.writer().error("ERR Protocol version is not an integer or out of range"),
        };
    }
    while let Some(option) = args.next() {
        if option.eq_ignore_ascii_case(b"auth") && args.len() >= 2 {
            let user = args.next();
            args.next();
            if user != Some(b"default") {
                return turn.writer().error(WRONG_PASSWORD);
            }
        } else if let (true, Some(name)) = (option.eq_ignore_ascii_case(b"setname"), args.next()) {
            match checked_name(name) {
                Some(name) => chosen.name = name,
                None => return turn.writer().error(BAD_NAME),
            }
        } else {
            let option = option.get(..option.len().min(128)).unwrap_or(option).escape_ascii();
            return turn.writer().error(format_args!("ERR Syntax error in HELLO option '{option}'"));
        }
    }
    *turn.connection = chosen;
    let protocol = if turn.connection.protocol == Protocol::Resp3 { 3 } else { 2 };
    let client = i64::try_from(turn.client.0).unwrap_or(i64::MAX);
    let role: &[u8] = if node.leads() { b"master" } else { b"replica" };
    let mut writer = turn.writer();
    writer.map(7);
    writer.bulk(b"server");
    writer.bulk(b"redis");
    writer.bulk(b"version");
    writer.bulk(REDIS_VERSION.as_bytes());
    writer.bulk(b"proto");
    writer.integer(protocol);
    writer.bulk(b"id");
    writer.integer(client);
    writer.bulk(b"mode");
    writer.bulk(b"cluster");
    writer.bulk(b"role");
    writer.bulk(role);
    writer.bulk(b"modules");
    writer.array(0);
}

/// The version of Redis whose protocol and replies these are: what clients decide features by.
pub(crate) const REDIS_VERSION: &str = "7.2.4";

/// `CLIENT ID | SETNAME name | GETNAME | SETINFO attribute value | LIST | INFO | NO-EVICT on|off | NO-TOUCH on|off`
pub(crate) fn client(node: &Node, turn: &mut Turn<'_>) {
    let mut args = turn.args.clone();
    let sub = args.next().unwrap_or(&[]).to_ascii_lowercase();
    let (one, two, count) = (args.next(), args.next(), turn.args.len());
    match (sub.as_slice(), one, two) {
        (b"id", None, _) => {
            let id = i64::try_from(turn.client.0).unwrap_or(i64::MAX);
            turn.writer().integer(id);
        }
        (b"getname", None, _) => match turn.connection.name.clone() {
            name if name.is_empty() => turn.writer().null(),
            name => turn.writer().bulk(name.as_bytes()),
        },
        (b"setname", Some(name), None) => match checked_name(name) {
            Some(name) => {
                turn.connection.name = name;
                turn.writer().simple("OK");
            }
            None => turn.writer().error(BAD_NAME),
        },
        (b"setinfo", Some(attribute), Some(value)) if count == 3 => set_info(turn, attribute, value),
        (b"no-evict" | b"no-touch", Some(switch), None) => {
            if switch.eq_ignore_ascii_case(b"on") || switch.eq_ignore_ascii_case(b"off") {
                turn.writer().simple("OK");
            } else {
                turn.writer().error("ERR syntax error");
            }
        }
        (b"info", None, _) => {
            let line = line(turn.client, turn.connection);
            turn.writer().text(&line);
        }
        (b"list", _, _) => {
            let own = line(turn.client, turn.connection);
            let others = node.connections().filter(|(id, _)| *id != turn.client);
            let lines = others.take(CLIENT_LIST_MAX).fold(own, |lines, (id, other)| lines + &line(id, other));
            turn.writer().text(&lines);
        }
        (b"id" | b"getname" | b"setname" | b"setinfo" | b"no-evict" | b"no-touch" | b"info", _, _) => {
            let name = format!("client|{}", String::from_utf8_lossy(&sub));
            wrong_arity(&mut turn.writer(), &name);
        }
        (other, _, _) => subcommand_unknown(&mut turn.writer(), other, "CLIENT"),
    }
}

fn set_info(turn: &mut Turn<'_>, attribute: &[u8], value: &[u8]) {
    let Some(value) = checked_name(value) else {
        return turn.writer().error("ERR attribute values cannot contain spaces, newlines or special characters.");
    };
    if attribute.eq_ignore_ascii_case(b"lib-name") {
        turn.connection.library = value;
    } else if attribute.eq_ignore_ascii_case(b"lib-ver") {
        turn.connection.library_version = value;
    } else {
        return turn.writer().error("ERR Unrecognized option");
    }
    turn.writer().simple("OK");
}

fn line(client: ClientId, connection: &Connection) -> String {
    let Connection { protocol, readonly, name, library, library_version } = connection;
    let protocol = if *protocol == Protocol::Resp3 { 3 } else { 2 };
    let flags = if *readonly { "r" } else { "N" };
    format!(
        "id={} addr=?:0 laddr=?:0 name={name} db=0 flags={flags} resp={protocol} lib-name={library} lib-ver={library_version}\n",
        client.0
    )
}
