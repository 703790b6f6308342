//! Which of several causes each of many things has, where each cause explains only so many.

use std::collections::{BTreeMap, BTreeSet};

/// Who has a place, by what it is in.
type Seats<R> = BTreeMap<R, Vec<usize>>;

/// The first of these that finds no place in one of the rooms it could be in.
pub(super) fn first_without<R: Ord + Clone>(
    wants: &[&[R]],
    room: impl Fn(&R) -> u64,
) -> Option<usize> {
    let mut seats = Seats::new();
    (0..wants.len()).find(|at| !seat(*at, wants, &room, &mut seats, &mut BTreeSet::new()))
}

/// How many of these find a place so.
pub(super) fn places_for<R: Ord + Clone>(wants: &[&[R]], room: impl Fn(&R) -> u64) -> usize {
    let mut seats = Seats::new();
    let all = 0..wants.len();
    all.filter(|at| seat(*at, wants, &room, &mut seats, &mut BTreeSet::new())).count()
}

/// Finds one a place, others may have to change theirs for it.
fn seat<R: Ord + Clone>(
    at: usize,
    wants: &[&[R]],
    room: &impl Fn(&R) -> u64,
    seats: &mut Seats<R>,
    tried: &mut BTreeSet<R>,
) -> bool {
    for wanted in wants[at] {
        if !tried.insert(wanted.clone()) {
            continue;
        }
        let taken = seats.entry(wanted.clone()).or_default();
        if (taken.len() as u64) < room(wanted) {
            taken.push(at);
            return true;
        }
        for other in taken.clone() {
            if seat(other, wants, room, seats, tried) {
                let taken = seats.entry(wanted.clone()).or_default();
                taken.iter_mut().filter(|who| **who == other).for_each(|who| *who = at);
                return true;
            }
        }
    }
    false
}
