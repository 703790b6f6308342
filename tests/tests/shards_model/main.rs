//! The rules by which shards keep routes and retained messages, on a model small enough to look at
//! every order in which three messages of two publishers, SUBSCRIBE, UNSUBSCRIBE, and all that
//! shards say to each other can happen.
//!
//! One topic, owned by any of the three shards; the subscriber on shard 1, a publisher on shard 0,
//! and another one with the subscriber or on shard 2. A message has RETAIN or not, and one that has
//! may be empty, so that it clears what is retained. The subscription is new, and its filter the
//! topic; or it has a wildcard, so that shards are asked as well that never have anything retained;
//! or such a one stands already and is replaced. Or it is sent once more; or it goes, behind its
//! gate or when it stands, and comes anew: meanwhile its route is withdrawn at any moment, or
//! never.
//! With all rules no order of events loses, doubles or disorders a message, ends with an old value
//! or gives anything to who has unsubscribed; without any one of them some order does, wherever the
//! publishers are.

mod cases;
mod rules;
mod state;

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use cases::{FAR, Filter, Kind, NEAR, OTHERS, SUBSCRIBER, sends};
use rules::{Broken, RULES};
use state::{Fold, Gate, Msg, Seen, State, Value};

/// What is tried: where the publishers are and what each sends, the topic's owner, the
/// subscription, and the broken rule.
struct Trial {
    at: [usize; 2],
    sends: [Vec<Kind>; 2],
    owner: usize,
    filter: Filter,
    broken: Broken,
}

impl Trial {
    fn retains(&self, value: Value) -> bool {
        self.sends[value.publisher][value.place] != Kind::Plain
    }

    /// Whether a message goes to another shard, which owns its topic.
    fn goes_to_owner(&self, value: Value) -> bool {
        self.retains(value) && self.at[value.publisher] != self.owner
    }

    /// Whether anything waits until a message is taken: what goes another way after it. Otherwise
    /// that is not told, which leaves fewer orders to look at.
    fn is_awaited(&self, value: Value) -> bool {
        let places = value.place..self.sends[value.publisher].len();
        let way = |place| self.goes_to_owner(Value { place, ..value });
        places.into_iter().any(|place| way(place) != way(value.place))
    }

    fn breaks(&self, rule: Broken) -> bool {
        self.broken == rule
    }

    /// Whether the subscription stands at first.
    fn stands(&self) -> bool {
        self.filter == Filter::Standing
    }

    /// Whether it may stand when it is subscribed to.
    fn is_replaced(&self) -> bool {
        matches!(self.filter, Filter::Standing | Filter::Again)
    }

    /// The shards that are asked for retained messages.
    fn asked(&self) -> impl Iterator<Item = usize> {
        let wild = matches!(self.filter, Filter::Wild | Filter::Standing);
        OTHERS.into_iter().filter(move |shard| wild || *shard == self.owner)
    }

    fn start(&self) -> State {
        let told = |shard| self.stands() && OTHERS.contains(&shard);
        State {
            links: Default::default(),
            routed: [0, 1, 2].map(told),
            store: None,
            log: Vec::new(),
            next: [0; 2],
            under_way: Default::default(),
            handed: Vec::new(),
            to_come: match self.filter {
                Filter::Twice => 3,
                Filter::Again => 2,
                _ => 1,
            },
            gate: if self.stands() { Gate::Standing } else { Gate::None },
            announced: self.stands().then_some(0),
            changes: 0,
            idle: false,
            awaited: 0,
            confirmed: [0; 3],
            question: 0,
            answered: [false; 3],
            held: Vec::new(),
            seen: Vec::new(),
            owed: Vec::new(),
            before: ([0; 2], 0),
        }
    }

    /// All states that may follow.
    fn following(&self, state: &State) -> Vec<State> {
        let mut following = Vec::new();
        for publisher in 0..2 {
            if state.next[publisher] < self.sends[publisher].len() {
                let mut after = state.clone();
                if self.publish(&mut after, publisher) {
                    following.push(after);
                }
            }
        }
        if state.to_come > 0 {
            let mut after = state.clone();
            after.to_come -= 1;
            match state.to_come {
                2 if self.filter == Filter::Twice => self.unsubscribe(&mut after),
                _ => self.subscribe(&mut after),
            }
            following.push(after);
        }
        if state.idle {
            let mut after = state.clone();
            self.withdraw(&mut after);
            following.push(after);
        }
        for from in 0..3 {
            for to in 0..3 {
                let count = state.links[from][to].len();
                let reach = if self.breaks(Broken::LinksKeepOrder) { count } else { count.min(1) };
                for at in 0..reach {
                    let mut after = state.clone();
                    let msg = after.links[from][to].remove(at).expect("a message");
                    self.take(&mut after, from, to, msg);
                    following.push(after);
                }
            }
        }
        following
    }

    /// The publisher's next message leaves; false if it must wait.
    fn publish(&self, state: &mut State, publisher: usize) -> bool {
        let value = Value { publisher, place: state.next[publisher] };
        let (retain, way) = (self.retains(value), self.goes_to_owner(value));
        let waits = state.under_way[publisher].iter().any(|(_, by_owner)| *by_owner != way);
        if waits && !self.breaks(Broken::WayAfterTaken) {
            return false;
        }
        state.next[publisher] += 1;
        if state.gate.stands() {
            state.owed.push(value);
        }
        let shard = self.at[publisher];
        if way && !self.breaks(Broken::OneWay) {
            state.links[shard][self.owner].push_back(Msg::ToOwner(value));
            if self.is_awaited(value) {
                state.under_way[publisher].push((value, true));
            }
            return true;
        }
        if way {
            state.links[shard][self.owner].push_back(Msg::StoreOnly(value));
        } else if retain {
            self.keep(state, value);
        }
        if shard == SUBSCRIBER {
            self.arrive(state, shard, value, retain);
        } else if state.routed[shard] {
            state.links[shard][SUBSCRIBER].push_back(Msg::Live(value, retain));
            if self.is_awaited(value) {
                state.under_way[publisher].push((value, false));
            }
        }
        true
    }

    fn subscribe(&self, state: &mut State) {
        if state.gate == Gate::Shut && !self.breaks(Broken::AnewWhenAsked) {
            state.held.clear();
        }
        state.gate = if state.gate.stands() { Gate::Replaced } else { Gate::Shut };
        state.answered = [false; 3];
        state.idle &= self.breaks(Broken::WantedStays);
        state.question += 1;
        let (known, question) = (state.announced, Msg::Query(state.question));
        if known.is_none() {
            state.changes += 1;
            state.announced = Some(state.changes);
        }
        state.awaited = match known {
            Some(number) if !self.breaks(Broken::PendingWaits) => number,
            Some(_) => 0,
            None => state.changes,
        };
        let asks = known.is_none() || !self.breaks(Broken::AlwaysAsked);
        for shard in OTHERS {
            let link = &mut state.links[SUBSCRIBER][shard];
            let asked = self.asked().any(|other| other == shard);
            state.answered[shard] |= asked && !asks;
            let at_once = asked && asks && !self.breaks(Broken::AskedAtOnce);
            if at_once && self.breaks(Broken::AnnouncedFirst) {
                link.push_back(question);
            }
            if known.is_none() {
                link.push_back(Msg::Route(state.changes, true));
            }
            if at_once && !self.breaks(Broken::AnnouncedFirst) {
                link.push_back(question);
            }
        }
        if self.owner == SUBSCRIBER {
            // What it owns itself it has at once.
            self.answered(state, SUBSCRIBER, state.question, state.store);
        }
        self.try_open(state);
    }

    /// UNSUBSCRIBE; UNSUBACK is sent at once.
    fn unsubscribe(&self, state: &mut State) {
        state.gate = Gate::None;
        state.idle = true;
        state.answered = [false; 3];
        state.owed.clear();
        if !self.breaks(Broken::HeldGoes) {
            state.held.clear();
        }
        for seen in std::mem::take(&mut state.seen) {
            state.before.0[seen.value.publisher] = seen.value.place + 1;
            let at = state.log.iter().position(|value| *value == seen.value);
            state.before.1 = state.before.1.max(at.map_or(0, |at| at + 1));
        }
    }

    /// Without subscribers others need not know of the filter.
    fn withdraw(&self, state: &mut State) {
        state.idle = false;
        state.changes += 1;
        for shard in OTHERS {
            state.links[SUBSCRIBER][shard].push_back(Msg::Route(state.changes, false));
        }
        if !self.breaks(Broken::AnnouncedAnew) {
            state.announced = None;
        }
    }

    fn take(&self, state: &mut State, from: usize, to: usize, msg: Msg) {
        match msg {
            Msg::Route(number, on) => {
                state.routed[to] = on;
                state.links[to][from].push_back(Msg::Confirm(number));
            }
            Msg::Query(number) => {
                let page = Msg::Page(number, state.store.filter(|_| to == self.owner));
                state.links[to][from].push_back(page);
            }
            Msg::Confirm(number) => {
                state.confirmed[from] = number;
                self.try_open(state);
            }
            Msg::Page(number, value) => self.answered(state, from, number, value),
            Msg::Live(value, retain) => {
                self.arrive(state, from, value, retain);
                if self.is_awaited(value) {
                    state.links[to][from].push_back(Msg::Taken(value));
                }
            }
            Msg::StoreOnly(value) => self.keep(state, value),
            Msg::ToOwner(value) => {
                self.keep(state, value);
                if to == SUBSCRIBER {
                    self.arrive(state, to, value, true);
                } else if state.routed[to] {
                    state.links[to][SUBSCRIBER].push_back(Msg::Live(value, true));
                }
                if !self.is_awaited(value) {
                    return;
                }
                if state.routed[to] {
                    state.handed.push((value, from));
                }
                if !state.routed[to] || self.breaks(Broken::OwnerWaits) {
                    state.links[to][from].push_back(Msg::Taken(value));
                }
            }
            Msg::Taken(value) => {
                let handed = |entry: &(Value, usize)| entry.0 == value;
                if to == self.owner
                    && let Some(at) = state.handed.iter().position(handed)
                {
                    let (_, source) = state.handed.remove(at);
                    if !self.breaks(Broken::OwnerWaits) {
                        state.links[self.owner][source].push_back(Msg::Taken(value));
                    }
                } else if let Some(under_way) = state.under_way.get_mut(value.publisher) {
                    under_way.retain(|(other, _)| *other != value);
                }
            }
        }
    }

    /// An owner answers what it was asked.
    fn answered(&self, state: &mut State, from: usize, number: u8, value: Option<Value>) {
        let page = value.map(|value| Seen { value, asked: true });
        if state.gate == Gate::None && self.breaks(Broken::GoneGetsNothing) {
            return state.seen.extend(page);
        }
        let own = number == state.question || self.breaks(Broken::OwnAnswer);
        if !own || state.gate == Gate::None || state.answered[from] {
            return;
        }
        let at_once = state.gate.stands() && !self.breaks(Broken::AnswersAtOnce);
        if at_once || state.gate == Gate::Open {
            state.seen.extend(page);
        } else {
            state.held.extend(page);
        }
        state.answered[from] = true;
        self.try_open(state);
    }

    fn keep(&self, state: &mut State, value: Value) {
        let clears = self.sends[value.publisher][value.place] == Kind::Clears;
        state.store = (!clears).then_some(value);
        state.log.push(value);
    }

    /// A message is on the subscriber's shard.
    fn arrive(&self, state: &mut State, from: usize, value: Value, retain: bool) {
        let early = match retain {
            true => {
                let answered =
                    state.answered[self.owner] || self.breaks(Broken::RetainedAfterAnswer);
                answered && (from == self.owner || self.breaks(Broken::OneWay))
            }
            false => self.breaks(Broken::PlainAfterAnswer),
        };
        match state.gate {
            gate if gate.stands() => state.seen.push(Seen { value, asked: false }),
            // The newest is enough: what is held is all of one topic.
            Gate::Shut if early => state.held = vec![Seen { value, asked: false }],
            _ => {}
        }
    }

    fn try_open(&self, state: &mut State) {
        // Which change was confirmed is not looked at without its rule.
        let most = if self.breaks(Broken::OwnNumber) { 1 } else { u8::MAX };
        let awaited = state.awaited.min(most);
        let confirmed = OTHERS.iter().all(|shard| state.confirmed[*shard] >= awaited);
        let mut answers = self.asked().map(|shard| state.answered[shard]);
        let answered = match self.breaks(Broken::AllAnswers) {
            true => answers.any(|answered| answered),
            false => answers.all(|answered| answered),
        };
        let late = self.breaks(Broken::AskedAtOnce);
        let known = confirmed || self.breaks(Broken::Confirms);
        if matches!(state.gate, Gate::Shut | Gate::Replaced) && known && (answered || late) {
            state.gate = Gate::Open;
            state.seen.append(&mut state.held);
            if late {
                for shard in self.asked() {
                    state.links[SUBSCRIBER][shard].push_back(Msg::Query(state.question));
                }
            }
        }
    }

    /// What is wrong with what the subscriber saw up to now.
    fn fault(&self, state: &State) -> Option<&'static str> {
        if state.gate == Gate::None && !state.seen.is_empty() {
            return Some("something after UNSUBACK");
        }
        for publisher in 0..2 {
            // One that stood had the message before, and is to get it again.
            let live = state.seen.iter().filter(|seen| !(self.is_replaced() && seen.asked));
            let of = live.filter(|seen| seen.value.publisher == publisher);
            let again = |seen: &Seen| !seen.asked && seen.value.place < state.before.0[publisher];
            let ascending = of.clone().is_sorted_by(|a, b| a.value.place < b.value.place);
            if !ascending || of.clone().any(again) {
                return Some("doubled or disordered");
            }
        }
        let kept = state.seen.iter().map(|seen| seen.value).filter(|value| self.retains(*value));
        let places: Vec<_> = kept.map(|v| state.log.iter().position(|l| *l == v)).collect();
        let older = places.first().is_some_and(|at| at.map_or(0, |at| at + 1) < state.before.1);
        (older || !places.is_sorted()).then_some("an old value after a new one")
    }

    /// What is wrong when nothing can happen any more.
    fn fault_at_the_end(&self, state: &State) -> Option<&'static str> {
        let sent = (0..2).all(|publisher| state.next[publisher] == self.sends[publisher].len());
        if !sent || state.gate != Gate::Open {
            return Some("waits for ever");
        }
        let came = |value| state.seen.contains(&Seen { value, asked: false });
        if state.owed.iter().any(|value| !came(*value)) {
            return Some("lost after SUBACK");
        }
        let mut seen = state.seen.iter().map(|seen| &seen.value);
        let last = seen.rfind(|value| self.retains(**value));
        // Who never had any need not be told that there is none.
        let right = last == state.log.last() || last.or(state.store.as_ref()).is_none();
        (!right).then_some("an old value in the end")
    }

    /// Looks at every order; gives how many states there are, and the first fault.
    fn run(&self) -> (usize, Option<&'static str>) {
        let mut known = HashSet::<State, BuildHasherDefault<Fold>>::default();
        let mut open = vec![self.start()];
        while let Some(state) = open.pop() {
            if known.contains(&state) {
                continue;
            }
            if let Some(fault) = self.fault(&state) {
                return (known.len(), Some(fault));
            }
            let following = self.following(&state);
            if following.is_empty()
                && let Some(fault) = self.fault_at_the_end(&state)
            {
                return (known.len(), Some(fault));
            }
            open.extend(following);
            known.insert(state);
        }
        (known.len(), None)
    }
}

fn trials(
    at: [usize; 2],
    owner: usize,
    filter: Filter,
    broken: Broken,
) -> impl Iterator<Item = Trial> {
    sends(filter).into_iter().map(move |sends| Trial { at, sends, owner, filter, broken })
}

/// Nothing goes wrong in any order of events, wherever the owner is.
fn holds(at: [usize; 2], filter: Filter) {
    for owner in 0..3 {
        let case = format!("{filter:?}, publishers {at:?}, owner {owner}");
        let mut states = 0;
        for trial in trials(at, owner, filter, Broken::Nothing) {
            let (count, fault) = trial.run();
            assert_eq!(fault, None, "{case}, {:?}", trial.sends);
            states += count;
        }
        println!("{case}: {states} states");
        assert!(states > 3_000, "{case}: {states} are not every order");
    }
}

#[test]
fn with_all_rules_no_order_goes_wrong_for_one_topic() {
    holds(NEAR, Filter::Exact);
    holds(FAR, Filter::Exact);
}

#[test]
fn nor_for_a_wildcard() {
    holds(NEAR, Filter::Wild);
    holds(FAR, Filter::Wild);
}

#[test]
fn nor_for_a_subscription_that_is_replaced() {
    holds(NEAR, Filter::Standing);
    holds(FAR, Filter::Standing);
}

#[test]
fn nor_for_one_that_goes_and_comes_again() {
    holds(NEAR, Filter::Twice);
}

#[test]
fn nor_for_such_a_one_far_from_both_publishers() {
    holds(FAR, Filter::Twice);
}

#[test]
fn nor_for_one_that_is_sent_once_more() {
    holds(NEAR, Filter::Again);
    holds(FAR, Filter::Again);
}

#[test]
fn without_any_one_of_them_some_order_does() {
    for (rule, filter) in RULES {
        for at in [NEAR, FAR] {
            let mut trials = [2, 0, 1].into_iter().flat_map(|o| trials(at, o, filter, rule));
            let fault = trials.find_map(|trial| trial.run().1);
            assert!(fault.is_some(), "{rule:?} is not needed with {filter:?}, publishers {at:?}");
        }
    }
}
