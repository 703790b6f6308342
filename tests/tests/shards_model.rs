//! The rules by which shards keep routes and retained messages, on a model small enough to look at
//! every order in which three messages of two publishers, a SUBSCRIBE, and all that shards say to
//! each other can happen.
//!
//! One topic, owned by shard 2; a publisher on shard 0 and one on shard 1, where the subscriber is,
//! too. The subscription is new, and its filter the topic; or it has a wildcard, so that shard 0 is
//! asked as well, which never has anything retained; or such a one stands already and is replaced.
//! With all rules no order of events loses, doubles or disorders a message or ends with an old
//! value; without any one of them some order does.

use std::collections::{HashSet, VecDeque};

const OWNER: usize = 2;
const SUBSCRIBER: usize = 1;
/// All that are told of the subscription.
const OTHERS: [usize; 2] = [0, OWNER];

/// A message: publisher and place in what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Value {
    publisher: usize,
    place: usize,
}

/// A message for the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Seen {
    value: Value,
    /// As the retained message that SUBSCRIBE asked for.
    asked: bool,
}

/// What one shard says to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Msg {
    Announce,
    Confirm,
    Query,
    /// The retained message.
    Page(Option<Value>),
    /// For the subscriber.
    Live(Value, bool),
    /// For the owner, to be stored and handed on.
    ToOwner(Value),
    /// To be stored only; a shard that breaks a rule hands it out itself.
    StoreOnly(Value),
    /// A message is with the subscriber, or with the owner and all it handed it to.
    Taken(Value),
}

/// The rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// SUBACK waits until all shards know of the subscription.
    Confirms,
    /// A message without RETAIN is not taken before the owner has answered.
    PlainAfterAnswer,
    /// Nor one with RETAIN.
    RetainedAfterAnswer,
    /// The owner is asked with the announcement, not when the subscription stands.
    AskedAtOnce,
    /// The owner knows of the subscription before it answers.
    AnnouncedFirst,
    /// Messages with RETAIN go to the owner only.
    OneWay,
    /// A publisher changes its way only when what it sent before has been taken.
    WayAfterTaken,
    /// What an owner got is taken when those it handed it to have taken it.
    OwnerWaits,
    /// Links keep order.
    LinksKeepOrder,
    /// A new subscription stands when all owners have answered, not one.
    AllAnswers,
    /// What an owner answers to one that is replaced waits for no other owner.
    AnswersAtOnce,
}

const RULES: [Broken; 11] = [
    Broken::Confirms,
    Broken::PlainAfterAnswer,
    Broken::RetainedAfterAnswer,
    Broken::AskedAtOnce,
    Broken::AnnouncedFirst,
    Broken::OneWay,
    Broken::WayAfterTaken,
    Broken::OwnerWaits,
    Broken::LinksKeepOrder,
    Broken::AllAnswers,
    Broken::AnswersAtOnce,
];

/// How a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Gate {
    /// SUBSCRIBE has not come.
    None,
    Shut,
    Open,
    /// It stands from before, and SUBSCRIBE has not come.
    Standing,
    /// It stands, and SUBACK to its replacement has not gone.
    Replaced,
}

impl Gate {
    /// Whether everything is to be had.
    fn stands(self) -> bool {
        !matches!(self, Self::None | Self::Shut)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    links: [[VecDeque<Msg>; 3]; 3],
    /// Whether a shard knows of the subscription.
    routed: [bool; 3],
    store: Option<Value>,
    /// All that was stored, in order.
    log: Vec<Value>,
    /// What each publisher sends next.
    next: [usize; 2],
    /// What it sent that was not taken, with whether that went by the owner.
    under_way: [Vec<(Value, bool)>; 2],
    /// What the owner handed on, with the shard it came from.
    handed: Vec<(Value, usize)>,
    gate: Gate,
    confirmed: [bool; 3],
    answered: [bool; 3],
    held: Vec<Seen>,
    seen: Vec<Seen>,
    /// Sent after SUBACK.
    owed: Vec<Value>,
}

/// What is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    /// The topic: its owner is asked.
    Exact,
    /// More than that: all are asked.
    Wild,
    /// The same, and the subscription stands already.
    Standing,
}

const FILTERS: [Filter; 3] = [Filter::Exact, Filter::Wild, Filter::Standing];

/// What is tried: whether each message of each publisher has RETAIN, the subscription, and the
/// broken rule.
struct Trial {
    sends: [Vec<bool>; 2],
    filter: Filter,
    broken: Broken,
}

impl Trial {
    fn retains(&self, value: Value) -> bool {
        self.sends[value.publisher][value.place]
    }

    fn breaks(&self, rule: Broken) -> bool {
        self.broken == rule
    }

    fn stands(&self) -> bool {
        self.filter == Filter::Standing
    }

    /// The shards that are asked for retained messages.
    fn asked(&self) -> &'static [usize] {
        if self.filter == Filter::Exact { &[OWNER] } else { &OTHERS }
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
            gate: if self.stands() { Gate::Standing } else { Gate::None },
            confirmed: [0, 1, 2].map(told),
            answered: [false; 3],
            held: Vec::new(),
            seen: Vec::new(),
            owed: Vec::new(),
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
        if matches!(state.gate, Gate::None | Gate::Standing) {
            let mut after = state.clone();
            self.subscribe(&mut after);
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
        let retain = self.retains(value);
        let waits = state.under_way[publisher].iter().any(|(_, by_owner)| *by_owner != retain);
        if waits && !self.breaks(Broken::WayAfterTaken) {
            return false;
        }
        state.next[publisher] += 1;
        if state.gate.stands() {
            state.owed.push(value);
        }
        let shard = publisher;
        if retain && !self.breaks(Broken::OneWay) {
            state.links[shard][OWNER].push_back(Msg::ToOwner(value));
            state.under_way[publisher].push((value, true));
            return true;
        }
        if retain {
            state.links[shard][OWNER].push_back(Msg::StoreOnly(value));
        }
        if shard == SUBSCRIBER {
            self.arrive(state, shard, value, retain);
        } else if state.routed[shard] {
            state.links[shard][SUBSCRIBER].push_back(Msg::Live(value, retain));
            state.under_way[publisher].push((value, false));
        }
        true
    }

    fn subscribe(&self, state: &mut State) {
        state.gate = if self.stands() { Gate::Replaced } else { Gate::Shut };
        for shard in OTHERS {
            let link = &mut state.links[SUBSCRIBER][shard];
            let asked = self.asked().contains(&shard) && !self.breaks(Broken::AskedAtOnce);
            if asked && self.breaks(Broken::AnnouncedFirst) {
                link.push_back(Msg::Query);
            }
            if !self.stands() {
                link.push_back(Msg::Announce);
            }
            if asked && !self.breaks(Broken::AnnouncedFirst) {
                link.push_back(Msg::Query);
            }
        }
    }

    fn take(&self, state: &mut State, from: usize, to: usize, msg: Msg) {
        match msg {
            Msg::Announce => {
                state.routed[to] = true;
                state.links[to][from].push_back(Msg::Confirm);
            }
            Msg::Query => {
                let page = Msg::Page(state.store.filter(|_| to == OWNER));
                state.links[to][from].push_back(page);
            }
            Msg::Confirm => {
                state.confirmed[from] = true;
                self.try_open(state);
            }
            Msg::Page(value) => {
                let page = value.map(|value| Seen { value, asked: true });
                let at_once = state.gate.stands() && !self.breaks(Broken::AnswersAtOnce);
                if at_once || state.gate == Gate::Open {
                    state.seen.extend(page);
                } else {
                    state.held.extend(page);
                }
                state.answered[from] = true;
                self.try_open(state);
            }
            Msg::Live(value, retain) => {
                self.arrive(state, from, value, retain);
                state.links[to][from].push_back(Msg::Taken(value));
            }
            Msg::StoreOnly(value) => self.keep(state, value),
            Msg::ToOwner(value) => {
                self.keep(state, value);
                if state.routed[to] {
                    state.links[to][SUBSCRIBER].push_back(Msg::Live(value, true));
                    state.handed.push((value, from));
                }
                if !state.routed[to] || self.breaks(Broken::OwnerWaits) {
                    state.links[to][from].push_back(Msg::Taken(value));
                }
            }
            Msg::Taken(value) => {
                let handed = |entry: &(Value, usize)| entry.0 == value;
                if to == OWNER
                    && let Some(at) = state.handed.iter().position(handed)
                {
                    let (_, source) = state.handed.remove(at);
                    if !self.breaks(Broken::OwnerWaits) {
                        state.links[OWNER][source].push_back(Msg::Taken(value));
                    }
                } else if let Some(under_way) = state.under_way.get_mut(value.publisher) {
                    under_way.retain(|(other, _)| *other != value);
                }
            }
        }
    }

    fn keep(&self, state: &mut State, value: Value) {
        state.store = Some(value);
        state.log.push(value);
    }

    /// A message is on the subscriber's shard.
    fn arrive(&self, state: &mut State, from: usize, value: Value, retain: bool) {
        let early = match retain {
            true => {
                let answered = state.answered[OWNER] || self.breaks(Broken::RetainedAfterAnswer);
                answered && (from == OWNER || self.breaks(Broken::OneWay))
            }
            false => self.breaks(Broken::PlainAfterAnswer),
        };
        match state.gate {
            gate if gate.stands() => state.seen.push(Seen { value, asked: false }),
            Gate::Shut if early => state.held.push(Seen { value, asked: false }),
            _ => {}
        }
    }

    fn try_open(&self, state: &mut State) {
        let confirmed = OTHERS.iter().all(|shard| state.confirmed[*shard]);
        let mut answers = self.asked().iter().map(|shard| state.answered[*shard]);
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
                    state.links[SUBSCRIBER][*shard].push_back(Msg::Query);
                }
            }
        }
    }

    /// What is wrong with what the subscriber saw up to now.
    fn fault(&self, state: &State) -> Option<&'static str> {
        for publisher in 0..2 {
            // One that stood had the message before, and is to get it again.
            let live = state.seen.iter().filter(|seen| !(self.stands() && seen.asked));
            let of = live.map(|seen| seen.value).filter(|value| value.publisher == publisher);
            let places: Vec<usize> = of.map(|value| value.place).collect();
            if !places.is_sorted_by(|a, b| a < b) {
                return Some("doubled or disordered");
            }
        }
        let kept = state.seen.iter().map(|seen| seen.value).filter(|value| self.retains(*value));
        let places: Vec<_> = kept.map(|v| state.log.iter().position(|l| *l == v)).collect();
        (!places.is_sorted()).then_some("an old value after a new one")
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
        (last != state.log.last()).then_some("an old value in the end")
    }

    /// Looks at every order; gives how many states there are, and the first fault.
    fn run(&self) -> (usize, Option<&'static str>) {
        let mut known = HashSet::new();
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

/// Every way to give three messages to two publishers, each with RETAIN or without, for each
/// subscription.
fn trials(broken: Broken) -> impl Iterator<Item = Trial> {
    let filters = FILTERS.into_iter();
    let given = filters.flat_map(|filter| (0..4usize).map(move |first| (filter, first)));
    given.flat_map(move |(filter, first)| {
        (0..8u8).map(move |flags| {
            let all: Vec<bool> = (0..3).map(|at| flags & 1 << at != 0).collect();
            let (one, two) = all.split_at(first);
            Trial { sends: [one.to_vec(), two.to_vec()], filter, broken }
        })
    })
}

#[test]
fn with_all_rules_no_order_of_events_goes_wrong() {
    let mut states = [0; FILTERS.len()];
    for trial in trials(Broken::Nothing) {
        let (count, fault) = trial.run();
        assert_eq!(fault, None, "{:?} {:?}", trial.filter, trial.sends);
        states[trial.filter as usize] += count;
    }
    assert!(states.iter().all(|count| *count > 10_000), "{states:?} states are not every order");
}

#[test]
fn without_any_one_of_them_some_order_does() {
    for rule in RULES {
        let fault = trials(rule).find_map(|trial| Some((trial.filter, trial.run().1?)));
        assert!(fault.is_some(), "{rule:?} is not needed");
    }
}
