//! Keep alive and other deadlines.

use core::time::Duration;

use super::{Client, Failure, Phase};
use crate::time::Instant;

impl Client<'_> {
    /// When to call [`handle_timeout`](Self::handle_timeout); may change with every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.gone {
            return None;
        }
        match self.phase {
            Phase::Connecting => Some(self.since + self.options.connect_timeout),
            Phase::Connected => match (self.ping_at(), self.pong_by()) {
                (Some(ping), Some(pong)) => Some(ping.min(pong)),
                (ping, pong) => ping.or(pong),
            },
            Phase::Closing if !self.cut => Some(self.since + self.options.close_timeout),
            Phase::Closing | Phase::Idle => None,
        }
    }

    /// The time has come, or not yet: then nothing happens.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = self.clock.max(now);
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.phase {
            Phase::Connecting => self.give_up(Failure::ConnectTimeout),
            Phase::Closing => self.cut = true,
            _ => {
                if self.pong_by().is_some_and(|deadline| now >= deadline) {
                    if !self.input.has_frame() {
                        return self.give_up(Failure::KeepAliveTimeout);
                    }
                    // The answer may wait among what the application has not taken yet.
                    self.awaits_pong = Some(now);
                }
                if self.ping_at().is_some_and(|time| now >= time) {
                    // [MQTT-3.1.2-20]
                    self.ping_due = true;
                    self.awaits_pong = self.awaits_pong.or(Some(now));
                }
            }
        }
    }

    /// When PINGREQ is due; one that waits to be sent is not due again.
    fn ping_at(&self) -> Option<Instant> {
        let wanted = self.keep_alive > 0 && !self.ping_due;
        wanted.then(|| self.spoken + Duration::from_secs(self.keep_alive.into()))
    }

    /// When PINGRESP, or anything else, must have come.
    fn pong_by(&self) -> Option<Instant> {
        self.awaits_pong.map(|since| since.max(self.heard) + self.options.ping_timeout)
    }

    /// The server does not answer; nothing more is sent to it.
    fn give_up(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.close(None, false);
        self.cut = true;
    }
}
