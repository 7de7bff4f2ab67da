//! Log directories that hold anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| harness::fuzzing::records::run(input));
