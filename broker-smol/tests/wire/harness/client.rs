//! A client of which every byte is chosen by the test.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use super::{
    Ack, Connack, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Prop, Publish, SUBSCRIPTION_ID, Suback,
    V5, Var, Version, WAIT, ack, dump, hex, parse, split, subscribe, unsubscribe,
};

/// One end of a connection. Dropping it closes the socket without DISCONNECT.
pub(crate) struct Client {
    socket: TcpStream,
    version: Version,
    input: Vec<u8>,
    /// Packets read while waiting for another one.
    waiting: VecDeque<Packet>,
    /// What went over the wire, for failure messages.
    story: Vec<String>,
    last_id: u16,
    /// The Maximum Packet Size told to the broker.
    max_packet: usize,
}

impl Client {
    /// A socket on which nothing has been sent.
    pub(crate) fn open(addr: SocketAddr, version: Version) -> Self {
        let socket = TcpStream::connect_timeout(&addr, WAIT).expect("the broker accepts");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        socket.set_write_timeout(Some(WAIT)).expect("write timeout");
        let (input, waiting, story) = Default::default();
        Self { socket, version, input, waiting, story, last_id: 0x7000, max_packet: usize::MAX }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Packets of more bytes than this are a fault of the broker.
    pub(crate) fn set_max_packet(&mut self, bytes: u32) {
        self.max_packet = bytes as usize;
    }

    /// The socket itself, for tests that need more than packets.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let told = self.story.len().saturating_sub(20);
        let story = self.story[told..].join("\n  ");
        let (waiting, input) = (&self.waiting, dump(&self.input));
        panic!("{:?}: {what}\n  {story}\n  set aside: {waiting:?}\n  unread: {input}", self.version)
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.story.push(format!("sent {}", dump(bytes)));
        if let Err(error) = self.socket.write_all(bytes) {
            self.fail(&format!("cannot send: {error}"));
        }
    }

    /// Sends bytes given in hexadecimal.
    #[track_caller]
    pub(crate) fn send_hex(&mut self, digits: &str) {
        self.send(&hex(digits));
    }

    /// Reads more bytes. False at the end of the stream.
    #[track_caller]
    fn fill(&mut self, end: Instant, what: &str) -> bool {
        let mut chunk = [0; 65536];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.fail(&format!("timed out waiting for {what}"));
            }
            self.socket.set_read_timeout(Some(left)).expect("read timeout");
            match self.socket.read(&mut chunk) {
                Ok(0) => return false,
                Ok(n) => {
                    self.input.extend(&chunk[..n]);
                    return true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => self.fail(&format!("cannot read: {e}, waiting for {what}")),
            }
        }
    }

    /// Exactly these bytes come next.
    #[track_caller]
    pub(crate) fn expect_hex(&mut self, digits: &str) {
        let expected = hex(digits);
        let end = Instant::now() + WAIT;
        while self.input.len() < expected.len() && self.fill(end, digits) {}
        if !self.input.starts_with(&expected) {
            self.fail(&format!("expected {digits}"));
        }
        self.input.drain(..expected.len());
    }

    /// The next packet off the wire; `None` at the end of the stream.
    #[track_caller]
    fn read(&mut self, end: Instant, what: &str) -> Option<Packet> {
        loop {
            match split(&self.input) {
                Ok(Some((header, total))) => {
                    let packet = parse(self.version, self.input[0], &self.input[header..total]);
                    let bytes = dump(&self.input[..total]);
                    self.story.push(match &packet {
                        Ok(packet) => format!("got {bytes} {packet:?}"),
                        Err(_) => format!("got {bytes}"),
                    });
                    if total > self.max_packet {
                        self.fail("larger than the client's Maximum Packet Size");
                    }
                    match packet {
                        Ok(packet) => {
                            self.input.drain(..total);
                            return Some(packet);
                        }
                        Err(error) => self.fail(&format!("the broker broke a rule: {error}")),
                    }
                }
                Ok(None) => {}
                Err(error) => self.fail(&format!("the broker broke a rule: {error}")),
            }
            if !self.fill(end, what) {
                if !self.input.is_empty() {
                    self.fail("closed in the middle of a packet");
                }
                return None;
            }
        }
    }

    /// The first packet for which `wanted` holds; those before it are kept for later.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Packet {
        if let Some(at) = self.waiting.iter().position(&wanted) {
            return self.waiting.remove(at).expect("just found");
        }
        let end = Instant::now() + WAIT;
        loop {
            match self.read(end, what) {
                Some(packet) if wanted(&packet) => return packet,
                Some(packet) => self.waiting.push_back(packet),
                None => self.fail(&format!("closed while waiting for {what}")),
            }
        }
    }

    /// The next packet.
    #[track_caller]
    pub(crate) fn packet(&mut self) -> Packet {
        self.wait("a packet", |_| true)
    }

    /// The next packet is CONNACK.
    #[track_caller]
    pub(crate) fn connack(&mut self) -> Connack {
        match self.packet() {
            Packet::Connack(connack) => connack,
            other => self.fail(&format!("expected CONNACK, got {other:?}")),
        }
    }

    /// The next packet is PUBLISH. It is not acknowledged.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Publish {
        match self.packet() {
            Packet::Publish(publish) => publish,
            other => self.fail(&format!("expected PUBLISH, got {other:?}")),
        }
    }

    /// The next packet is PUBLISH. It is acknowledged as its QoS demands.
    #[track_caller]
    pub(crate) fn take(&mut self) -> Publish {
        let message = self.message();
        self.acknowledge(&message);
        message
    }

    /// The texts of the next `count` messages, acknowledged.
    #[track_caller]
    pub(crate) fn take_texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.take().text().into()).collect()
    }

    /// Goes through the acknowledgements of a message received.
    #[track_caller]
    pub(crate) fn acknowledge(&mut self, message: &Publish) {
        match message.qos {
            0 => {}
            1 => self.send(&ack(PUBACK, message.id)),
            _ => {
                self.send(&ack(PUBREC, message.id));
                assert_eq!(self.ack(PUBREL, message.id), 0, "PUBREL");
                self.send(&ack(PUBCOMP, message.id));
            }
        }
    }

    /// Waits for this acknowledgement and gives its reason code (0 in 3.x).
    #[track_caller]
    pub(crate) fn ack(&mut self, first: u8, id: u16) -> u8 {
        self.full_ack(first, id).code
    }

    /// Waits for this acknowledgement.
    #[track_caller]
    pub(crate) fn full_ack(&mut self, first: u8, id: u16) -> Ack {
        let what = format!("acknowledgement {first:#04x} of {id}");
        let wanted = |p: &Packet| matches!(p, Packet::Ack(a) if a.first == first && a.id == id);
        match self.wait(&what, wanted) {
            Packet::Ack(ack) => ack,
            other => self.fail(&format!("{other:?}")),
        }
    }

    /// A Packet Identifier not used before by these helpers.
    pub(crate) fn fresh_id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    /// Publishes and completes the exchange; at QoS 0 with a ping, so that the message has been
    /// processed. Gives the reason code of PUBACK or PUBREC.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> u8 {
        self.put(Publish::new(topic, payload).qos(qos, 0))
    }

    /// The same for any PUBLISH; its identifier is chosen here.
    #[track_caller]
    pub(crate) fn put(&mut self, mut publish: Publish) -> u8 {
        let id = self.fresh_id();
        publish.id = id;
        self.send(&publish.bytes(self.version));
        match publish.qos {
            0 => {
                self.ping();
                0
            }
            1 => self.ack(PUBACK, id),
            _ => {
                let code = self.ack(PUBREC, id);
                if code < 0x80 {
                    self.send(&ack(PUBREL, id));
                    assert_eq!(self.ack(PUBCOMP, id), 0, "PUBCOMP");
                }
                code
            }
        }
    }

    /// Subscribes to one filter and gives the code of SUBACK.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_all(&[(filter, options)], &[])[0]
    }

    /// Subscribes with a Subscription Identifier (5.0).
    #[track_caller]
    pub(crate) fn subscribe_id(&mut self, filter: &str, options: u8, id: u32) -> u8 {
        self.subscribe_all(&[(filter, options)], &[Var(SUBSCRIPTION_ID, id)])[0]
    }

    /// Subscribes and gives the codes of SUBACK, one for each filter.
    #[track_caller]
    pub(crate) fn subscribe_all(&mut self, filters: &[(&str, u8)], props: &[Prop]) -> Vec<u8> {
        let id = self.fresh_id();
        self.send(&subscribe(self.version, id, props, filters));
        let suback = self.suback(id);
        assert_eq!(suback.codes.len(), filters.len(), "{suback:?}");
        suback.codes
    }

    #[track_caller]
    pub(crate) fn suback(&mut self, id: u16) -> Suback {
        match self.wait("SUBACK", |p| matches!(p, Packet::Suback(s) if s.id == id)) {
            Packet::Suback(suback) => suback,
            other => self.fail(&format!("{other:?}")),
        }
    }

    /// Unsubscribes and gives the codes of UNSUBACK; none in 3.x.
    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let id = self.fresh_id();
        self.send(&unsubscribe(self.version, id, filters));
        match self.wait("UNSUBACK", |p| matches!(p, Packet::Unsuback(s) if s.id == id)) {
            Packet::Unsuback(unsuback) => unsuback.codes,
            other => self.fail(&format!("{other:?}")),
        }
    }

    /// PINGREQ and PINGRESP: the broker has processed all that was sent before.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        self.wait("PINGRESP", |p| *p == Packet::Pingresp);
    }

    /// Nothing has come and nothing comes until a ping is answered.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        self.ping();
        if !self.waiting.is_empty() {
            self.fail("expected nothing");
        }
    }

    /// All packets until a ping is answered.
    #[track_caller]
    pub(crate) fn drain(&mut self) -> Vec<Packet> {
        self.ping();
        self.waiting.drain(..).collect()
    }

    /// The texts of all messages until a ping is answered, acknowledged at QoS 1.
    #[track_caller]
    pub(crate) fn drain_texts(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        for packet in self.drain() {
            if let Packet::Publish(message) = packet {
                self.acknowledge(&message);
                texts.push(message.text().to_owned());
            }
        }
        texts
    }

    /// Everything up to the end of the stream.
    #[track_caller]
    pub(crate) fn until_closed(&mut self) -> Vec<Packet> {
        let end = Instant::now() + WAIT;
        while let Some(packet) = self.read(end, "the end of the stream") {
            self.waiting.push_back(packet);
        }
        self.waiting.drain(..).collect()
    }

    /// The broker closes without sending anything more.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self) {
        let packets = self.until_closed();
        if !packets.is_empty() {
            self.fail(&format!("expected the end of the stream, got {packets:?}"));
        }
    }

    /// CONNECT is refused: a 5.0 client gets CONNACK with one of these reasons, older ones get
    /// nothing; then the broker closes.
    #[track_caller]
    pub(crate) fn expect_rejected(&mut self, codes: &[u8]) {
        let packets = self.until_closed();
        let fits = match packets.as_slice() {
            [] => self.version != V5,
            [Packet::Connack(connack)] => self.version == V5 && codes.contains(&connack.code),
            _ => false,
        };
        if !fits {
            self.fail(&format!("expected a refusal with {codes:02x?}, got {packets:?}"));
        }
    }

    /// The broker closes; a 5.0 client is told this reason before.
    #[track_caller]
    pub(crate) fn expect_refused(&mut self, code: u8) {
        self.expect_refused_any(&[code]);
    }

    /// The broker closes; a 5.0 client is told one of these reasons before.
    #[track_caller]
    pub(crate) fn expect_refused_any(&mut self, codes: &[u8]) {
        let packets = self.until_closed();
        let fits = match packets.as_slice() {
            [] => self.version != V5,
            [Packet::Disconnect { code, .. }] => codes.contains(code),
            _ => false,
        };
        if !fits {
            self.fail(&format!("expected an end with {codes:02x?}, got {packets:?}"));
        }
    }

    /// Ends the connection as a client should; the broker has processed it.
    #[track_caller]
    pub(crate) fn disconnect(mut self) {
        self.send(&[0xE0, 0]);
        self.until_closed();
    }

    /// Ends the connection without DISCONNECT; the broker has noticed.
    #[track_caller]
    pub(crate) fn cut(mut self) {
        self.socket.shutdown(Shutdown::Write).expect("half close");
        let end = Instant::now() + WAIT;
        self.input.clear();
        while self.fill(end, "the broker's end of the stream") {
            self.input.clear();
        }
    }
}
