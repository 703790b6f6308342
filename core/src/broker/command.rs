//! What an embedding program asks for.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::input::{ClientInfo, Command, Publication, Reply};
use super::jobs::Source;
use super::message::Body;
use super::peers::{Need, Waits};
use super::publish::{Draft, Published};
use super::session::Attached;
use super::slots::Key;
use super::subscribe::FIRST_STEPS;
use super::{Broker, DisconnectReason, SessionEnd, SubscriberId};
use crate::codec::{Properties, Property, Qos, ReasonCode};
use crate::time::Instant;
use crate::topic::TopicName;

/// Clients of one page at most.
const PAGE: u32 = 1000;

impl Broker {
    pub(super) fn command(&mut self, now: Instant, token: u64, command: Command) {
        let mut gates = 0;
        let reply = match command {
            Command::Publish(publication) => {
                let clocks = self.program_clocks();
                if self.parks(&clocks, &publication.topic, publication.retain) {
                    self.park(token, publication);
                    return;
                }
                let (reply, need) = self.publish_program(now, &publication);
                self.reply_when(token, reply, need, 0);
                return;
            }
            Command::Subscribe { filters, queue } => {
                self.add_subscriber(now, &filters, queue, &mut gates)
            }
            Command::Unsubscribe(subscriber) => {
                self.end_session(now, subscriber.key(), SessionEnd::Closed);
                Reply::Done
            }
            Command::Clients { after, limit } => self.clients(after, limit.min(PAGE)),
            Command::Disconnect { client_id, reason, end_session } => {
                self.disconnect_client(now, &client_id, reason, end_session)
            }
            Command::Stats => Reply::Stats(Box::new(self.stats())),
            Command::Shutdown => self.shutdown(now),
        };
        let subscribed = match &reply {
            Reply::Subscribed(subscriber) => Some(subscriber.key()),
            _ => None,
        };
        self.reply_when(token, reply, Need::default(), gates);
        // Messages are told of once their subscriber is known.
        if let Some(key) = subscribed {
            self.walk(now, key, FIRST_STEPS);
        }
    }

    /// Publishes for the program; gives the answer, and what must be met before.
    pub(super) fn publish_program(
        &mut self,
        now: Instant,
        publication: &Publication,
    ) -> (Reply, Need) {
        match self.publish_local(now, publication) {
            Ok(published) => {
                self.note_program(&published.need);
                (Reply::Published { receivers: published.receivers as u32 }, published.need)
            }
            Err(reason) => (Reply::Refused(reason), Need::default()),
        }
    }

    fn publish_local(
        &mut self,
        now: Instant,
        publication: &Publication,
    ) -> Result<Published, ReasonCode> {
        if TopicName::new(&publication.topic, self.config.max_topic_levels).is_err() {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if self.is_full() && !publication.clears() {
            return Err(ReasonCode::QuotaExceeded);
        }
        let mut list: Vec<Property<'_>> = Vec::new();
        list.extend(publication.utf8.then_some(Property::PayloadFormatIndicator(1)));
        list.extend(publication.content_type.as_deref().map(Property::ContentType));
        list.extend(publication.response_topic.as_deref().map(Property::ResponseTopic));
        list.extend(publication.correlation_data.as_deref().map(Property::CorrelationData));
        let pairs = &publication.user_properties;
        list.extend(pairs.iter().map(|(name, value)| Property::UserProperty(name, value)));
        // The same checks as for a client's message.
        let check = crate::codec::Publish {
            dup: false,
            qos: Qos::AtMostOnce,
            retain: false,
            topic: &publication.topic,
            packet_id: None,
            properties: Properties::list(&list),
            payload: &publication.payload,
        };
        if crate::codec::Packet::Publish(check).encoded_len(crate::Version::V5).is_err() {
            return Err(ReasonCode::ImplementationSpecificError);
        }
        let draft = Draft {
            topic: &publication.topic,
            qos: publication.qos,
            retain: publication.retain,
            empty: publication.payload.is_empty(),
            plain: list.is_empty().then_some(&publication.payload[..]),
            expires: publication
                .expiry
                .map_or(Instant::NEVER, |secs| now.after_secs(u64::from(secs))),
            publisher: None,
            source: Source::Nobody,
            id: None,
            groups: true,
        };
        let list = Properties::list(&list);
        let body = |spare| Body::new_in(spare, draft.topic, list, &publication.payload);
        Ok(self.publish(now, &draft, body))
    }

    /// A session without a client, whose messages the program takes.
    fn add_subscriber(
        &mut self,
        now: Instant,
        filters: &[(String, Qos)],
        queue: u32,
        gates: &mut u32,
    ) -> Reply {
        if !self.has_room_for_session() {
            return Reply::Refused(ReasonCode::QuotaExceeded);
        }
        let name = format!("$local/{}", self.next_serial);
        let key = self.new_session(now, Arc::from(name));
        if let Some(session) = self.sessions.get_mut(key) {
            session.attached = Attached::Local(queue.max(1));
            session.expiry = u32::MAX;
        }
        let waits = Waits::Reply(self.next_reply());
        for (filter, qos) in filters {
            match self.subscribe_local(key, filter, *qos, waits) {
                Ok(gate) => *gates += u32::from(gate),
                Err(reason) => {
                    *gates = 0;
                    self.end_session(now, key, SessionEnd::Closed);
                    return Reply::Refused(reason);
                }
            }
        }
        Reply::Subscribed(SubscriberId::of(key))
    }

    fn clients(&self, after: u64, limit: u32) -> Reply {
        let mut clients = Vec::new();
        let mut rest = self.serials.range(after.saturating_add(1)..).filter_map(|(_, index)| {
            self.sessions.key_at(*index).and_then(|key| self.client_info(key))
        });
        while clients.len() < limit as usize {
            let Some(info) = rest.next() else {
                return Reply::Clients { clients, next: None };
            };
            clients.push(info);
        }
        let next = rest.next().and_then(|_| clients.last().map(|last| last.serial));
        Reply::Clients { clients, next }
    }

    fn client_info(&self, key: Key) -> Option<ClientInfo> {
        let session = self.sessions.get(key)?;
        let remote = match session.attached {
            Attached::Local(_) => return None,
            Attached::Conn(conn) => self.conns.get(conn).and_then(|conn| conn.info.remote),
            Attached::Nothing => None,
        };
        Some(ClientInfo {
            serial: session.serial,
            client_id: session.client_id.clone(),
            connected: session.is_attached(),
            version: session.version,
            username: session.username.as_deref().map(String::from),
            remote,
            keep_alive: session.keep_alive,
            clean_start: session.clean_start,
            session_expiry: session.expiry,
            connected_at: session.connected_at,
            disconnected_at: session.disconnected_at,
            subscriptions: session.subscriptions.len() as u32,
            queued: session.queue.len() as u32,
            queued_bytes: session.queue.bytes(),
            in_flight: session.outbound.in_flight() as u32,
            await_rel: session.inbound.awaiting() as u32,
            delivered: session.delivered,
            dropped: session.dropped,
        })
    }

    fn disconnect_client(
        &mut self,
        now: Instant,
        client_id: &str,
        reason: ReasonCode,
        end_session: bool,
    ) -> Reply {
        let key = self.clients.get(client_id).and_then(|index| self.sessions.key_at(*index));
        let Some(key) = key else {
            return Reply::Refused(ReasonCode::ClientIdentifierNotValid);
        };
        let attached = self.sessions.get(key).map(|session| session.attached);
        if let Some(Attached::Conn(conn)) = attached
            && let Some(mut taken) = self.conns.take(conn)
        {
            let why = DisconnectReason::Administrative;
            self.shut(now, conn, &mut taken, why, Some(reason));
            self.finish(now, conn, &mut taken);
            self.put_back(conn, taken);
        }
        if end_session {
            self.end_session(now, key, SessionEnd::Closed);
        }
        Reply::Done
    }

    /// Wills are not published: their clients did not leave.
    fn shutdown(&mut self, now: Instant) -> Reply {
        self.stopping = true;
        let keys: Vec<Key> = self.conns.keys().collect();
        for key in keys {
            if let Some(session) = self.conns.get(key).and_then(|conn| conn.session) {
                self.forget_will(session);
            }
            self.disconnect(now, key, DisconnectReason::ShuttingDown);
        }
        Reply::Done
    }
}
