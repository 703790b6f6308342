//! A broker that does next to nothing, the floor to compare with: it answers CONNECT and SUBSCRIBE,
//! and from a publisher's first PUBLISH on copies the bytes of that connection, unparsed, to those
//! who subscribed to the topic of that PUBLISH. For QoS 0 and topics without wildcards only.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use fulmar_core::codec::{
    Connack, Connect, Properties, Publish, ReasonCodes, Suback, Subscribe, decode, split,
};
use fulmar_core::{Packet, ReasonCode, Version};

use super::system::{self, Poller, unless_blocked};

const LISTENER: usize = usize::MAX;
/// Bytes read at once.
const READ: usize = 256 * 1024;
/// Largest packet before the copying begins, and of the first PUBLISH.
const MAX_PACKET: u32 = 1024 * 1024;

struct Peer {
    stream: TcpStream,
    version: Version,
    /// What came before the first PUBLISH and is not whole.
    part: Vec<u8>,
    /// Who gets what it sends, from its first PUBLISH on.
    to: Option<Vec<usize>>,
    out: Vec<u8>,
    full: bool,
}

struct Relay {
    poller: Poller,
    peers: HashMap<usize, Peer>,
    topics: HashMap<String, Vec<usize>>,
}

/// Serves until it is killed.
///
/// # Errors
/// The system refuses a socket.
pub(super) fn serve(at: SocketAddrV4) -> io::Result<()> {
    let listener = system::listen(at)?;
    let mut relay = Relay { poller: Poller::new()?, peers: HashMap::new(), topics: HashMap::new() };
    relay.poller.add(&listener, LISTENER)?;
    let (mut ready, mut buffer, mut next) = (Vec::new(), vec![0; READ], 0);
    loop {
        relay.poller.wait(Duration::from_secs(1), &mut ready)?;
        for event in &ready {
            if event.key == LISTENER {
                relay.accept(&listener, &mut next)?;
                continue;
            }
            if event.writable {
                relay.send(event.key, &[]);
            }
            if event.readable {
                relay.read(event.key, &mut buffer);
            }
        }
    }
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener, next: &mut usize) -> io::Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.poller.add(&stream, *next)?;
            let (part, out) = (Vec::new(), Vec::new());
            let version = Version::V311;
            let peer = Peer { stream, version, part, to: None, out, full: false };
            self.peers.insert(*next, peer);
            *next += 1;
        }
        Ok(())
    }

    fn read(&mut self, key: usize, buffer: &mut [u8]) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let bytes = match unless_blocked(peer.stream.read(buffer)) {
            Ok(Some(0)) | Err(_) => return self.close(key),
            Ok(None) => return,
            Ok(Some(read)) => &buffer[..read],
        };
        match peer.to.take() {
            Some(to) => {
                to.iter().for_each(|to| self.send(*to, bytes));
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.to = Some(to);
                }
            }
            None => {
                if self.learn(key, bytes).is_none() {
                    self.close(key);
                }
            }
        }
    }

    fn close(&mut self, key: usize) {
        self.peers.remove(&key);
        self.topics.values_mut().for_each(|to| to.retain(|other| *other != key));
    }

    /// Answers what comes before the first PUBLISH. `None` if it is not understood.
    fn learn(&mut self, key: usize, new: &[u8]) -> Option<()> {
        let peer = self.peers.get_mut(&key)?;
        let mut bytes = std::mem::take(&mut peer.part);
        bytes.extend_from_slice(new);
        let mut used = 0;
        while let Some((frame, len)) = split(&bytes[used..], MAX_PACKET).ok()? {
            let version = self.peers.get(&key)?.version;
            match decode(version, frame).ok()? {
                Packet::Connect(connect) => self.connack(key, &connect)?,
                Packet::Subscribe(subscribe) => self.suback(key, &subscribe)?,
                Packet::Publish(Publish { topic, .. }) => {
                    let to = self.topics.get(topic).cloned().unwrap_or_default();
                    to.iter().for_each(|to| self.send(*to, &bytes[used..]));
                    self.peers.get_mut(&key)?.to = Some(to);
                    return Some(());
                }
                _ => return None,
            }
            used += len;
        }
        self.peers.get_mut(&key)?.part = bytes[used..].to_vec();
        Some(())
    }

    fn connack(&mut self, key: usize, connect: &Connect<'_>) -> Option<()> {
        self.peers.get_mut(&key)?.version = connect.version;
        let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
        let connack = Connack { session_present: false, reason, properties };
        self.answer(key, &Packet::Connack(connack))
    }

    fn suback(&mut self, key: usize, subscribe: &Subscribe<'_>) -> Option<()> {
        let mut reasons = Vec::new();
        for (filter, _) in subscribe.filters.iter() {
            self.topics.entry(filter.to_owned()).or_default().push(key);
            reasons.push(ReasonCode::Success);
        }
        let (properties, reasons) = (Properties::EMPTY, ReasonCodes::list(&reasons));
        let suback = Suback { packet_id: subscribe.packet_id, properties, reasons };
        self.answer(key, &Packet::Suback(suback))
    }

    fn answer(&mut self, key: usize, packet: &Packet<'_>) -> Option<()> {
        let mut bytes = Vec::new();
        packet.append(self.peers.get(&key)?.version, &mut bytes).ok()?;
        self.send(key, &bytes);
        Some(())
    }

    /// Writes what waits and these bytes, as far as the socket takes them, and keeps the rest.
    fn send(&mut self, key: usize, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.out.is_empty() {
            let written = unless_blocked(peer.stream.write(bytes)).ok().flatten().unwrap_or(0);
            peer.out.extend_from_slice(&bytes[written..]);
        } else {
            peer.out.extend_from_slice(bytes);
            let written = unless_blocked(peer.stream.write(&peer.out)).ok().flatten();
            peer.out.drain(..written.unwrap_or(0));
        }
        if peer.full == peer.out.is_empty() {
            peer.full = !peer.out.is_empty();
            // Fails only where the connection is broken, which reading tells.
            let _ = self.poller.watch_room(&peer.stream, key, peer.full);
        }
    }
}
