//! Whatever a log directory holds: files of any bytes, records of any bodies with right checksums, a good log with
//! damage. Opening answers and never panics, and what opened opens again to the same.

/// Runs one input; its first byte says which of the three.
///
/// # Panics
/// If what opened cannot be read, or opens again to something else.
pub fn run(input: &[u8]) {
    node::wal::fuzz(input);
}
