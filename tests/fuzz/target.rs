//! The fuzz target that the binary is named after.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzzing::run(env!("CARGO_BIN_NAME"), bytes));
