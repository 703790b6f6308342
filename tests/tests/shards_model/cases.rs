//! What is looked at: places, subscriptions, and what is sent.

pub(super) const SUBSCRIBER: usize = 1;
/// Where the publishers are: one with the subscriber.
pub(super) const NEAR: [usize; 2] = [0, SUBSCRIBER];
/// Neither, and not with each other.
pub(super) const FAR: [usize; 2] = OTHERS;
/// All that are told of the subscription.
pub(super) const OTHERS: [usize; 2] = [0, 2];

/// What is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// The topic: its owner is asked.
    Exact,
    /// More than that: all are asked.
    Wild,
    /// The same, and the subscription stands already.
    Standing,
    /// The topic; it is unsubscribed from, and subscribed to again.
    Twice,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// With RETAIN.
    Kept,
    /// The same without a payload.
    Clears,
}

/// Every way to give three messages to two publishers, each with RETAIN or without, and of those
/// with RETAIN one at most that clears: with a subscription that comes twice only the third, which
/// leaves fewer to look at.
pub(super) fn sends(filter: Filter) -> Vec<[Vec<Kind>; 2]> {
    let mut all = Vec::new();
    let clearing = if filter == Filter::Twice { 2..4 } else { 0..4 };
    for flags in 0..8u8 {
        for clears in clearing.clone() {
            if clears < 3 && flags & 1 << clears == 0 {
                continue;
            }
            let kind = |at: u8| match flags & 1 << at {
                0 => Kind::Plain,
                _ if at == clears => Kind::Clears,
                _ => Kind::Kept,
            };
            let kinds: Vec<Kind> = (0..3).map(kind).collect();
            all.extend((0..4).map(|first| [kinds[..first].to_vec(), kinds[first..].to_vec()]));
        }
    }
    all
}
