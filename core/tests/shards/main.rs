//! Several shards as one broker: what each rule between them is for.
#![cfg(feature = "alloc")]

mod full;
mod late;
mod random;
mod runs;
mod stories;
mod world;
