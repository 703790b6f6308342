//! Recordings that may be damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmar_core::fuzzing::recording(data));
