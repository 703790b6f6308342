//! The receiver of QoS 1 and 2 messages.

use crate::Storage;
use crate::codec::{PacketId, Qos};

/// What to do with a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it, and acknowledge it if its QoS is 1 or 2.
    New,
    /// The message of this PUBLISH is delivered already: answer with PUBREC and do no more.
    /// `[MQTT-4.3.3-10]`
    Repeat,
    /// The sender did not respect the Receive Maximum, which ends the connection; nothing changed.
    /// `[MQTT-3.3.4-7]`
    OverQuota,
    /// There is no room to remember its identifier; nothing changed.
    Full,
}

/// Memory for one QoS 2 identifier; the default is unused memory, to make a slice to lend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// `None` only where unused.
    id: Option<PacketId>,
    /// A PUBLISH with it came on this connection, and counts towards the Receive Maximum.
    counts: bool,
    /// PUBREL came; PUBCOMP is to be sent.
    released: bool,
}

/// The receiving half of a session: QoS 2 identifiers not released yet, and how much of the Receive
/// Maximum of this connection is taken.
///
/// Identifiers are kept sorted: they are found by bisection; one that is not the highest takes time
/// in proportion to those above it when it comes or goes.
#[derive(Debug)]
#[cfg_attr(feature = "alloc", derive(Clone))]
pub struct Inbound<'s> {
    held: Storage<'s, Held>,
    receive_maximum: u16,
    max_await_rel: u16,
    /// PUBLISH of this connection without a last acknowledgement.
    open: u32,
    /// How many of `held` are released.
    released: u16,
}

impl<'s> Inbound<'s> {
    /// A half that has received nothing. `receive_maximum` is what the sender was told, where
    /// `u16::MAX` is no limit: 3.1 and 3.1.1 have none. `max_await_rel` is the number of QoS 2
    /// identifiers to remember at most; borrowed memory may be less. Values in `storage` are
    /// dropped; on the heap, memory is allocated when it is needed.
    #[must_use]
    pub fn new(mut storage: Storage<'s, Held>, receive_maximum: u16, max_await_rel: u16) -> Self {
        storage.clear();
        Self { held: storage, receive_maximum, max_await_rel, open: 0, released: 0 }
    }

    /// Changes the limits, for the next PUBLISH on.
    pub fn limit(&mut self, receive_maximum: u16, max_await_rel: u16) {
        self.receive_maximum = receive_maximum;
        self.max_await_rel = max_await_rel;
    }

    /// A new connection takes the session up. Identifiers not released are kept `[U5-069]`, and
    /// count towards the Receive Maximum again only if their PUBLISH is repeated, since the
    /// sender's quota starts afresh too `[U5-073]`. A PUBCOMP that was due is not any more: the
    /// sender repeats its PUBREL.
    pub fn reconnect(&mut self) {
        self.open = 0;
        self.released = 0;
        let mut kept = 0;
        for index in 0..self.held.len() {
            let held = self.held[index];
            if !held.released {
                self.held[kept] = Held { counts: false, ..held };
                kept += 1;
            }
        }
        self.held.truncate(kept);
    }

    /// A PUBLISH came. QoS 0 is always new. QoS 1 counts towards the Receive Maximum until
    /// [`puback_sent`](Self::puback_sent), QoS 2 once until [`pubcomp_sent`](Self::pubcomp_sent)
    /// or [`refuse`](Self::refuse), however often it is repeated and whatever its DUP flag says.
    /// After PUBREL a PUBLISH with the same identifier is new. `[MQTT-4.3.3-12]`
    pub fn publish(&mut self, id: PacketId, qos: Qos) -> Verdict {
        let full = self.receive_maximum < u16::MAX && self.open >= self.receive_maximum.into();
        let place = match qos {
            Qos::AtMostOnce => return Verdict::New,
            Qos::AtLeastOnce if full => return Verdict::OverQuota,
            Qos::AtLeastOnce => {
                self.open = self.open.saturating_add(1);
                return Verdict::New;
            }
            Qos::ExactlyOnce => self.find(id),
        };
        match place {
            Ok(index) => {
                let held = &mut self.held[index];
                if !held.counts {
                    if full {
                        return Verdict::OverQuota;
                    }
                    held.counts = true;
                    self.open = self.open.saturating_add(1);
                }
                if core::mem::take(&mut held.released) {
                    self.released -= 1;
                    return Verdict::New;
                }
                if defect!("qos_2_twice") { Verdict::New } else { Verdict::Repeat }
            }
            Err(_) if full => Verdict::OverQuota,
            Err(_) if self.held.len() >= self.max_await_rel.into() => Verdict::Full,
            Err(index) => {
                let held = Held { id: Some(id), counts: true, released: false };
                if self.held.insert(index, held).is_err() {
                    return Verdict::Full;
                }
                self.open = self.open.saturating_add(1);
                Verdict::New
            }
        }
    }

    /// A PUBREL came, which is always answered with PUBCOMP `[MQTT-4.3.3-11]`. True if its message
    /// was held; false if it is not known, which 5.0 says with Packet Identifier not found.
    pub fn pubrel(&mut self, id: PacketId) -> bool {
        let Ok(index) = self.find(id) else { return false };
        if !core::mem::replace(&mut self.held[index].released, true) {
            self.released += 1;
        }
        true
    }

    /// A PUBACK was sent, with any reason code: one PUBLISH of QoS 1 less is open. To be called
    /// once for each that was [`Verdict::New`]. `[MQTT-4.3.2-5]`
    pub fn puback_sent(&mut self) {
        self.open = self.open.saturating_sub(1 - u32::from(defect!("receive_quota_leaked")));
    }

    /// A PUBCOMP was sent: the identifier is forgotten. Harmless where no PUBREL for it came
    /// before, or a new PUBLISH after it.
    pub fn pubcomp_sent(&mut self, id: PacketId) {
        if let Ok(index) = self.find(id)
            && self.held[index].released
        {
            self.released -= 1;
            self.forget(index);
        }
    }

    /// A PUBREC with a reason code of 0x80 or above was sent: the identifier is forgotten, the
    /// next PUBLISH with it is new `[MQTT-4.3.3-9]`. Harmless where it is not held or is released.
    pub fn refuse(&mut self, id: PacketId) {
        if let Ok(index) = self.find(id)
            && !self.held[index].released
        {
            self.forget(index);
        }
    }

    /// How many QoS 2 identifiers wait for PUBREL.
    #[must_use]
    pub fn awaiting(&self) -> usize {
        self.held.len() - usize::from(self.released)
    }

    /// How many PUBLISH of this connection count towards the Receive Maximum.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Whether nothing is kept for the session: no QoS 2 identifier.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether this QoS 2 identifier waits for PUBREL.
    #[must_use]
    pub fn holds(&self, id: PacketId) -> bool {
        self.find(id).is_ok_and(|index| !self.held[index].released)
    }

    /// The QoS 2 identifiers that wait for PUBREL, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> {
        self.held.iter().filter(|held| !held.released).filter_map(|held| held.id)
    }

    fn forget(&mut self, index: usize) {
        if self.held.remove(index).is_some_and(|held| held.counts) {
            self.open = self.open.saturating_sub(1);
        }
    }

    /// Where an identifier is, or would have to be. Mostly they come above all others and go from
    /// the lowest on.
    fn find(&self, id: PacketId) -> Result<usize, usize> {
        let id = Some(id);
        match &self.held[..] {
            [first, ..] if first.id == id => Ok(0),
            [.., last] if last.id >= id => self.held.binary_search_by_key(&id, |held| held.id),
            held => Err(held.len()),
        }
    }
}

#[cfg(feature = "alloc")]
impl Inbound<'_> {
    /// Gives the memory away, empty, while no identifier is kept, so that idle sessions need none.
    /// `None`, and no change, where one is kept or there is nothing to give.
    pub fn release_memory(&mut self) -> Option<alloc::vec::Vec<Held>> {
        if self.is_empty() { self.held.release() } else { None }
    }

    /// Takes memory in use for what is received next. Harmless, the vector is dropped, where
    /// [`has_memory`](Self::has_memory).
    pub fn lend_memory(&mut self, memory: alloc::vec::Vec<Held>) {
        self.held.lend(memory);
    }

    /// Whether there is memory to start with; otherwise it will be allocated.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        self.held.has_memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const ONE: Qos = Qos::AtLeastOnce;
    const TWO: Qos = Qos::ExactlyOnce;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn ids(half: &Inbound<'_>) -> Vec<u16> {
        half.iter().map(PacketId::get).collect()
    }

    #[test]
    fn a_repeat_before_pubrel_is_not_delivered_twice() {
        // [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12] [v4:MQTT-4.3.3-2]
        let mut memory = [Held::default(); 2];
        let mut half = Inbound::new(Storage::from(&mut memory[..]), 1, 9);
        assert_eq!(half.publish(id(7), TWO), Verdict::New);
        for _ in 0..3 {
            assert_eq!(half.publish(id(7), TWO), Verdict::Repeat, "nor counted twice");
        }
        assert!(half.pubrel(id(7)));
        half.pubcomp_sent(id(7));
        assert!(!half.pubrel(id(7)));
        assert_eq!(half.publish(id(7), TWO), Verdict::New);
    }

    #[test]
    fn identifiers_survive_the_connection() {
        // [U5-069] [MQTT-4.3.3-10]
        let mut memory = [Held::default(); 4];
        let mut half = Inbound::new(Storage::from(&mut memory[..]), 2, 4);
        assert_eq!(half.publish(id(9), TWO), Verdict::New);
        assert_eq!(half.publish(id(3), TWO), Verdict::New);
        half.reconnect();
        assert_eq!((half.open(), ids(&half)), (0, std::vec![3, 9]));
        assert_eq!(half.publish(id(9), TWO), Verdict::Repeat);
        assert_eq!(half.open(), 1, "the sender spent its new quota on the repeat");
        assert_eq!(half.publish(id(1), TWO), Verdict::New);
        assert_eq!(half.publish(id(3), TWO), Verdict::OverQuota);
        assert!(half.pubrel(id(3)), "released without a repeat");
        half.pubcomp_sent(id(3));
        assert_eq!(half.open(), 2, "and gives no quota back that it did not take");
    }

    #[test]
    fn the_receive_maximum_counts_both_kinds_until_the_last_acknowledgement() {
        // [MQTT-3.3.4-7] [U5-073]
        let mut memory = [Held::default(); 4];
        let mut half = Inbound::new(Storage::from(&mut memory[..]), 2, 4);
        assert_eq!(half.publish(id(1), ONE), Verdict::New);
        assert_eq!(half.publish(id(2), TWO), Verdict::New);
        assert_eq!(half.publish(id(3), ONE), Verdict::OverQuota);
        assert_eq!(half.publish(id(3), TWO), Verdict::OverQuota);
        assert_eq!(half.publish(id(3), Qos::AtMostOnce), Verdict::New);
        assert!(half.pubrel(id(2)));
        assert_eq!(half.publish(id(3), TWO), Verdict::OverQuota, "PUBCOMP is not sent yet");
        half.pubcomp_sent(id(2));
        assert_eq!(half.publish(id(3), TWO), Verdict::New);
        half.puback_sent();
        assert_eq!(half.publish(id(4), ONE), Verdict::New);
        assert_eq!(half.publish(id(5), ONE), Verdict::OverQuota);
    }

    #[test]
    fn an_older_protocol_has_no_receive_maximum() {
        let mut memory = [Held::default(); 1];
        let mut half = Inbound::new(Storage::from(&mut memory[..]), u16::MAX, 1);
        for _ in 0..70_000 {
            assert_eq!(half.publish(id(1), ONE), Verdict::New);
        }
        assert_eq!(half.publish(id(1), TWO), Verdict::New);
        assert_eq!(half.open(), 70_001);
    }

    #[test]
    fn a_refused_identifier_is_new_again() {
        // [MQTT-4.3.3-9]
        let mut memory = [Held::default(); 1];
        let mut half = Inbound::new(Storage::from(&mut memory[..]), 1, 1);
        half.refuse(id(5));
        assert_eq!(half.publish(id(5), TWO), Verdict::New);
        half.refuse(id(5));
        assert_eq!((half.open(), half.is_empty()), (0, true));
        assert_eq!(half.publish(id(5), TWO), Verdict::New);
        assert!(half.pubrel(id(5)));
        half.refuse(id(5));
        assert!(half.pubrel(id(5)), "released: PUBCOMP is due and nothing else");
    }

    #[test]
    fn full_is_said_and_changes_nothing() {
        let mut memory = [Held::default(); 2];
        let mut half = Inbound::new(Storage::from(&mut memory[..]), 9, 9);
        assert_eq!(half.publish(id(2), TWO), Verdict::New);
        assert_eq!(half.publish(id(1), TWO), Verdict::New);
        assert_eq!(half.publish(id(3), TWO), Verdict::Full, "the memory is full");
        assert_eq!((half.open(), half.awaiting(), ids(&half)), (2, 2, std::vec![1, 2]));
        half.limit(9, 1);
        assert!(half.pubrel(id(1)));
        half.pubcomp_sent(id(1));
        assert_eq!(half.publish(id(3), TWO), Verdict::Full, "the limit is reached");
        assert_eq!(half.publish(id(2), TWO), Verdict::Repeat);
        assert!(half.holds(id(2)) && !half.holds(id(3)));
    }

    #[test]
    fn an_identifier_in_use_again_before_pubcomp_is_new_and_stays() {
        let mut memory = [Held::default(); 1];
        let mut half = Inbound::new(Storage::from(&mut memory[..]), 9, 9);
        assert_eq!(half.publish(id(1), TWO), Verdict::New);
        assert!(half.pubrel(id(1)));
        assert!(half.pubrel(id(1)), "a repeated PUBREL is answered alike");
        assert_eq!((half.awaiting(), half.holds(id(1))), (0, false));
        assert_eq!(half.publish(id(1), TWO), Verdict::New);
        half.pubcomp_sent(id(1));
        assert!(half.holds(id(1)), "the PUBCOMP was for the message before");
        assert_eq!((half.awaiting(), half.open()), (1, 1));
    }

    #[test]
    fn a_pubcomp_that_was_not_sent_is_not_due_on_a_new_connection() {
        let mut memory = [Held::default(); 3];
        let mut half = Inbound::new(Storage::from(&mut memory[..]), 9, 9);
        for number in [1, 2, 3] {
            assert_eq!(half.publish(id(number), TWO), Verdict::New);
        }
        assert!(half.pubrel(id(2)));
        half.reconnect();
        assert_eq!(ids(&half), [1, 3]);
        assert!(!half.pubrel(id(2)));
        assert_eq!(half.publish(id(2), TWO), Verdict::New);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn an_idle_session_owns_no_memory() {
        let mut half = Inbound::new(Storage::default(), 9, 9);
        assert!(!half.has_memory());
        assert_eq!(half.publish(id(1), TWO), Verdict::New);
        assert!(half.release_memory().is_none(), "an identifier is kept");
        assert!(half.pubrel(id(1)));
        half.pubcomp_sent(id(1));
        let memory = half.release_memory().unwrap();
        assert!(memory.is_empty() && !half.has_memory());
        half.lend_memory(memory);
        assert!(half.has_memory());
    }
}
