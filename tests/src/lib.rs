//! What tests across packages share: packets as clients write them, a broker without sockets, and
//! the registration of statements that a test shows.

pub mod cites;
pub mod crossing;
#[cfg(target_os = "linux")]
pub mod load;
pub mod micro;
pub mod packet;
pub mod pair;
pub mod shard;
pub mod sim;
pub mod trace;
