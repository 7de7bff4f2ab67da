//! Whatever arrives on a peer link, as a stream: no input panics, and however it is split the same frames come out of it.

use bytes::Bytes;
use transport_mio::frame;

/// The cap of the links' frames here: small, so that inputs reach it.
const FRAME_BYTES_MAX: usize = 1_024;

/// Runs one input.
///
/// # Panics
/// If pieces are read otherwise than the whole, or the frames that came out are not what went in.
pub fn run(input: &[u8]) {
    let whole = frame::frames(input, usize::MAX, FRAME_BYTES_MAX);
    for piece in [1, 5, frame::FRAME_HEAD_BYTES + 1] {
        assert_eq!(frame::frames(input, piece, FRAME_BYTES_MAX), whole, "in pieces of {piece}");
    }
    let (frames, _) = whole;
    assert!(frames.iter().all(|payload| payload.len() <= FRAME_BYTES_MAX), "the cap holds");
    let again: Vec<u8> =
        frames.iter().flat_map(|payload: &Bytes| [&frame::head(payload)[..], payload].concat()).collect();
    assert!(input.starts_with(&again), "whole frames are what the stream begins with");
}
