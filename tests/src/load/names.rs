//! Client Identifiers, which decide where a broker with several shards has a client.

use std::io;

use super::scenario::Load;

/// Names tried until one has its session on the shard wanted: of 64 shards one is missed by all of
/// these once in 10^27 times.
const TRIES: usize = 4_096;

/// The Client Identifiers of a load: plain ones, but for subscribers that have others.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    subscribers: Vec<String>,
}

impl Names {
    /// Names with which each subscriber is on the shard of the publisher with its number, where a
    /// hash has put that. `home` says where the client of a name is.
    ///
    /// # Errors
    /// Where clients are is not told.
    pub(super) fn together(
        load: &Load,
        mut home: impl FnMut(&str) -> io::Result<u16>,
    ) -> io::Result<Self> {
        let plain = Self::default();
        let mut subscribers = Vec::new();
        for number in 0..load.subscribers {
            let wanted = home(&plain.of(load, "p", number))?;
            let mut name = plain.of(load, "s", number);
            let base = name.clone();
            for attempt in 0.. {
                if home(&name)? == wanted {
                    break;
                }
                if attempt == TRIES {
                    return Err(io::Error::other("no name has its session where it should"));
                }
                name = format!("{base}-{attempt}");
            }
            subscribers.push(name);
        }
        Ok(Self { subscribers })
    }

    /// The name of a client of this kind with this number in the load.
    pub(super) fn of(&self, load: &Load, kind: &str, number: usize) -> String {
        let number = load.first + number;
        match self.subscribers.get(number) {
            Some(name) if kind == "s" => name.clone(),
            _ => format!("fulmar-load-{kind}-{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::BASE;
    use super::*;

    #[test]
    fn a_subscriber_gets_a_name_that_is_on_the_shard_of_its_publisher() {
        let home = |name: &str| {
            let hash = |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte));
            Ok((name.bytes().fold(7, hash) / 64 % 8) as u16)
        };
        let names = Names::together(&BASE, home).expect("there are enough names");
        let pair = |number| ["p", "s"].map(|kind| names.of(&BASE, kind, number));
        let mut all: Vec<_> = (0..BASE.publishers).flat_map(pair).collect();
        for pair in all.chunks(2) {
            assert_eq!(home(&pair[0]).ok(), home(&pair[1]).ok(), "{pair:?}");
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), BASE.publishers + BASE.subscribers);
        // A part of a load that several threads play has the same names.
        let part = Load { first: 20, ..BASE };
        assert_eq!(names.of(&part, "s", 5), names.of(&BASE, "s", 25));
        // Nobody is where the publishers are.
        let nowhere = |name: &str| Ok(u16::from(name.contains("-s-")));
        assert!(Names::together(&BASE, nowhere).is_err());
    }
}
