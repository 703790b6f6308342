//! Books for several shards, where messages are under way between them for some time.
//!
//! When a message or a subscription takes effect cannot be seen from outside then: only that it is
//! after the packet was received, and before its answer was sent. So these books know what may
//! come and, at rest, what must have come. Which of several copies was lost they do not ask.

mod answers;
mod copies;
mod groups;
mod kept;
mod losses;
mod memory;
mod seats;
mod subscribed;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::rc::Rc;

use fulmar_core::broker::{ConnId, DisconnectReason, Disconnected, Reply};
use fulmar_core::codec::RetainHandling;
use fulmar_core::topic::{matches, split_share};
use fulmar_core::{Instant, Qos, ReasonCode};

pub(super) use self::subscribed::Fate;
use self::subscribed::Subscribed;
use super::publications::Draft;
use super::{Note, Oracle, Session, Subscription, Testament, sends_retained};

/// One SUBSCRIBE to one filter.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) filter: String,
    options: Subscription,
    /// What is retained may come because of it.
    sends: bool,
    conn: ConnId,
    id: u16,
    /// SUBACK was sent.
    answered: bool,
    /// When that was, if it surely stands.
    stands: Option<u64>,
    /// UNSUBSCRIBE came, or another SUBSCRIBE. The broker may never read that: what waits for other
    /// shards goes down with its connection.
    over: bool,
    /// When that was answered.
    gone: Option<u64>,
    /// When it came.
    from: u64,
}

/// One UNSUBSCRIBE from one filter, not answered yet.
#[derive(Debug)]
struct End {
    client: String,
    filter: String,
    conn: ConnId,
    id: u16,
    from: u64,
}

impl Wish {
    pub(super) fn shared(&self) -> bool {
        matches!(split_share(&self.filter), Ok(Some(_)))
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        Self::fits(&self.filter, topic)
    }

    pub(super) fn fits(filter: &str, topic: &str) -> bool {
        let inner = split_share(filter).ok().flatten().map(|(_, inner)| inner);
        matches(inner.unwrap_or(filter), topic)
    }

    /// Whether the broker may have it.
    pub(super) fn lasts(&self) -> bool {
        self.gone.is_none()
    }

    /// Whether the broker has it, and had it at that time.
    pub(super) fn stands_since(&self, time: u64) -> bool {
        !self.over && self.stands.is_some_and(|stands| stands < time)
    }
}

/// One publication.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) note: Rc<Note>,
    /// The last one that it came on while it was not answered.
    conn: Option<ConnId>,
    id: u16,
    will: bool,
    /// When it was received, and when it was answered; of QoS 0 and wills, when everything was at
    /// rest.
    pub(super) from: u64,
    by: Option<u64>,
    /// Both as times. Its expiry began between them, when it was read.
    came: Instant,
    read: Option<Instant>,
    /// The call in which it was received.
    turn: u64,
    /// Its connection ended before that, for another reason than the client's.
    unsure: bool,
    /// It was not retained at a later rest.
    bare: bool,
    /// Its places in the order of what its publisher sent, ascending: that of its number, and of
    /// each repeat that may be the first of it to be read.
    places: Vec<u64>,
}

impl Publication {
    /// Whether it has come before the other for certain, both from one publisher.
    fn precedes(&self, other: &Self) -> bool {
        self.places.last() < other.places.first()
    }

    /// Whether it came on this connection with this identifier. One that came before may have had
    /// the same.
    fn came_as(&self, conn: ConnId, qos: Qos, id: u16) -> bool {
        self.conn == Some(conn) && (self.note.qos, self.id) == (qos, id)
    }

    /// Whether it may take effect in the call that began then.
    fn is_under_way(&self, began: u64) -> bool {
        self.by.is_none_or(|by| by > began)
    }

    /// It was read by now, if that was not known before.
    fn settle(&mut self, tick: u64, now: Instant) {
        if self.by.is_none() {
            (self.by, self.read) = (Some(tick), Some(now));
        }
    }

    /// When it expires at the latest, if that is known.
    fn expires_by(&self) -> Option<Instant> {
        Some(self.note.expires? + self.read?.since(self.came))
    }
}

/// Messages whose order can be told: publisher, topic, QoS as published and as sent, and whether
/// only those with RETAIN are meant.
type Lane = (String, String, Qos, Qos, bool);

/// What a session has got.
#[derive(Debug, Default)]
struct Got {
    wishes: Vec<Wish>,
    /// Those that were over at a rest: what came because of them is among the copies.
    past: Vec<Wish>,
    copies: BTreeMap<u64, u32>,
    last: BTreeMap<Lane, u64>,
    /// Of what is retained, by topic and QoS: the last one, and all.
    retained: BTreeMap<(String, Qos), (u64, BTreeSet<u64>)>,
    /// Losses told of since the last rest.
    lost: u64,
    /// Copies that came since then, and those told of as lost that can have come only then.
    came: u64,
    told: u64,
    /// When that was.
    rested: u64,
    subscribed: Subscribed,
}

/// Somebody asked for all that is retained.
#[derive(Debug)]
struct Asked {
    client: String,
    /// What came: numbers of messages, by topic.
    answers: BTreeMap<String, u64>,
    /// What the client had lost before.
    lost: u64,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    publications: Vec<Publication>,
    by_key: BTreeMap<u64, Vec<usize>>,
    got: BTreeMap<String, Got>,
    ends: Vec<End>,
    /// Wills that are due, and wait for other shards, with their places in the order of what
    /// their clients sent.
    wills: Vec<(String, Testament, u64)>,
    /// Publications before this were settled at the last rest.
    settled: usize,
    /// Clients with every filter they ever subscribed to.
    pub(super) ever: BTreeSet<(String, String)>,
    /// Filters whose SUBACK was sent since this was asked last.
    stood: Vec<String>,
    /// Clients whose queue was full in this call.
    full: BTreeSet<String>,
    /// Who lost a copy of which QoS in this call because it had expired.
    expired: Vec<(String, Qos)>,
    /// Who asked for all that is retained.
    asked: Option<Asked>,
    kept: kept::Kept,
    losses: memory::Losses,
    groups: groups::Groups,
}

impl Books {
    /// The last message of a program with this number in its payload.
    pub(super) fn program_message(&self, key: u64) -> Option<&Publication> {
        let mut all = self.publications.iter().rev();
        all.find(|p| p.note.publisher.is_none() && p.note.key == key)
    }

    pub(super) fn wishes(&self) -> impl Iterator<Item = (&String, &[Wish])> {
        self.got.iter().map(|(client, got)| (client, &got.wishes[..]))
    }

    /// A message came, perhaps to who asked for what is retained.
    fn answer(&mut self, client: &str, topic: &str, key: u64, retain: bool) {
        if let Some(asked) = &mut self.asked
            && asked.client == client
            && retain
        {
            asked.answers.insert(topic.to_string(), key);
        }
    }
}

impl Oracle {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A message was received; it will be published.
    pub(super) fn expect(&mut self, note: Rc<Note>, conn: Option<ConnId>, id: u16, will: bool) {
        let from = self.tick();
        self.books.by_key.entry(note.key).or_default().push(self.books.publications.len());
        let (by, read, unsure, bare, places) = (None, None, false, false, vec![note.number]);
        let (came, turn) = (self.now, self.turn);
        self.books.publications.push(Publication {
            note,
            conn,
            id,
            will,
            from,
            by,
            came,
            read,
            turn,
            unsure,
            bare,
            places,
        });
    }

    /// A message of QoS 2 was received again, and is answered on this connection, if it was not. If
    /// it went down unread with the one before, it is published now, after what was repeated before
    /// it. It did not if it was answered, or came to anybody.
    pub(super) fn repeated(&mut self, conn: ConnId, client: &str, id: u16) {
        let tick = self.tick();
        let got = &self.books.got;
        let mut all = self.books.publications.iter_mut().rev();
        let own = all.find(|p| {
            let same = p.id == id && p.note.qos == Qos::ExactlyOnce && !p.will;
            same && p.note.publisher.as_deref() == Some(client)
        });
        if let Some(publication) = own
            && publication.conn != Some(conn)
            && publication.by.is_none()
        {
            publication.conn = Some(conn);
            if !got.values().any(|got| got.copies.contains_key(&publication.note.key)) {
                publication.places.push(tick);
            }
        }
    }

    /// A will is due: it comes before what its client sends from now on.
    pub(super) fn will_due(&mut self, client: &str, will: Option<Testament>) {
        let place = self.tick();
        self.books.wills.extend(will.map(|will| (client.to_string(), will, place)));
    }

    /// A will is published that was due before. False if there is none.
    pub(super) fn late_will(&mut self, client: &str) -> bool {
        let mut wills = self.books.wills.iter();
        let Some(at) = wills.position(|(of, ..)| of == client) else { return false };
        let (_, will, place) = self.books.wills.remove(at);
        self.publish(Draft::of_will(client, will), None, None);
        self.books.publications.last_mut().into_iter().for_each(|p| p.places = vec![place]);
        true
    }

    /// SUBSCRIBE to one filter was received.
    pub(super) fn wish(
        &mut self,
        (conn, id): (ConnId, u16),
        filter: &str,
        options: Subscription,
        handling: RetainHandling,
    ) {
        let Some(client) = self.wires.get(&conn).and_then(|wire| wire.client.clone()) else {
            return;
        };
        let stands = |w: &Wish| w.filter == filter && !w.over && w.stands.is_some();
        let exists = self.books.got.get(&client).is_some_and(|got| got.wishes.iter().any(stands));
        let sends = sends_retained(handling, exists);
        let from = self.unwish(&client, filter);
        let filter = filter.to_string();
        self.books.ever.insert((client.clone(), filter.clone()));
        let (answered, stands, over, gone) = (false, None, false, None);
        let wish = Wish { filter, options, sends, conn, id, answered, stands, over, gone, from };
        self.books.got.entry(client).or_default().wishes.push(wish);
    }

    /// UNSUBSCRIBE from one filter was received.
    pub(super) fn unsubscribed(&mut self, conn: ConnId, id: u16, client: &str, filter: &str) {
        let from = self.unwish(client, filter);
        let (client, filter) = (client.to_string(), filter.to_string());
        self.books.ends.push(End { client, filter, conn, id, from });
    }

    /// A subscription is replaced or goes; says when.
    fn unwish(&mut self, client: &str, filter: &str) -> u64 {
        let tick = self.tick();
        if let Some(got) = self.books.got.get_mut(client) {
            for wish in got.wishes.iter_mut().filter(|wish| wish.filter == filter) {
                wish.over = true;
                self.books.groups.leaves(client, filter);
            }
        }
        tick
    }

    /// An answer was sent. `fates`: what became of the filters of SUBSCRIBE or UNSUBSCRIBE.
    pub(super) fn settle_answer(
        &mut self,
        conn: ConnId,
        (kind, id): (u8, u16),
        reasons: &[u8],
        fates: &[Fate],
    ) {
        let tick = self.tick();
        let Some(client) = self.wires.get(&conn).and_then(|wire| wire.client.clone()) else {
            return;
        };
        if let Some(got) = self.books.got.get_mut(&client) {
            let mut ends: Vec<(String, u64)> = Vec::new();
            if kind == 9 {
                let new = |wish: &Wish| wish.conn == conn && wish.id == id && !wish.answered;
                let all = got.wishes.iter_mut().filter(|wish| new(wish));
                let mut refused = Vec::new();
                for (wish, fate) in all.zip(fates) {
                    (wish.answered, wish.stands) = (true, (*fate == Fate::Granted).then_some(tick));
                    ends.push((wish.filter.clone(), wish.from));
                    match fate {
                        Fate::Granted => self.books.stood.push(wish.filter.clone()),
                        Fate::Refused => refused.push(wish.from),
                        Fate::Open | Fate::Read => {}
                    }
                }
                got.wishes.retain(|wish| !refused.contains(&wish.from));
            } else if kind == 11 {
                let all = &mut self.books.ends;
                let answered = all.extract_if(.., |end| end.conn == conn && end.id == id);
                ends.extend(answered.map(|end| (end.filter, end.from)));
            }
            for (filter, from) in ends {
                let before = got.wishes.iter_mut().filter(|w| w.filter == filter && w.from < from);
                before.for_each(|wish| wish.gone = wish.gone.or(Some(tick)));
            }
        }
        let qos = match kind {
            4 => Qos::AtLeastOnce,
            5 => Qos::ExactlyOnce,
            _ => return,
        };
        let taken = reasons.first().is_none_or(|reason| *reason < 0x80);
        if qos == Qos::ExactlyOnce {
            self.settle_held(conn, &client, id, taken);
        }
        if reasons.first() == Some(&(ReasonCode::QuotaExceeded as u8)) {
            self.answer_refusal(&client, qos);
        }
        let mut all = self.books.publications.iter_mut().rev();
        if let Some(publication) = all.find(|p| p.came_as(conn, qos, id))
            && publication.by.is_none()
        {
            if taken {
                publication.settle(tick, self.now);
            }
            publication.unsure = !taken;
        }
    }

    /// PUBREC was sent: the broker has the identifier, or it is free again. `[MQTT-4.3.3-9]`
    fn settle_held(&mut self, conn: ConnId, client: &str, id: u16, taken: bool) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        // Of a connection before this one it may be about an older message.
        let Some(held) = session.held.get_mut(&id).filter(|held| held.conn == conn) else { return };
        if taken {
            (held.sure, held.answered) = (true, true);
        } else {
            session.held.remove(&id);
        }
    }

    /// The answer to a program's message came, of the shard that was asked.
    pub(in super::super) fn settle_command(&mut self, key: u64, shard: usize, reply: &Reply) {
        if matches!(reply, Reply::Refused(ReasonCode::QuotaExceeded)) {
            let right = self.refuse_command(key, shard);
            self.ensure(right, "commands", || format!("{key} refused, but there is memory"));
            return;
        }
        let told = match reply {
            Reply::Published { receivers } => Some(*receivers),
            _ => None,
        };
        self.late_receivers(shard, key, told);
        let tick = self.tick();
        let all = self.books.publications.iter_mut();
        all.filter(|p| p.conn.is_none() && p.note.key == key)
            .for_each(|p| p.settle(tick, self.now));
    }

    /// What a connection had sent and was not answered may be lost with it, unless it was the
    /// client that ended it.
    pub(super) fn settle_end(&mut self, event: &Disconnected) {
        let kept = matches!(event.why, DisconnectReason::Client(_) | DisconnectReason::Transport);
        let all = self.books.publications.iter_mut().rev();
        for publication in all.filter(|p| p.conn == Some(event.conn) && p.by.is_none()) {
            publication.unsure |= !kept || publication.note.qos > Qos::AtMostOnce;
        }
        let session = event.client_id.as_deref().and_then(|client| self.sessions.get_mut(client));
        let held = session.into_iter().filter(|_| self.many).flat_map(|s| s.held.values_mut());
        held.filter(|held| held.conn == event.conn).for_each(|held| held.sure &= held.answered);
    }

    pub(super) fn lost(&mut self, client: &str, count: u32) {
        if let Some(got) = self.books.got.get_mut(client) {
            got.lost += u64::from(count);
        }
    }

    /// How many subscriptions a client has: those that stand, and perhaps those of which SUBSCRIBE
    /// or UNSUBSCRIBE waits, or went down with its connection.
    pub(super) fn filters(&self, client: &str) -> RangeInclusive<u32> {
        let Some(got) = self.books.got.get(client) else { return 0..=0 };
        let (least, most) = got.subscribed.count(self.config.max_subscriptions as usize);
        least as u32..=most as u32
    }

    /// A session is no more.
    pub(super) fn forget(&mut self, client: &str, session: &Session) {
        let flying = session.flying.iter().chain(&session.late);
        self.books.groups.session_ended(client, flying);
        self.books.got.remove(client);
        self.books.ends.retain(|end| end.client != client);
    }

    /// Filters whose SUBACK was sent since the last time.
    pub(in super::super) fn take_stood(&mut self) -> Vec<String> {
        std::mem::take(&mut self.books.stood)
    }

    /// Somebody asks for all that is retained, at rest.
    pub(in super::super) fn ask(&mut self, client: &str) {
        let lost = self.books.got.get(client).map_or(0, |got| got.lost);
        let (client, answers) = (client.to_string(), BTreeMap::new());
        self.books.asked = Some(Asked { client, answers, lost });
    }

    /// What was received is published by now, but for what went down with its connection.
    pub(super) fn settle_rest(&mut self) {
        let (tick, now) = (self.tick(), self.now);
        let settled = self.books.settled;
        for publication in &mut self.books.publications[settled..] {
            if !publication.unsure {
                publication.settle(tick, now);
            }
        }
    }

    /// All that is published came, or is counted as lost.
    pub(super) fn check_arrived(&mut self) {
        self.check_lost();
        let settled = self.books.settled;
        let new = &self.books.publications[settled..];
        let mut found = None;
        for (client, got) in &self.books.got {
            let stands = |p: &&Publication| {
                let own = p.note.publisher.as_ref() == Some(client);
                p.by.is_some()
                    && p.note.key != 0
                    && got.wishes.iter().any(|wish| {
                        !wish.over
                            && !wish.shared()
                            && wish.stands.is_some_and(|stands| stands < p.from)
                            && wish.matches(&p.note.topic)
                            && !(own && wish.options.no_local)
                    })
            };
            let absent = |p: &&Publication| !got.copies.contains_key(&p.note.key);
            let missing: Vec<&Publication> = new.iter().filter(stands).filter(absent).collect();
            if self.unexplained(&missing) > got.lost {
                let what = format!("{client}: {} lost, but not {missing:?}", got.lost);
                found = Some(("delivery", what));
            }
        }
        self.check_groups();
        self.books.groups.settle();
        for got in self.books.got.values_mut() {
            got.lost = 0;
            got.past.extend(got.wishes.extract_if(.., |wish| wish.gone.is_some()));
        }
        self.settle_losses();
        self.books.settled = self.books.publications.len();
        if let Some((client, will, _)) = self.books.wills.first() {
            found = Some(("wills", format!("{client}: {will:?}")));
        }
        if let Some((checker, what)) = found {
            self.fail(checker, what);
        }
    }

    /// Topics of messages that may be retained.
    pub(super) fn topics(&self) -> Vec<String> {
        let kept = self.books.publications.iter().filter(|p| p.note.retain);
        let topics: BTreeSet<String> = kept.map(|p| p.note.topic.clone()).collect();
        topics.into_iter().collect()
    }
}
