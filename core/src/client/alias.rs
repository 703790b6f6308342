//! Topic aliases of one direction, in memory that is lent. `[MQTT-3.3.2-7]`

use super::storage::Memory;

/// Bytes before each topic: alias and length.
const HEAD: usize = 4;
/// Bytes of memory for each alias that the peer may set.
const SHARE: usize = 256;

/// A list of topics with their aliases: what was set last stands last.
#[derive(Debug)]
pub(super) struct Aliases<'s> {
    memory: Memory<'s>,
    used: usize,
    count: u16,
}

impl<'s> Aliases<'s> {
    pub(super) const fn new(memory: Memory<'s>) -> Self {
        Self { memory, used: 0, count: 0 }
    }

    /// How many the peer may set: there is always room for them unless its topics are very long.
    pub(super) fn allowed(&self) -> u16 {
        u16::try_from(self.memory.limit() / SHARE).unwrap_or(u16::MAX)
    }

    /// A new connection has none.
    pub(super) const fn clear(&mut self) {
        (self.used, self.count) = (0, 0);
    }

    /// How many are set.
    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    /// The topic of an alias.
    pub(super) fn topic(&self, alias: u16) -> Option<&str> {
        self.entries().find(|entry| entry.alias == alias).map(|entry| entry.topic)
    }

    /// The alias of a topic.
    pub(super) fn alias(&self, topic: &str) -> Option<u16> {
        self.entries().find(|entry| entry.topic == topic).map(|entry| entry.alias)
    }

    /// Sets or replaces an alias; false, and the alias is not set, where the topic does not fit.
    pub(super) fn set(&mut self, alias: u16, topic: &str) -> bool {
        let old = self.entries().find(|entry| entry.alias == alias);
        if let Some((at, len)) = old.map(|entry| (entry.at, HEAD + entry.topic.len())) {
            self.memory.copy_within(at + len..self.used, at);
            self.used -= len;
            self.count -= 1;
        }
        let Ok(len) = u16::try_from(topic.len()) else { return false };
        let end = self.used + HEAD + topic.len();
        if !self.memory.ensure(end) {
            return false;
        }
        let [a, b] = alias.to_be_bytes();
        let [c, d] = len.to_be_bytes();
        self.memory[self.used..self.used + HEAD].copy_from_slice(&[a, b, c, d]);
        self.memory[self.used + HEAD..end].copy_from_slice(topic.as_bytes());
        self.used = end;
        self.count += 1;
        true
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut at = 0;
        core::iter::from_fn(move || {
            let ([a, b, c, d], rest) = self.memory[at..self.used].split_first_chunk()?;
            let topic = rest.get(..usize::from(u16::from_be_bytes([*c, *d])))?;
            let topic = core::str::from_utf8(topic).ok()?;
            let entry = Entry { at, alias: u16::from_be_bytes([*a, *b]), topic };
            at += HEAD + topic.len();
            Some(entry)
        })
    }
}

struct Entry<'a> {
    at: usize,
    alias: u16,
    topic: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_set_replaced_and_forgotten() {
        let mut memory = [0; 20];
        let mut aliases = Aliases::new(Memory::from(&mut memory[..]));
        assert!(aliases.set(1, "ab") && aliases.set(2, "cde") && aliases.set(1, "xyz"));
        assert_eq!((aliases.topic(1), aliases.topic(2)), (Some("xyz"), Some("cde")));
        assert_eq!((aliases.alias("cde"), aliases.alias("ab")), (Some(2), None));
        assert_eq!(aliases.count(), 2);
        assert!(!aliases.set(3, "abc"));
        assert!(aliases.set(3, "ab"));
        assert!(!aliases.set(2, "long"));
        assert_eq!((aliases.topic(2), aliases.count()), (None, 2));
        aliases.clear();
        assert_eq!((aliases.topic(1), aliases.count()), (None, 0));
        for (len, allowed) in [(0, 0), (255, 0), (256, 1), (4096, 16)] {
            assert_eq!(Aliases::new(Memory::from(&mut std::vec![0; len][..])).allowed(), allowed);
        }
    }
}
