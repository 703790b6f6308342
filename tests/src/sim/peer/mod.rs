//! Clients of the simulation: polite ones, and rude ones that break rules while there are faults.

mod connect;
mod publish;
mod receive;
mod rude;
mod subscribe;

use std::collections::{BTreeSet, VecDeque};

use fulmar_core::broker::ConnId;
use fulmar_core::codec::{Ack, Packet, Properties, ReasonCode};
use fulmar_core::{Instant, PacketId, Qos, Version};

use super::ours::Ours;
use super::rng::Rng;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Away,
    /// CONNECT is on its way.
    Waiting,
    On,
    /// It was refused, and has no session to come back to.
    GivenUp,
}

/// A message of QoS 1 or 2 that is not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) id: u16,
    pub(super) released: bool,
    pub(super) message: Message,
}

/// What a client publishes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) qos: Qos,
    retain: bool,
    topic: &'static str,
    payload: Vec<u8>,
    expiry: Option<u32>,
    user: Option<String>,
}

/// One client with its half of the session.
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) rude: bool,
    /// The machine that does all this for it, if it is not scripted.
    pub(super) ours: Option<Box<Ours>>,
    pub(super) link: Option<ConnId>,
    pub(super) stage: Stage,
    pub(super) version: Version,
    /// Its session was lost: what it knows of it is void with the next CONNACK. A client that
    /// missed the CONNACK that said so cannot know; so it is told, here, by the simulation.
    /// Here: when, as numbers of acceptances.
    pub(super) reborn: Vec<u64>,
    pub(super) flights: Vec<Flight>,
    /// Of these, by identifier: to be sent again when the broker's Receive Maximum has room.
    again: VecDeque<u16>,
    pub(super) held: BTreeSet<u16>,
    pub(super) acks: VecDeque<Vec<u8>>,
    /// It does nothing before.
    pub(super) quiet: Instant,
    /// It reads nothing before.
    pub(super) stalled: Instant,
    pub(super) spoke: Instant,
    pub(super) keep_alive: u16,
    /// Connections since there are no faults.
    pub(super) tries: u32,
    /// It wants nothing back of what it did.
    pub(super) ashamed: bool,
    /// It has sent more than the Receive Maximum allows, of several shards.
    exceeded: bool,
    inbox: Vec<u8>,
    next_id: u16,
    aliases: Vec<&'static str>,
    max_alias: u16,
    receive_maximum: u16,
    connected_expiry: u32,
}

/// What a client did with a packet.
pub(super) enum Took {
    /// An application message, with the number in it.
    Message(Qos, u64),
    /// CONNACK with success.
    Accepted,
    /// CONNACK with an error.
    Refused,
    Nothing,
}

pub(super) fn bytes(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.append(version, &mut bytes).expect("packets of clients can be encoded");
    bytes
}

fn ack(id: u16) -> Ack<'static> {
    let packet_id = PacketId::new(id).unwrap_or(PacketId::MIN);
    Ack { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }
}

/// The Client Identifier of the client with this number.
pub(super) fn name(number: usize) -> String {
    format!("c{number}")
}

impl Peer {
    pub(super) fn new(number: usize, rude: bool, version: Version) -> Self {
        Self {
            id: name(number),
            rude,
            ours: None,
            link: None,
            stage: Stage::Away,
            version,
            reborn: Vec::new(),
            flights: Vec::new(),
            again: VecDeque::new(),
            held: BTreeSet::new(),
            acks: VecDeque::new(),
            quiet: Instant::ZERO,
            stalled: Instant::ZERO,
            spoke: Instant::ZERO,
            keep_alive: 0,
            tries: 0,
            ashamed: false,
            exceeded: false,
            inbox: Vec::new(),
            next_id: 0,
            aliases: Vec::new(),
            max_alias: 0,
            receive_maximum: u16::MAX,
            connected_expiry: 0,
        }
    }

    /// The client machine instead of a script. It cannot be told that a session of 3.1 was lost.
    pub(super) fn with_machine(mut self, rng: &mut Rng) -> Self {
        self.version = self.version.max(Version::V311);
        self.ours = Some(Box::new(Ours::new(rng)));
        self
    }

    /// Room for another message of QoS 1 or 2.
    fn has_room(&self) -> bool {
        let most = match self.version {
            Version::V5 => self.receive_maximum.min(20),
            _ => 20,
        };
        self.flights.len() < usize::from(most)
    }

    fn take_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.wrapping_add(1).max(1);
            if self.flights.iter().all(|flight| flight.id != self.next_id) {
                return self.next_id;
            }
        }
    }

    /// Has its machine do what is due. Answers what is to be sent.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<u8> {
        self.ours.as_mut().map_or_else(Vec::new, |ours| ours.tick(now))
    }

    /// The next acknowledgement that it owes.
    pub(super) fn acknowledge(&mut self, now: Instant) -> Option<Vec<u8>> {
        match &mut self.ours {
            Some(ours) => ours.owes().then(|| ours.acknowledge(now)),
            None => self.acks.pop_front(),
        }
    }

    /// Whether it has anything to acknowledge.
    pub(super) fn owes(&self) -> bool {
        match &self.ours {
            Some(ours) => ours.owes(),
            None => !self.acks.is_empty(),
        }
    }

    /// What it waits for, at rest.
    pub(super) fn waits(&self) -> Option<String> {
        match &self.ours {
            Some(ours) => ours.waits(),
            None => (!self.flights.is_empty()).then(|| format!("{:?}", self.flights)),
        }
    }

    /// It was accepted, as the one with this number: what it knew of a session before is void.
    /// True if there was one that is lost.
    pub(super) fn join(&mut self, accepted: u64) -> bool {
        self.stage = Stage::On;
        let before = self.reborn.len();
        self.reborn.retain(|other| *other > accepted);
        self.reborn.len() < before
    }
}
