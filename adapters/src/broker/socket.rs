//! The connections of a shard: what the driver keeps of each, and single reads and writes.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};

use fulmar_core::ConnId;
use fulmar_core::broker::Outbox;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Pulled for a connection at first.
pub(super) const FIRST_BUDGET: u32 = 8 * 1024;
/// Pulled at once at most.
pub(super) const MAX_BUDGET: u32 = 256 * 1024;
/// Slices given to one write. A pull of [`MAX_BUDGET`] with more of them, of payloads that are just
/// large enough to be shared, takes several.
const SLICES: usize = 64;

/// One connection. About 80 bytes, and no buffer while it is idle.
pub(super) struct Socket {
    pub(super) id: ConnId,
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
    /// Bytes to pull next time.
    pub(super) budget: u32,
    /// The core has bytes for it.
    pub(super) transmit: bool,
    /// Stands in the list of those to write to.
    pub(super) in_write: bool,
    /// Something may wait to be read.
    pub(super) readable: bool,
    /// Size of the last packet, if that was a large one, read into memory of its own; else 0.
    pub(super) large: u32,
    /// Stands in the list of those to read from.
    pub(super) in_read: bool,
    /// The core wants nothing for now.
    pub(super) paused: bool,
    /// The peer sends nothing more: only the end of the stream ends reading.
    pub(super) hangup: bool,
    /// The end of the stream was read.
    pub(super) eof: bool,
    /// The transport broke.
    pub(super) broken: bool,
    /// The core wants it closed; what the peer sends is thrown away.
    pub(super) closing: bool,
    /// The sending half is closed.
    pub(super) shut: bool,
    /// What the socket did not take.
    pub(super) rest: Option<Box<Outbox>>,
}

/// What a read gave.
pub(super) enum Got {
    /// So many bytes, not zero.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The end of the stream.
    End,
    /// The transport broke.
    Broken,
}

/// Memory kept at most for the next large packet.
pub(super) const ROOM: usize = 256 * 1024;

/// What became of a write.
pub(super) enum Wrote {
    /// All is written.
    All,
    /// The socket is full; an edge tells of room.
    Full,
    /// The transport broke.
    Broken,
}

impl Socket {
    /// A connection of which nothing is known to be readable yet.
    pub(super) const fn new(id: ConnId, stream: TcpStream, remote: SocketAddr) -> Self {
        Self {
            id,
            stream,
            remote,
            budget: FIRST_BUDGET,
            transmit: false,
            in_write: false,
            readable: false,
            large: 0,
            in_read: false,
            paused: false,
            hangup: false,
            eof: false,
            broken: false,
            closing: false,
            shut: false,
            rest: None,
        }
    }

    /// Whether what can be read shall be read.
    pub(super) const fn wants_read(&self) -> bool {
        self.readable && !self.eof && !self.broken && (self.closing || !self.paused)
    }

    /// Whether a packet as large as the last one may come, for which there is memory.
    pub(super) const fn wants_room(&self) -> bool {
        self.large > 0 && self.large as usize <= ROOM && !self.closing
    }

    /// One read; `reads` counts the system calls.
    pub(super) fn read(&mut self, scratch: &mut [u8], reads: &mut u64) -> Got {
        loop {
            *reads += 1;
            match self.stream.read(scratch) {
                Ok(0) => return Got::End,
                Ok(n) => return Got::Bytes(n),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Got::Nothing,
                    _ => return Got::Broken,
                },
            }
        }
    }

    /// The same into memory of the broker's, as far as there is some.
    pub(super) fn fill(&self, buffer: &mut Vec<u8>, reads: &mut u64) -> Got {
        loop {
            *reads += 1;
            match recv(&self.stream, spare_capacity(buffer), RecvFlags::empty()) {
                Ok((0, _)) => return Got::End,
                Ok((n, _)) => return Got::Bytes(n),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Got::Nothing,
                Err(_) => return Got::Broken,
            }
        }
    }

    /// Writes what waits in `outbox`: one write, unless it has more than 64 slices.
    pub(super) fn write(&self, outbox: &mut Outbox, writes: &mut u64) -> Wrote {
        let mut stream = &self.stream;
        while !outbox.is_empty() {
            *writes += 1;
            let (written, given) = match outbox.only() {
                Some(one) => (stream.write(one), one.len()),
                None => {
                    let mut parts = [IoSlice::new(&[]); SLICES];
                    let (mut count, mut given) = (0, 0);
                    for (part, slice) in parts.iter_mut().zip(outbox.slices()) {
                        *part = IoSlice::new(slice);
                        count += 1;
                        given += slice.len();
                    }
                    (stream.write_vectored(&parts[..count]), given)
                }
            };
            match written {
                Ok(0) => return Wrote::Broken,
                Ok(n) => {
                    outbox.advance(n);
                    // A stream socket takes less than all only when it is full.
                    if n < given {
                        return Wrote::Full;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Wrote::Full,
                    _ => return Wrote::Broken,
                },
            }
        }
        Wrote::All
    }
}

/// The open connections, by the index of their identifier.
#[derive(Default)]
pub(super) struct Sockets {
    slots: Vec<Option<Socket>>,
    open: usize,
}

impl Sockets {
    /// How many are open.
    pub(super) const fn len(&self) -> usize {
        self.open
    }

    /// The connection, unless it is gone.
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Socket> {
        self.slots.get_mut(id.index())?.as_mut().filter(|socket| socket.id == id)
    }

    /// The connection that has this index now.
    pub(super) fn at(&mut self, index: usize) -> Option<&mut Socket> {
        self.slots.get_mut(index)?.as_mut()
    }

    pub(super) fn insert(&mut self, socket: Socket) {
        let index = socket.id.index();
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(socket);
        self.open += 1;
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Socket> {
        let socket = self.slots.get_mut(id.index())?.take_if(|socket| socket.id == id)?;
        self.open -= 1;
        Some(socket)
    }

    /// The identifiers of all that are open.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.slots.iter().flatten().map(|socket| socket.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_less_than_a_hundred_bytes() {
        assert!(size_of::<Option<Socket>>() <= 96, "{}", size_of::<Option<Socket>>());
    }
}
