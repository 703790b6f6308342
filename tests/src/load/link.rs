//! A client's connection: opening it, and what waits to be sent or is not read whole.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use fulmar_core::codec::{decode, header, split};
use fulmar_core::{PacketId, Qos, Version};

use super::check::Seen;
use super::names::Names;
use super::scenario::Load;
use super::system::{self, Poller, unless_blocked};
use super::wire;

/// Connections opened at once, so that the broker works on several.
const BATCH: usize = 50;
/// Filters in one SUBSCRIBE.
const FILTERS: usize = 100;
/// Connections from one address: there are about 28,000 ports to choose from.
const PER_ADDRESS: usize = 15_000;
/// They are all of this machine.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ADDRESSES: u32 = 1 << 20;

/// Sockets that block, with an MQTT session and subscriptions each.
pub(super) struct Opener<'a> {
    pub(super) to: SocketAddrV4,
    pub(super) load: &'a Load,
    /// What clients are called.
    pub(super) names: Names,
    pub(super) streams: Vec<TcpStream>,
    /// The first address that connections come from.
    from: u32,
}

impl<'a> Opener<'a> {
    pub(super) fn new(to: SocketAddrV4, load: &'a Load) -> Self {
        // Ports of connections that were closed are kept for a minute: nobody has an address again.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let clients = load.publishers + load.subscribers + load.idle;
        let addresses = (clients / PER_ADDRESS + 1) as u32;
        let from = NEXT.fetch_add(addresses, Ordering::Relaxed);
        Self { to, load, names: Names::default(), streams: Vec::new(), from }
    }

    /// Opens `count` connections, 50 at a time. Each has the name of its kind and number, and the
    /// filters that `filters` has for its number.
    ///
    /// # Errors
    /// The broker refuses something, or does not answer for a minute.
    pub(super) fn open(
        &mut self,
        count: usize,
        kind: &str,
        filters: impl Fn(usize) -> Vec<String>,
    ) -> io::Result<()> {
        let start = self.streams.len();
        for first in (0..count).step_by(BATCH) {
            let batch = first..(first + BATCH).min(count);
            for number in batch.clone() {
                let address = self.from + (self.streams.len() / PER_ADDRESS) as u32;
                let from = FIRST.to_bits() + address % ADDRESSES;
                let mut stream = system::connect(self.to, Some(Ipv4Addr::from_bits(from)))?;
                let client_id = self.names.of(self.load, kind, number);
                stream.write_all(&wire::connect(self.load, &client_id))?;
                self.streams.push(stream);
            }
            let opened = &mut self.streams[start + first..];
            for stream in opened.iter_mut() {
                answer(stream, self.load.version)?;
            }
            self.subscribe(start, batch, &filters)?;
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        start: usize,
        batch: std::ops::Range<usize>,
        filters: impl Fn(usize) -> Vec<String>,
    ) -> io::Result<()> {
        let filters: Vec<_> = batch.clone().map(filters).collect();
        let streams = &mut self.streams[start + batch.start..];
        let ask = |stream: &mut TcpStream, part: &[String]| {
            stream.write_all(&wire::subscribe(self.load, PacketId::MIN, part))
        };
        for (stream, filters) in streams.iter_mut().zip(&filters) {
            filters.chunks(FILTERS).take(1).try_for_each(|part| ask(stream, part))?;
        }
        // Those with many go on one after the other, so that each one's filters lie together.
        for (stream, filters) in streams.iter_mut().zip(&filters) {
            for (number, part) in filters.chunks(FILTERS).enumerate() {
                if number > 0 {
                    ask(stream, part)?;
                }
                answer(stream, self.load.version)?;
            }
        }
        Ok(())
    }
}

/// Waits for CONNACK, SUBACK or PINGRESP, which must not refuse anything, and reads nothing behind.
pub(super) fn answer(stream: &mut TcpStream, version: Version) -> io::Result<()> {
    let mut bytes = vec![0; 2];
    stream.read_exact(&mut bytes)?;
    let header = loop {
        match header(&bytes).map_err(wire::malformed)? {
            Some(header) => break header,
            None => {
                bytes.push(0);
                let end = bytes.len() - 1;
                stream.read_exact(&mut bytes[end..])?;
            }
        }
    };
    let start = bytes.len();
    bytes.resize(header.total() as usize, 0);
    stream.read_exact(&mut bytes[start..])?;
    let (frame, _) = split(&bytes, u32::MAX).map_err(wire::malformed)?.expect("a whole packet");
    let packet = decode(version, frame).map_err(wire::malformed)?;
    if wire::is_granted(&packet) { Ok(()) } else { Err(wire::refused(&packet)) }
}

/// A large message that has begun to come.
pub(super) struct Begun {
    pub(super) id: (Qos, Option<PacketId>),
    /// `None` if it came to a publisher.
    pub(super) seen: Option<Seen>,
    /// Bytes that have not come.
    pub(super) missing: usize,
}

/// A connection under load.
pub(super) struct Link {
    stream: TcpStream,
    /// The beginning of a packet that has not come whole.
    part: Vec<u8>,
    /// Of a large message only this.
    pub(super) begun: Option<Begun>,
    /// Packets to send.
    pub(super) out: Vec<u8>,
    written: usize,
    /// The socket took less than there was.
    pub(super) full: bool,
}

impl Link {
    /// Has the poller watch the stream, which no longer blocks, under this key.
    pub(super) fn new(stream: TcpStream, key: usize, poller: &Poller) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        poller.add(&stream, key)?;
        Ok(Self { stream, part: Vec::new(), begun: None, out: Vec::new(), written: 0, full: false })
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() - self.written
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, key: usize, poller: &Poller) -> io::Result<()> {
        while self.waiting() > 0 {
            match unless_blocked(self.stream.write(&self.out[self.written..]))? {
                Some(written) => self.written += written,
                None => break,
            }
        }
        if self.waiting() == 0 {
            self.out.clear();
            self.written = 0;
        }
        let full = self.waiting() > 0;
        if full != self.full {
            self.full = full;
            poller.watch_room(&self.stream, key, full)?;
        }
        Ok(())
    }

    /// Reads once, at most `most` bytes, and puts at the start of `buffer` all that has not been
    /// taken; says how much that is. `None` at the end of the stream.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, most: usize) -> io::Result<Option<usize>> {
        let kept = self.part.len();
        if buffer.len() < kept + most {
            buffer.resize(kept + most, 0);
        }
        buffer[..kept].copy_from_slice(&self.part);
        self.part.clear();
        let read = unless_blocked(self.stream.read(&mut buffer[kept..kept + most]))?;
        Ok((read != Some(0)).then_some(kept + read.unwrap_or(0)))
    }

    /// Keeps what was read and not taken.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.part.extend_from_slice(rest);
    }

    /// Says goodbye. The broker may be gone.
    pub(super) fn disconnect(mut self) {
        let _ = self.stream.write(&wire::DISCONNECT);
    }
}
