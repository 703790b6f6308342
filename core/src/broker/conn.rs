//! One connection as the broker keeps it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::input::ConnInfo;
use super::message::Message;
use super::peers::{Held, Until};
use super::session::Will;
use super::slots::Key;
use crate::connection::server::Connection;
use crate::connection::{AliasesOut, Settings};
use crate::time::Instant;

/// Bytes charged for a connection, without what it holds for the moment.
pub(super) const FOOTPRINT: u64 = 512;

/// What the input of a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Nothing,
    /// An answer to an `Authenticate` effect.
    Verdict,
    /// A fan-out job of its own.
    Job,
    /// Other shards.
    Peers(Until),
    /// The driver, which takes it to another shard.
    HandOver,
    /// Acknowledgements that wait for other shards: then it is closed.
    Last,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) machine: Connection,
    pub(super) info: ConnInfo,
    /// The session, once accepted and until closing.
    pub(super) session: Option<Key>,
    /// Encoded packets that are not messages, in order.
    pub(super) out: Vec<u8>,
    /// Input that waits.
    pub(super) unread: Vec<u8>,
    pub(super) waiting: Waiting,
    /// While it waits for other shards, its place among those that do, and what its input waits
    /// with.
    pub(super) place: u64,
    pub(super) held: Option<Box<Held>>,
    /// The transport is gone, but not all it brought is handled.
    pub(super) gone: bool,
    /// The CONNECT to be decided about.
    pub(super) undecided: Option<Box<Undecided>>,
    pub(super) aliases: AliasesOut,
    /// Messages of QoS 0 whose payload was pulled and may not be written yet: they are charged for
    /// as long as they are held here. Those of QoS 1 and 2 are in flight.
    pub(super) lent: Vec<Arc<Message>>,
    /// Copied bytes of the same pull.
    pub(super) lent_bytes: usize,
    /// `Transmit` was said and not answered with "nothing more".
    pub(super) said: bool,
    /// What the driver was told last.
    pub(super) reading: bool,
    /// Not read before the next beat.
    pub(super) paced: bool,
    /// `Close` was said.
    pub(super) closing: bool,
    /// Counted among the unauthenticated.
    pub(super) unauthenticated: bool,
    pub(super) armed: Instant,
    /// Bytes charged beside [`FOOTPRINT`].
    pub(super) charged: u64,
}

/// A CONNECT to be decided about.
#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) client_id: String,
    pub(super) username: Option<Box<str>>,
    pub(super) clean_start: bool,
    pub(super) bridge: bool,
    pub(super) keep_alive: u16,
    pub(super) will: Option<Box<Will>>,
}

impl Conn {
    pub(super) fn new(settings: Arc<Settings>, info: ConnInfo, now: Instant) -> Self {
        Self {
            machine: Connection::new(settings, now),
            info,
            session: None,
            out: Vec::new(),
            unread: Vec::new(),
            waiting: Waiting::Nothing,
            place: 0,
            held: None,
            gone: false,
            undecided: None,
            aliases: AliasesOut::default(),
            lent: Vec::new(),
            lent_bytes: 0,
            said: false,
            reading: true,
            paced: false,
            closing: false,
            unauthenticated: true,
            armed: Instant::NEVER,
            charged: 0,
        }
    }

    /// Bytes it holds for the moment.
    #[inline]
    pub(super) fn footprint(&self) -> u64 {
        let held = self.machine.footprint() + self.aliases.footprint();
        let lent = self.lent_bytes + self.lent.capacity() * size_of::<Arc<Message>>();
        let mut bytes = held + lent + self.unread.capacity() + self.out.capacity();
        if self.held.is_some() || self.undecided.is_some() {
            bytes += self.waits();
        }
        bytes as u64
    }

    /// Bytes of the packet that waits to be decided about, or for other shards.
    #[cold]
    fn waits(&self) -> usize {
        let undecided = self.undecided.as_ref().map_or(0, |undecided| undecided.footprint());
        let held = match self.held.as_deref() {
            Some(Held::Publish(publish)) => publish.body.len(),
            _ => 0,
        };
        undecided + held
    }
}

impl Undecided {
    fn footprint(&self) -> usize {
        let will = self.will.as_ref().map_or(0, |will| will.body.len());
        self.client_id.len() + self.username.as_deref().map_or(0, str::len) + will
    }
}
