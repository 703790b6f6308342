//! Raw clients: bytes as the standard draws them, over blocking sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection; reads fail after 10 s, so that a broker that does not answer fails the test.
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    /// A connection that has sent nothing.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is a socket");
        stream.set_nodelay(true).expect("it is a socket");
        Self(stream)
    }

    /// A client of this protocol level that was accepted.
    pub(crate) fn connect(address: SocketAddr, level: u8, client_id: &str) -> Self {
        let mut wire = Self::open(address);
        wire.send(&connect(level, client_id));
        let (first, body) = wire.packet();
        assert_eq!((first, body[1]), (0x20, 0), "CONNACK {body:x?}");
        wire
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the broker reads");
    }

    /// Subscribes a 3.1.1 client at QoS 0.
    pub(crate) fn subscribe(&mut self, filter: &str) {
        let mut body = vec![0, 1];
        body.extend(string(filter));
        body.push(0);
        self.send(&packet(0x82, &body));
        assert_eq!(self.packet(), (0x90, vec![0, 1, 0]), "SUBACK");
    }

    /// The next packet: first byte and what follows the length.
    pub(crate) fn packet(&mut self) -> (u8, Vec<u8>) {
        let first = self.byte();
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the packet is whole");
        (first, body)
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).expect("a packet comes");
        byte[0]
    }

    /// All the broker still sends, up to the end of the stream, which must not be a reset.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("the broker closes in order");
        rest
    }

    /// What was sent before is handled when this returns.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        assert_eq!(self.packet(), (0xD0, vec![]), "PINGRESP");
    }
}

/// A string with its length before it.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("texts of tests are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// A packet with its length.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut length) = (vec![first], body.len());
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { low | 128 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// A CONNECT that starts clean, with a keep alive of 60 s.
pub(crate) fn connect(level: u8, client_id: &str) -> Vec<u8> {
    let mut body = string("MQTT");
    body.extend([level, 2, 0, 60]);
    if level == 5 {
        body.push(0);
    }
    body.extend(string(client_id));
    packet(0x10, &body)
}

/// A CONNECT of a 5.0 client that starts clean, with one user property.
pub(crate) fn connect_with_user_property(client_id: &str, value: &str) -> Vec<u8> {
    let property = [vec![0x26], string("key"), string(value)].concat();
    let mut body = [string("MQTT"), vec![5, 2, 0, 60]].concat();
    // Properties have their length before them, as a packet does.
    body.extend(&packet(0, &property)[1..]);
    body.extend(string(client_id));
    packet(0x10, &body)
}

/// A PUBLISH of a 3.1.1 client at QoS 0.
pub(crate) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(0x30, &[&string(topic), payload].concat())
}
