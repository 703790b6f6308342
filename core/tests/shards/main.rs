//! Several shards as one broker: what each rule between them is for.
#![cfg(feature = "alloc")]

mod asked;
mod ends;
mod full;
mod late;
mod limits;
mod many;
mod paused;
mod random;
mod recorded;
mod retained;
mod runs;
mod shared;
mod stories;
mod turns;
mod wills;
mod world;
