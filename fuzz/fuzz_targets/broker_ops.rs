//! Operations on a broker.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmar_core::fuzzing::broker_ops(data));
