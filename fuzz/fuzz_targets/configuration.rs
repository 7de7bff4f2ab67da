//! Text of configuration files: whatever is in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| harness::fuzzing::configuration::run(input));
