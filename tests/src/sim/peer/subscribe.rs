//! SUBSCRIBE and UNSUBSCRIBE.

use fulmar_core::codec::{
    Filters, Packet, Properties, Property, RetainHandling, Subscribe, SubscriptionOptions,
    TopicFilters, Unsubscribe,
};
use fulmar_core::{Instant, PacketId, Qos, Version};

use super::super::plan::Plan;
use super::super::rng::Rng;
use super::{Peer, bytes};

impl Peer {
    pub(in super::super) fn subscribe(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        now: Instant,
    ) -> Vec<u8> {
        let five = self.version == Version::V5;
        let uses = &plan.uses;
        let mut filters = Vec::new();
        // The first of several may take the last room.
        let most = if plan.tight { 1 } else { 3 };
        for _ in 0..rng.range(1, most) {
            let filter = *rng.pick(&plan.filters);
            let handling = rng.pick(&[
                RetainHandling::Send,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]);
            let options = SubscriptionOptions {
                qos: Qos::from_bits(rng.below(3) as u8).unwrap_or_default(),
                no_local: five && uses.no_local && rng.chance(400) && !filter.starts_with("$share"),
                retain_as_published: five && rng.chance(400),
                retain_handling: if five { *handling } else { RetainHandling::Send },
            };
            filters.push((filter, options));
        }
        let identifier = rng.range(1, 300) as u32;
        let list = [Property::SubscriptionIdentifier(identifier)];
        let with = five && uses.identifiers && rng.chance(600);
        let properties = if with { Properties::list(&list) } else { Properties::EMPTY };
        self.send_subscribe(now, &filters, properties)
    }

    fn send_subscribe(
        &mut self,
        now: Instant,
        filters: &[(&str, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Vec<u8> {
        if let Some(ours) = &mut self.ours {
            return ours.subscribe(now, filters, properties);
        }
        let packet_id = PacketId::new(self.take_id()).unwrap_or(PacketId::MIN);
        let filters = Filters::list(filters);
        bytes(self.version, &Packet::Subscribe(Subscribe { packet_id, properties, filters }))
    }

    /// For all retained messages that match.
    pub(in super::super) fn subscribe_all(&mut self, now: Instant, filter: &str) -> Vec<u8> {
        let options =
            SubscriptionOptions { qos: Qos::ExactlyOnce, ..SubscriptionOptions::default() };
        self.send_subscribe(now, &[(filter, options)], Properties::EMPTY)
    }

    /// For messages from now on only, where its version has a word for that: no other shard is
    /// asked for anything then.
    pub(in super::super) fn subscribe_live(&mut self, now: Instant, filter: &str) -> Vec<u8> {
        let retain_handling = match self.version {
            Version::V5 => RetainHandling::DoNotSend,
            _ => RetainHandling::Send,
        };
        let (qos, none) = (Qos::ExactlyOnce, SubscriptionOptions::default());
        let options = SubscriptionOptions { qos, retain_handling, ..none };
        self.send_subscribe(now, &[(filter, options)], Properties::EMPTY)
    }

    pub(in super::super) fn unsubscribe(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        now: Instant,
    ) -> Vec<u8> {
        let filters = [*rng.pick(&plan.filters), *rng.pick(&plan.filters)];
        let filters = &filters[..rng.range(1, 2) as usize];
        if let Some(ours) = &mut self.ours {
            return ours.unsubscribe(now, filters);
        }
        let filters = TopicFilters::list(filters);
        let packet_id = PacketId::new(self.take_id()).unwrap_or(PacketId::MIN);
        let properties = Properties::EMPTY;
        bytes(self.version, &Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }))
    }
}
