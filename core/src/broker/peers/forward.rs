//! Messages between shards: to whom, and when they are taken.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::fanout::Target;
use super::super::jobs::Source;
use super::super::message::{Body, Head, Message, MessageId};
use super::super::publish::{Draft, Published};
use super::super::{Broker, DropReason};
use super::link::{Link, Need, Open, Waiter};
use super::msg::{Forward, Msg, Parcel, Way};
use super::retry::Owned;
use super::run::{Run, Small};
use super::share::Shares;
use super::{DELIVER, OWNER, Peers, bits};
use crate::codec::Qos;
use crate::time::Instant;

/// Runs kept for the next small messages.
const SPARE: usize = if cfg!(fuzzing) { 1 } else { 16 };

/// Who beside the sessions here is to have a message.
#[derive(Debug, Default)]
pub(in crate::broker) struct Wanted {
    /// Shards with matching subscriptions.
    shards: u64,
    /// Shards with the member whose turn it is, for each group.
    shares: Shares,
    /// New subscriptions here.
    early: bool,
}

impl Wanted {
    pub(in crate::broker) fn is_nobody(&self) -> bool {
        self.shards == 0 && self.shares.is_empty() && !self.early
    }

    /// Whether other shards only want it, for subscribers of their own.
    pub(in crate::broker) fn is_plain(&self) -> bool {
        self.shares.is_empty() && !self.early
    }

    /// How many shards and groups.
    pub(in crate::broker) fn len(&self) -> usize {
        self.shards.count_ones() as usize + self.shares.len()
    }
}

impl Peers {
    /// Sends a message to a set of shards, to each once, all under one number.
    pub(super) fn send(
        &mut self,
        shards: u64,
        message: &Message,
        way: impl Fn(usize) -> Way,
    ) -> Need {
        let parcel = Parcel { head: message.head.clone(), body: message.body().clone() };
        self.send_parcel(shards, parcel, way)
    }

    /// The same, for their own subscribers.
    pub(super) fn send_for_all(&mut self, shards: u64, message: &Message) -> Need {
        match Small::of_message(message) {
            Some(small) => self.send_small(shards, &small),
            None => self.send(shards, message, |_| Way::Deliver),
        }
    }

    fn send_parcel(&mut self, shards: u64, parcel: Parcel, way: impl Fn(usize) -> Way) -> Need {
        let need = self.next_number(shards, way(0).lane());
        let last = shards.checked_ilog2().map(|last| last as usize);
        let cost = parcel.body.footprint();
        let mut parcel = Some(parcel);
        for shard in bits(shards) {
            let Some(link) = self.sent(shard, &need, cost) else { continue };
            // The last one gets it, the others a copy.
            let parcel = if Some(shard) == last { parcel.take() } else { parcel.clone() };
            let Some(parcel) = parcel else { continue };
            let (number, way) = (need.number, way(shard));
            link.out.push(Msg::Forward(Forward { number, cost, way, parcel }));
        }
        need
    }

    /// Sends a small message for the subscribers of a set of shards, under one number.
    fn send_small(&mut self, shards: u64, small: &Small<'_>) -> Need {
        let need = self.next_number(shards, DELIVER);
        for shard in bits(shards) {
            let Some(link) = self.sent(shard, &need, small.footprint()) else { continue };
            if let Some(Msg::Run(run)) = link.out.last_mut()
                && !run.is_full()
            {
                run.push(need.number, small);
                continue;
            }
            let mut run = self.runs.pop().unwrap_or_default();
            run.push(need.number, small);
            self.links[shard].out.push(Msg::Run(run));
        }
        need
    }

    fn next_number(&mut self, shards: u64, lane: usize) -> Need {
        self.clock += 1;
        Need { lane, number: self.clock, shards }
    }

    /// Enters a message for one shard into the books.
    fn sent(&mut self, shard: usize, need: &Need, cost: u64) -> Option<&mut Link> {
        let &Need { lane, number, shards } = need;
        if defect!("forward_forgotten") && number.is_multiple_of(8) && shards.count_ones() > 1 {
            return None;
        }
        let link = &mut self.links[shard];
        link.sent[lane] = number;
        link.under_way[lane].push_back(number);
        link.sent_bytes[lane] += cost;
        self.note_link(shard, lane);
        Some(&mut self.links[shard])
    }

    /// Keeps a run for the next small messages. One too many goes back empty to who sent it, who
    /// may get none from anywhere else.
    fn spare(&mut self, from: u16, mut run: Run) {
        let empty = run.len() == 0;
        run.clear();
        if self.runs.len() < SPARE {
            self.runs.push(run);
        } else if !empty {
            self.links[usize::from(from)].out.push(Msg::Run(run));
        }
    }

    /// Counts what another shard sent as taken, as far as it is done with.
    pub(super) fn settle(&mut self, from: u16, lane: usize) {
        loop {
            let Some(open) = self.links[usize::from(from)].open[lane].front() else { return };
            if !open.here || !(self.is_met(&open.need) || defect!("owner_waits_for_nobody")) {
                return;
            }
            self.links[usize::from(from)].close_first(lane);
        }
    }

    /// A message of another shard is in all queues here, and sent to others.
    fn done(&mut self, from: u16, lane: usize, number: u64, need: Option<Need>) {
        let open = &mut self.links[usize::from(from)].open[lane];
        let Ok(at) = open.binary_search_by_key(&number, |open| open.number) else { return };
        match need {
            Some(need) => {
                open[at].need = need;
                self.wait(&need, Waiter::Peer(from));
            }
            None => open[at].here = true,
        }
        self.settle(from, lane);
    }
}

impl Broker {
    /// The other shard that must publish a message, if it is to be retained there.
    pub(in crate::broker) fn remote_owner(&self, topic: &str) -> Option<u16> {
        let peers = self.peers.as_ref()?;
        let owner = peers.place.owner(topic);
        if defect!("retained_without_owner") {
            return None;
        }
        (owner != peers.place.shard).then_some(owner)
    }

    /// Who elsewhere is to have a message that is published here. Members of groups here whose
    /// turn it is are added to `targets`.
    #[inline]
    pub(in crate::broker) fn wanted(
        &mut self,
        draft: &Draft<'_>,
        targets: &mut Vec<Target>,
    ) -> Wanted {
        if self.peers.is_none() {
            return Wanted::default();
        }
        self.wanted_elsewhere(draft, targets)
    }

    fn wanted_elsewhere(&mut self, draft: &Draft<'_>, targets: &mut Vec<Target>) -> Wanted {
        let early = self.has_early(draft.retain);
        let Some(peers) = &mut self.peers else { return Wanted::default() };
        let place = peers.place;
        // An acknowledgement says whether somebody wants it, and so does the answer to the program.
        let exact = draft.qos != Qos::AtMostOnce || !matches!(draft.source, Source::Conn(_));
        let fingerprint = || place.fingerprint(draft.topic);
        let shards = peers.routes.matches(draft.topic, exact, fingerprint);
        let shares = match peers.routes.has_groups() {
            true => self.wanted_by_groups(draft.topic, targets),
            false => Shares::new(),
        };
        Wanted { shards, shares, early }
    }

    /// Sends a message to all shards that want it.
    pub(in crate::broker) fn spread(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        mut wanted: Wanted,
    ) -> Need {
        if wanted.early
            && let Some(peers) = &self.peers
        {
            let own = peers.place.shard;
            self.hold_early(now, own, message);
        }
        let Some(peers) = &mut self.peers else { return Need::default() };
        let mut need = Need::default();
        if wanted.shards != 0 {
            need = peers.send_for_all(wanted.shards, message);
        }
        for (shard, full) in wanted.shares.drain(..) {
            let way = Way::Share { full, tried: 0 };
            let last = peers.send(1 << shard, message, |_| way.clone());
            // One lane: the last number stands for all before it.
            need = Need { shards: need.shards | last.shards, ..last };
        }
        peers.lent.keep_shares(wanted.shares);
        need
    }

    /// Sends a message that nobody here wants to all shards that do, where `wanted` is plain.
    pub(in crate::broker) fn pass(
        &mut self,
        draft: &Draft<'_>,
        id: MessageId,
        body: impl FnOnce(Vec<u8>) -> Body,
        wanted: &Wanted,
    ) -> Need {
        let Some(peers) = &mut self.peers else { return Need::default() };
        if let Some(small) = Small::of_draft(draft, id) {
            return peers.send_small(wanted.shards, &small);
        }
        let parcel = Parcel { head: draft.head(id), body: body(Vec::new()) };
        peers.send_parcel(wanted.shards, parcel, |_| Way::Deliver)
    }

    /// Hands a message that is to be retained to the shard that owns its topic.
    pub(in crate::broker) fn send_to_owner(
        &mut self,
        draft: &Draft<'_>,
        body: Body,
        owner: u16,
    ) -> Published {
        let id = self.next_message_id();
        let parcel = Parcel { head: draft.head(id), body };
        let Some(peers) = &mut self.peers else { return Published::default() };
        let need = peers.send_parcel(1 << owner, parcel, |_| Way::Owner);
        Published { receivers: 1, job: false, need }
    }

    /// Takes a message of another shard.
    pub(super) fn take_forward(&mut self, now: Instant, from: u16, forward: Forward) {
        let Forward { number, cost, way, parcel } = forward;
        let lane = way.lane();
        let Some(peers) = &mut self.peers else { return };
        let open = Open { number, bytes: cost, here: false, need: Need::default() };
        peers.links[usize::from(from)].open[lane].push_back(open);
        if lane == DELIVER && self.is_full() {
            self.refuse_here(now, from, &way, parcel);
            return self.forward_done(from, DELIVER, number);
        }
        match way {
            Way::Deliver => self.deliver_here(now, from, number, parcel),
            Way::Owner => {
                if let Some(peers) = &mut self.peers {
                    peers.owned.push_back(Owned { from, number, parcel });
                }
                self.take_turns(now);
            }
            Way::Share { full, tried } => {
                let message = self.adopt(parcel);
                if !self.share_here(now, &message, &full) {
                    self.pass_share(now, &message, &full, tried);
                }
                self.forward_done(from, DELIVER, number);
            }
        }
    }

    /// There is no memory for a message that another shard let in: each session it was for is told
    /// to have lost it. Waiting for memory instead would stop publishers on all shards for the
    /// sake of sessions that may be gone for good. A subscription that does not stand yet, and has
    /// its owner's answer, gets it all the same: it must not end with the older value.
    fn refuse_here(&mut self, now: Instant, from: u16, way: &Way, parcel: Parcel) {
        let mut targets = core::mem::take(&mut self.targets);
        targets.clear();
        match way {
            Way::Share { full, .. } => {
                if let Some(group) = self.groups.number(full) {
                    self.choose(group, &mut targets);
                }
            }
            _ => self.find_targets(&Draft::of(&parcel), &mut targets),
        }
        let message = self.adopt(parcel);
        if let Way::Share { full, tried } = way
            && targets.is_empty()
        {
            // Its members have gone: another shard may have some.
            self.pass_share(now, &message, full, *tried);
        }
        self.lose_copies(message.head.qos, &mut targets);
        self.keep_targets(targets);
        if matches!(way, Way::Deliver) {
            self.hold_early(now, from, &message);
        }
    }

    /// Takes small messages of another shard, as many as there is room for.
    pub(super) fn take_run(&mut self, now: Instant, from: u16, run: Run) {
        let taken = self.peers.as_mut().map_or(0, |peers| peers.backlog.taken());
        let mut rest = None;
        for (at, (number, small)) in run.iter().enumerate().skip(taken) {
            if at > taken && self.is_delivering_much() {
                rest = Some(at);
                break;
            }
            let job = if self.is_full() {
                self.refuse_here(now, from, &Way::Deliver, small.parcel());
                false
            } else {
                self.deliver_small(now, from, number, &small)
            };
            let Some(peers) = &mut self.peers else { return };
            let link = &mut peers.links[usize::from(from)];
            let bytes = small.footprint();
            if job || !link.open[DELIVER].is_empty() {
                let open = Open { number, bytes, here: !job, need: Need::default() };
                link.open[DELIVER].push_back(open);
            } else {
                link.take(DELIVER, number, bytes);
            }
        }
        let Some(peers) = &mut self.peers else { return };
        match rest {
            Some(at) => peers.backlog.put_back(from, run, at),
            None => peers.spare(from, run),
        }
    }

    /// Delivers to the sessions here; true if not all have it yet.
    fn deliver_small(&mut self, now: Instant, from: u16, number: u64, small: &Small<'_>) -> bool {
        let mut targets = core::mem::take(&mut self.targets);
        let early = self.targets_here(&small.draft(), &mut targets);
        let job = (!targets.is_empty() || early) && {
            let message = self.adopt_small(small);
            self.deliver_to(now, (from, number), message, &mut targets)
        };
        self.keep_targets(targets);
        job
    }

    /// The same for a message of its own.
    fn deliver_here(&mut self, now: Instant, from: u16, number: u64, parcel: Parcel) {
        let mut targets = core::mem::take(&mut self.targets);
        let early = self.targets_here(&Draft::of(&parcel), &mut targets);
        let job = (!targets.is_empty() || early) && {
            let message = self.adopt(parcel);
            self.deliver_to(now, (from, number), message, &mut targets)
        };
        self.keep_targets(targets);
        if !job {
            self.forward_done(from, DELIVER, number);
        }
    }

    /// Who here is to have a message of another shard; those that can be served at once have it
    /// then. True if subscriptions behind their gates could want it.
    fn targets_here(&mut self, draft: &Draft<'_>, targets: &mut Vec<Target>) -> bool {
        targets.clear();
        self.find_targets(draft, targets);
        let early = self.has_early(draft.retain);
        if targets.is_empty()
            && !early
            && let Some(peers) = &mut self.peers
        {
            peers.withdraw_idle(draft.topic);
        }
        if let Some(payload) = draft.plain {
            self.stage(draft, payload, targets);
        }
        early
    }

    fn deliver_to(
        &mut self,
        now: Instant,
        (from, number): (u16, u64),
        message: Arc<Message>,
        targets: &mut Vec<Target>,
    ) -> bool {
        self.hold_early(now, from, &message);
        let source = Source::Peer { from, lane: DELIVER, number };
        !targets.is_empty() && self.hand_out(now, source, message, targets)
    }

    /// Publishes and retains a message of another shard whose topic is owned here.
    pub(super) fn publish_owned(&mut self, now: Instant, from: u16, number: u64, parcel: Parcel) {
        let Parcel { head, body } = parcel;
        if self.is_full() && !body.payload().is_empty() {
            // The old value is not true any more.
            self.unretain(body.topic());
            // As where it was published, but that the client is told nothing.
            let publisher = head.publisher.clone().unwrap_or_else(|| Arc::from(""));
            self.dropped_event(publisher, head.qos, DropReason::OutOfBudget, 1);
            return self.forward_done(from, OWNER, number);
        }
        let mut topic = core::mem::take(&mut self.topic);
        topic.clear();
        topic.push_str(body.topic());
        let draft = Draft {
            topic: &topic,
            qos: head.qos,
            retain: true,
            empty: body.payload().is_empty(),
            plain: None,
            expires: head.expires,
            publisher: head.publisher.as_ref(),
            source: Source::Peer { from, lane: OWNER, number },
            id: Some(head.id),
            groups: true,
        };
        let published = self.publish(now, &draft, |_| body);
        self.topic = topic;
        if let Some(peers) = &mut self.peers {
            if !published.need.is_nothing() {
                peers.done(from, OWNER, number, Some(published.need));
            }
            if !published.job {
                peers.done(from, OWNER, number, None);
            }
        }
    }

    /// A message of another shard is in all queues here.
    pub(in crate::broker) fn forward_done(&mut self, from: u16, lane: usize, number: u64) {
        if let Some(peers) = &mut self.peers {
            peers.done(from, lane, number, None);
        }
    }
}

impl<'d> Draft<'d> {
    /// A message that another shard published.
    pub(super) fn of(parcel: &'d Parcel) -> Self {
        Self::of_body(&parcel.head, &parcel.body)
    }

    pub(super) fn of_body(head: &'d Head, body: &'d Body) -> Self {
        let plain = body.wire_properties().is_empty() && head.expires == Instant::NEVER;
        Self {
            topic: body.topic(),
            qos: head.qos,
            retain: head.retain,
            empty: body.payload().is_empty(),
            plain: plain.then_some(body.payload()),
            expires: head.expires,
            publisher: head.publisher.as_ref(),
            source: Source::Nobody,
            id: None::<MessageId>,
            groups: false,
        }
    }
}
