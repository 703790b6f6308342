//! The broker as one machine: its limits and accounts, its promises, and what breaks them.
#![cfg(feature = "alloc")]

mod accounts;
mod auth;
mod delivery;
mod fanout;
mod harness;
mod large;
mod pieces;
mod pressure;
mod program;
mod staged;
