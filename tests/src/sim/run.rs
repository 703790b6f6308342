//! The phases of one run: faults, then none until nothing moves, then the end of everything.

use std::time::Duration;

use bytes::Bytes;
use fulmar_core::broker::{Command, ConnId, Publication, Reply};
use fulmar_core::{Qos, ReasonCode, Version};

use super::oracle::Oracle;
use super::peer::Stage;
use super::world::World;

/// Longest wait for work that the broker put off, at rest: longer than it waits to read again
/// from a client that was slowed down.
const PATIENCE: Duration = Duration::from_millis(150);

/// Connections in a row that a client makes without faults before it gives up its messages.
const TRIES: u32 = 20;

impl World {
    /// Runs all phases, or up to the first broken rule.
    pub(super) fn run(&mut self) {
        for _ in 0..self.plan.rounds {
            for step in 0..self.plan.steps {
                self.step(step);
                if self.found().is_some() {
                    return;
                }
            }
            self.settle();
            if self.found().is_some() {
                return;
            }
        }
        self.tear_down();
    }

    /// One step with faults: time passes, and a few things happen.
    fn step(&mut self, step: u32) {
        let faults = self.plan.faults.clone();
        self.now = self.now + Duration::from_micros(self.rng.below(3000));
        if self.rng.chance(faults.jump) {
            self.now = self.now + Duration::from_micros(self.rng.below(3_000_000));
        }
        if self.is_due() && !self.rng.chance(faults.late) || self.rng.chance(faults.spurious) {
            self.fire();
        }
        let peer = self.rng.index(self.peers.len());
        self.act(peer);
        for _ in 0..self.rng.range(1, 8) {
            self.move_something();
        }
        if step.is_multiple_of(16) {
            self.audit(false);
            self.recount();
        }
    }

    fn move_something(&mut self) {
        if self.shards.len() > 1 && self.rng.chance(500) && self.carry_between() {
            return;
        }
        let conns = self.conns();
        if conns.is_empty() {
            return;
        }
        let conn = *self.rng.pick(&conns);
        let most = self.rng.range(1, self.plan.segment) as usize;
        let budget = self.rng.range(0, self.plan.budget) as usize;
        match self.rng.below(8) {
            0..=2 => {
                self.carry_in(conn, most);
            }
            3 | 4 => {
                let unasked = self.rng.chance(self.plan.faults.spurious);
                self.pull(conn, budget, unasked);
            }
            5 | 6 => {
                self.carry_out(conn, most);
            }
            _ => {
                let refuse = self.rng.chance(self.plan.faults.refuse);
                self.decide(conn, refuse);
                self.hang_up(conn);
            }
        }
    }

    /// A client does something, perhaps.
    fn act(&mut self, number: usize) {
        let faults = self.plan.faults.clone();
        let now = self.now;
        let on = self.peers[number].stage;
        if self.peers[number].quiet > now {
            return;
        }
        if on != Stage::Away && self.rng.chance(faults.reset) {
            self.drop_link(number, false);
            return;
        }
        if on != Stage::Away && self.rng.chance(faults.half_close) {
            self.drop_link(number, true);
            return;
        }
        if self.rng.chance(faults.stall) {
            let micros = self.rng.below(4_000_000);
            self.peers[number].stalled = now + Duration::from_micros(micros);
        }
        if self.rng.chance(faults.silence) {
            self.peers[number].quiet = now.after_secs(self.rng.range(1, 6));
        }
        if on == Stage::Away && self.rng.chance(500) || self.rng.chance(faults.takeover) {
            self.connect(number);
            return;
        }
        if self.rng.chance(30) && self.plan.uses.commands {
            self.operate();
        }
        self.tick(number);
        if on == Stage::On && self.peers[number].stage == Stage::On {
            self.act_connected(number);
        }
    }

    fn act_connected(&mut self, number: usize) {
        let slow = self.rng.chance(self.plan.faults.slow_acks);
        if !slow {
            self.acknowledge(number);
        }
        let peer = &self.peers[number];
        if peer.rude && self.rng.chance(self.plan.faults.rude) {
            self.key += 1;
            let (rng, plan) = (&mut self.rng, &self.plan);
            let bytes = self.peers[number].misbehave(rng, plan, self.key);
            self.send(number, &bytes);
            return;
        }
        let silent =
            peer.keep_alive > 0 && peer.spoke.after_secs(u64::from(peer.keep_alive)) <= self.now;
        let silent = silent && peer.ours.is_none();
        let now = self.now;
        let (rng, plan) = (&mut self.rng, &self.plan);
        let peer = &mut self.peers[number];
        let bytes = match rng.below(100) {
            _ if silent => vec![0xc0, 0],
            0..=54 => {
                self.key += 1;
                peer.publish(rng, plan, now, self.key)
            }
            55..=69 => peer.subscribe(rng, plan, now),
            70..=73 => peer.unsubscribe(rng, plan, now),
            74 | 75 if peer.ours.is_none() => vec![0xc0, 0],
            76 | 77 => {
                let bytes = peer.disconnect(rng, now);
                self.hear(number, 0);
                self.send(number, &bytes);
                self.drop_link(number, true);
                return;
            }
            _ => return,
        };
        self.hear(number, 0);
        self.send(number, &bytes);
        self.subscribe_together(number);
    }

    /// Sends the acknowledgements that a client owes, some or all.
    fn acknowledge(&mut self, number: usize) {
        let count = match self.calm {
            true => usize::MAX,
            false => self.rng.range(1, 4) as usize,
        };
        for _ in 0..count {
            let Some(bytes) = self.peers[number].acknowledge(self.now) else { return };
            self.hear(number, 0);
            self.send(number, &bytes);
        }
    }

    /// Commands of an embedding program.
    fn operate(&mut self) {
        let client = self.rng.index(self.peers.len());
        let client_id = self.peers[client].id.clone();
        if self.rng.chance(300) {
            let end_session = self.rng.chance(500);
            let reason = ReasonCode::AdministrativeAction;
            let name = client_id.clone();
            let command = Command::Disconnect { client_id, reason, end_session };
            let shard = self.shards.home(&name);
            self.command(shard, command, |oracle| oracle.condemn(&name, end_session));
            return;
        }
        self.key += 1;
        let qos = Qos::from_bits(self.rng.below(3) as u8).unwrap_or_default();
        let retain = self.plan.uses.retain && self.rng.chance(500);
        let topic = *self.rng.pick(&self.plan.topics);
        self.publish_command(topic, self.key.to_be_bytes().to_vec(), qos, retain);
    }

    /// False if the broker has no room for it.
    fn publish_command(&mut self, topic: &str, payload: Vec<u8>, qos: Qos, retain: bool) -> bool {
        let publication = Publication {
            topic: topic.to_string(),
            payload: Bytes::from(payload.clone()),
            qos,
            retain,
            ..Publication::default()
        };
        let mut copies = None;
        let command = Command::Publish(Box::new(publication));
        let shard = match self.shards.len() {
            1 => 0,
            shards => self.rng.index(shards),
        };
        let reply = self.command(shard, command, |oracle| {
            copies = oracle.publish_command(topic, &payload, qos, retain, shard);
        });
        if let (Some(Reply::Published { receivers }), Some(copies)) = (&reply, &copies) {
            self.note(|| format!("{receivers} receivers, of {copies:?}"));
        }
        let right = match (&reply, &copies) {
            (Some(Reply::Published { receivers }), Some(copies)) => {
                copies.contains(&(*receivers as usize))
            }
            (Some(Reply::Refused(ReasonCode::QuotaExceeded)), None) => true,
            (Some(Reply::Refused(ReasonCode::QuotaExceeded)), _) if self.shards.len() > 1 => {
                copies = None;
                self.oracle.refuse_command(Oracle::key(&payload), shard)
            }
            // The answer may come later.
            (None, Some(_)) => self.shards.len() > 1,
            _ => false,
        };
        if !right {
            self.oracle.complain("commands", &format!("not {copies:?} receivers"));
        }
        copies.is_some()
    }

    /// No faults any more: everybody connects, and everything that is under way arrives.
    fn settle(&mut self) {
        self.calm = true;
        self.note(|| "no faults from here on".to_string());
        for number in 0..self.peers.len() {
            let peer = &mut self.peers[number];
            (peer.quiet, peer.stalled, peer.tries) = (self.now, self.now, 0);
            // What a rude client has done on its connection cannot be mended.
            peer.ashamed = std::mem::take(&mut peer.rude);
            if peer.ashamed || peer.stage == Stage::Waiting {
                self.drop_link(number, false);
            }
        }
        self.converge();
        self.ask_for_retained();
        self.converge();
        self.rest();
        self.calm = false;
        let rude = self.plan.rude;
        for (number, peer) in self.peers.iter_mut().enumerate() {
            peer.rude = number < rude;
            if peer.stage == Stage::GivenUp {
                peer.stage = Stage::Away;
            }
        }
    }

    /// Until nothing moves.
    fn converge(&mut self) {
        while self.found().is_none() {
            if self.settle_step() {
                continue;
            }
            let next = self.shards.poll_timeout().filter(|at| *at <= self.now + PATIENCE);
            match (next, self.shards.next_arrival()) {
                (_, Some(at)) if next.is_none_or(|next| at < next) => self.now = self.now.max(at),
                (Some(at), _) => {
                    self.now = self.now.max(at);
                    self.fire();
                }
                (None, _) => break,
            }
        }
    }

    /// Somebody wants to have all that is retained: then it is known to be what it should be.
    fn ask_for_retained(&mut self) {
        let on: Vec<usize> =
            (0..self.peers.len()).filter(|n| self.peers[*n].stage == Stage::On).collect();
        if on.is_empty() || !self.plan.uses.retain {
            return;
        }
        let number = *self.rng.pick(&on);
        if self.shards.len() > 1 {
            self.oracle.ask(&self.peers[number].id);
        }
        for filter in ["#", "$own/#"] {
            let bytes = self.peers[number].subscribe_all(self.now, filter);
            self.hear(number, 0);
            self.send(number, &bytes);
        }
    }

    /// True if anything moved.
    fn settle_step(&mut self) -> bool {
        let mut moved = false;
        self.drop_old_links();
        for _ in 0..8 {
            moved |= self.shards.len() > 1 && self.carry_between();
        }
        for conn in self.conns() {
            let most = self.rng.range(1, self.plan.segment.max(50)) as usize;
            let budget = self.plan.budget.max(100) as usize;
            moved |= self.carry_in(conn, most);
            moved |= self.decide(conn, false);
            moved |= self.pull(conn, budget, false);
            moved |= self.carry_out(conn, most);
            moved |= self.hang_up(conn);
        }
        for number in 0..self.peers.len() {
            self.now = self.now + Duration::from_micros(10);
            moved |= self.peers[number].owes();
            self.acknowledge(number);
            moved |= self.tick(number);
            if self.peers[number].stage == Stage::Away && self.peers[number].link.is_none() {
                self.forgo(number);
                moved |= self.connect(number);
            }
            let peer = &self.peers[number];
            let spoke = peer.spoke.after_secs(u64::from(peer.keep_alive));
            let silent = peer.keep_alive > 0 && spoke <= self.now && peer.ours.is_none();
            if peer.stage == Stage::On && silent {
                self.send(number, &[0xc0, 0]);
            }
        }
        if self.is_due() {
            self.fire();
            moved = true;
        }
        moved
    }

    /// A client that was cut off for want of memory does not try for ever. Before 5.0 nothing else
    /// tells it of the want; in 5.0 it may be the end of a packet of which the broker has a part.
    fn forgo(&mut self, number: usize) {
        let peer = &mut self.peers[number];
        peer.tries += 1;
        if self.plan.tight && (self.plan.versions != [Version::V5] || peer.tries > TRIES) {
            let oracle = &self.oracle;
            peer.flights.retain(|f| f.released || oracle.holds(&peer.id, f.id));
        }
        // What the broker has taken already cannot be forgotten alone: with its session it can.
        peer.ashamed |= self.plan.tight && peer.tries > 2 * TRIES;
    }

    /// Nothing moves any more.
    fn rest(&mut self) {
        self.note(|| "at rest".to_string());
        for number in 0..self.peers.len() {
            let peer = &self.peers[number];
            if peer.stage == Stage::On
                && let Some(waits) = peer.waits()
            {
                let what = format!("{} waits for {waits}", peer.id);
                self.oracle.complain("exchanges", &what);
            }
        }
        self.check_peers();
        if let Some((token, (_, key))) = self.asked.first_key_value() {
            self.oracle.complain("commands", &format!("no answer to {token}, message {key}"));
        }
        let stats = self.shards.stats();
        self.oracle.check_rest(&stats);
        self.audit(true);
        self.recount();
        for conn in self.conns() {
            let before = self.shards.stats().bytes_sent_total;
            self.pull(conn, 8192, true);
            if self.shards.stats().bytes_sent_total != before {
                self.oracle.complain("wake-up", "bytes waited and nobody was told");
            }
        }
    }

    /// Everybody leaves, every session ends, every retained message goes.
    fn tear_down(&mut self) {
        self.calm = true;
        for number in 0..self.peers.len() {
            if self.peers[number].stage == Stage::On && self.rng.chance(500) {
                let bytes = self.peers[number].disconnect(&mut self.rng, self.now);
                self.hear(number, 0);
                self.send(number, &bytes);
                self.drop_link(number, true);
            } else {
                self.drop_link(number, false);
            }
            // It does not come back.
            self.peers[number].stage = Stage::GivenUp;
        }
        // Where sessions that stay fill the budget, the broker looks at it again for ever.
        for _ in 0..20_000 {
            if self.found().is_some() {
                break;
            }
            if self.settle_step() {
                continue;
            }
            let next = self.shards.poll_timeout().into_iter().chain(self.shards.next_arrival());
            let Some(at) = next.min() else { break };
            self.now = self.now.max(at);
            if self.is_due() {
                self.fire();
            }
        }
        for client_id in self.oracle.clients() {
            let name = client_id.clone();
            let reason = ReasonCode::AdministrativeAction;
            let command = Command::Disconnect { client_id, reason, end_session: true };
            let shard = self.shards.home(&name);
            self.command(shard, command, |oracle| oracle.condemn(&name, true));
        }
        let left: Vec<ConnId> = self.conns();
        if !left.is_empty() {
            self.oracle.complain("rest", &format!("{left:?} are open"));
        }
        self.pass();
        let stats = self.shards.stats();
        self.oracle.check_empty(&stats);
        self.recount();
        for topic in self.oracle.retained_topics() {
            if !self.publish_command(&topic, Vec::new(), Qos::AtMostOnce, true) {
                return;
            }
        }
        self.empty();
    }

    /// What is under way between the shards arrives.
    fn pass(&mut self) {
        while let Some(at) = self.shards.next_arrival() {
            self.now = self.now.max(at);
            self.carry_between();
            if self.found().is_some() {
                return;
            }
        }
    }

    /// Nothing is left at all.
    fn empty(&mut self) {
        for _ in 0..20 {
            self.pass();
            let Some(at) = self.shards.poll_timeout() else { break };
            self.now = self.now.max(at);
            self.fire();
        }
        self.check_peers();
        let stats = self.shards.stats();
        self.oracle.check_empty(&stats);
        // Of several shards the tables of routes stay; that all else is gone says the recount.
        let held = stats.used_bytes > 0 && self.shards.len() == 1 || stats.retained > 0;
        if held || self.shards.poll_timeout().is_some() {
            let what = format!("{:?}, {stats:?}", self.shards.poll_timeout());
            self.oracle.complain("memory", &what);
        }
        self.recount();
    }
}
