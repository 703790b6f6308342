//! Several shards as one broker: what each rule between them is for.
#![cfg(feature = "alloc")]

mod late;
mod many;
mod random;
mod runs;
mod stories;
mod world;
