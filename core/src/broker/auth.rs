//! Authentication: what the driver is asked about a client, and what comes of its decision.

use alloc::boxed::Box;
use alloc::string::String;

use bytes::Bytes;

use super::conn::{Conn, Waiting};
use super::connect::List;
use super::receive::Step;
use super::slots::Key;
use super::{AuthRequest, AuthStep, Broker, DisconnectReason, Verdict};
use crate::codec::{Auth, Packet, Properties, Property, PropertyId, ReasonCode};
use crate::connection::Negotiated;
use crate::time::Instant;

impl Broker {
    pub(super) fn auth(
        &mut self,
        session: Option<Key>,
        negotiated: &Negotiated,
        auth: &Auth<'_>,
    ) -> Step {
        let (method, data) = authentication(auth.properties);
        let step = match auth.reason {
            ReasonCode::Reauthenticate if session.is_some() => AuthStep::Reauthenticate,
            _ => AuthStep::Continue,
        };
        let session = session.and_then(|key| self.sessions.get(key));
        let request = AuthRequest {
            client_id: session.map_or_else(String::new, |s| String::from(&*s.client_id)),
            username: None,
            password: None,
            method: method.map(String::from),
            data: data.map(Into::into),
            step,
            version: negotiated.version,
        };
        Step::Decide(None, Box::new(request))
    }

    /// The driver has decided about a client.
    pub(super) fn authenticated(&mut self, now: Instant, key: Key, verdict: Verdict) {
        let Some(mut conn) = self.conns.take(key) else { return };
        if conn.waiting != Waiting::Verdict || conn.closing {
            self.conns.put(key, conn);
            return;
        }
        match verdict {
            Verdict::Accept { data } if conn.session.is_none() => {
                conn.waiting = Waiting::Nothing;
                self.accept_or_refuse(now, key, &mut conn, data);
            }
            Verdict::Accept { data } => {
                self.send_auth(now, key, &mut conn, ReasonCode::Success, data);
            }
            Verdict::Continue { data } => {
                self.send_auth(now, key, &mut conn, ReasonCode::ContinueAuthentication, data);
            }
            Verdict::Refuse(reason) if conn.session.is_none() => {
                self.refuse(now, key, &mut conn, reason);
            }
            Verdict::Refuse(reason) => {
                // [MQTT-4.12.1-2]
                let why = DisconnectReason::Refused(reason);
                let said = ReasonCode::NotAuthorized;
                self.shut(now, key, &mut conn, why, Some(said));
            }
        }
        let waits = matches!(conn.waiting, Waiting::Peers(_));
        if !waits {
            conn.waiting = Waiting::Nothing;
        }
        self.finish(now, key, &mut conn);
        self.put_back(key, conn);
        if !waits {
            self.resume(now, key);
        }
    }

    fn send_auth(
        &mut self,
        now: Instant,
        key: Key,
        conn: &mut Conn,
        reason: ReasonCode,
        data: Option<Bytes>,
    ) {
        // [MQTT-4.12.0-5]
        let method = conn.machine.method().map(String::from);
        let mut list = List::new();
        if let Some(method) = &method {
            let _ = list.push(Property::AuthenticationMethod(method));
        }
        if let Some(data) = &data {
            let _ = list.push(Property::AuthenticationData(data));
        }
        let auth = Packet::Auth(Auth { reason, properties: Properties::list(&list) });
        if conn.machine.send(now, &auth, &mut conn.out).is_ok() {
            self.stats.packets_sent[15] += 1;
        } else if conn.session.is_none() {
            // Without a method there is no AUTH; or the client does not take one of this size.
            self.refuse(now, key, conn, ReasonCode::BadAuthenticationMethod);
        } else {
            let why = DisconnectReason::Refused(ReasonCode::NotAuthorized);
            self.shut(now, key, conn, why, Some(ReasonCode::NotAuthorized));
        }
    }
}

/// Authentication Method and Authentication Data.
pub(super) fn authentication<'p>(
    properties: Properties<'p>,
) -> (Option<&'p str>, Option<&'p [u8]>) {
    let method = match properties.find(PropertyId::AuthenticationMethod) {
        Some(Property::AuthenticationMethod(method)) => Some(method),
        _ => None,
    };
    let data = match properties.find(PropertyId::AuthenticationData) {
        Some(Property::AuthenticationData(data)) => Some(data),
        _ => None,
    };
    (method, data)
}
