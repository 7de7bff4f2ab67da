//! Bytes of clients: whatever arrives.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| harness::fuzzing::resp::run(input));
