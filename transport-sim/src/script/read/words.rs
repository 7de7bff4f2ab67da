//! The room for the words of a script's lines.

use std::str::FromStr;

use bytes::Bytes;
use node::limits::COMMAND_BYTES_MAX;
use paxos_core::{Incarnation, Member, NodeId};

use crate::client::{Ask, Asks, Large, Manner};
use crate::decisions::{Decision, Departure, Garble, Stream};
use crate::lost::Remedy;
use crate::nemesis::{Fault, Lone, Then};
use crate::script::moment;

/// The words of a line.
pub(super) struct Words<'a> {
    pub(super) words: Vec<&'a str>,
    pub(super) at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn next(&mut self, what: &str) -> Result<&'a str, String> {
        let word = self.words.get(self.at).copied().ok_or_else(|| format!("{what} is missing"))?;
        self.at += 1;
        Ok(word)
    }

    pub(super) fn end(&self) -> Result<(), String> {
        self.words.get(self.at).map_or(Ok(()), |word| Err(format!("{word:?} is too much")))
    }

    pub(super) fn rest(&mut self) -> impl Iterator<Item = &'a str> {
        let at = std::mem::replace(&mut self.at, self.words.len());
        self.words[at..].iter().copied()
    }

    pub(super) fn number<T: FromStr>(&mut self) -> Result<T, String> {
        number(self.next("a number")?)
    }

    /// A number behind its name.
    pub(super) fn named<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        self.word(name)?;
        self.number()
    }

    pub(super) fn word(&mut self, name: &str) -> Result<(), String> {
        let word = self.next(name)?;
        if word == name { Ok(()) } else { Err(format!("{word:?} where {name} belongs")) }
    }

    pub(super) fn yes_or_no(&mut self) -> Result<bool, String> {
        match self.next("yes or no")? {
            "yes" => Ok(true),
            "no" => Ok(false),
            other => Err(format!("{other:?} is neither yes nor no")),
        }
    }

    pub(super) fn node(&mut self) -> Result<NodeId, String> {
        Ok(NodeId(self.number()?))
    }

    /// `1>2`
    pub(super) fn pair(&mut self) -> Result<(NodeId, NodeId), String> {
        pair(self.next("a link")?)
    }

    pub(super) fn member(&mut self) -> Result<Member, String> {
        let node = self.node()?;
        self.word("incarnation")?;
        let incarnation = self.hexadecimal()?;
        Ok(Member { node, incarnation: Incarnation(incarnation), generation: 0 })
    }

    pub(super) fn hexadecimal(&mut self) -> Result<u64, String> {
        let word = self.next("a hexadecimal number")?;
        u64::from_str_radix(word, 16).map_err(|_| format!("{word:?} is no hexadecimal number"))
    }

    pub(super) fn manner(&mut self) -> Result<Manner, String> {
        let (client, begins_us) = (self.number()?, self.named("begins_us")?);
        let (depth, patience_us) = (self.named("depth")?, self.named("patience_us")?);
        self.word("once")?;
        let once = self.yes_or_no()?;
        Ok(Manner { client, begins_us, depth, patience_us, once, asks: Asks::Listed(Vec::new()) })
    }

    /// What a client asks for if it is drawn.
    pub(super) fn asks(&mut self) -> Result<Asks, String> {
        let (operations, think_us) = (self.named("operations")?, self.named("think_us")?);
        let keys = self.named("keys")?;
        let is_end = self.end().is_ok();
        let large = if is_end {
            None
        } else {
            Some(Large { every: self.named("every")?, edge_bytes: self.named("edge_bytes")? })
        };
        Ok(Asks::Drawn { operations, think_us, keys, large })
    }

    /// `1.7 at 1200 SET k 1.7`
    pub(super) fn ask(&mut self) -> Result<(u32, Ask), String> {
        let id = self.next("client and number")?;
        let (client, ask) = id.split_once('.').ok_or_else(|| format!("{id:?} is no client.number"))?;
        let (client, ask) = (number(client)?, number(ask)?);
        let due = moment(self.named("at")?);
        let args: Vec<Bytes> = self.rest().map(unescape).collect::<Result<_, _>>()?;
        if args.is_empty() {
            return Err("the command is missing".to_owned());
        }
        Ok((client, Ask { number: ask, due, args }))
    }

    pub(super) fn fault(&mut self) -> Result<Fault, String> {
        Ok(match self.next("a fault")? {
            "crash" => Fault::Crash { node: self.node()?, down_us: self.named("down_us")? },
            "power-loss" => {
                let down_us = self.named("down_us")?;
                self.word("nodes")?;
                let nodes = self.rest().map(|word| number(word).map(NodeId)).collect::<Result<_, _>>()?;
                Fault::PowerLoss { nodes, down_us }
            }
            "terminate" => Fault::Terminate { node: self.node()?, down_us: self.named("down_us")? },
            "pause" => Fault::Pause { node: self.node()?, us: self.named("us")? },
            "partition" => {
                let us = self.named("us")?;
                self.word("cuts")?;
                Fault::Partition { cuts: self.rest().map(pair).collect::<Result<_, _>>()?, us }
            }
            "clog" => {
                let (from, to) = self.pair()?;
                Fault::Clog { from, to, us: self.named("us")? }
            }
            "client-cut" => Fault::CutClients { node: self.node()?, us: self.named("us")? },
            "client-reset" => Fault::ResetClients { node: self.node()? },
            "hand-over" => Fault::HandOver { to: self.node()? },
            "disk-stall" => Fault::DiskStall { node: self.node()?, us: self.named("us")? },
            "disk-failure" => {
                let (node, operations) = (self.node()?, self.named("operations")?);
                let down_us = self.named("down_us")?;
                let once = self.end().is_err();
                if once {
                    self.word("once")?;
                }
                Fault::DiskFailure { node, operations, once, down_us }
            }
            "decapitate" => Fault::Decapitate { down_us: self.named("down_us")? },
            "storm" => {
                let (loss, us) = (self.named("loss")?, self.named("us")?);
                let down_us = if self.end().is_ok() { None } else { Some(self.named("down_us")?) };
                Fault::Storm { loss, us, down_us }
            }
            "ambush" => {
                let (late_us, us) = (self.named("late_us")?, self.named("us")?);
                let then = match self.next("dies or stands")? {
                    "dies" => Then::Dies { down_us: self.named("down_us")? },
                    "stands" => Then::Stands { us: self.named("us")?, hears: NodeId(self.named("hears")?) },
                    other => return Err(format!("{other:?} is neither dies nor stands")),
                };
                Fault::Ambush { late_us, us, then }
            }
            "wipe" => {
                let (node, down_us) = (self.node()?, self.named("down_us")?);
                let remedy = match self.next("away or anew")? {
                    "away" => Remedy::Away,
                    "anew" => Remedy::Anew,
                    other => return Err(format!("{other:?} is neither away nor anew")),
                };
                Fault::Wipe { node, down_us, remedy }
            }
            "old-image" => {
                Fault::OldImage { node: self.node()?, us: self.named("us")?, down_us: self.named("down_us")? }
            }
            "rot" => {
                let (node, down_us) = (self.node()?, self.named("down_us")?);
                Fault::Rot { node, down_us, number: self.named("number")? }
            }
            "clock-freeze" => Fault::FreezeClock { node: self.node()?, us: self.named("us")? },
            "slow-reader" => Fault::SlowReader { client: self.number()?, us: self.named("us")? },
            "crowd" => {
                let (node, connections) = (self.node()?, self.named("connections")?);
                Fault::Crowd { node, connections, us: self.named("us")? }
            }
            "leader-cut" => {
                let (us, lone) = (self.named("us")?, self.next("deaf, mute, alone or gone")?);
                let lone = Lone::ALL.into_iter().find(|known| known.name() == lone);
                Fault::CutLeader { lone: lone.ok_or("a leader is cut off deaf, mute, alone or gone")?, us }
            }
            "remove" => Fault::Remove { node: self.node()? },
            other => return Err(format!("{other:?} is no fault")),
        })
    }

    /// `1>2`, `c3>` or `>c3`
    pub(super) fn link(&mut self) -> Result<Stream, String> {
        let word = self.next("a link")?;
        if let Some(client) = word.strip_prefix(">c") {
            return Ok(Stream::ToClient { client: number(client)? });
        }
        if let Some(client) = word.strip_prefix('c').and_then(|word| word.strip_suffix('>')) {
            return Ok(Stream::ToNode { client: number(client)? });
        }
        pair(word).map(|(from, to)| Stream::Link { from, to })
    }

    pub(super) fn decision(&mut self, stream: Stream) -> Result<Decision, String> {
        let number = self.number()?;
        let what = self.next("what is decided")?;
        let departure = match (stream, what) {
            (Stream::Crash { .. }, "torn") => Departure::Torn(self.hexadecimal()?),
            (Stream::Crash { .. }, "kept") => Departure::Kept,
            (Stream::Link { .. } | Stream::ToNode { .. } | Stream::ToClient { .. } | Stream::Sync { .. }, "late") => {
                Departure::Late(self.number()?)
            }
            (Stream::Link { .. }, "lost") => Departure::Lost,
            (Stream::Link { .. }, "again") => Departure::Again(self.number()?),
            (Stream::Link { .. }, "astray") => Departure::Astray,
            (Stream::Link { .. }, "short") => Departure::Garbled(Garble::Short(self.number()?)),
            (Stream::Link { .. }, "joined") => Departure::Garbled(Garble::Joined),
            (Stream::Link { .. }, "foreign") => Departure::Garbled(Garble::Foreign),
            (Stream::Link { .. }, "again-astray") => Departure::AgainAstray,
            (_, other) => return Err(format!("{other:?} is nothing that can be decided there")),
        };
        Ok(Decision { stream, number, departure })
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is no number, or too large"))
}

fn pair(word: &str) -> Result<(NodeId, NodeId), String> {
    let (from, to) = word.split_once('>').ok_or_else(|| format!("{word:?} is no link"))?;
    Ok((NodeId(number(from)?), NodeId(number(to)?)))
}

/// Takes `escape` back.
fn unescape(word: &str) -> Result<Bytes, String> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'x') => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = digit(rest.next()).zip(digit(rest.next())).ok_or("\\x needs two digits")?;
                (high * 16 + low) as u8
            }
            Some(b'+') => {
                let count: usize = number(&word[word.len() - rest.len()..])?;
                let last = *bytes.last().ok_or("\\+ repeats the byte before it, and there is none")?;
                if count > COMMAND_BYTES_MAX {
                    return Err(format!("{count} bytes are more than a command has"));
                }
                bytes.resize(bytes.len() + count, last);
                break;
            }
            Some(other) => other,
            None => return Err("a backslash at the end".to_owned()),
        });
    }
    Ok(bytes.into())
}
