//! The load: publishers and subscribers on one thread.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use fulmar_core::codec::Publish;
use fulmar_core::{Packet, PacketId, Qos};

use super::check::{Checker, Seen};
use super::histogram::Histogram;
use super::link::{Begun, Link, Opener};
use super::names::Names;
use super::scenario::Load;
use super::system::{Poller, Ready, now};
use super::wire::{self, Stamp, Templates};

/// Bytes that wait on a connection before a publisher takes a breath.
const ENOUGH: usize = 256 * 1024;
/// Bytes read at once.
const READ: usize = 256 * 1024;
/// How often limits are looked at, in nanoseconds.
const LOOK: u64 = 100_000_000;
/// Nanoseconds without anything after which nothing more is expected, and at most in all.
const SILENCE: u64 = 50_000_000;
const LISTEN: u64 = 500_000_000;
/// Packet Identifiers that a publisher may use where a rate is given.
const ANY: u64 = 60_000;

/// How long a load may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Without any message or acknowledgement, after which what is missing counts as lost.
    pub(super) stall: Duration,
    /// In all.
    pub(super) limit: Duration,
    /// After which publishers send no more, however many messages are left, unless they send at a
    /// rate; `None` is never.
    pub(super) enough: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stall: Duration::from_secs(10), limit: Duration::from_secs(180), enough: None }
    }
}

struct Publisher {
    /// The last number used in each numbering, plus one.
    numbers: Vec<u32>,
    /// Subscribers that get a message of each numbering.
    fan: Vec<u64>,
    sent: u64,
    quota: u64,
    /// Deliveries that what it sent is to make, and those that came.
    due: u64,
    came: u64,
    /// Messages given up, so that they no longer fill the window.
    forgiven: u64,
    /// Identifiers in use.
    unacknowledged: u64,
    free: Vec<u16>,
    /// Topics that were sent once, where aliases are used.
    introduced: bool,
    /// Stands in the list of those that may have room in their window.
    listed: bool,
}

impl Publisher {
    fn new(load: &Load, number: usize) -> Self {
        let all = load.publishers as u64;
        let identifiers = if load.rate > 0 { ANY } else { load.window.min(ANY) };
        Self {
            numbers: vec![0; load.groups()],
            fan: (0..load.groups()).map(|group| load.fan(number, group)).collect(),
            sent: 0,
            quota: load.messages / all + u64::from((number as u64) < load.messages % all),
            due: 0,
            came: 0,
            forgiven: 0,
            unacknowledged: 0,
            free: (1..=identifiers as u16).rev().collect(),
            introduced: false,
            listed: true,
        }
    }

    /// Messages that at least one subscriber misses; as many as have come are taken as the oldest.
    fn undelivered(&self) -> u64 {
        let fan = self.fan[0].max(1);
        (self.due.saturating_sub(self.came).div_ceil(fan)).saturating_sub(self.forgiven)
    }
}

/// Has `read`, which takes what comes within a time and says whether anything did, go on until
/// nothing came for a while.
pub(super) fn listen(mut read: impl FnMut(Duration) -> io::Result<bool>) -> io::Result<()> {
    let start = now();
    let mut heard = start;
    loop {
        let time = now();
        let silent = time - heard;
        if silent >= SILENCE || time - start >= LISTEN {
            return Ok(());
        }
        if read(Duration::from_nanos(SILENCE - silent))? {
            heard = now();
        }
    }
}

/// A load under way.
pub(super) struct Engine<'a> {
    load: &'a Load,
    patience: Patience,
    poller: Poller,
    /// The publishers' connections, then the subscribers'.
    links: Vec<Link>,
    publishers: Vec<Publisher>,
    templates: Vec<Templates>,
    /// Publishers that may have room in their window.
    ready: Vec<usize>,
    random: u64,
    pub(super) checker: Checker,
    pub(super) latencies: Histogram,
    /// Messages to send, fewer than the load has once it is enough.
    total: u64,
    pub(super) published: u64,
    pub(super) acknowledged: u64,
    /// When a message or acknowledgement came last.
    pub(super) progress: u64,
}

impl<'a> Engine<'a> {
    /// Connects and subscribes everybody.
    pub(super) fn new(
        load: &'a Load,
        to: SocketAddrV4,
        patience: Patience,
        names: &Names,
    ) -> io::Result<Self> {
        let mut opener = Opener::new(to, load);
        opener.names = names.clone();
        opener.open(load.publishers, "p", |_| Vec::new())?;
        opener.open(load.subscribers, "s", |subscriber| load.filters(subscriber))?;
        let poller = Poller::new()?;
        let links = opener.streams.into_iter().enumerate();
        let links = links.map(|(key, stream)| Link::new(stream, key, &poller));
        let topics = load.topic_names();
        Ok(Self {
            load,
            patience,
            links: links.collect::<io::Result<_>>()?,
            poller,
            publishers: (0..load.publishers).map(|p| Publisher::new(load, p)).collect(),
            // A publisher has one topic where aliases are used.
            templates: topics.iter().map(|topic| Templates::new(load, topic, 1)).collect(),
            ready: (0..load.publishers).collect(),
            random: 0x9e37_79b9_7f4a_7c15,
            checker: Checker::new(load),
            latencies: Histogram::new(),
            total: load.messages,
            published: 0,
            acknowledged: 0,
            progress: 0,
        })
    }

    /// Deliveries that all messages sent are to make.
    pub(super) fn due(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.due).sum()
    }

    /// Sends all messages and waits until they came and are acknowledged.
    ///
    /// # Errors
    /// Time is over, or the broker ends a connection or breaks the protocol.
    pub(super) fn drive(&mut self) -> io::Result<()> {
        let start = now();
        self.progress = start;
        let (mut buffer, mut ready) = (Vec::new(), Vec::new());
        let mut look = start;
        loop {
            let wait = if self.load.rate > 0 { self.send_due(start)? } else { self.refill()? };
            self.poller.wait(wait, &mut ready)?;
            self.serve(&ready, &mut buffer)?;
            if self.is_done() {
                return Ok(());
            }
            let now = now();
            if now > look {
                look = now + LOOK;
                self.look_at_limits(start, now)?;
            }
        }
    }

    /// Takes what comes though nothing more is due: the second copy of a last message, say. Until
    /// nothing came for a while.
    ///
    /// # Errors
    /// The broker ends a connection or breaks the protocol.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        let (mut buffer, mut ready) = (Vec::new(), Vec::new());
        listen(|wait| {
            self.poller.wait(wait, &mut ready)?;
            self.serve(&ready, &mut buffer)?;
            Ok(!ready.is_empty())
        })
    }

    /// Writes and reads where it can be done.
    fn serve(&mut self, ready: &[Ready], buffer: &mut Vec<u8>) -> io::Result<()> {
        for &Ready { key, readable, writable } in ready {
            if writable {
                self.links[key].flush(key, &self.poller)?;
                self.list(key);
            }
            if readable {
                self.receive(key, buffer)?;
            }
        }
        Ok(())
    }

    /// Says goodbye on all connections.
    pub(super) fn disconnect(self) {
        self.links.into_iter().for_each(Link::disconnect);
    }

    fn is_done(&self) -> bool {
        let all = self.total;
        self.published == all
            && (self.load.qos == Qos::AtMostOnce || self.acknowledged == all)
            && self.publishers.iter().all(|publisher| publisher.came >= publisher.due)
    }

    fn look_at_limits(&mut self, start: u64, now: u64) -> io::Result<()> {
        if now - start > self.patience.limit.as_nanos() as u64 {
            return Err(io::Error::other("the time is over"));
        }
        if self.patience.enough.is_some_and(|enough| now - start > enough.as_nanos() as u64) {
            self.send_no_more();
        }
        if now - self.progress < self.patience.stall.as_nanos() as u64 {
            return Ok(());
        }
        if self.published == self.total || self.load.qos > Qos::AtMostOnce {
            return Err(io::Error::other("nothing comes any more"));
        }
        // What is missing is lost; the rest is measured all the same.
        for number in 0..self.publishers.len() {
            self.publishers[number].forgiven += self.publishers[number].undelivered();
            self.list(number);
        }
        self.progress = now;
        Ok(())
    }

    /// Has publishers be content with what they have sent; what is under way is waited for. At a
    /// rate it is known beforehand how long it takes.
    fn send_no_more(&mut self) {
        if self.load.rate == 0 {
            self.total = self.published;
            self.publishers.iter_mut().for_each(|publisher| publisher.quota = publisher.sent);
        }
    }

    /// Has a publisher looked at before the next wait; other connections are none.
    fn list(&mut self, key: usize) {
        if let Some(publisher) = self.publishers.get_mut(key)
            && !publisher.listed
        {
            publisher.listed = true;
            self.ready.push(key);
        }
    }

    /// Sends all that is due at the rate, each publisher in turn, and says how long to wait.
    fn send_due(&mut self, start: u64) -> io::Result<Duration> {
        let now = now();
        while self.published < self.load.messages {
            let seconds = self.published as f64 / self.load.rate as f64;
            let due = start + (seconds * 1e9) as u64;
            if due > now {
                return Ok(Duration::from_nanos(due - now));
            }
            let number = (self.published % self.load.publishers as u64) as usize;
            // Without an identifier it waits; its time is still the one at which it was due.
            if !self.publish(number, due) {
                break;
            }
            self.links[number].flush(number, &self.poller)?;
        }
        Ok(Duration::from_nanos(LOOK))
    }

    /// Has each publisher that may have room fill its window; then the wait may be long.
    fn refill(&mut self) -> io::Result<Duration> {
        let mut list = std::mem::take(&mut self.ready);
        for number in list.drain(..) {
            let publisher = &mut self.publishers[number];
            publisher.listed = false;
            let under_way = publisher.unacknowledged.max(publisher.undelivered());
            let rest = publisher.quota - publisher.sent;
            let mut count = self.load.window.saturating_sub(under_way).min(rest);
            if count < self.load.burst.min(rest) {
                continue;
            }
            let time = now();
            // One whose socket is full goes on when there is room.
            while count > 0 && !self.links[number].full {
                while count > 0 && self.links[number].waiting() < ENOUGH {
                    self.publish(number, time);
                    count -= 1;
                }
                self.links[number].flush(number, &self.poller)?;
            }
        }
        self.ready = list;
        Ok(Duration::from_nanos(LOOK))
    }

    /// Appends a message to what a publisher sends. False if no identifier is free.
    fn publish(&mut self, number: usize, time: u64) -> bool {
        let publisher = &mut self.publishers[number];
        let mut id = 0;
        if self.load.qos > Qos::AtMostOnce {
            let Some(free) = publisher.free.pop() else { return false };
            id = free;
            publisher.unacknowledged += 1;
        }
        let mut topic = number % self.load.topics;
        if self.load.wild > 0 {
            // Any; xorshift.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            topic = (self.random % self.templates.len() as u64) as usize;
        }
        let group = self.load.group(topic);
        let templates = &self.templates[topic];
        let template = if publisher.introduced { &templates.again } else { &templates.first };
        publisher.introduced = true;
        let stamp = Stamp {
            time,
            publisher: number as u32,
            topic: topic as u32,
            number: publisher.numbers[group],
        };
        template.append(&mut self.links[number].out, id, &stamp);
        publisher.numbers[group] += 1;
        publisher.sent += 1;
        publisher.due += publisher.fan[group];
        self.published += 1;
        true
    }

    fn receive(&mut self, key: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
        let Some(filled) = self.links[key].read(buffer, READ)? else {
            return Err(io::Error::other(format!("the broker closed connection {key}")));
        };
        let now = now();
        let version = self.load.version;
        let mut rest = &buffer[..filled];
        rest = self.go_on(key, rest, now);
        let used = wire::packets(version, rest, |packet| self.take(key, packet, now))?;
        rest = &rest[used..];
        match wire::beginning(version, rest) {
            Some((publish, missing)) => self.begin(key, &publish, missing),
            None => self.links[key].keep(rest),
        }
        // Of a full socket the poller tells when it has room.
        if self.links[key].waiting() > 0 && !self.links[key].full {
            self.links[key].flush(key, &self.poller)?;
        }
        Ok(())
    }

    fn take(&mut self, key: usize, packet: Packet<'_>, now: u64) -> io::Result<()> {
        let (version, out) = (self.load.version, &mut self.links[key].out);
        match packet {
            Packet::Publish(publish) => {
                let seen = self.look(key, &publish, publish.payload.len());
                self.arrived(key, (publish.qos, publish.packet_id), seen, now);
            }
            Packet::Pubrec(ack) => wire::acknowledge(version, Packet::Pubrel, ack.packet_id, out),
            Packet::Pubrel(ack) => wire::acknowledge(version, Packet::Pubcomp, ack.packet_id, out),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.freed(key, ack.packet_id, now)?;
            }
            other => return Err(io::Error::other(format!("the broker sent {other:?}"))),
        }
        Ok(())
    }

    /// A large message begins to come.
    fn begin(&mut self, key: usize, publish: &Publish<'_>, missing: usize) {
        let seen = self.look(key, publish, publish.payload.len() + missing);
        let id = (publish.qos, publish.packet_id);
        self.links[key].begun = Some(Begun { id, seen, missing });
    }

    /// Takes what belongs to a message that has begun to come, and gives the rest.
    fn go_on<'b>(&mut self, key: usize, bytes: &'b [u8], now: u64) -> &'b [u8] {
        let Some(begun) = &mut self.links[key].begun else { return bytes };
        let (part, rest) = bytes.split_at(bytes.len().min(begun.missing));
        begun.missing -= part.len();
        if let Some(seen) = &mut begun.seen {
            seen.altered |= !wire::is_filling(part);
        }
        if begun.missing == 0
            && let Some(Begun { id, seen, .. }) = self.links[key].begun.take()
        {
            self.arrived(key, id, seen, now);
        }
        rest
    }

    /// What a message is, of whose payload some is here; `None` for one that no subscriber got.
    #[inline]
    fn look(&mut self, key: usize, publish: &Publish<'_>, length: usize) -> Option<Seen> {
        let Self { load, publishers, templates, checker, .. } = self;
        let subscriber = key.checked_sub(load.publishers)?;
        let sent =
            |publisher: usize, group: usize| Some(*publishers.get(publisher)?.numbers.get(group)?);
        Some(checker.look(load, templates, subscriber, (publish, length), sent))
    }

    /// A message has come whole, which is acknowledged and counted.
    #[inline]
    fn arrived(&mut self, key: usize, id: (Qos, Option<PacketId>), seen: Option<Seen>, now: u64) {
        let (version, out) = (self.load.version, &mut self.links[key].out);
        match id {
            (Qos::AtLeastOnce, Some(id)) => wire::acknowledge(version, Packet::Puback, id, out),
            (Qos::ExactlyOnce, Some(id)) => wire::acknowledge(version, Packet::Pubrec, id, out),
            _ => {}
        }
        let Some(seen) = seen else {
            self.checker.strays += 1;
            return;
        };
        let Some(stamp) = self.checker.take(seen) else { return };
        let publisher = stamp.publisher as usize;
        self.latencies.add(now.saturating_sub(stamp.time));
        self.publishers[publisher].came += 1;
        self.progress = now;
        self.list(publisher);
    }

    /// The last acknowledgement of a message came.
    fn freed(&mut self, key: usize, id: PacketId, now: u64) -> io::Result<()> {
        let Some(publisher) = self.publishers.get_mut(key) else {
            return Err(io::Error::other("the broker acknowledged a subscriber's packet"));
        };
        publisher.free.push(id.get());
        publisher.unacknowledged = publisher.unacknowledged.saturating_sub(1);
        self.acknowledged += 1;
        self.progress = now;
        self.list(key);
        Ok(())
    }
}
