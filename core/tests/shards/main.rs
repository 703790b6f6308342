//! Several shards as one broker: what each rule between them is for.
#![cfg(feature = "alloc")]

mod full;
mod late;
mod random;
mod stories;
mod world;
