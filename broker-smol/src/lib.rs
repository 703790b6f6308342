//! The parts of the `fulmar` binary: configuration, logging and wiring of the MQTT broker.
//!
//! A program that only wants a broker inside itself needs [`broker`] alone. One that also wants
//! the configuration file and the log lines of the binary uses [`Settings`] and [`serve`].

pub mod config;
mod listen;
mod log;
pub mod memory;
mod replay;
mod serve;
pub mod slice;

pub use config::{ConfigError, LoadError, Settings};
/// The broker itself: `Server`, `BrokerHandle`, `Options` and what they use.
pub use fulmar_adapters::broker;
pub use listen::{Listen, ListenError};
pub use log::{Level, Log};
pub use replay::{ReplayError, replay};
pub use serve::{Exposed, ServeError, addresses, authenticate, has_ipv6, options, serve};

/// The examples of the README are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
