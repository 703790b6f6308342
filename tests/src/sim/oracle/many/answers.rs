//! Answers to messages: whether anybody was to have one.

use fulmar_core::ReasonCode;
use fulmar_core::broker::ConnId;

use super::super::Oracle;
use super::{Publication, Wish};

impl Oracle {
    /// Whether PUBACK or PUBREC may say this: that nobody is subscribed where somebody surely was,
    /// or that somebody is where nobody ever was, is wrong. A repeat is taken, whoever is.
    pub(in super::super) fn may_say(
        &self,
        conn: ConnId,
        (kind, id): (u8, u16),
        reasons: &[u8],
    ) -> bool {
        let Some(client) = self.wires.get(&conn).and_then(|wire| wire.client.as_ref()) else {
            return true;
        };
        let own = |p: &&Publication| {
            let same = p.note.publisher.as_ref() == Some(client) && p.id == id && !p.will;
            same && p.note.qos as u8 + 3 == kind
        };
        let Some(found) = self.books.publications.iter().rev().find(own) else { return true };
        if found.conn != Some(conn) || found.places.len() > 1 || found.by.is_some() {
            return true;
        }
        let note = &found.note;
        let counts = |wish: &Wish, who: &str| {
            let own = who == client && wish.options.no_local;
            wish.matches(&note.topic) && !own && wish.stands_since(found.from)
        };
        let wishes = self.books.wishes();
        let sure = wishes.flat_map(|(who, wishes)| wishes.iter().map(move |wish| (who, wish)));
        let mut ever = self.books.ever.iter();
        // The owner of its topic counts as one.
        let owned = note.retain && self.place.owner(&note.topic) != self.place.home(client);
        match reasons.first() {
            Some(code) if *code == ReasonCode::NoMatchingSubscribers as u8 => {
                !owned && !sure.into_iter().any(|(who, wish)| counts(wish, who))
            }
            Some(0) => owned || ever.any(|(_, filter)| Wish::fits(filter, &note.topic)),
            _ => true,
        }
    }
}
