//! One connection of a server.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::codec::{
    self, Ack, Auth, Connack, Packet, Properties, Property, PropertyId, Qos, ReasonCode,
    ReasonCodes, Suback, Unsuback, Version, header,
};
use crate::connection::server::{Connection, Failure, Phase, Received};
use crate::connection::{SendError, Settings};
use crate::time::Instant;

/// A byte stream of a client: 4 bytes choose limits, answers and pieces, the rest is the stream.
///
/// # Panics
/// If the stream has another effect in pieces than whole, the connection holds more memory than
/// its limits allow, or it sends what a client cannot read.
pub fn server_connection(data: &[u8]) {
    let Some((head, stream)) = data.split_first_chunk::<4>() else { return };
    let whole = Run::new(*head).drive(stream, usize::MAX);
    for piece in [1, 2 + usize::from(head[3] >> 2)] {
        let pieces = Run::new(*head).drive(stream, piece);
        let filled = Run::new(*head).filling(stream, piece);
        assert_eq!(pieces.log, filled.log, "in memory of the connection, in pieces of {piece}");
        assert_eq!(pieces.out, filled.out, "in memory of the connection, in pieces of {piece}");
        assert_eq!(whole.log, pieces.log, "in pieces of {piece}");
        assert_eq!(whole.connection.phase(), pieces.connection.phase());
        // As soon as a CONNECT is too large it is refused, of whatever version it is to be.
        if !whole.too_large {
            assert_eq!(whole.out, pieces.out, "in pieces of {piece}");
            assert_eq!(whole.connection.negotiated(), pieces.connection.negotiated());
        }
    }
}

/// What is to be answered, without a borrow of what came.
enum Answer {
    Nothing,
    Connect { method: Option<String> },
    Auth { method: Option<String> },
    Puback(codec::PacketId),
    Pubrec(codec::PacketId),
    Pubcomp(codec::PacketId),
    Suback(codec::PacketId, usize),
    Unsuback(codec::PacketId, usize),
    Ping,
}

struct Run {
    connection: Connection,
    choices: u8,
    limit: usize,
    out: Vec<u8>,
    log: Vec<String>,
    /// A CONNECT was too large.
    too_large: bool,
}

const NOW: Instant = Instant::from_micros(1_000_000);

impl Run {
    fn new([limits, aliases, choices, _]: [u8; 4]) -> Self {
        let small = 16 + u32::from(limits) * 4;
        let settings = Settings {
            connect_timeout: Duration::from_secs(5),
            max_connect_size: if limits % 2 == 0 { 4096 } else { small },
            max_packet_size: if limits % 3 == 0 { 65_536 } else { small },
            max_topic_alias: u16::from(aliases % 8),
            max_qos: Qos::from_bits(aliases >> 6).unwrap_or_default(),
            retain_available: aliases & 0x20 == 0,
        };
        let limit = settings.max_connect_size.max(settings.max_packet_size) as usize;
        Self {
            // A frame under way with room reserved for it, and full aliases.
            limit: 2 * limit + 8 * (limit + 16),
            connection: Connection::new(Arc::new(settings), NOW),
            choices,
            out: Vec::new(),
            log: Vec::new(),
            too_large: false,
        }
    }

    fn drive(mut self, stream: &[u8], piece: usize) -> Self {
        for bytes in stream.chunks(piece) {
            self.take(bytes);
        }
        self.check_out();
        self.check_timeout();
        self
    }

    /// The same, by way of memory for large packets wherever there is some.
    fn filling(mut self, stream: &[u8], piece: usize) -> Self {
        for mut bytes in stream.chunks(piece) {
            if let Ok(Some(header)) = header(bytes) {
                let mut memory = Vec::with_capacity(self.limit.min(header.total() as usize));
                let (now, later) = bytes.split_at(bytes.len().min(memory.capacity()));
                memory.extend_from_slice(now);
                if self.connection.adopt(NOW, memory).is_ok() {
                    self.take(&[]);
                    bytes = later;
                }
            }
            while let Some(room) = self.connection.recv_buf() {
                let (now, later) = bytes.split_at(bytes.len().min(room.capacity() - room.len()));
                room.extend_from_slice(now);
                self.connection.filled(NOW);
                self.take(&[]);
                bytes = later;
                if bytes.is_empty() {
                    break;
                }
            }
            self.take(bytes);
        }
        self.check_out();
        self.check_timeout();
        self
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        loop {
            let phase = self.connection.phase();
            let next = self.connection.next(NOW, &mut input, &mut self.out);
            let Some(received) = next else { break };
            if let Received::Failed(Failure::Protocol(error)) = &received {
                self.too_large |=
                    phase == Phase::AwaitConnect && error.reason == ReasonCode::PacketTooLarge;
            }
            self.log.push(text(&received));
            let closing = matches!(received, Received::Failed(_) | Received::Disconnect(_));
            let answer = answer(&received);
            assert_eq!(self.connection.phase() == Phase::Closing, closing);
            self.answer(&answer);
        }
        assert!(input.is_empty() || self.connection.phase() == Phase::Closing);
        assert!(self.connection.footprint() <= self.limit, "too much memory");
    }

    fn answer(&mut self, answer: &Answer) {
        let ack = |packet_id| {
            let properties = Properties::list(&[Property::ReasonString("because")]);
            Ack { packet_id, reason: ReasonCode::Success, properties }
        };
        let list = [ReasonCode::Success; 1];
        let (properties, reasons) = (Properties::EMPTY, ReasonCodes::list(&list));
        let packet = match answer {
            Answer::Nothing => return,
            Answer::Connect { method } => return self.decide(method.as_deref(), 0),
            Answer::Auth { method } => return self.decide(method.as_deref(), 2),
            Answer::Puback(id) => Packet::Puback(ack(*id)),
            Answer::Pubrec(id) => Packet::Pubrec(ack(*id)),
            Answer::Pubcomp(id) => Packet::Pubcomp(ack(*id)),
            // Answers to more than one filter are of no other kind.
            Answer::Suback(packet_id, 1) => {
                Packet::Suback(Suback { packet_id: *packet_id, properties, reasons })
            }
            Answer::Unsuback(packet_id, 1) => {
                let five = self.connection.negotiated().version == Version::V5;
                let reasons = if five { reasons } else { ReasonCodes::list(&[]) };
                Packet::Unsuback(Unsuback { packet_id: *packet_id, properties, reasons })
            }
            Answer::Suback(..) | Answer::Unsuback(..) => return,
            Answer::Ping => Packet::Pingresp,
        };
        self.send(&packet);
    }

    /// Answers CONNECT or AUTH as two bits of the choices say.
    fn decide(&mut self, method: Option<&str>, shift: u8) {
        let choice = self.choices >> shift & 3;
        let list = method.map(Property::AuthenticationMethod);
        let properties = list.as_ref().map_or(Properties::EMPTY, |property| {
            Properties::list(core::slice::from_ref(property))
        });
        let connected = self.connection.phase() == Phase::Connected;
        let reason = match choice {
            0 => ReasonCode::NotAuthorized,
            _ => ReasonCode::Success,
        };
        if method.is_some() && (choice == 1 || connected) {
            let reason = match connected {
                true => ReasonCode::Success,
                false => ReasonCode::ContinueAuthentication,
            };
            self.send(&Packet::Auth(Auth { reason, properties }));
        } else {
            let keep_alive = [Property::ServerKeepAlive(self.choices.into())];
            let five = self.connection.negotiated().version == Version::V5;
            let properties = match method {
                None if five && choice == 3 => Properties::list(&keep_alive),
                _ => properties,
            };
            let connack = Connack { session_present: false, reason, properties };
            self.send(&Packet::Connack(connack));
        }
        // An answer that is too large for the client ends the connection, as in a broker.
        if matches!(self.connection.phase(), Phase::Deciding) {
            self.connection.close(ReasonCode::PacketTooLarge, &mut self.out);
        }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let (before, phase) = (self.out.len(), self.connection.phase());
        match self.connection.send(NOW, packet, &mut self.out) {
            Ok(()) => assert!(self.out.len() > before),
            Err(error) => {
                assert_eq!(error, SendError::TooLarge, "{packet:?}");
                assert_eq!((self.out.len(), self.connection.phase()), (before, phase));
            }
        }
    }

    fn check_out(&self) {
        // Said to an unknown level of MQTT, whatever version the connection has.
        if self.out == [0x20, 3, 0, 0x84, 0] {
            return;
        }
        let negotiated = self.connection.negotiated();
        let mut rest = &self.out[..];
        while !rest.is_empty() {
            let split = codec::split(rest, negotiated.max_packet_size);
            let (frame, used) = split.expect("small enough").expect("whole");
            let packet = codec::decode(negotiated.version, frame).expect("can be read");
            let last = matches!(packet, Packet::Disconnect(_));
            rest = &rest[used..];
            assert!(!last || rest.is_empty() && negotiated.version == Version::V5);
        }
    }

    fn check_timeout(&mut self) {
        let Some(deadline) = self.connection.poll_timeout() else { return };
        let early = Instant::from_micros(deadline.as_micros() - 1);
        assert_eq!(self.connection.handle_timeout(early, &mut self.out), None);
        let connected = self.connection.phase() == Phase::Connected;
        let failure = self.connection.handle_timeout(deadline, &mut self.out);
        let expected = match connected {
            true => Failure::KeepAliveTimeout,
            false => Failure::ConnectTimeout,
        };
        assert_eq!(failure, Some(expected));
        assert_eq!(self.connection.phase(), Phase::Closing);
        assert_eq!(self.connection.poll_timeout(), None);
        self.check_out();
    }
}

/// What came, with what `Debug` leaves out.
fn text(received: &Received<'_>) -> String {
    let wire = |properties: &Properties<'_>| format!("{:02x?}", properties.wire());
    let hidden = match received {
        Received::Connect(connect) => {
            format!("{:?} {}", connect.password, wire(&connect.properties))
        }
        Received::Auth(auth) => wire(&auth.properties),
        _ => String::new(),
    };
    format!("{received:?} {hidden}")
}

fn answer(received: &Received<'_>) -> Answer {
    let method = |properties: &Properties<'_>| {
        properties.find(PropertyId::AuthenticationMethod).and_then(|property| match property {
            Property::AuthenticationMethod(method) => Some(String::from(method)),
            _ => None,
        })
    };
    match received {
        Received::Connect(connect) => Answer::Connect { method: method(&connect.properties) },
        Received::Auth(auth) => Answer::Auth { method: method(&auth.properties) },
        Received::Publish(publish, _) => match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(id)) => Answer::Puback(id),
            (Qos::ExactlyOnce, Some(id)) => Answer::Pubrec(id),
            _ => Answer::Nothing,
        },
        Received::Pubrel(ack) => Answer::Pubcomp(ack.packet_id),
        Received::Subscribe(packet) => Answer::Suback(packet.packet_id, packet.filters.len()),
        Received::Unsubscribe(packet) => Answer::Unsuback(packet.packet_id, packet.filters.len()),
        Received::Pingreq => Answer::Ping,
        _ => Answer::Nothing,
    }
}
