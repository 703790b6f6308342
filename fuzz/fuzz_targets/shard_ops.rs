//! Operations on several shards.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmar_core::fuzzing::shard_ops(data));
