//! Which shard a broker is, and which shard something belongs to.

/// Shards of one process at most: sets of them are 64 bits.
pub const MAX_SHARDS: u16 = 64;
/// The lower bits of a client's serial number count the sessions of its shard; what stands above
/// them is the shard.
pub const SERIAL_BITS: u32 = 48;

/// Which shard a broker is among how many, and the key that places sessions and topics. The same
/// key and number of shards must be given to all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// This one, from 0.
    pub shard: u16,
    /// How many there are, 1 to [`MAX_SHARDS`].
    pub shards: u16,
    /// From the operating system's random source; secret, since who knows it can choose client
    /// identifiers and topics that all fall on one shard.
    pub key: u64,
}

impl core::fmt::Debug for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} of {}", self.shard, self.shards)
    }
}

/// What is hashed, so that a text has nothing to do with itself in another role.
#[derive(Clone, Copy)]
enum Role {
    Client = 1,
    Topic = 2,
    Filter = 3,
}

impl Place {
    /// The only shard.
    pub const ALONE: Self = Self { shard: 0, shards: 1, key: 0 };

    /// The shard that has the session of this Client Identifier.
    #[must_use]
    pub fn home(&self, client_id: &str) -> u16 {
        self.pick(Role::Client, client_id)
    }

    /// The shard that keeps the retained message of this Topic Name.
    #[must_use]
    pub fn owner(&self, topic: &str) -> u16 {
        self.pick(Role::Topic, topic)
    }

    /// Stands for a filter without wildcards, or for a Topic Name that it matches.
    pub(in crate::broker) fn fingerprint(&self, text: &str) -> u64 {
        self.hash(Role::Filter, text)
    }

    /// Stands for a filter with wildcards: 128 bits, so that no two have the same one.
    pub(super) fn wide_fingerprint(&self, text: &str) -> [u64; 2] {
        siphash128(self.key, Role::Filter as u64, text.as_bytes())
    }

    /// All shards but this one, as a set.
    pub(super) fn others(&self) -> u64 {
        (u64::MAX >> (64 - u32::from(self.shards.clamp(1, MAX_SHARDS)))) & !(1 << self.shard)
    }

    fn pick(&self, role: Role, text: &str) -> u16 {
        (self.hash(role, text) % u64::from(self.shards.max(1))) as u16
    }

    fn hash(&self, role: Role, text: &str) -> u64 {
        siphash(self.key, role as u64, text.as_bytes())
    }
}

/// SipHash-2-4: the same on every platform, and nobody without the key can choose its results.
fn siphash(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let mut v = absorbed(initial(k0, k1), bytes);
    finished(&mut v, 0xff)
}

/// Its form with 128 bits.
fn siphash128(k0: u64, k1: u64, bytes: &[u8]) -> [u64; 2] {
    let mut v = initial(k0, k1);
    v[1] ^= 0xee;
    v = absorbed(v, bytes);
    let first = finished(&mut v, 0xee);
    v[1] ^= 0xdd;
    [first, finished(&mut v, 0)]
}

fn initial(k0: u64, k1: u64) -> [u64; 4] {
    [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]
}

fn absorbed(mut v: [u64; 4], bytes: &[u8]) -> [u64; 4] {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut v, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    absorb(&mut v, u64::from_le_bytes(last));
    v
}

fn finished(v: &mut [u64; 4], mark: u64) -> u64 {
    v[2] ^= mark;
    for _ in 0..4 {
        round(v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let input: [u8; 15] = core::array::from_fn(|i| i as u8);
        assert_eq!(siphash(k0, k1, &input), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(k0, k1, &[]), 0x726f_db47_dd0e_0e31);
        let wide = |bytes: &[u8]| siphash128(k0, k1, bytes).map(u64::swap_bytes);
        assert_eq!(wide(&[]), [0xa381_7f04_ba25_a8e6, 0x6df6_7214_c755_0293]);
        assert_eq!(wide(&[0]), [0xda87_c1d8_6b99_af44, 0x3476_5911_9b22_fc45]);
        assert_eq!(wide(&input), [0x5493_e999_33b0_a811, 0x7e08_ec0f_97cf_c3d9]);
    }

    #[test]
    fn texts_spread_over_the_shards_and_every_shard_agrees() {
        let places = [0, 1, 2].map(|shard| Place { shard, shards: 3, key: 9 });
        let mut counts = [0; 3];
        for n in 0..300 {
            let text = std::format!("client {n}");
            let home = places[0].home(&text);
            assert!(places.iter().all(|place| place.home(&text) == home));
            counts[usize::from(home)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
        assert_eq!(places.map(|place| place.others()), [0b110, 0b101, 0b011]);
        assert_eq!(Place::ALONE.others(), 0);
        assert_eq!(Place { shard: 63, shards: 64, key: 0 }.others(), u64::MAX >> 1);
    }
}
