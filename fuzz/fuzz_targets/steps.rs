//! Event sequences, crashes and reordering into whole replicas.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| harness::fuzzing::steps::run(input));
