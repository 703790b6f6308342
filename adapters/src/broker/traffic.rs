//! Reading, writing and closing.

use std::cmp::Reverse;
use std::mem;
use std::net::Shutdown;

use fulmar_core::broker::{Input, Outbox};
use fulmar_core::{ConnId, Instant};

use super::shard::Shard;
use super::socket::{FIRST_BUDGET, Got, MAX_BUDGET, Socket, Wrote};

/// What is asked of one connection in a turn, so that the others get their share.
const BYTES_PER_TURN: usize = 256 * 1024;
/// Read at first where the last packet was larger than [`ROOM`]: enough for the core to have memory
/// for more, and little is copied.
const START: usize = 8 * 1024;
/// The core gives no memory to a packet of which less is there, or missing.
const REST: usize = 4 * 1024;

/// What a read fills.
enum Filled {
    /// Memory of a large packet that is under way.
    Packet,
    /// Memory for one as large as the last.
    Room,
    /// The shard's own, with the rest of a packet.
    Rest,
    /// The same, with anything.
    Scratch,
}

impl Shard {
    /// Has the connection read in the next reading, if it wants to and may have something.
    pub(super) fn queue_read(&mut self, id: ConnId) {
        if let Some(socket) = self.sockets.get_mut(id)
            && !socket.in_read
            && socket.wants_read()
        {
            socket.in_read = true;
            self.to_read.push_back(id);
        }
    }

    /// Has the connection written to in the next writing.
    pub(super) fn queue_write(&mut self, id: ConnId) {
        if let Some(socket) = self.sockets.get_mut(id)
            && !socket.in_write
        {
            socket.in_write = true;
            self.to_write.push(id);
        }
    }

    /// Reads every connection that stands in the list, those it is added anew in the next turn.
    pub(super) fn read_turn(&mut self) {
        let mut scratch = mem::take(&mut self.scratch);
        for _ in 0..self.to_read.len() {
            let Some(id) = self.to_read.pop_front() else { break };
            if let Some(socket) = self.sockets.get_mut(id) {
                socket.in_read = false;
                self.read_some(id, &mut scratch);
                self.queue_read(id);
            }
        }
        self.scratch = scratch;
    }

    /// Reads until nothing is left, the bound is reached, or the core has enough.
    fn read_some(&mut self, id: ConnId, scratch: &mut [u8]) {
        let mut left = BYTES_PER_TURN;
        while left > 0 {
            let Some(socket) = self.sockets.get_mut(id).filter(|socket| socket.wants_read()) else {
                return;
            };
            let room = self.broker.recv_buf(id).filter(|_| !socket.closing);
            let (filled, asked, got) = match room {
                Some(buffer) => {
                    socket.large = buffer.capacity() as u32;
                    let spare = buffer.capacity() - buffer.len();
                    (Filled::Packet, spare, socket.fill(buffer, &mut self.reads))
                }
                None => match self.broker.expected(id).filter(|_| socket.large > 0) {
                    // The rest of a packet by itself, so that the next one begins with a read.
                    Some((_, missing)) if missing > 0 => {
                        let part = missing.min(scratch.len());
                        (Filled::Rest, part, socket.read(&mut scratch[..part], &mut self.reads))
                    }
                    _ if socket.wants_room() => {
                        let capacity = socket.large as usize;
                        if self.room.capacity() != capacity {
                            self.room = Vec::with_capacity(capacity);
                        }
                        (Filled::Room, capacity, socket.fill(&mut self.room, &mut self.reads))
                    }
                    _ => {
                        let part = if socket.large > 0 { START } else { scratch.len() };
                        socket.large = 0;
                        (Filled::Scratch, part, socket.read(&mut scratch[..part], &mut self.reads))
                    }
                },
            };
            left = left.saturating_sub(asked);
            match got {
                Got::Bytes(n) => {
                    // Less than asked for means that nothing is left, and that an edge will tell
                    // of more. Only the end of the stream that was told already must be read.
                    socket.readable = n == asked || socket.hangup;
                    match filled {
                        Filled::Packet => self.filled(id, n),
                        Filled::Room => self.take_room(id, n),
                        Filled::Scratch | Filled::Rest if socket.closing => {}
                        Filled::Rest => self.receive(id, &scratch[..n]),
                        Filled::Scratch => {
                            self.receive(id, &scratch[..n]);
                            if n == asked {
                                self.note_large(id);
                            }
                        }
                    }
                }
                Got::Nothing => socket.readable = false,
                Got::End => {
                    socket.eof = true;
                    self.ended.push(id);
                }
                Got::Broken => {
                    socket.broken = true;
                    self.ended.push(id);
                }
            }
        }
    }

    /// More came than one read takes: that may be the beginning of a large packet.
    fn note_large(&mut self, id: ConnId) {
        if let Some((size, _)) = self.broker.expected(id)
            && size >= 2 * REST
            && let Some(socket) = self.sockets.get_mut(id)
        {
            socket.large = u32::try_from(size).unwrap_or(0);
        }
    }

    /// Gives memory of this shard with what was read into it to the broker, if that is a packet as
    /// large as the one before.
    fn take_room(&mut self, id: ConnId, len: usize) {
        self.count_messages(1, len);
        match self.broker.give(self.now, id, mem::take(&mut self.room)) {
            Ok(()) => self.effects(),
            Err(mut memory) => {
                if let Some(socket) = self.sockets.get_mut(id) {
                    socket.large = 0;
                }
                self.receive(id, &memory);
                memory.clear();
                self.room = memory;
            }
        }
    }

    /// Tells the broker what was read into its memory.
    fn filled(&mut self, conn: ConnId, len: usize) {
        self.broker.filled(self.now, conn, len);
        self.effects();
        self.count_messages(1, len);
    }

    /// Hands bytes to the broker, in bursts, each followed by the writing of what it led to.
    pub(super) fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        for bytes in bytes.chunks(self.burst) {
            self.count_bytes(bytes.len());
            self.broker.handle(self.now, Input::Received { conn, bytes });
            self.effects();
        }
    }

    /// Gives what is waiting to every connection and local subscriber that stands in a list.
    pub(super) fn write_turn(&mut self) {
        (self.unsettled, self.unsettled_bytes) = (0, 0);
        self.feed();
        let spare = mem::take(&mut self.spare);
        let mut list = mem::replace(&mut self.to_write, spare);
        for id in list.drain(..) {
            self.write_some(id);
        }
        self.spare = list;
    }

    /// Two pulls and writes at most, after what the socket did not take before.
    fn write_some(&mut self, id: ConnId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.in_write = false;
        if socket.broken || socket.shut {
            return;
        }
        if let Some(mut rest) = socket.rest.take() {
            match socket.write(&mut rest, &mut self.writes) {
                Wrote::All => {}
                Wrote::Full => {
                    socket.rest = Some(rest);
                    return;
                }
                Wrote::Broken => return self.break_off(id),
            }
        }
        // A second pull tells the broker that the first is written, and mostly gives nothing.
        for last in [false, true] {
            if !socket.transmit {
                break;
            }
            let budget = socket.budget as usize;
            let more = self.broker.transmit(self.now, id, &mut self.outbox, budget);
            socket.transmit = more;
            match socket.write(&mut self.outbox, &mut self.writes) {
                Wrote::All if more => {
                    socket.budget = MAX_BUDGET.min(socket.budget * 2);
                    if last {
                        return self.queue_write(id);
                    }
                }
                Wrote::All => {}
                Wrote::Full => {
                    // What a slow reader holds is kept small.
                    socket.budget = FIRST_BUDGET;
                    let mut rest = mem::replace(&mut self.outbox, Outbox::new());
                    rest.shrink();
                    socket.rest = Some(Box::new(rest));
                    return;
                }
                Wrote::Broken => {
                    self.outbox.clear();
                    return self.break_off(id);
                }
            }
        }
        if socket.closing {
            self.close_sending(id);
        }
    }

    /// Everything is written to a connection that shall close: now the peer is to close too.
    fn close_sending(&mut self, id: ConnId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.shut = true;
        if socket.eof || socket.stream.shutdown(Shutdown::Write).is_err() {
            self.ended.push(id);
        }
    }

    fn break_off(&mut self, id: ConnId) {
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.broken = true;
            self.ended.push(id);
        }
    }

    /// From now on what the peer sends is thrown away; it gets what is left, and then the end.
    pub(super) fn begin_close(&mut self, id: ConnId, by: Instant) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.closing = true;
        socket.transmit = true;
        self.closing.push(Reverse((by, id)));
        self.queue_write(id);
        self.queue_read(id);
    }

    /// Cuts the connections whose peers did not close in time.
    pub(super) fn close_overdue(&mut self) {
        while let Some(&Reverse((by, id))) = self.closing.peek()
            && by <= self.now
        {
            self.closing.pop();
            self.close(id);
        }
    }

    /// Hands over the connections that belong to other shards, and closes those that are at their
    /// end; one that shall get something first waits.
    pub(super) fn end_turn(&mut self) {
        while let Some((id, to)) = self.leaving.pop() {
            self.hand_over(id, to);
        }
        while let Some(id) = self.ended.pop() {
            let flushed = |socket: &Socket| socket.broken || socket.shut || !socket.closing;
            if self.sockets.get_mut(id).is_some_and(|socket| flushed(socket)) {
                self.close(id);
            }
        }
        // Sessions of the closed ones may have told the broker something to do.
        self.effects();
    }

    /// Closes a connection and says so, once. Harmless when it is gone.
    pub(super) fn close(&mut self, id: ConnId) {
        if self.sockets.get_mut(id).is_none() {
            return;
        }
        self.broker.handle(self.now, Input::Closed { conn: id });
        // Before it goes: its address is told with the event.
        self.effects();
        if let Some(socket) = self.sockets.remove(id) {
            self.poller.remove(&socket.stream);
            self.mesh.closed();
        }
    }
}
