//! Recordings: every call that changed a broker, to be replayed.
//!
//! A recording holds the boot, the configuration and each call with its arguments; after each, a
//! digest of what came out. Secrets of CONNECT and AUTH are overwritten at equal length, so that a
//! recording can be given away; the seed is in it, since the replay hangs on it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Write;

use super::calls::{Again, Call, Reader, write_boot, write_call, write_config, write_place};
use super::mask::Masks;
use super::{
    Boot, Broker, Config, ConnId, ConnInfo, Effect, Input, Outbox, PeerMsg, Place, SubscriberId,
};
use crate::time::Instant;

/// First bytes of a recording, with its version: it changes with its form, and with the order in
/// which a broker does what it did when it was recorded.
const MAGIC: &[u8; 8] = b"FULMARR5";

/// What a broker was asked, as it is asked.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Written and not taken by the driver.
    out: Vec<u8>,
    masks: Masks,
    digest: Digest,
    /// When the last call was made.
    pub(super) last: Instant,
    /// Effects polled since the last call.
    polled: u32,
    written: u64,
    limit: u64,
    full: bool,
}

/// FNV-1a: two runs are compared, nobody is to be kept from forging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest(u64);

impl Digest {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn peers(&mut self, messages: &[PeerMsg]) {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.clear();
            message.encode(&mut bytes);
            self.add(&bytes);
        }
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

impl Recorder {
    fn new(config: &Config, boot: &Boot, place: Place, limit: u64) -> Self {
        let mut out = MAGIC.to_vec();
        write_boot(&mut out, boot);
        write_place(&mut out, place);
        write_config(&mut out, config);
        let written = out.len() as u64;
        let (masks, digest) = (Masks::default(), Digest::START);
        let last = boot.now;
        Self { out, masks, digest, last, polled: 0, written, limit, full: false }
    }

    /// Writes a call, after the digest of what the calls before gave.
    pub(super) fn call(&mut self, now: Instant, call: &Call<'_>) {
        if self.full {
            return;
        }
        self.last = now;
        let start = self.out.len();
        self.out.extend_from_slice(&self.digest.0.to_le_bytes());
        self.out.extend_from_slice(&self.polled.to_le_bytes());
        self.out.extend_from_slice(&now.as_micros().to_le_bytes());
        match *call {
            Call::Handle(Input::Received { conn, bytes }) => {
                let masked = self.masks.received(conn, bytes);
                let call = Call::Handle(Input::Received { conn, bytes: &masked });
                write_call(&mut self.out, &call);
            }
            Call::Handle(Input::Closed { conn }) => {
                self.masks.closed(conn);
                write_call(&mut self.out, call);
            }
            _ => write_call(&mut self.out, call),
        }
        let len = (self.out.len() - start) as u64;
        if self.written + len > self.limit {
            self.out.truncate(start);
            self.full = true;
            return;
        }
        self.polled = 0;
        self.written += len;
    }

    /// The connection is handed over: its driver will not report its end.
    pub(super) fn gone(&mut self, conn: ConnId) {
        self.masks.closed(conn);
    }

    pub(super) fn effect(&mut self, effect: Option<&Effect>) {
        self.polled += 1;
        if let Some(effect) = effect {
            // Secrets are no part of it: an AuthRequest does not show them.
            let _ = write!(self.digest, "{effect:?}");
        }
    }

    pub(super) fn peers(&mut self, messages: &[PeerMsg]) {
        self.digest.peers(messages);
    }

    pub(super) fn sent(&mut self, out: &Outbox, from: usize) {
        let mut skip = from;
        for slice in out.slices() {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            self.digest.add(&slice[skipped..]);
        }
    }
}

/// How a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// None was asked for.
    Off,
    /// Under way.
    On,
    /// At its size bound: nothing more is recorded.
    Full,
}

impl Broker {
    /// Records every call from now on, up to `limit` bytes. To be called before anything else;
    /// later it does nothing, since a replay begins with an empty broker.
    pub fn record(&mut self, limit: u64) {
        let fresh = self.conns.len() == 0;
        if fresh && self.next_serial & 0xffff_ffff_ffff == 1 && self.recorder.is_none() {
            let place = self.place();
            self.recorder = Some(Box::new(Recorder::new(&self.config, &self.boot, place, limit)));
        }
    }

    /// Moves what was recorded since the last call to the end of `out`, and says whether more will
    /// come.
    pub fn recorded(&mut self, out: &mut Vec<u8>) -> Recording {
        match &mut self.recorder {
            None => Recording::Off,
            Some(recorder) => {
                out.append(&mut recorder.out);
                if recorder.full { Recording::Full } else { Recording::On }
            }
        }
    }
}

/// Why a recording cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError {
    /// Not a recording, or one of another version.
    Format,
}

impl core::fmt::Display for ReplayError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("not a recording of this version of fulmar")
    }
}

impl core::error::Error for ReplayError {}

/// One step of a replay.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<'r> {
    /// A connection was opened.
    Open {
        /// As it was named.
        conn: Option<ConnId>,
        /// Where it comes from.
        info: ConnInfo,
    },
    /// Something was handled.
    Handle(Input<'r>),
    /// Bytes were pulled for a connection.
    Transmit {
        /// For which.
        conn: ConnId,
        /// What.
        bytes: Vec<u8>,
    },
    /// A message was taken by a local subscriber.
    Take(SubscriberId),
    /// Effects were polled.
    Effects(Vec<Effect>),
    /// A connection went to another shard.
    HandOver(ConnId),
    /// Another shard sent something.
    Peer {
        /// Its number.
        from: u16,
        /// What.
        msg: &'r PeerMsg,
    },
    /// What another shard is to have was fetched.
    TakePeer {
        /// Its number.
        to: u16,
        /// What.
        messages: Vec<PeerMsg>,
    },
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Another step follows.
    More,
    /// All calls gave what they gave when they were recorded.
    Same,
    /// The call of this number, from 0, found that something before it came out differently.
    Diverged(u64),
}

/// Runs a recording again.
#[derive(Debug)]
pub struct Replay<'r> {
    reader: Reader<'r>,
    broker: Broker,
    digest: Digest,
    calls: u64,
}

impl<'r> Replay<'r> {
    /// Begins at the beginning.
    ///
    /// # Errors
    /// If the bytes are no recording.
    pub fn new(recording: &'r [u8]) -> Result<Self, ReplayError> {
        let rest = recording.strip_prefix(MAGIC).ok_or(ReplayError::Format)?;
        let mut reader = Reader(rest);
        let boot = reader.boot().ok_or(ReplayError::Format)?;
        let place = reader.place().ok_or(ReplayError::Format)?;
        let config = reader.config().ok_or(ReplayError::Format)?;
        let broker = Broker::shard(config, boot, place);
        Ok(Self { reader, broker, digest: Digest::START, calls: 0 })
    }

    /// Makes the next call, shows it and what came of it, and says how it compares. A recording
    /// that breaks off ends where the last whole call does.
    pub fn step(&mut self, show: &mut dyn FnMut(Instant, &Step<'_>)) -> Outcome {
        let Some((digest, polled, now, call)) = self.reader.entry() else { return Outcome::Same };
        let mut effects = Vec::new();
        for _ in 0..polled {
            // Nothing more until the next call, however often it was asked.
            let Some(effect) = self.broker.poll_effect() else { break };
            let _ = write!(self.digest, "{effect:?}");
            effects.push(effect);
        }
        if !effects.is_empty() {
            show(now, &Step::Effects(effects));
        }
        if self.digest != Digest(digest) {
            return Outcome::Diverged(self.calls);
        }
        self.calls += 1;
        let call = match call {
            Again::Call(call) => call,
            Again::Peer(from, msg) => {
                show(now, &Step::Peer { from, msg: &msg });
                self.broker.peer_message(now, from, msg);
                return Outcome::More;
            }
        };
        let step = match call {
            Call::Open(info) => {
                let conn = self.broker.open(now, info).ok();
                Step::Open { conn, info }
            }
            Call::Handle(input) => {
                show(now, &Step::Handle(input.clone()));
                self.broker.handle(now, input);
                return Outcome::More;
            }
            Call::Transmit { conn, budget } => {
                let mut out = Outbox::new();
                self.broker.transmit(now, conn, &mut out, budget);
                let bytes: Vec<u8> = out.slices().flatten().copied().collect();
                self.digest.add(&bytes);
                Step::Transmit { conn, bytes }
            }
            Call::Take(subscriber) => {
                self.broker.take(now, subscriber);
                Step::Take(subscriber)
            }
            Call::HandOver(conn) => {
                self.broker.hand_over(now, conn);
                Step::HandOver(conn)
            }
            Call::TakePeer(to) => {
                let mut messages = Vec::new();
                self.broker.take_peer_messages(to, &mut messages);
                self.digest.peers(&messages);
                Step::TakePeer { to, messages }
            }
            Call::Peer { .. } => return Outcome::More,
        };
        show(now, &step);
        Outcome::More
    }

    /// Calls made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls
    }
}
