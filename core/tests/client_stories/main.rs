//! The client against a server that is played by hand: what it sends, what it tells.

#![cfg(feature = "alloc")]

mod connect;
mod pieces;
mod publish;
mod receive;
mod session;
mod time;

use std::string::{String, ToString};

use fulmar_core::Instant;
use fulmar_core::client::{Client, Event, Fixed, Options, SendError, Sizes, Storage, Ticket};
use fulmar_core::codec::{
    Ack, Connack, Connect, Packet, PacketId, Properties, Property, Publish, Qos, ReasonCode,
    Version, decode, split,
};

/// Memory of a small device.
type Small = Fixed<128, 64, 3, 2, 16>;

/// A client with its wire cut open.
struct Scene<'s> {
    client: Client<'s>,
    version: Version,
    now: Instant,
    /// What requests were answered with: `#0`, `#1` and so on.
    tickets: Vec<Ticket>,
    /// Tickets of messages told.
    inbox: Vec<Ticket>,
}

impl Scene<'static> {
    fn new(version: Version, options: Options) -> Self {
        Self::on(Storage::heap(Sizes::default()), version, options)
    }

    /// Connected without a session before; `properties` are those of CONNACK.
    fn connected(version: Version, options: Options, properties: &[Property<'_>]) -> Self {
        let mut scene = Self::new(version, options);
        scene.connect(&keeping(version), false, properties);
        scene
    }
}

impl<'s> Scene<'s> {
    fn on(storage: Storage<'s>, version: Version, options: Options) -> Self {
        let client = Client::new(storage, options);
        let (tickets, inbox) = (Vec::new(), Vec::new());
        Self { client, version, now: Instant::ZERO, tickets, inbox }
    }

    /// Connects, and answers with CONNACK.
    fn connect(&mut self, connect: &Connect<'_>, present: bool, properties: &[Property<'_>]) {
        self.version = connect.version;
        assert_eq!(self.client.connect(self.now, connect), Ok(()));
        assert_eq!(self.sent().len(), 1);
        self.connack(present, properties);
    }

    fn connack(&mut self, session_present: bool, properties: &[Property<'_>]) {
        let properties = Properties::list(properties);
        let reason = ReasonCode::Success;
        self.give(&Packet::Connack(Connack { session_present, reason, properties }));
    }

    /// A connection on which a message of QoS 2 arrives and is acknowledged, but not released.
    fn give_and_cut_qos_2(&mut self, connect: &Connect<'_>) {
        self.connect(connect, true, &[]);
        self.give_message("m", Qos::ExactlyOnce, 9);
        assert_eq!(self.events().len(), 2);
        self.cut();
    }

    /// The transport breaks.
    fn cut(&mut self) -> Vec<String> {
        self.client.closed(self.now);
        self.events()
    }

    fn give(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.append(self.version, &mut bytes).unwrap();
        self.give_bytes(&bytes);
    }

    fn give_bytes(&mut self, bytes: &[u8]) {
        assert_eq!(self.client.receive(self.now, bytes), bytes.len());
    }

    fn give_message(&mut self, topic: &str, qos: Qos, id: u16) {
        let packet_id = PacketId::new(id);
        self.give(&Packet::Publish(Publish { topic, qos, packet_id, ..Publish::default() }));
    }

    /// An acknowledgement: `Packet::Puback` and so on.
    fn give_ack(&mut self, kind: fn(Ack<'static>) -> Packet<'static>, id: u16, code: ReasonCode) {
        let properties = Properties::EMPTY;
        self.give(&kind(Ack { packet_id: PacketId::new(id).unwrap(), reason: code, properties }));
    }

    /// Everything there is to send, as text.
    fn sent(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        loop {
            let lent = self.client.transmit().to_vec();
            if lent.is_empty() {
                break;
            }
            self.client.transmitted(self.now, lent.len());
            bytes.extend(lent);
        }
        texts(self.version, &bytes)
    }

    /// At most `n` bytes of what there is to send.
    fn sent_bytes(&mut self, n: usize) -> Vec<u8> {
        let lent = self.client.transmit();
        let bytes = lent[..n.min(lent.len())].to_vec();
        self.client.transmitted(self.now, bytes.len());
        bytes
    }

    /// The next event as text.
    fn event(&mut self) -> Option<String> {
        let Self { client, tickets, inbox, .. } = self;
        let event = client.poll_event()?;
        if let Event::Message(message) = &event {
            inbox.push(message.ticket);
        }
        Some(text(&event, tickets))
    }

    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.event()).collect()
    }

    fn publish(&mut self, topic: &str, qos: Qos) -> Result<(), SendError> {
        let ticket = self.client.publish(&Publish { topic, qos, ..Publish::default() })?;
        self.tickets.push(ticket);
        Ok(())
    }

    fn later(&mut self, secs: u64) {
        self.now = self.now.after_secs(secs);
        self.client.handle_timeout(self.now);
    }
}

/// CONNECT of a session that is kept.
fn keeping(version: Version) -> Connect<'static> {
    let properties = match version {
        Version::V5 => Properties::list(&[Property::SessionExpiryInterval(100)]),
        _ => Properties::EMPTY,
    };
    Connect { clean_start: false, properties, ..clean(version) }
}

/// CONNECT of a session that ends with its connection.
fn clean(version: Version) -> Connect<'static> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive: 30,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

/// Packets as text.
fn texts(version: Version, mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((frame, used)) = split(bytes, u32::MAX).unwrap() {
        texts.push(decode(version, frame).unwrap().display(version).to_string());
        bytes = &bytes[used..];
    }
    assert!(bytes.is_empty(), "half a packet");
    texts
}

fn text(event: &Event<'_>, tickets: &[Ticket]) -> String {
    let name = |ticket: &Ticket| match tickets.iter().position(|known| known == ticket) {
        Some(index) => format!("#{index}"),
        None => String::from("#?"),
    };
    match event {
        Event::Connected { session_present, keep_alive, .. } => {
            format!("connected present={session_present} keep_alive={keep_alive}")
        }
        Event::Refused { reason, .. } => format!("refused: {reason}"),
        Event::Auth { reason, .. } => format!("auth: {reason}"),
        Event::Message(m) => {
            let flags = [(m.retain, " retain"), (m.dup, " dup")];
            let flags = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
            format!("message {} qos={}{}", m.topic, m.qos as u8, flags.collect::<String>())
        }
        Event::Published { ticket, reason, .. } => format!("published {}: {reason}", name(ticket)),
        Event::Subscribed { ticket, reasons, .. } => {
            format!("subscribed {}: {reasons:?}", name(ticket))
        }
        Event::Unsubscribed { ticket, reasons, .. } => {
            format!("unsubscribed {}: {reasons:?}", name(ticket))
        }
        Event::Lost { ticket } => format!("lost {}", name(ticket)),
        Event::Disconnected { reason, .. } => format!("disconnected: {reason}"),
        Event::Failed(failure) => format!("failed: {failure}"),
        Event::Closed => String::from("closed"),
        other => format!("{other:?}"),
    }
}
