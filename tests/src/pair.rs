//! Client machines and a broker, joined by wires that exist only here, in time that passes only
//! when told to.
//!
//! A wire has a latency, splits what it carries and can be cut after any byte. Everything runs in
//! one thread and gives the same result each time.

use std::collections::VecDeque;
use std::time::Duration;

use fulmar_core::broker::{
    Boot, Broker, Command, Config, ConnId, ConnInfo, Effect, Event as Told, Input, Outbox, Verdict,
};
use fulmar_core::client::{Client, Event, Options, SendError, Sizes, Storage, Ticket};
use fulmar_core::codec::{
    Connect, Disconnect, Properties, Property, Publish, SubscriptionOptions, Will,
};
use fulmar_core::{Instant, Qos, ReasonCode, Version};

/// How many bytes are pulled from the broker at once, as a driver begins.
const BUDGET: usize = 8 * 1024;

/// Names a client of a [`Pair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(usize);

/// How a client connects. The Client Identifier is the name of its seat.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Protocol version.
    pub version: Version,
    /// Clean Start, or Clean Session.
    pub clean_start: bool,
    /// Session Expiry Interval in seconds, for 5.0.
    pub expiry: u32,
    /// Keep alive in seconds.
    pub keep_alive: u16,
    /// Topic of a will, whose payload is `gone`.
    pub will: Option<&'static str>,
}

impl Default for Terms {
    /// 5.0 with a clean start, a session kept for an hour, without keep alive or will.
    fn default() -> Self {
        let version = Version::V5;
        Self { version, clean_start: true, expiry: 3600, keep_alive: 0, will: None }
    }
}

/// The same, but going on with the session there is.
pub const AGAIN: Terms =
    Terms { version: Version::V5, clean_start: false, expiry: 3600, keep_alive: 0, will: None };

/// Bytes under way in one direction, with the time each piece arrives.
type Lane = VecDeque<(Instant, Vec<u8>)>;

struct Link {
    name: &'static str,
    client: Client<'static>,
    manual_ack: bool,
    conn: Option<ConnId>,
    to_broker: Lane,
    to_client: Lane,
    /// Arrived at the client, which has no room for it before its program goes on.
    unread: Vec<u8>,
    /// The broker does not read.
    paused: bool,
    /// The broker has closed; the client sees it when all has arrived.
    broker_closed: bool,
    /// Nothing arrives at either end any more, and nobody is told.
    silent: bool,
    /// The wire is cut when so many bytes more have arrived at either end.
    cut_after: Option<usize>,
    carried: usize,
    told: Vec<String>,
    tickets: Vec<Ticket>,
}

/// A broker with its clients.
pub struct Pair {
    broker: Broker,
    now: Instant,
    outbox: Outbox,
    links: Vec<Link>,
    lost: u32,
    /// Time a byte takes from one end to the other.
    pub latency: Duration,
    /// Largest piece that arrives at once.
    pub split: usize,
}

impl Pair {
    /// A broker with this configuration, and no clients; wires take no time and split nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let now = Instant::ZERO;
        let boot = Boot { now, unix_millis: 0, seed: 1, epoch: 1 };
        Self {
            broker: Broker::new(config, boot),
            now,
            outbox: Outbox::new(),
            links: Vec::new(),
            lost: 0,
            latency: Duration::ZERO,
            split: usize::MAX,
        }
    }

    /// A client that is not connected.
    pub fn client(&mut self, name: &'static str, options: Options) -> Seat {
        let sizes = Sizes { rx: 1024, tx: 4096, aliases: 256 };
        self.links.push(Link {
            name,
            client: Client::new(Storage::heap(sizes), options),
            manual_ack: options.manual_ack,
            conn: None,
            to_broker: Lane::new(),
            to_client: Lane::new(),
            unread: Vec::new(),
            paused: false,
            broker_closed: false,
            silent: false,
            cut_after: None,
            carried: 0,
            told: Vec::new(),
            tickets: Vec::new(),
        });
        Seat(self.links.len() - 1)
    }

    /// A client with default options that is connected; what it was told of that is forgotten.
    pub fn joined(&mut self, name: &'static str, terms: Terms) -> Seat {
        let seat = self.client(name, Options::default());
        self.connect(seat, terms);
        self.run();
        self.links[seat.0].told.clear();
        seat
    }

    /// Opens a wire and sends CONNECT.
    ///
    /// # Panics
    ///
    /// If the client is connected, or the broker takes no more connections.
    pub fn connect(&mut self, seat: Seat, terms: Terms) {
        let link = &mut self.links[seat.0];
        let expiry = [Property::SessionExpiryInterval(terms.expiry)];
        let properties = match terms.version {
            Version::V5 => Properties::list(&expiry),
            _ => Properties::EMPTY,
        };
        let will = |topic| Will {
            qos: Qos::AtLeastOnce,
            retain: false,
            topic,
            payload: b"gone",
            properties: Properties::EMPTY,
        };
        let connect = Connect {
            version: terms.version,
            bridge: false,
            clean_start: terms.clean_start,
            keep_alive: terms.keep_alive,
            client_id: link.name,
            will: terms.will.map(will),
            username: None,
            password: None,
            properties,
        };
        link.client.connect(self.now, &connect).expect("the client has no connection");
        let conn = self.broker.open(self.now, ConnInfo::default()).expect("a free connection");
        link.conn = Some(conn);
        (link.paused, link.broker_closed, link.silent) = (false, false, false);
    }

    /// Subscribes, and lets everything arrive.
    ///
    /// # Panics
    ///
    /// If the client cannot.
    pub fn subscribe(&mut self, seat: Seat, filter: &str, qos: Qos) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let client = &mut self.links[seat.0].client;
        client.subscribe(&[(filter, options)], Properties::EMPTY).expect("room for SUBSCRIBE");
        self.run();
    }

    /// Hands a message to a client for sending.
    ///
    /// # Errors
    ///
    /// As the client's.
    pub fn try_publish(
        &mut self,
        seat: Seat,
        topic: &str,
        payload: &str,
        qos: Qos,
        retain: bool,
    ) -> Result<(), SendError> {
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: None,
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        };
        self.links[seat.0].client.publish(&publish).map(drop)
    }

    /// Publishes, and lets everything arrive.
    ///
    /// # Panics
    ///
    /// If the client cannot.
    pub fn publish(&mut self, seat: Seat, topic: &str, payload: &str, qos: Qos) {
        self.try_publish(seat, topic, payload, qos, false).expect("room for PUBLISH");
        self.run();
    }

    /// Sends DISCONNECT, and lets everything arrive.
    ///
    /// # Panics
    ///
    /// If the client is not connected.
    pub fn disconnect(&mut self, seat: Seat) {
        let disconnect = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
        let client = &mut self.links[seat.0].client;
        client.disconnect(self.now, &disconnect).expect("a connection");
        self.run();
    }

    /// Acknowledges the oldest message that the program of a client holds.
    ///
    /// # Panics
    ///
    /// If it holds none.
    pub fn ack(&mut self, seat: Seat) {
        let link = &mut self.links[seat.0];
        let ticket = link.tickets.remove(0);
        link.client.ack(ticket);
        self.run();
    }

    /// Gives the broker a command, and lets everything arrive.
    pub fn command(&mut self, command: Command) {
        self.broker.handle(self.now, Input::Command { token: 0, command });
        self.run();
    }

    /// Cuts the wire: what is under way is gone.
    pub fn cut(&mut self, seat: Seat) {
        let link = &mut self.links[seat.0];
        link.to_broker.clear();
        link.to_client.clear();
        link.unread.clear();
        link.client.closed(self.now);
        let conn = link.conn.take();
        self.events(seat.0);
        self.links[seat.0].tickets.clear();
        if let Some(conn) = conn {
            self.broker.handle(self.now, Input::Closed { conn });
        }
    }

    /// Cuts the wire when so many bytes more have arrived, both directions together.
    pub fn cut_after(&mut self, seat: Seat, bytes: usize) {
        self.links[seat.0].cut_after = Some(bytes);
    }

    /// From now on nothing arrives at either end, and nobody is told.
    pub fn silence(&mut self, seat: Seat) {
        self.links[seat.0].silent = true;
    }

    /// What a client's program was told since it was asked last.
    pub fn told(&mut self, seat: Seat) -> Vec<String> {
        core::mem::take(&mut self.links[seat.0].told)
    }

    /// The payloads of the messages among them.
    pub fn messages(&mut self, seat: Seat) -> Vec<String> {
        let told = self.told(seat);
        told.iter().filter_map(|line| line.strip_prefix("message ")).map(String::from).collect()
    }

    /// Bytes that have arrived at either end of a client's wires.
    #[must_use]
    pub fn carried(&self, seat: Seat) -> usize {
        self.links[seat.0].carried
    }

    /// Whether there is a wire.
    #[must_use]
    pub fn is_open(&self, seat: Seat) -> bool {
        self.links[seat.0].conn.is_some()
    }

    /// Copies of messages that the broker has said it lost.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Lets everything arrive that is under way and that follows from it; no more time passes than
    /// that takes.
    pub fn run(&mut self) {
        self.settle();
        while let Some(at) = self.next_arrival() {
            self.now = at.max(self.now);
            self.settle();
        }
    }

    /// Lets time pass, with all that happens in it.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        loop {
            let clients = self.links.iter().filter_map(|link| link.client.poll_timeout());
            let timers = clients.chain(self.broker.poll_timeout());
            let Some(at) = timers.chain(self.next_arrival()).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = at.max(self.now);
            self.broker.handle(self.now, Input::Timeout);
            for link in &mut self.links {
                link.client.handle_timeout(self.now);
            }
            self.settle();
        }
        self.now = end;
    }

    fn next_arrival(&self) -> Option<Instant> {
        let links = self.links.iter().filter(|link| !link.silent);
        let first = |link: &Link| {
            let up = link.to_broker.front().filter(|_| !link.paused).map(|(at, _)| *at);
            let down = link.to_client.front().filter(|_| link.unread.is_empty());
            up.into_iter().chain(down.map(|(at, _)| *at)).min()
        };
        links.filter_map(first).min()
    }

    /// Does all that can be done at this moment.
    fn settle(&mut self) {
        loop {
            let mut moved = self.effects();
            for index in 0..self.links.len() {
                moved |= self.events(index);
                moved |= self.send(index);
                moved |= self.deliver_up(index);
                moved |= self.deliver_down(index);
                moved |= self.close(index);
            }
            if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
                self.broker.handle(self.now, Input::Timeout);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn index_of(&self, conn: ConnId) -> Option<usize> {
        self.links.iter().position(|link| link.conn == Some(conn))
    }

    fn effects(&mut self) -> bool {
        let mut moved = false;
        while let Some(effect) = self.broker.poll_effect() {
            moved = true;
            match effect {
                Effect::Authenticate { conn, .. } => {
                    let verdict = Verdict::Accept { data: None };
                    self.broker.handle(self.now, Input::Authenticated { conn, verdict });
                }
                Effect::Transmit(conn) => self.pull(conn),
                Effect::Reading { conn, on } => {
                    if let Some(index) = self.index_of(conn) {
                        self.links[index].paused = !on;
                    }
                }
                Effect::Close { conn, .. } => {
                    self.pull(conn);
                    if let Some(index) = self.index_of(conn) {
                        self.links[index].broker_closed = true;
                    }
                }
                Effect::Event(Told::Dropped { count, .. }) => self.lost += count,
                Effect::Handover { .. } => unreachable!("one shard"),
                Effect::Available(_) | Effect::Reply { .. } | Effect::Event(_) => {}
            }
        }
        moved
    }

    fn pull(&mut self, conn: ConnId) {
        let Some(index) = self.index_of(conn) else { return };
        let mut more = true;
        while more {
            more = self.broker.transmit(self.now, conn, &mut self.outbox, BUDGET);
            let bytes: Vec<u8> = self.outbox.slices().flatten().copied().collect();
            self.outbox.clear();
            if !bytes.is_empty() {
                self.links[index].to_client.push_back((self.now + self.latency, bytes));
            }
        }
    }

    /// Puts what the client has to send on the wire.
    fn send(&mut self, index: usize) -> bool {
        let link = &mut self.links[index];
        if link.conn.is_none() {
            return false;
        }
        let mut bytes = Vec::new();
        loop {
            let part = link.client.transmit();
            let len = part.len();
            if len == 0 {
                break;
            }
            bytes.extend_from_slice(part);
            link.client.transmitted(self.now, len);
        }
        let moved = !bytes.is_empty();
        if moved {
            link.to_broker.push_back((self.now + self.latency, bytes));
        }
        moved
    }

    /// The next piece that arrives now, and whether the wire is cut behind it.
    fn arrive(&mut self, index: usize, up: bool) -> Option<(Vec<u8>, bool)> {
        let link = &mut self.links[index];
        if link.silent || (up && link.paused) || (!up && !link.unread.is_empty()) {
            return None;
        }
        let lane = if up { &mut link.to_broker } else { &mut link.to_client };
        let (at, bytes) = lane.front_mut().filter(|(at, _)| *at <= self.now)?;
        let left = link.cut_after.unwrap_or(usize::MAX);
        let len = bytes.len().min(self.split).min(left);
        let piece: Vec<u8> = bytes.drain(..len).collect();
        let (_, rest) = (at, bytes.is_empty());
        if rest {
            lane.pop_front();
        }
        link.carried += len;
        link.cut_after = link.cut_after.map(|left| left - len);
        Some((piece, left == len))
    }

    fn deliver_up(&mut self, index: usize) -> bool {
        let Some((bytes, cut)) = self.arrive(index, true) else { return false };
        if let Some(conn) = self.links[index].conn {
            self.broker.handle(self.now, Input::Received { conn, bytes: &bytes });
        }
        self.cut_if(index, cut);
        true
    }

    fn deliver_down(&mut self, index: usize) -> bool {
        let arrived = self.arrive(index, false);
        let cut = arrived.as_ref().is_some_and(|(_, cut)| *cut);
        let link = &mut self.links[index];
        link.unread.extend(arrived.into_iter().flat_map(|(bytes, _)| bytes));
        let mut moved = false;
        while !self.links[index].unread.is_empty() {
            let link = &mut self.links[index];
            let taken = link.client.receive(self.now, &link.unread);
            link.unread.drain(..taken);
            if taken == 0 && !self.send(index) {
                break;
            }
            moved = true;
            self.events(index);
        }
        self.cut_if(index, cut);
        moved | cut
    }

    fn cut_if(&mut self, index: usize, cut: bool) {
        if cut {
            self.links[index].cut_after = None;
            self.cut(Seat(index));
        }
    }

    /// Takes the client's events.
    fn events(&mut self, index: usize) -> bool {
        let link = &mut self.links[index];
        let before = link.told.len();
        while let Some(event) = link.client.poll_event() {
            if let Event::Message(message) = &event
                && link.manual_ack
            {
                link.tickets.push(message.ticket);
            }
            // Tests know what they cut, and whether a wire is open.
            if event != Event::Closed {
                link.told.push(in_words(&event));
            }
        }
        link.told.len() > before
    }

    /// Closes the wire where one end is done and everything has arrived.
    fn close(&mut self, index: usize) -> bool {
        let link = &mut self.links[index];
        let client_done = link.client.wants_close() && link.to_broker.is_empty();
        let read = link.to_client.is_empty() && link.unread.is_empty();
        let broker_done = link.broker_closed && read;
        if link.conn.is_none() || !(client_done || broker_done) {
            return false;
        }
        self.cut(Seat(index));
        true
    }
}

/// An event in a few words.
fn in_words(event: &Event<'_>) -> String {
    match event {
        Event::Connected { session_present: true, .. } => "connected again".into(),
        Event::Connected { .. } => "connected anew".into(),
        Event::Refused { reason, .. } => format!("refused: {reason}"),
        Event::Message(message) => {
            let retained = if message.retain { " (retained)" } else { "" };
            format!("message {}{retained}", String::from_utf8_lossy(message.payload))
        }
        Event::Published { reason, .. } => format!("published: {reason}"),
        Event::Subscribed { reasons, .. } => {
            let codes: Vec<String> = reasons.iter().map(|reason| reason.to_string()).collect();
            format!("subscribed: {}", codes.join(", "))
        }
        Event::Unsubscribed { .. } => "unsubscribed".into(),
        Event::Auth { reason, .. } => format!("auth: {reason}"),
        Event::Lost { .. } => "lost".into(),
        Event::Disconnected { reason, .. } => format!("disconnected: {reason}"),
        Event::Failed(failure) => format!("failed: {failure:?}"),
        _ => format!("{event:?}"),
    }
}
