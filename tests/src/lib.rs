//! What tests across packages share: packets as clients write them, and a broker without sockets.

pub mod packet;
pub mod shard;
pub mod sim;
