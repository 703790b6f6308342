//! Peers that misbehave, against the running binary: it stays up, other clients keep their
//! service, memory stays within the budget and is given back, and the peer is told what the
//! standard says.
#![cfg(target_os = "linux")]

#[cfg(target_env = "gnu")]
mod burst;
#[path = "../wire/harness.rs"]
mod harness;
mod hoard;
mod malformed;
mod random;
mod scene;
mod slow;
