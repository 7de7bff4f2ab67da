//! Whatever arrives on a peer port: no input panics, and what is understood is written back the same.

use bytes::Bytes;
use paxos_core::wire;
use transport_mio::hello;

/// Truncations of longer messages are sampled, so that an input costs microseconds.
const CUTS_MAX: usize = 64;

/// Runs one input, as the payload of a frame after the hello and as that of the hello itself.
///
/// # Panics
/// If a decoded message does not survive encoding, or a piece of it passes for a whole one.
pub fn run(input: &[u8]) {
    if let Ok(message) = wire::decode(&Bytes::copy_from_slice(input)) {
        let mut written = Vec::new();
        wire::encode(&message.header, &message.body, &mut written);
        let written = Bytes::from(written);
        assert_eq!(wire::decode(&written).as_ref(), Ok(&message), "decode(encode(m)) = m");
        let step = written.len() / CUTS_MAX + 1;
        for cut in (0..written.len()).step_by(step) {
            assert!(wire::decode(&written.slice(..cut)).is_err(), "{cut} of {} bytes pass for all", written.len());
        }
    }
    if let Ok(greeting) = hello::decode(input) {
        assert_eq!(hello::decode(&hello::encode(&greeting)), Ok(greeting), "decode(encode(greeting)) = greeting");
    }
}
