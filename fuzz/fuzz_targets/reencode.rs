//! Decode, encode, decode.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmar_core::fuzzing::reencode(data));
