//! A program without std, without the C library and, by default, without a heap, that links the
//! core and drives it. Exits with 0 if all went well. For Linux on x86-64.
#![no_std]
#![no_main]

#[cfg(feature = "alloc")]
mod broker;
mod client;
mod packets;
mod system;

/// All checks; a failed one panics, which ends the program with another status.
fn run() {
    packets::bytes_to_packets_and_back();
    packets::both_halves_of_a_session();
    client::a_connection_from_end_to_end();
    #[cfg(feature = "alloc")]
    broker::a_client_publishes_to_itself();
}
