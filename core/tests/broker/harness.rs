//! A broker without sockets, whose driver the test is.

use std::collections::BTreeMap;

use fulmar_core::broker::{
    AuthRequest, Boot, Broker, Config, ConnInfo, Effect, Event, Input, Outbox, Reply, Verdict,
};
use fulmar_core::codec::{
    Ack, Connect, Filters, Packet, PacketId, Properties, Property, Publish, Qos, ReasonCode,
    Subscribe, SubscriptionOptions, Version, Will, decode, split,
};
use fulmar_core::{ConnId, Instant};

pub(crate) use fulmar_core::codec::Version::{V5, V31, V311};

pub(crate) const Q0: Qos = Qos::AtMostOnce;
pub(crate) const Q1: Qos = Qos::AtLeastOnce;
pub(crate) const Q2: Qos = Qos::ExactlyOnce;

/// The broker, and what came out of it.
pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) now: Instant,
    /// Whether bytes are pulled as soon as the broker has some.
    pub(crate) pull: bool,
    /// Whether clients are accepted at once.
    pub(crate) accept: bool,
    /// Bytes sent and not looked at yet.
    pub(crate) sent: BTreeMap<ConnId, Vec<u8>>,
    /// Connections that were said to have bytes.
    pub(crate) ready: Vec<ConnId>,
    pub(crate) events: Vec<Event>,
    pub(crate) requests: Vec<(ConnId, AuthRequest)>,
    pub(crate) closed: Vec<ConnId>,
    pub(crate) paused: Vec<ConnId>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) available: Vec<fulmar_core::broker::SubscriberId>,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        let now = Instant::ZERO;
        let boot = Boot { now, unix_millis: 0, seed: 1, epoch: 1 };
        Self {
            broker: Broker::new(config, boot),
            now,
            pull: true,
            accept: true,
            sent: BTreeMap::new(),
            ready: Vec::new(),
            events: Vec::new(),
            requests: Vec::new(),
            closed: Vec::new(),
            paused: Vec::new(),
            replies: Vec::new(),
            available: Vec::new(),
        }
    }

    pub(crate) fn open(&mut self) -> ConnId {
        self.broker.open(self.now, ConnInfo::default()).expect("a free connection")
    }

    /// A connection with its CONNECT accepted; the CONNACK is thrown away.
    pub(crate) fn connect(&mut self, version: Version, client_id: &str, clean: bool) -> ConnId {
        self.connect_with(Connect { clean_start: clean, ..hello(version, client_id) })
    }

    pub(crate) fn connect_with(&mut self, connect: Connect<'_>) -> ConnId {
        let conn = self.open();
        self.send(conn, connect.version, &[Packet::Connect(connect)]);
        self.take(conn);
        conn
    }

    pub(crate) fn send(&mut self, conn: ConnId, version: Version, packets: &[Packet<'_>]) {
        self.receive(conn, &bytes(version, packets));
    }

    pub(crate) fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.handle(Input::Received { conn, bytes });
        self.settle();
    }

    /// One input and the effects of it, without the work that waits.
    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.broker.handle(self.now, input);
        self.effects();
    }

    pub(crate) fn hang_up(&mut self, conn: ConnId) {
        self.handle(Input::Closed { conn });
        self.settle();
    }

    pub(crate) fn decide(&mut self, conn: ConnId, verdict: Verdict) {
        self.handle(Input::Authenticated { conn, verdict });
        self.settle();
    }

    /// Time goes on; every deadline on the way is kept.
    pub(crate) fn advance(&mut self, micros: u64) {
        let end = Instant::from_micros(self.now.as_micros() + micros);
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Timeout);
        }
        self.now = end;
        self.settle();
    }

    /// Does the work that waits.
    pub(crate) fn settle(&mut self) {
        while self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.handle(Input::Timeout);
        }
    }

    pub(crate) fn effects(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Transmit(conn) if self.pull => self.pull(conn),
                Effect::Transmit(conn) => self.ready.push(conn),
                Effect::Authenticate { conn, request } => {
                    if self.accept {
                        let verdict = Verdict::Accept { data: None };
                        self.broker.handle(self.now, Input::Authenticated { conn, verdict });
                    } else {
                        self.requests.push((conn, *request));
                    }
                }
                Effect::Close { conn, .. } => self.closed.push(conn),
                Effect::Reading { conn, on: true } => self.paused.retain(|other| *other != conn),
                Effect::Reading { conn, on: false } => self.paused.push(conn),
                Effect::Handover { .. } => unreachable!("one shard"),
                Effect::Available(subscriber) => self.available.push(subscriber),
                Effect::Reply { reply, .. } => self.replies.push(*reply),
                Effect::Event(event) => self.events.push(event),
            }
        }
    }

    pub(crate) fn pull(&mut self, conn: ConnId) {
        let mut outbox = Outbox::new();
        let mut more = true;
        while more {
            more = self.broker.transmit(self.now, conn, &mut outbox, 8192);
            let sent = self.sent.entry(conn).or_default();
            outbox.slices().for_each(|slice| sent.extend_from_slice(slice));
            outbox.clear();
        }
    }

    /// What was sent to a connection since the last time.
    pub(crate) fn take(&mut self, conn: ConnId) -> Vec<u8> {
        self.sent.remove(&conn).unwrap_or_default()
    }

    /// The payloads of the messages sent to a connection, each acknowledged until no more come.
    pub(crate) fn messages(&mut self, conn: ConnId, version: Version) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        loop {
            let sent = self.take(conn);
            if sent.is_empty() {
                return payloads;
            }
            let mut acks = Vec::new();
            for packet in packets(version, &sent) {
                match packet {
                    Packet::Publish(publish) => {
                        payloads.push(publish.payload.to_vec());
                        match (publish.qos, publish.packet_id) {
                            (Qos::AtLeastOnce, Some(id)) => acks.push(Packet::Puback(ack(id))),
                            (Qos::ExactlyOnce, Some(id)) => acks.push(Packet::Pubrec(ack(id))),
                            _ => {}
                        }
                    }
                    Packet::Pubrel(release) => acks.push(Packet::Pubcomp(ack(release.packet_id))),
                    _ => {}
                }
            }
            if !acks.is_empty() {
                self.send(conn, version, &acks);
            }
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.broker.stats().used_bytes
    }
}

pub(crate) fn bytes(version: Version, packets: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        packet.append(version, &mut bytes).expect("a packet that can be sent");
    }
    bytes
}

/// The packets of a byte string.
pub(crate) fn packets(version: Version, mut bytes: &[u8]) -> Vec<Packet<'_>> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let (frame, used) = split(bytes, u32::MAX).expect("a header").expect("a whole packet");
        packets.push(decode(version, frame).expect("a packet"));
        bytes = &bytes[used..];
    }
    packets
}

pub(crate) fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

pub(crate) fn ack(packet_id: PacketId) -> Ack<'static> {
    Ack { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }
}

/// CONNECT with a clean start and nothing more.
pub(crate) fn hello(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

pub(crate) fn will<'a>(topic: &'a str, payload: &'a [u8], properties: Properties<'a>) -> Will<'a> {
    Will { qos: Q0, retain: false, topic, payload, properties }
}

pub(crate) fn publish<'a>(
    topic: &'a str,
    payload: &'a [u8],
    qos: Qos,
    packet_id: u16,
) -> Packet<'a> {
    Packet::Publish(Publish {
        qos,
        topic,
        packet_id: PacketId::new(packet_id),
        payload,
        ..Publish::default()
    })
}

pub(crate) fn retained<'a>(topic: &'a str, payload: &'a [u8]) -> Packet<'a> {
    Packet::Publish(Publish { retain: true, topic, payload, ..Publish::default() })
}

pub(crate) type FilterList<'a> = [(&'a str, SubscriptionOptions); 1];

pub(crate) fn filter(filter: &str, qos: Qos) -> FilterList<'_> {
    [(filter, SubscriptionOptions { qos, ..SubscriptionOptions::default() })]
}

pub(crate) fn subscribe<'a>(list: &'a FilterList<'a>) -> Packet<'a> {
    Packet::Subscribe(Subscribe {
        packet_id: id(1),
        properties: Properties::EMPTY,
        filters: Filters::list(list),
    })
}

pub(crate) fn expiry(secs: u32) -> [Property<'static>; 1] {
    [Property::SessionExpiryInterval(secs)]
}
