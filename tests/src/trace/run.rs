//! The driver of a trace.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use fulmar_core::broker::{
    AuthRequest, Command, Config, Effect, Input, Outbox, Reply, SubscriberId, Verdict,
};
use fulmar_core::codec::{Packet, decode, split};
use fulmar_core::{ConnId, Instant, ReasonCode, Version};

use super::command::{self, Wish};
use super::shards::{At, Shards};
use super::words::{Word, number, words};
use super::{config, packet, show};

/// How many bytes are pulled at once, as a driver begins.
const BUDGET: usize = 8 * 1024;

/// Runs a trace file and answers its listing.
///
/// # Errors
/// The number of the line that is not understood, or that cannot be done, and why.
pub fn run(file: &str) -> Result<String, String> {
    Ok(run_on(file, 1)?.0)
}

/// The same on so many shards that are one broker: after each input they say to each other what
/// they have to say, until all is at rest. Connections come to the shards in turn, and commands to
/// the first. Answers besides how many connections were handed over, and how many messages went
/// from shard to shard.
///
/// # Errors
/// As [`run`].
pub fn run_on(file: &str, shards: u16) -> Result<(String, [u64; 2]), String> {
    let configured = file.lines().filter(|line| line.starts_with("config:"));
    let mut listing: String = configured.flat_map(|line| [line, "\n"]).collect();
    let Some(runner) = drive(file, shards)? else { return Ok((listing, [0; 2])) };
    listing += &runner.listing;
    Ok((listing, [runner.shards.handed_over, runner.shards.carried]))
}

/// Runs a trace file and answers what happened on its connections, in order.
///
/// # Errors
/// As [`run`].
pub fn steps(file: &str) -> Result<Vec<Step>, String> {
    Ok(drive(file, 1)?.map_or(Vec::new(), |runner| runner.steps))
}

/// Something that happened on a connection while a trace ran. The first connection is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was opened.
    Open(usize),
    /// The client sent bytes.
    Sent(usize, Vec<u8>),
    /// It took bytes from the broker.
    Took(usize, Vec<u8>),
    /// It was closed, by whichever side.
    Closed(usize),
}

fn drive(file: &str, shards: u16) -> Result<Option<Runner>, String> {
    let mut config = Config::default();
    let mut runner: Option<Runner> = None;
    for (at, line) in file.lines().enumerate() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let result = line.split_once(':').ok_or_else(|| "name: what".into()).and_then(
            |(name, rest)| match (name, &mut runner) {
                ("config", None) => config::apply(&mut config, &words(rest)?),
                ("config", Some(_)) => Err("too late for a configuration".into()),
                (_, running) => running
                    .get_or_insert_with(|| Runner::new(&config, shards))
                    .line(line, name, rest),
            },
        );
        result.map_err(|error: String| format!("line {}: {error}: {line}", at + 1))?;
    }
    Ok(runner)
}

/// A client's end of a connection.
struct Wire {
    at: At,
    /// How many were opened before.
    number: usize,
    /// Of its CONNECT; `None` before, or if that is not understood.
    version: Option<Version>,
    /// Bytes from the broker that make no whole packet yet.
    received: Vec<u8>,
    /// Bytes for the broker while it does not read.
    unsent: Vec<u8>,
    reading: bool,
    /// It takes nothing from the broker.
    stalled: bool,
    /// The broker has something to send.
    pending: bool,
    /// The broker is done; aborted at this time.
    closing: Option<Instant>,
    /// What it sends next comes in pieces of so many bytes.
    piece: Option<usize>,
}

/// A decision about a client, or none yet.
enum Decision {
    Verdict(Verdict),
    Wait,
}

struct Runner {
    shards: Shards,
    now: Instant,
    outbox: Outbox,
    wires: BTreeMap<String, Wire>,
    decisions: BTreeMap<String, VecDeque<Decision>>,
    subscribers: BTreeMap<String, SubscriberId>,
    /// The local subscriber that is being made.
    subscribing: Option<String>,
    listing: String,
    steps: Vec<Step>,
    /// Connections so far.
    opened: usize,
}

impl Runner {
    fn new(config: &Config, shards: u16) -> Self {
        Self {
            shards: Shards::new(config, shards),
            now: Instant::ZERO,
            outbox: Outbox::new(),
            wires: BTreeMap::new(),
            decisions: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            subscribing: None,
            listing: String::new(),
            steps: Vec::new(),
            opened: 0,
        }
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(self.listing, "{}", shortened(line));
    }

    fn line(&mut self, line: &str, name: &str, rest: &str) -> Result<(), String> {
        let words = words(rest)?;
        match name {
            "time" => {
                self.say(line);
                self.pass(&words)
            }
            "auth" => {
                self.say(line);
                self.decide(&words)
            }
            "api" => {
                self.say(line);
                self.command(&words)
            }
            _ => self.client(line, name, &words),
        }
    }

    fn client(&mut self, line: &str, name: &str, words: &[Word]) -> Result<(), String> {
        let action = match words.first() {
            Some(Word::Plain(action)) => action.as_str(),
            _ => return Err("a packet or an action is missing".into()),
        };
        if !matches!(action, "open" | "split" | "drop" | "stall" | "read") {
            return self.packets(line, name, words);
        }
        self.say(line);
        let opens = matches!(action, "open" | "split") && !self.wires.contains_key(name);
        if opens && !self.open(name) {
            return Ok(());
        }
        let now = self.now;
        let wire = self.wires.get_mut(name).ok_or("it has no connection")?;
        match action {
            "split" => match words.get(1) {
                Some(Word::Plain(text)) => wire.piece = Some(number::<u16>(text)?.max(1).into()),
                _ => return Err("into pieces of how many bytes?".into()),
            },
            "drop" => {
                self.shards.closed(now, wire.at);
                self.steps.push(Step::Closed(wire.number));
                self.settle();
                self.wires.remove(name);
            }
            "stall" => wire.stalled = true,
            "read" => {
                wire.stalled = false;
                if core::mem::take(&mut wire.pending) {
                    self.pull(name);
                }
                if self.wires.get(name).is_some_and(|wire| wire.closing.is_some()) {
                    self.finish(name, "closed");
                }
            }
            _ => {}
        }
        self.settle();
        Ok(())
    }

    /// False if the broker takes no more connections.
    fn open(&mut self, name: &str) -> bool {
        let at = match self.shards.open(self.now, self.opened) {
            Ok(at) => at,
            Err(error) => {
                self.say(&format!("{name}< refused: {error:?}"));
                return false;
            }
        };
        let number = self.opened;
        self.opened += 1;
        self.steps.push(Step::Open(number));
        let wire = Wire {
            at,
            number,
            version: None,
            received: Vec::new(),
            unsent: Vec::new(),
            reading: true,
            stalled: false,
            pending: false,
            closing: None,
            piece: None,
        };
        self.wires.insert(name.into(), wire);
        true
    }

    /// Sends packets, those of one line together.
    fn packets(&mut self, line: &str, name: &str, words: &[Word]) -> Result<(), String> {
        let mut bytes = Vec::new();
        let mut told = Vec::new();
        let known = self.wires.get(name).and_then(|wire| wire.version);
        let mut version = known.unwrap_or(Version::V5);
        for words in words.split(|word| *word == Word::And) {
            if words.first() == Some(&Word::Plain("CONNECT".into())) {
                version = packet::version(words)?;
            }
            let packet = packet::encode(version, words)?;
            let source = || line.split_once(':').map_or("", |(_, rest)| rest.trim()).into();
            told.push(told_as(version, &packet).unwrap_or_else(source));
            bytes.extend(packet);
        }
        if !self.wires.contains_key(name) && !self.open(name) {
            return Ok(());
        }
        for packet in told {
            self.say(&format!("{name}> {packet}"));
        }
        let Some(wire) = self.wires.get_mut(name) else { return Ok(()) };
        if wire.closing.is_some() {
            return Err("its connection is closing".into());
        }
        wire.version = wire.version.or_else(|| version_of(&bytes));
        self.steps.push(Step::Sent(wire.number, bytes.clone()));
        wire.unsent.extend(bytes);
        self.feed(name);
        self.settle();
        Ok(())
    }

    /// Gives the broker what a client has sent, as far as it reads.
    fn feed(&mut self, name: &str) {
        let Some(wire) = self.wires.get_mut(name).filter(|wire| wire.reading) else { return };
        let bytes = core::mem::take(&mut wire.unsent);
        let (at, piece) = (wire.at, wire.piece.take().unwrap_or(usize::MAX));
        for bytes in bytes.chunks(piece.min(bytes.len().max(1))) {
            self.shards.received(self.now, at, bytes);
        }
    }

    /// Does what the shards ask for, and carries what they say to each other, until there is
    /// nothing.
    fn settle(&mut self) {
        loop {
            let mut rests = true;
            for shard in 0..self.shards.all.len() {
                while let Some(effect) = self.shards.all[shard].poll_effect() {
                    self.effect(shard, effect);
                    rests = false;
                }
                if self.shards.all[shard].poll_timeout().is_some_and(|at| at <= self.now) {
                    self.shards.all[shard].handle(self.now, Input::Timeout);
                    rests = false;
                }
            }
            if !self.shards.carry(self.now) && rests {
                return;
            }
        }
    }

    fn name_of(&self, at: At) -> Option<String> {
        self.wires.iter().find(|(_, wire)| wire.at == at).map(|(name, _)| name.clone())
    }

    fn effect(&mut self, shard: usize, effect: Effect) {
        let at = |conn| At { shard, conn };
        match effect {
            Effect::Transmit(conn) => {
                let Some(name) = self.name_of(at(conn)) else { return };
                let Some(wire) = self.wires.get_mut(&name) else { return };
                wire.pending = wire.stalled;
                if !wire.stalled {
                    self.pull(&name);
                }
            }
            Effect::Reading { conn, on } => {
                let Some(name) = self.name_of(at(conn)) else { return };
                let Some(wire) = self.wires.get_mut(&name) else { return };
                wire.reading = on;
                if on && !wire.unsent.is_empty() {
                    self.feed(&name);
                }
            }
            Effect::Close { conn, by } => {
                let Some(name) = self.name_of(at(conn)) else { return };
                let Some(wire) = self.wires.get_mut(&name) else { return };
                if wire.stalled {
                    wire.closing = Some(by);
                    return;
                }
                self.pull(&name);
                self.finish(&name, "closed");
            }
            Effect::Authenticate { conn, request } => self.authenticate(at(conn), &request),
            Effect::Handover { conn, to } => self.hand_over(at(conn), to.into()),
            Effect::Available(subscriber) => {
                let found = self.subscribers.iter().find(|(_, id)| **id == subscriber);
                let name = found.map_or(String::new(), |(name, _)| name.clone());
                while let Some(delivery) = self.shards.all[shard].take(self.now, subscriber) {
                    self.say(&format!("* {name} takes {}", show::delivery(&delivery)));
                }
            }
            Effect::Reply { reply, .. } => {
                let Some(reply) = self.shards.reply(*reply) else { return };
                self.say(&format!("* {}", show::reply(&reply)));
                if let (Reply::Subscribed(id), Some(name)) = (reply, self.subscribing.take()) {
                    self.subscribers.insert(name, id);
                }
            }
            Effect::Event(event) => {
                let name =
                    |conn: ConnId| self.name_of(at(conn)).unwrap_or_else(|| String::from("?"));
                let line = format!("* {}", show::event(&event, name));
                self.say(&line);
            }
        }
    }

    /// Takes all that the broker has for a client, and lists it.
    fn pull(&mut self, name: &str) {
        let Some(wire) = self.wires.get_mut(name) else { return };
        let (mut more, before) = (true, wire.received.len());
        while more {
            let At { shard, conn } = wire.at;
            more = self.shards.all[shard].transmit(self.now, conn, &mut self.outbox, BUDGET);
            wire.received.extend(self.outbox.slices().flatten());
            self.outbox.clear();
        }
        self.steps.push(Step::Took(wire.number, wire.received[before..].to_vec()));
        let mut told = Vec::new();
        while let Ok(Some((frame, used))) = split(&wire.received, u32::MAX) {
            // Whose CONNECT was not understood may be answered in either form.
            let versions = wire.version.map_or([Version::V5, Version::V311], |v| [v, v]);
            let decoded = versions.iter().find_map(|version| {
                decode(*version, frame).ok().map(|packet| packet.display(*version).to_string())
            });
            let hex = || format!("no packet: {:02x?}", &wire.received[..used]);
            told.push(decoded.unwrap_or_else(hex));
            wire.received.drain(..used);
        }
        for packet in told {
            self.say(&format!("{name}< {packet}"));
        }
    }

    /// The broker has closed, and the client sees it and closes too; or it was aborted.
    fn finish(&mut self, name: &str, how: &str) {
        let Some(wire) = self.wires.remove(name) else { return };
        if !wire.received.is_empty() {
            self.say(&format!("{name}< part of a packet: {:02x?}", wire.received));
        }
        self.say(&format!("{name}< {how}"));
        self.steps.push(Step::Closed(wire.number));
        self.shards.closed(self.now, wire.at);
    }

    /// A connection belongs to another shard.
    fn hand_over(&mut self, from: At, to: usize) {
        let Some(name) = self.name_of(from) else { return };
        match self.shards.hand_over(self.now, from, to) {
            Ok((at, bytes)) => {
                let Some(wire) = self.wires.get_mut(&name) else { return };
                (wire.at, wire.reading) = (at, true);
                wire.unsent.splice(..0, bytes);
                self.feed(&name);
            }
            Err(error) => {
                self.wires.remove(&name);
                self.say(&format!("{name}< refused: {error:?}"));
            }
        }
    }

    fn authenticate(&mut self, at: At, request: &AuthRequest) {
        let Some(name) = self.name_of(at) else { return };
        let decision = self.decisions.get_mut(&name).and_then(VecDeque::pop_front);
        let Some(decision) = decision else {
            self.shards.decided(self.now, at, Verdict::Accept { data: None });
            return;
        };
        let asked = format!("* {name} presents {}", show::request(request));
        match decision {
            Decision::Wait => self.say(&asked),
            Decision::Verdict(verdict) => {
                self.say(&format!("{asked}: {}", show::verdict(&verdict)));
                self.shards.decided(self.now, at, verdict);
            }
        }
    }

    /// `auth:` lines: keeps a decision, or applies it if one is waited for.
    fn decide(&mut self, words: &[Word]) -> Result<(), String> {
        let [Word::Plain(what), Word::Plain(name), rest @ ..] = words else {
            return Err("what, and about whom?".into());
        };
        let data = match rest.first() {
            Some(Word::Quoted(data)) => Some(Bytes::copy_from_slice(data)),
            _ => None,
        };
        let verdict = match (&**what, rest.first()) {
            ("wait", _) => {
                self.decisions.entry(name.clone()).or_default().push_back(Decision::Wait);
                return Ok(());
            }
            ("accept", _) => Verdict::Accept { data },
            ("continue", _) => Verdict::Continue { data },
            ("refuse", Some(Word::Plain(code))) => {
                Verdict::Refuse(ReasonCode::from_u8(number(code)?).ok_or("no such reason")?)
            }
            _ => return Err("accept, continue, refuse or wait".into()),
        };
        match self.wires.get(name).filter(|wire| !wire.reading) {
            Some(wire) => {
                self.shards.decided(self.now, wire.at, verdict);
                self.settle();
            }
            None => {
                let decisions = self.decisions.entry(name.clone()).or_default();
                decisions.push_back(Decision::Verdict(verdict));
            }
        }
        Ok(())
    }

    /// `time:` lines: stops at every moment that the broker or a closing connection has named.
    fn pass(&mut self, words: &[Word]) -> Result<(), String> {
        let [Word::Plain(text)] = words else { return Err("how long?".into()) };
        let text = text.strip_prefix('+').ok_or("time only goes on: +5s")?;
        let micros = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(millis), _) => number::<u64>(millis)? * 1_000,
            (_, Some(secs)) => number::<u64>(secs)? * 1_000_000,
            _ => return Err("in s or ms".into()),
        };
        let end = Instant::from_micros(self.now.as_micros() + micros);
        loop {
            let aborts = self.wires.values().filter_map(|wire| wire.closing);
            let next = aborts.chain(self.shards.poll_timeout()).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = at.max(self.now);
            let told = self.listing.len();
            self.shards.timeout(self.now);
            self.settle();
            let due = |(_, wire): &(&String, &Wire)| wire.closing.is_some_and(|by| by <= self.now);
            let over: Vec<String> =
                self.wires.iter().filter(due).map(|(name, _)| name.clone()).collect();
            for name in over {
                self.finish(&name, "aborted");
                self.settle();
            }
            if self.listing.len() > told && self.now < end {
                let at = self.now.as_micros() as f64 / 1e6;
                self.listing.insert_str(told, &format!("at {at}s:\n"));
            }
        }
        self.now = end;
        Ok(())
    }

    fn command(&mut self, words: &[Word]) -> Result<(), String> {
        let command = match command::of(words)? {
            Wish::Subscribe { name, command } => {
                self.subscribing = Some(name);
                command
            }
            Wish::Unsubscribe { name } => {
                let id = self.subscribers.remove(&name).ok_or("no such subscriber")?;
                Command::Unsubscribe(id)
            }
            Wish::Other(command) => command,
        };
        self.shards.order(self.now, command);
        self.settle();
        Ok(())
    }
}

/// A line without the long payloads that `size=` makes: how long they are instead.
fn shortened(line: &str) -> String {
    let Some(start) = line.find(&"78".repeat(33)) else { return line.into() };
    let rest = line[start..].trim_start_matches("78");
    let count = (line.len() - start - rest.len()) / 2;
    format!("{}78*{count}{rest}", &line[..start])
}

/// A packet as it is listed; `None` if it is none.
fn told_as(version: Version, bytes: &[u8]) -> Option<String> {
    let (frame, used) = split(bytes, u32::MAX).ok()??;
    let packet = decode(version, frame).ok().filter(|_| used == bytes.len())?;
    Some(packet.display(version).to_string())
}

/// The version of a CONNECT, if these bytes begin with one.
fn version_of(bytes: &[u8]) -> Option<Version> {
    let (frame, _) = split(bytes, u32::MAX).ok()??;
    match decode(Version::V5, frame) {
        Ok(Packet::Connect(connect)) => Some(connect.version),
        _ => None,
    }
}
