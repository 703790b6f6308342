//! One connection of a server, whole and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmar_core::fuzzing::server_connection(data));
