//! Whether every message came, once, and in order.
//!
//! Each publisher numbers its messages from 0, separately for each group of subscribers that get
//! the same ones. What goes from one numbering to one subscriber is a flow: the subscriber is to
//! see every number, once, in order.

use std::collections::BTreeSet;

/// What is to be thought of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one, or a later one.
    InOrder,
    /// One that a later one overtook.
    Late,
    /// One that had come.
    Duplicate,
}

/// The flows, and what was wrong in them.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// The number after the highest that came, of each flow.
    next: Vec<u32>,
    /// Numbers that were skipped and have not come since, with their flow.
    skipped: BTreeSet<(usize, u32)>,
    /// Messages that came, each counted once.
    pub(super) delivered: u64,
    pub(super) duplicates: u64,
    pub(super) disordered: u64,
    /// Messages that came to a subscriber that is not to get them, or that nobody had sent.
    pub(super) strays: u64,
    /// Messages that came otherwise than they were sent.
    pub(super) altered: u64,
}

impl Checker {
    pub(super) fn new(flows: usize) -> Self {
        Self { next: vec![0; flows], ..Self::default() }
    }

    /// Message `number` of a flow came. Numbers must have been sent: the gap before one is
    /// remembered.
    #[inline]
    pub(super) fn arrived(&mut self, flow: usize, number: u32) -> Arrival {
        let next = &mut self.next[flow];
        if number >= *next {
            if number > *next {
                self.skipped.extend((*next..number).map(|number| (flow, number)));
            }
            *next = number + 1;
            self.delivered += 1;
            return Arrival::InOrder;
        }
        if self.skipped.remove(&(flow, number)) {
            self.delivered += 1;
            self.disordered += 1;
            return Arrival::Late;
        }
        self.duplicates += 1;
        Arrival::Duplicate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that passes on these numbers of two flows of `sent` messages each.
    fn check(sent: u32, arrivals: &[(usize, u32)]) -> (u64, u64, u64) {
        let mut checker = Checker::new(2);
        for &(flow, number) in arrivals {
            checker.arrived(flow, number);
        }
        let lost = u64::from(2 * sent) - checker.delivered;
        (lost, checker.duplicates, checker.disordered)
    }

    #[test]
    fn a_faithful_broker_has_no_faults() {
        assert_eq!(check(3, &[(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)]), (0, 0, 0));
    }

    #[test]
    fn a_loss_is_seen_at_the_beginning_in_the_middle_and_at_the_end() {
        let all = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
        for lost in all {
            let rest: Vec<_> = all.into_iter().filter(|arrival| *arrival != lost).collect();
            assert_eq!(check(3, &rest), (1, 0, 0), "{lost:?}");
        }
        assert_eq!(check(3, &[]), (6, 0, 0));
    }

    #[test]
    fn a_second_copy_is_a_duplicate_at_once_or_later() {
        assert_eq!(check(2, &[(0, 0), (0, 0), (0, 1), (1, 0), (1, 1)]), (0, 1, 0));
        assert_eq!(check(2, &[(0, 0), (0, 1), (0, 0), (1, 0), (1, 1), (1, 1)]), (0, 2, 0));
    }

    #[test]
    fn an_exchange_is_disorder_and_neither_loss_nor_duplicate() {
        assert_eq!(check(2, &[(0, 1), (0, 0), (1, 0), (1, 1)]), (0, 0, 1));
        // The late one comes twice.
        assert_eq!(check(2, &[(0, 1), (0, 0), (0, 0), (1, 0), (1, 1)]), (0, 1, 1));
    }
}
