//! `paxos cli`: commands from arguments, a prompt, or lines of standard input. Follows the leader; writes run
//! exactly once (`LOG.APPEND` at most once, without a session).

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};

use crate::client::{Arguments, Client, ClientError, Reply};

/// A session of commands with one cluster.
pub struct Cli {
    client: Client,
    /// Whether a command goes through the log, by its name; asked of the cluster once each.
    writes: BTreeMap<String, bool>,
    /// Whether replies are printed for people.
    pretty: bool,
}

/// What a line of input is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Line {
    Nothing,
    Quit,
    Command(Arguments),
}

impl Cli {
    /// A session with the cluster of these members.
    pub fn new(addresses: Vec<String>) -> Cli {
        Cli { client: Client::new(addresses), writes: BTreeMap::new(), pretty: io::stdout().is_terminal() }
    }

    /// Runs one command and prints its reply. False if it is an error.
    ///
    /// # Errors
    /// Of standard output.
    pub fn run(&mut self, command: &Arguments, out: &mut dyn Write) -> io::Result<bool> {
        let reply = match self.ask(command) {
            Ok(reply) => reply,
            Err(error @ (ClientError::InDoubt(_) | ClientError::SessionLost(_))) => {
                Reply::Error(format!("INDOUBT {error}"))
            }
            Err(error) => Reply::Error(format!("ERR {error}")),
        };
        if self.pretty {
            writeln!(out, "{reply}")?;
        } else {
            out.write_all(&reply.raw())?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(reply.error().is_none())
    }

    fn ask(&mut self, command: &Arguments) -> Result<Reply, ClientError> {
        let name = String::from_utf8_lossy(command.first().map_or(&[], Vec::as_slice)).to_lowercase();
        // A session takes a slot of its own when it opens, and who appends to the log by hand counts slots: an append
        // goes out at most once, and says so if its outcome is unknown.
        if name == "log.append" {
            return self.client.call(command);
        }
        if self.is_write(&name)? { self.client.once(command) } else { self.client.read(command) }
    }

    /// ONCE itself is flagged as a write, and must not be wrapped in another one.
    fn is_write(&mut self, name: &str) -> Result<bool, ClientError> {
        if name == "once" {
            return Ok(false);
        }
        if let Some(write) = self.writes.get(name) {
            return Ok(*write);
        }
        let reply = self.client.read(&["COMMAND", "INFO", name])?;
        let flags = reply.array().and_then(|infos| infos.first()?.array()?.get(2)?.array());
        let write = flags.is_some_and(|flags| flags.iter().any(|flag| flag.text() == Some("write")));
        self.writes.insert(name.to_string(), write);
        Ok(write)
    }

    /// Reads lines until `quit` or the end. False if any reply was an error.
    ///
    /// # Errors
    /// Of standard input or output.
    pub fn lines(&mut self, input: &mut dyn BufRead, out: &mut dyn Write, prompt: bool) -> io::Result<bool> {
        let mut fine = true;
        loop {
            if prompt {
                write!(out, "{}> ", self.client.address().unwrap_or("paxos"))?;
                out.flush()?;
            }
            let mut text = String::new();
            if input.read_line(&mut text)? == 0 {
                return Ok(fine);
            }
            match parse(&text) {
                Ok(Line::Nothing) => {}
                Ok(Line::Quit) => return Ok(fine),
                Ok(Line::Command(command)) => fine &= self.run(&command, out)?,
                Err(why) => {
                    writeln!(out, "{why}")?;
                    fine = false;
                }
            }
        }
    }
}

/// Cuts a line into words; double quotes keep blanks and know `\n`, `\r`, `\t`, `\"`, `\\` and `\xhh`, single
/// quotes keep everything.
fn parse(text: &str) -> Result<Line, &'static str> {
    let mut words: Arguments = Vec::new();
    let mut bytes = text.bytes().peekable();
    loop {
        while bytes.next_if(|byte| byte.is_ascii_whitespace()).is_some() {}
        let Some(first) = bytes.peek().copied() else { break };
        let mut word = Vec::new();
        match first {
            b'"' | b'\'' => {
                bytes.next();
                loop {
                    match bytes.next().ok_or("unbalanced quotes")? {
                        byte if byte == first => break,
                        b'\\' if first == b'"' => word.push(escaped(&mut bytes)?),
                        byte => word.push(byte),
                    }
                }
                if bytes.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return Err("a blank is missing behind a closing quote");
                }
            }
            _ => {
                while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                    word.push(byte);
                }
            }
        }
        words.push(word);
    }
    Ok(match words.first() {
        None => Line::Nothing,
        Some(word) if word.eq_ignore_ascii_case(b"quit") || word.eq_ignore_ascii_case(b"exit") => Line::Quit,
        Some(_) => Line::Command(words),
    })
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, &'static str> {
    Ok(match bytes.next().ok_or("unbalanced quotes")? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            let high = digit(bytes.next()).ok_or("\\x needs two hexadecimal digits")?;
            let low = digit(bytes.next()).ok_or("\\x needs two hexadecimal digits")?;
            (high * 16 + low) as u8
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_as_redis_cli_cuts_them() {
        let command = |words: &[&[u8]]| Ok(Line::Command(words.iter().map(|word| word.to_vec()).collect()));
        for (text, expected) in [
            ("\n", Ok(Line::Nothing)),
            (" QUIT \n", Ok(Line::Quit)),
            ("exit", Ok(Line::Quit)),
            ("set a 1\r\n", command(&[b"set", b"a", b"1"])),
            ("set 'a b' \"c \\\"d\\\" \\x41\\n\"", command(&[b"set", b"a b", b"c \"d\" A\n"])),
            ("set a ''", command(&[b"set", b"a", b""])),
            ("set \"a", Err("unbalanced quotes")),
            ("set \"a\"b", Err("a blank is missing behind a closing quote")),
            ("set \"\\xg0\"", Err("\\x needs two hexadecimal digits")),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
