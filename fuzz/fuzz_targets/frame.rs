//! Streams of peers, cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| harness::fuzzing::frame::run(input));
