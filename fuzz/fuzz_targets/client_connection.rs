//! A client on two connections, whole and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmar_core::fuzzing::client_connection(data));
