//! How many receivers the answer to a program's message may tell of, where there are several
//! shards: the sessions of the shard that was asked, one for each other shard that wants it, and
//! one for each group. Of a message to be retained, one: the shard that owns its topic.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use fulmar_core::broker::DeliveryMode;

use super::Oracle;
use super::many::Wish;

impl Oracle {
    /// The bounds for a message with this number in its payload, which was just handed to a shard.
    pub(super) fn receivers(&self, shard: usize, key: u64) -> RangeInclusive<usize> {
        self.bounds(shard, key, false)
    }

    /// The answer came later, and may have been found at any time in between.
    pub(super) fn late_receivers(&mut self, shard: usize, key: u64, told: Option<u32>) {
        let bounds = self.bounds(shard, key, true);
        let right = told.is_some_and(|told| bounds.contains(&(told as usize)));
        self.ensure(right, "receivers", || format!("{told:?} of {key}, not {bounds:?}"));
    }

    fn bounds(&self, shard: usize, key: u64, late: bool) -> RangeInclusive<usize> {
        let Some(message) = self.books.program_message(key) else { return 0..=usize::MAX };
        let (note, from) = (&message.note, message.from);
        if note.retain && usize::from(self.place.owner(&note.topic)) != shard {
            return 1..=1;
        }
        let once = self.config.delivery_mode == DeliveryMode::OnlyOnce;
        let (mut least, mut most) = (0, 0);
        // Other shards with a subscriber, and groups.
        let (mut far, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for (client, got) in self.books.wishes() {
            let home = usize::from(self.place.home(client));
            let (mut sure, mut maybe) = (BTreeSet::new(), BTreeSet::new());
            for wish in got.iter().filter(|w| w.lasts() && w.matches(&note.topic)) {
                let stands = wish.stands_since(from);
                if wish.shared() {
                    groups.extend(stands.then_some(&*wish.filter));
                    continue;
                }
                maybe.insert(&*wish.filter);
                sure.extend(stands.then_some(&*wish.filter));
            }
            let count = |filters: &BTreeSet<&str>| match once {
                true => usize::from(!filters.is_empty()),
                false => filters.len(),
            };
            if home == shard {
                least += count(&sure);
                most += count(&maybe);
            } else if !sure.is_empty() {
                far.insert(home);
            }
        }
        if late {
            most = self
                .books
                .ever
                .iter()
                .filter(|(client, filter)| {
                    usize::from(self.place.home(client)) == shard && Wish::fits(filter, &note.topic)
                })
                .count();
        }
        // A shard forgets later than a client that another has no subscriber any more.
        let ever = self.books.ever.iter();
        let homes = ever.clone().map(|(client, _)| usize::from(self.place.home(client)));
        let shards: BTreeSet<usize> = homes.filter(|home| *home != shard).collect();
        let all: BTreeSet<&str> = ever
            .map(|(_, filter)| &**filter)
            .filter(|filter| filter.starts_with("$share/") && Wish::fits(filter, &note.topic))
            .collect();
        least + far.len() + groups.len()..=most + shards.len() + all.len()
    }
}
