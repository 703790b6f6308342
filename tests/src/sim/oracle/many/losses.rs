//! Losses of copies, where it is not known which copies wait: a reason that cannot be is seen at
//! once, and at rest no more may be lost than could have come and did not.

use std::collections::BTreeSet;

use fulmar_core::Qos;
use fulmar_core::broker::{Config, DeliveryMode, DropReason};

use super::super::Oracle;
use super::{Got, Publication, Wish};

impl Oracle {
    /// A client was told to have lost copies.
    pub(in super::super) fn judge_loss(
        &mut self,
        client: &str,
        qos: Qos,
        why: DropReason,
        count: u32,
    ) {
        let copies = match why {
            DropReason::QueueFull | DropReason::Expired | DropReason::Offline => u64::from(count),
            // One that is too large may have come before, on another connection.
            _ => 0,
        };
        match why {
            DropReason::QueueFull => {
                self.books.full.insert(client.to_string());
            }
            DropReason::Expired => self.books.expired.push((client.to_string(), qos)),
            _ => {
                if let Some(doubt) = self.doubt_loss(client, qos, why) {
                    let what = format!("{client}: {count} of {qos:?} dropped, {why:?}, {doubt}");
                    self.fail("losses", what);
                }
            }
        }
        if let Some(got) = self.books.got.get_mut(client) {
            got.told += copies;
        }
    }

    /// Why a loss is none, if so.
    fn doubt_loss(&self, client: &str, qos: Qos, why: DropReason) -> Option<&'static str> {
        let session = self.sessions.get(client)?;
        match why {
            DropReason::TooLarge => {
                let wire = session.conn.and_then(|conn| self.wires.get(&conn));
                let asked = wire.and_then(|wire| wire.asked.as_ref());
                let limited = asked.is_some_and(|asked| asked.max_packet < u32::MAX);
                (!limited).then_some("but none is too large")
            }
            DropReason::Offline => {
                let waits = self.config.queue_qos0_messages || qos > Qos::AtMostOnce;
                (session.conn.is_some() || waits).then_some("but it is not offline")
            }
            _ => None,
        }
    }

    /// A queue that was full in this call is full after it, of what came until then, and what had
    /// expired is known: wills are told of after their copies.
    pub(in super::super) fn judge_full(&mut self) {
        for (client, qos) in std::mem::take(&mut self.books.expired) {
            let all = self.books.publications.iter();
            let mut due = all.map(|p| &p.note).filter(|note| note.qos >= qos);
            let expired = due.any(|note| note.is_expired(self.now));
            let what = || format!("{client}: one of {qos:?} dropped, but none has expired");
            self.ensure(expired, "losses", what);
        }
        let full = std::mem::take(&mut self.books.full);
        let config = &self.config;
        if config.max_msg_queue_bytes < Config::default().max_msg_queue_bytes {
            return;
        }
        let mut found = None;
        for client in full {
            let Some(got) = self.books.got.get(&client) else { continue };
            let waits = self.entitled(&client, got).saturating_sub(got.came + got.told);
            if waits < u64::from(config.max_msg_queue) {
                found = Some(format!("{client}: its queue is full, but {waits} wait at most"));
            }
        }
        if let Some(what) = found {
            self.fail("losses", what);
        }
    }

    /// Copies at most that a client may have been to have since the last rest.
    fn entitled(&self, client: &str, got: &Got) -> u64 {
        let books = &self.books;
        let once = self.config.delivery_mode == DeliveryMode::OnlyOnce;
        let wishes = || got.wishes.iter().chain(&got.past);
        let new = |wish: &&Wish| wish.from > got.rested && !wish.shared();
        let of = |p: &Publication| {
            let own = p.note.publisher.as_deref() == Some(client);
            let (mut plain, mut groups, mut again) = (0, BTreeSet::new(), 0);
            for wish in wishes().filter(|wish| wish.matches(&p.note.topic)) {
                if wish.shared() {
                    groups.insert(&*wish.filter);
                } else if !(own && wish.options.no_local) {
                    plain += 1;
                    // It may come as a retained one, too.
                    again += u64::from(p.note.retain && new(&wish));
                }
            }
            let live = if once { plain.min(1) } else { plain };
            live + groups.len() as u64 + again
        };
        let live: u64 = books.publications[books.settled..].iter().map(of).sum();
        let kept = books.publications[..books.settled].iter().filter(|p| p.note.retain);
        let topics: BTreeSet<&str> = kept.map(|p| &*p.note.topic).collect();
        let matching = |wish: &Wish| topics.iter().filter(|topic| wish.matches(topic)).count();
        live + wishes().filter(new).map(|wish| matching(wish) as u64).sum::<u64>()
    }

    /// At rest: nobody was told of more losses than there were.
    pub(super) fn check_lost(&mut self) {
        let tick = self.tick();
        let mut found = None;
        for (client, got) in &self.books.got {
            let most = self.entitled(client, got);
            if got.came + got.told > most {
                let (came, told) = (got.came, got.told);
                found = Some(format!("{client}: {came} came, {told} lost, of {most} at most"));
            }
        }
        for got in self.books.got.values_mut() {
            (got.came, got.told, got.rested) = (0, 0, tick);
        }
        if let Some(what) = found {
            self.fail("losses", what);
        }
    }
}
