//! Frames on a peer link: length, checksum, payload.
//!
//! ```text
//! u32 LE  length of the payload, at most FRAME_BYTES_MAX
//! u32 LE  CRC-32C over the four length bytes and the payload
//! ...     payload
//! ```
//! The length is checked before anything is allocated for it, and the buffer grows as bytes arrive.
//! After a bad length or checksum nothing behind it can be trusted: the link is closed.

use bytes::Bytes;
use thiserror::Error;

use crate::conn::{ReadBuffer, ReadOutcome};

/// Bytes before the payload.
pub const FRAME_HEAD_BYTES: usize = 8;

/// Why the bytes of a link are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The head announces more than may come.
    #[error("a frame of {bytes} bytes is announced; at most {bytes_max} are allowed here")]
    TooLong {
        /// What is announced.
        bytes: usize,
        /// What may come at this stage of the link.
        bytes_max: usize,
    },
    /// The payload is not what was sent, or no frame of ours at all.
    #[error("bad checksum over a frame of {bytes} bytes")]
    Checksum {
        /// Length of the payload.
        bytes: usize,
    },
}

/// The head that goes before this payload.
pub fn head(payload: &[u8]) -> [u8; FRAME_HEAD_BYTES] {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = checksum(length, payload).to_le_bytes();
    let [a, b, c, d] = length;
    let [e, f, g, h] = checksum;
    [a, b, c, d, e, f, g, h]
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}

/// Takes the next whole frame out of what arrived: `None` until all of it is there.
pub(crate) fn take(buffer: &mut ReadBuffer, bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(&[a, b, c, d, e, f, g, h]) = buffer.arrived().first_chunk() else { return Ok(None) };
    let length = [a, b, c, d];
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > bytes_max {
        return Err(FrameError::TooLong { bytes, bytes_max });
    }
    if buffer.arrived().len() < FRAME_HEAD_BYTES + bytes {
        return Ok(None);
    }
    let payload = buffer.take(FRAME_HEAD_BYTES + bytes).slice(FRAME_HEAD_BYTES..);
    if checksum(length, &payload) != u32::from_le_bytes([e, f, g, h]) {
        return Err(FrameError::Checksum { bytes });
    }
    Ok(Some(payload))
}

/// Every frame in these bytes when they arrive in pieces of `piece` bytes, and what stopped the reading, if anything
/// did. The same for every `piece`: what fuzzing and tests hold it to.
pub fn frames(stream: &[u8], piece: usize, bytes_max: usize) -> (Vec<Bytes>, Option<FrameError>) {
    let mut buffer = ReadBuffer::default();
    let mut frames = Vec::new();
    for mut piece in stream.chunks(piece.max(1)) {
        while buffer.read_from(&mut piece).is_ok_and(|outcome| outcome != ReadOutcome::Closed) {}
        loop {
            match take(&mut buffer, bytes_max) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        [&head(payload)[..], payload].concat()
    }

    #[test]
    fn frames_come_back_whole_at_every_split() {
        let payloads: [&[u8]; 4] = [b"", b"a", b"twelve bytes", &[7; 300]];
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
        for piece in 1..=stream.len() {
            let (read, stopped) = frames(&stream, piece, 300);
            assert_eq!((read.as_slice(), stopped), (payloads.map(Bytes::from_static).as_slice(), None), "by {piece}");
        }
    }

    #[test]
    fn a_length_above_the_cap_is_refused_before_its_payload_comes() {
        let announced = framed(&[0; 301]);
        let refused = frames(&announced[..FRAME_HEAD_BYTES], 3, 300);
        assert_eq!(refused, (vec![], Some(FrameError::TooLong { bytes: 301, bytes_max: 300 })));
        assert_eq!(frames(&framed(&[0; 300]), 7, 300), (vec![Bytes::from(vec![0; 300])], None));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = framed(b"payload");
        for bit in 0..whole.len() * 8 {
            let mut bent = whole.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            // A longer length waits for more bytes, which fail the checksum when they come.
            assert_eq!(frames(&bent, usize::MAX, 64).0, Vec::<Bytes>::new(), "bit {bit}");
        }
    }
}
