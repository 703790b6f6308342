//! The sockets, threads and clocks around [`fulmar_core`].
//!
//! [`broker`] runs the core's MQTT broker over TCP: for the clients of each shard a thread with an
//! edge-triggered loop of its own, [`smol`] for what is not hot, and a handle through which the
//! program it is embedded in publishes, subscribes, looks and stops.
// Where there is no epoll, `broker/poller.rs` needs one unsafe call of the crate `polling`.
#![cfg_attr(target_os = "linux", forbid(unsafe_code))]

pub mod broker;
