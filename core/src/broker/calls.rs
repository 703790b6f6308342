//! Calls of a broker as bytes, for recordings. Numbers are little-endian.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use bytes::Bytes;

use super::{
    Boot, Command, Config, ConnId, ConnInfo, DeliveryMode, Input, MAX_SHARDS, PeerMsg, Place,
    Publication, QueueFull, SubscriberId, Verdict,
};
use crate::codec::{Qos, ReasonCode};
use crate::time::Instant;

/// A call that changes a broker.
#[derive(Clone, Debug)]
pub(super) enum Call<'c> {
    Open(ConnInfo),
    Handle(Input<'c>),
    Transmit { conn: ConnId, budget: usize },
    Take(SubscriberId),
    HandOver(ConnId),
    Peer { from: u16, msg: &'c PeerMsg },
    TakePeer(u16),
}

pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn data(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn optional<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    write: impl FnOnce(&mut Vec<u8>, T),
) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

fn conn_id(out: &mut Vec<u8>, conn: ConnId) {
    number(out, u64::from(conn.index) << 32 | u64::from(conn.generation));
}

fn address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => data(out, &ip.octets()),
        IpAddr::V6(ip) => data(out, &ip.octets()),
    }
    number(out, address.port().into());
}

pub(super) fn write_boot(out: &mut Vec<u8>, boot: &Boot) {
    for value in [boot.now.as_micros(), boot.unix_millis, boot.seed, boot.epoch.into()] {
        number(out, value);
    }
}

pub(super) fn write_place(out: &mut Vec<u8>, place: Place) {
    for value in [place.shard.into(), place.shards.into(), place.key] {
        number(out, value);
    }
}

/// The numbers of a configuration, in one order for writing and reading.
fn config_numbers(config: &Config) -> [u64; 30] {
    [
        config.max_connections.into(),
        config.max_unauthenticated.into(),
        config.max_unauthenticated_per_address.into(),
        config.connect_timeout.as_micros() as u64,
        config.max_connect_size.into(),
        config.max_keepalive.into(),
        config.max_packet_size.into(),
        config.max_qos as u64,
        config.retain_available.into(),
        config.receive_maximum.into(),
        config.max_inflight.into(),
        config.max_await_rel.into(),
        config.max_msg_queue.into(),
        config.max_msg_queue_bytes,
        config.queue_full as u64,
        config.queue_qos0_messages.into(),
        config.max_sessions.into(),
        config.max_session_expiry.into(),
        config.max_topic_alias.into(),
        config.max_topic_alias_out.into(),
        config.max_topic_levels.into(),
        config.max_subscriptions.into(),
        config.max_retained.into(),
        config.max_retained_bytes,
        config.max_outbound_bytes.into(),
        config.shard_budget,
        config.allow_zero_length_clientid.into(),
        config.delivery_mode as u64,
        0,
        0,
    ]
}

pub(super) fn write_config(out: &mut Vec<u8>, config: &Config) {
    for value in config_numbers(config) {
        number(out, value);
    }
    data(out, config.assigned_clientid_prefix.as_bytes());
}

pub(super) fn write_call(out: &mut Vec<u8>, call: &Call<'_>) {
    match call {
        Call::Open(info) => {
            out.push(0);
            optional(out, info.remote, address);
            optional(out, info.local, address);
        }
        Call::Handle(input) => write_input(out, input),
        Call::Transmit { conn, budget } => {
            out.push(1);
            conn_id(out, *conn);
            number(out, *budget as u64);
        }
        Call::Take(subscriber) => {
            out.push(2);
            write_subscriber(out, *subscriber);
        }
        Call::HandOver(conn) => {
            out.push(8);
            conn_id(out, *conn);
        }
        Call::Peer { from, msg } => {
            out.push(9);
            number(out, (*from).into());
            let mut bytes = Vec::new();
            msg.encode(&mut bytes);
            data(out, &bytes);
        }
        Call::TakePeer(to) => {
            out.push(10);
            number(out, (*to).into());
        }
    }
}

fn write_subscriber(out: &mut Vec<u8>, subscriber: SubscriberId) {
    number(out, u64::from(subscriber.session) << 32 | u64::from(subscriber.generation));
}

fn write_input(out: &mut Vec<u8>, input: &Input<'_>) {
    match input {
        Input::Received { conn, bytes } => {
            out.push(3);
            conn_id(out, *conn);
            data(out, bytes);
        }
        Input::Closed { conn } => {
            out.push(4);
            conn_id(out, *conn);
        }
        Input::Authenticated { conn, verdict } => {
            out.push(5);
            conn_id(out, *conn);
            match verdict {
                Verdict::Accept { data: answer } => {
                    out.push(0);
                    optional(out, answer.as_ref(), |out, bytes| data(out, bytes));
                }
                Verdict::Continue { data: answer } => {
                    out.push(1);
                    optional(out, answer.as_ref(), |out, bytes| data(out, bytes));
                }
                Verdict::Refuse(reason) => out.extend_from_slice(&[2, *reason as u8]),
            }
        }
        Input::Timeout => out.push(6),
        Input::Command { token, command } => {
            out.push(7);
            number(out, *token);
            write_command(out, command);
        }
    }
}

fn write_command(out: &mut Vec<u8>, command: &Command) {
    match command {
        Command::Publish(publication) => {
            out.push(0);
            write_publication(out, publication);
        }
        Command::Subscribe { filters, queue } => {
            out.push(1);
            number(out, (*queue).into());
            number(out, filters.len() as u64);
            for (filter, qos) in filters {
                data(out, filter.as_bytes());
                out.push(*qos as u8);
            }
        }
        Command::Unsubscribe(subscriber) => {
            out.push(2);
            write_subscriber(out, *subscriber);
        }
        Command::Clients { after, limit } => {
            out.push(3);
            number(out, *after);
            number(out, (*limit).into());
        }
        Command::Disconnect { client_id, reason, end_session } => {
            out.push(4);
            data(out, client_id.as_bytes());
            out.extend_from_slice(&[*reason as u8, u8::from(*end_session)]);
        }
        Command::Stats => out.push(5),
        Command::Shutdown => out.push(6),
    }
}

fn write_publication(out: &mut Vec<u8>, publication: &Publication) {
    let text = |out: &mut Vec<u8>, text: &String| data(out, text.as_bytes());
    data(out, publication.topic.as_bytes());
    data(out, &publication.payload);
    out.extend_from_slice(&[
        publication.qos as u8,
        u8::from(publication.retain),
        u8::from(publication.utf8),
    ]);
    optional(out, publication.expiry, |out, secs| number(out, secs.into()));
    optional(out, publication.content_type.as_ref(), text);
    optional(out, publication.response_topic.as_ref(), text);
    optional(out, publication.correlation_data.as_ref(), |out, bytes| data(out, bytes));
    number(out, publication.user_properties.len() as u64);
    for (name, value) in &publication.user_properties {
        data(out, name.as_bytes());
        data(out, value.as_bytes());
    }
}

/// A call to be made again.
pub(super) enum Again<'r> {
    Call(Call<'r>),
    /// [`Call::Peer`], which borrows.
    Peer(u16, PeerMsg),
}

/// The unread rest of a recording; every method answers `None` where it breaks off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'r>(pub(super) &'r [u8]);

impl<'r> Reader<'r> {
    fn bytes(&mut self, len: usize) -> Option<&'r [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.u8().map(|byte| byte != 0)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }

    pub(super) fn data(&mut self) -> Option<&'r [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        self.bytes(len)
    }

    fn text(&mut self) -> Option<String> {
        core::str::from_utf8(self.data()?).ok().map(String::from)
    }

    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    pub(super) fn qos(&mut self) -> Option<Qos> {
        Qos::from_bits(self.u8()?)
    }

    fn reason(&mut self) -> Option<ReasonCode> {
        ReasonCode::from_u8(self.u8()?)
    }

    fn conn_id(&mut self) -> Option<ConnId> {
        let number = self.number()?;
        Some(ConnId { index: (number >> 32) as u32, generation: number as u32 })
    }

    fn subscriber(&mut self) -> Option<SubscriberId> {
        let number = self.number()?;
        Some(SubscriberId { session: (number >> 32) as u32, generation: number as u32 })
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let octets = self.data()?;
        let ip: IpAddr = match octets.len() {
            4 => <[u8; 4]>::try_from(octets).ok()?.into(),
            _ => <[u8; 16]>::try_from(octets).ok()?.into(),
        };
        Some(SocketAddr::new(ip, u16::try_from(self.number()?).ok()?))
    }

    pub(super) fn boot(&mut self) -> Option<Boot> {
        Some(Boot {
            now: Instant::from_micros(self.number()?),
            unix_millis: self.number()?,
            seed: self.number()?,
            epoch: u32::try_from(self.number()?).ok()?,
        })
    }

    pub(super) fn place(&mut self) -> Option<Place> {
        let place = Place {
            shard: u16::try_from(self.number()?).ok()?,
            shards: u16::try_from(self.number()?).ok()?,
            key: self.number()?,
        };
        (place.shard < place.shards && place.shards <= MAX_SHARDS).then_some(place)
    }

    pub(super) fn config(&mut self) -> Option<Config> {
        let mut n = [0; 30];
        for value in &mut n {
            *value = self.number()?;
        }
        Some(Config {
            max_connections: n[0] as u32,
            max_unauthenticated: n[1] as u32,
            max_unauthenticated_per_address: n[2] as u32,
            connect_timeout: Duration::from_micros(n[3]),
            max_connect_size: n[4] as u32,
            max_keepalive: n[5] as u16,
            max_packet_size: n[6] as u32,
            max_qos: Qos::from_bits(n[7] as u8)?,
            retain_available: n[8] != 0,
            receive_maximum: n[9] as u16,
            max_inflight: n[10] as u16,
            max_await_rel: n[11] as u16,
            max_msg_queue: n[12] as u32,
            max_msg_queue_bytes: n[13],
            queue_full: match n[14] {
                0 => QueueFull::DropOldest,
                1 => QueueFull::DropNew,
                _ => QueueFull::Disconnect,
            },
            queue_qos0_messages: n[15] != 0,
            max_sessions: n[16] as u32,
            max_session_expiry: n[17] as u32,
            max_topic_alias: n[18] as u16,
            max_topic_alias_out: n[19] as u16,
            max_topic_levels: n[20] as u16,
            max_subscriptions: n[21] as u32,
            max_retained: n[22] as u32,
            max_retained_bytes: n[23],
            max_outbound_bytes: n[24] as u32,
            shard_budget: n[25],
            allow_zero_length_clientid: n[26] != 0,
            delivery_mode: match n[27] {
                0 => DeliveryMode::OnlyOnce,
                _ => DeliveryMode::Overlap,
            },
            assigned_clientid_prefix: self.text()?,
        })
    }

    /// Digest, effects polled, time and call.
    pub(super) fn entry(&mut self) -> Option<(u64, u32, Instant, Again<'r>)> {
        let digest = self.number()?;
        let (polled, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        let now = Instant::from_micros(self.number()?);
        Some((digest, u32::from_le_bytes(*polled), now, self.call()?))
    }

    fn call(&mut self) -> Option<Again<'r>> {
        let (kind, rest) = self.0.split_first()?;
        if *kind == 9 {
            self.0 = rest;
            let from = u16::try_from(self.number()?).ok()?;
            return Some(Again::Peer(from, PeerMsg::decode(self.data()?)?));
        }
        self.plain_call().map(Again::Call)
    }

    fn plain_call(&mut self) -> Option<Call<'r>> {
        Some(match self.u8()? {
            0 => {
                let remote = self.optional(Self::address)?;
                Call::Open(ConnInfo { remote, local: self.optional(Self::address)? })
            }
            1 => {
                let conn = self.conn_id()?;
                Call::Transmit { conn, budget: usize::try_from(self.number()?).ok()? }
            }
            2 => Call::Take(self.subscriber()?),
            3 => {
                let conn = self.conn_id()?;
                Call::Handle(Input::Received { conn, bytes: self.data()? })
            }
            4 => Call::Handle(Input::Closed { conn: self.conn_id()? }),
            5 => {
                let conn = self.conn_id()?;
                Call::Handle(Input::Authenticated { conn, verdict: self.verdict()? })
            }
            6 => Call::Handle(Input::Timeout),
            7 => {
                let token = self.number()?;
                Call::Handle(Input::Command { token, command: self.command()? })
            }
            8 => Call::HandOver(self.conn_id()?),
            10 => Call::TakePeer(u16::try_from(self.number()?).ok()?),
            _ => return None,
        })
    }

    fn verdict(&mut self) -> Option<Verdict> {
        let bytes = |reader: &mut Self| reader.data().map(Bytes::copy_from_slice);
        Some(match self.u8()? {
            0 => Verdict::Accept { data: self.optional(bytes)? },
            1 => Verdict::Continue { data: self.optional(bytes)? },
            _ => Verdict::Refuse(self.reason()?),
        })
    }

    fn command(&mut self) -> Option<Command> {
        Some(match self.u8()? {
            0 => Command::Publish(Box::new(self.publication()?)),
            1 => {
                let queue = u32::try_from(self.number()?).ok()?;
                let count = self.number()?;
                let mut filters = Vec::new();
                for _ in 0..count {
                    filters.push((self.text()?, self.qos()?));
                }
                Command::Subscribe { filters, queue }
            }
            2 => Command::Unsubscribe(self.subscriber()?),
            3 => {
                let after = self.number()?;
                Command::Clients { after, limit: u32::try_from(self.number()?).ok()? }
            }
            4 => Command::Disconnect {
                client_id: self.text()?,
                reason: self.reason()?,
                end_session: self.flag()?,
            },
            5 => Command::Stats,
            6 => Command::Shutdown,
            _ => return None,
        })
    }

    fn publication(&mut self) -> Option<Publication> {
        let mut publication = Publication {
            topic: self.text()?,
            payload: Bytes::copy_from_slice(self.data()?),
            qos: self.qos()?,
            retain: self.flag()?,
            utf8: self.flag()?,
            expiry: self.optional(|r| u32::try_from(r.number()?).ok())?,
            content_type: self.optional(Self::text)?,
            response_topic: self.optional(Self::text)?,
            correlation_data: self.optional(|r| r.data().map(Bytes::copy_from_slice))?,
            user_properties: Vec::new(),
        };
        for _ in 0..self.number()? {
            publication.user_properties.push((self.text()?, self.text()?));
        }
        Some(publication)
    }
}
