//! The greeting at the start of every peer link, and who is refused.
//!
//! The side with the higher node id dials, so that two nodes share exactly one link. The dialler says hello
//! first; the other judges it and answers with its own hello or with a refusal that says why, so that both
//! sides log the reason. Nothing of a link reaches the node before both hellos were accepted.
//!
//! The driver owns the links and asks here; what it keeps of each peer is the newest boot that it accepted.
//!
//! A greeting is one frame: `MAGIC`, then a `Greeting` in postcard. Both enums are append-only.

use paxos_core::wire::WIRE_VERSION;
use paxos_core::{Boot, ClusterId, Genesis, Incarnation, Member, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The first bytes of every greeting: "this is the peer port of a node", and the version of the greeting.
pub const MAGIC: [u8; 8] = *b"PAXLINK1";

/// No greeting is longer; what announces more is no peer.
pub const GREETING_BYTES_MAX: usize = 256;

/// The oldest wire version this side still speaks.
const WIRE_VERSION_MIN: u8 = WIRE_VERSION;

/// What a side says first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Greeting {
    /// Who it is.
    Hello(Hello),
    /// That it will not talk, and why.
    Refused(Refusal),
}

/// Who is at this end of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest wire version it speaks.
    pub wire_min: u8,
    /// The newest wire version it speaks.
    pub wire_max: u8,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its node id.
    pub from: NodeId,
    /// Whom it believes to talk to.
    pub to: NodeId,
    /// The life of its disk.
    pub incarnation: Incarnation,
    /// `genesis_digest` of what its disk says.
    pub genesis: u64,
    /// The start of its process.
    pub boot: Boot,
}

/// Why a side will not talk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// No greeting at all, or garbage.
    #[error("no valid hello")]
    Malformed,
    /// No wire version that both speak.
    #[error("wire versions {min}..={max} have none in common with {}..={}", WIRE_VERSION_MIN, WIRE_VERSION)]
    Version {
        /// The oldest it speaks.
        min: u8,
        /// The newest it speaks.
        max: u8,
    },
    /// Another cluster.
    #[error("wrong cluster id {found}")]
    Cluster {
        /// The one it belongs to.
        found: ClusterId,
    },
    /// It wanted another node: the addresses in a configuration are mixed up.
    #[error("looks for node {wanted} at the address of node {here}")]
    NotHere {
        /// Whom it wanted.
        wanted: NodeId,
        /// Who is here.
        here: NodeId,
    },
    /// It claims to be this very node.
    #[error("claims to be node {0}, which is this node")]
    Myself(NodeId),
    /// No member has this id.
    #[error("node {0} is no member")]
    Stranger(NodeId),
    /// Its disk was wiped and formatted anew, or is a stranger's.
    #[error("node {node} has incarnation {found:016x}, the membership names {member:016x}")]
    Incarnation {
        /// Who it claims to be.
        node: NodeId,
        /// The life of its disk.
        found: u64,
        /// The life that was admitted.
        member: u64,
    },
    /// Same cluster id and incarnation, other genesis: disks were tampered with.
    #[error("another genesis")]
    Genesis,
    /// The higher id dials: this side did not expect a call.
    #[error("node {0} is to be dialled, it does not dial")]
    WrongWay(NodeId),
    /// A newer start of the same disk was seen: this one is left over, or its disk was rolled back.
    #[error("boot {found} of node {node}, which has been seen at boot {newest}")]
    OldBoot {
        /// Who it claims to be.
        node: NodeId,
        /// Its boot counter.
        found: u64,
        /// The newest one seen.
        newest: u64,
    },
    /// Two processes run on copies of one disk.
    #[error("another process already is boot {boot} of node {node}: is its disk a copy?")]
    Duplicate {
        /// Who it claims to be.
        node: NodeId,
        /// The boot counter that both claim.
        boot: u64,
    },
}

/// Which side of a link judges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// This node called that one.
    Dialled(NodeId),
    /// Somebody called.
    Accepted,
}

/// Who this node is, for its hellos and for judging those of others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The life of its disk.
    pub incarnation: Incarnation,
    /// The start of its process.
    pub boot: Boot,
    /// Every member, itself included.
    pub members: Vec<Member>,
    /// `genesis_digest`.
    pub genesis: u64,
}

impl Identity {
    /// The hello to this peer.
    pub fn hello(&self, to: NodeId) -> Hello {
        Hello {
            wire_min: WIRE_VERSION_MIN,
            wire_max: WIRE_VERSION,
            cluster: self.cluster,
            from: self.node,
            to,
            incarnation: self.incarnation,
            genesis: self.genesis,
            boot: self.boot,
        }
    }

    /// Whether to talk to whoever said this hello. `newest` is the newest boot of that node seen so far.
    ///
    /// # Errors
    /// The first reason to refuse it, from the coarsest to the finest.
    pub fn judge(&self, side: Side, hello: &Hello, newest: Option<Boot>) -> Result<(), Refusal> {
        let Hello { wire_min: min, wire_max: max, from, .. } = *hello;
        if min > WIRE_VERSION || max < WIRE_VERSION_MIN || min > max {
            return Err(Refusal::Version { min, max });
        }
        if hello.cluster != self.cluster {
            return Err(Refusal::Cluster { found: hello.cluster });
        }
        if from == self.node {
            return Err(Refusal::Myself(from));
        }
        let member = self.members.iter().find(|member| member.node == from).ok_or(Refusal::Stranger(from))?;
        if hello.to != self.node {
            return Err(Refusal::NotHere { wanted: hello.to, here: self.node });
        }
        match side {
            Side::Dialled(wanted) if wanted != from => return Err(Refusal::NotHere { wanted, here: from }),
            Side::Accepted if !dials(from, self.node) => return Err(Refusal::WrongWay(from)),
            Side::Dialled(_) | Side::Accepted => {}
        }
        if member.incarnation != hello.incarnation {
            let (found, member) = (hello.incarnation.0, member.incarnation.0);
            return Err(Refusal::Incarnation { node: from, found, member });
        }
        if hello.genesis != self.genesis {
            return Err(Refusal::Genesis);
        }
        match newest {
            Some(newest) if hello.boot.counter < newest.counter => {
                Err(Refusal::OldBoot { node: from, found: hello.boot.counter, newest: newest.counter })
            }
            Some(newest) if hello.boot.counter == newest.counter && hello.boot.nonce != newest.nonce => {
                Err(Refusal::Duplicate { node: from, boot: newest.counter })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether `node` is the side that dials of the link between the two.
pub fn dials(node: NodeId, peer: NodeId) -> bool {
    node > peer
}

/// A digest of the genesis that all members must share (FNV-1a over its postcard bytes): tells accidents, not
/// enemies; the incarnations in it are 64 random bits each.
pub fn genesis_digest(genesis: &Genesis) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = postcard::to_allocvec(genesis).unwrap_or_default();
    bytes.iter().fold(OFFSET, |digest, &byte| (digest ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The payload of a greeting's frame.
pub fn encode(greeting: &Greeting) -> Vec<u8> {
    // Postcard into a `Vec` fails only for types without a known length, which a greeting has not.
    let body = postcard::to_allocvec(greeting).unwrap_or_default();
    [&MAGIC[..], &body].concat()
}

/// Reads the payload of a greeting's frame.
///
/// # Errors
/// `Refusal::Malformed` for anything that `encode` does not write.
pub fn decode(payload: &[u8]) -> Result<Greeting, Refusal> {
    let body = payload.strip_prefix(&MAGIC).ok_or(Refusal::Malformed)?;
    match postcard::take_from_bytes(body) {
        Ok((greeting, [])) => Ok(greeting),
        Ok(_) | Err(_) => Err(Refusal::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u32) -> Member {
        Member { node: NodeId(node), incarnation: Incarnation(100 + u64::from(node)), generation: 0 }
    }

    fn identity(node: u32) -> Identity {
        Identity {
            cluster: ClusterId::new(7),
            node: NodeId(node),
            incarnation: Incarnation(100 + u64::from(node)),
            boot: Boot { counter: 5, nonce: 55 },
            members: (1..=3).map(member).collect(),
            genesis: 77,
        }
    }

    #[test]
    fn hellos_are_accepted_and_refused_by_this_table() {
        let me = identity(2);
        let good = identity(3).hello(NodeId(2));
        let seen = |counter, nonce| Some(Boot { counter, nonce });
        let dialled = Side::Dialled(NodeId(1));
        let below = identity(1).hello(NodeId(2));
        let wanted = NodeId(1);
        let cases = [
            ("a member that dials", Side::Accepted, good, None, Ok(())),
            ("the same process again", Side::Accepted, good, seen(5, 55), Ok(())),
            ("a restarted process", Side::Accepted, good, seen(4, 44), Ok(())),
            ("an answer to our call", dialled, below, None, Ok(())),
            (
                "too new",
                Side::Accepted,
                Hello { wire_min: 200, wire_max: 201, ..good },
                None,
                Err(Refusal::Version { min: 200, max: 201 }),
            ),
            (
                "too old",
                Side::Accepted,
                Hello { wire_min: 0, wire_max: 0, ..good },
                None,
                Err(Refusal::Version { min: 0, max: 0 }),
            ),
            (
                "another cluster",
                Side::Accepted,
                Hello { cluster: ClusterId::new(8), ..good },
                None,
                Err(Refusal::Cluster { found: ClusterId::new(8) }),
            ),
            ("itself", Side::Accepted, me.hello(NodeId(2)), None, Err(Refusal::Myself(NodeId(2)))),
            (
                "an unknown id",
                Side::Accepted,
                Hello { from: NodeId(9), ..good },
                None,
                Err(Refusal::Stranger(NodeId(9))),
            ),
            (
                "a call for another",
                Side::Accepted,
                identity(3).hello(NodeId(1)),
                None,
                Err(Refusal::NotHere { wanted, here: NodeId(2) }),
            ),
            (
                "another answers our call",
                dialled,
                good,
                None,
                Err(Refusal::NotHere { wanted: NodeId(1), here: NodeId(3) }),
            ),
            ("a call from below", Side::Accepted, below, None, Err(Refusal::WrongWay(NodeId(1)))),
            (
                "a wiped disk",
                Side::Accepted,
                Hello { incarnation: Incarnation(9), ..good },
                None,
                Err(Refusal::Incarnation { node: NodeId(3), found: 9, member: 103 }),
            ),
            ("another genesis", Side::Accepted, Hello { genesis: 78, ..good }, None, Err(Refusal::Genesis)),
            (
                "an older boot",
                Side::Accepted,
                good,
                seen(6, 66),
                Err(Refusal::OldBoot { node: NodeId(3), found: 5, newest: 6 }),
            ),
            ("a copied disk", Side::Accepted, good, seen(5, 56), Err(Refusal::Duplicate { node: NodeId(3), boot: 5 })),
        ];
        for (what, side, hello, newest, expected) in cases {
            assert_eq!(me.judge(side, &hello, newest), expected, "{what}");
        }
    }

    #[test]
    fn greetings_survive_the_trip_and_fit_their_cap() {
        let longest = Hello {
            wire_min: u8::MAX,
            wire_max: u8::MAX,
            cluster: ClusterId::new(u128::MAX),
            from: NodeId(u32::MAX),
            to: NodeId(u32::MAX),
            incarnation: Incarnation(u64::MAX),
            genesis: u64::MAX,
            boot: Boot { counter: u64::MAX, nonce: u64::MAX },
        };
        let refusal = Refusal::Incarnation { node: NodeId(u32::MAX), found: u64::MAX, member: u64::MAX };
        for greeting in [Greeting::Hello(longest), Greeting::Refused(refusal)] {
            let bytes = encode(&greeting);
            assert!(bytes.len() <= GREETING_BYTES_MAX, "{}", bytes.len());
            assert_eq!(decode(&bytes), Ok(greeting));
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end]), Err(Refusal::Malformed));
            }
            assert_eq!(decode(&[&bytes[..], b"x"].concat()), Err(Refusal::Malformed));
        }
    }

    #[test]
    fn exactly_one_of_two_nodes_dials() {
        for (one, two) in [(1, 2), (2, 9), (7, 3)] {
            assert_ne!(dials(NodeId(one), NodeId(two)), dials(NodeId(two), NodeId(one)));
        }
    }
}
