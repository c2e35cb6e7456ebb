//! Who is who: content ids, infohashes and player tokens.
//!
//! On the real network a content id names a publication and the infohash names its swarm; one is found from the other by
//! asking the network. Here the infohash is a function of the content id, so every simulated engine agrees without a word
//! between them, and an infohash carries its own checksum, so an engine knows one when it sees one.
//!
//! Refuses to guess: text that is not 40 hexadecimal digits is no hash.

use std::fmt;

use md5::Md5;
use sha1::{Digest, Sha1};

/// Bytes of an infohash that carry identity; the last three are a checksum of them. Three bytes make one random content
/// id in sixteen million look like an infohash.
const IDENTITY_BYTES: usize = 17;

/// Twenty bytes written as 40 hexadecimal digits: a content id or an infohash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 20]);

impl ContentHash {
    /// Reads 40 hexadecimal digits of either case; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 40] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Whether this is an infohash of the simulated swarm (its checksum fits).
    pub fn is_infohash(self) -> bool {
        self.0[IDENTITY_BYTES..] == checksum(&self.0[..IDENTITY_BYTES])
    }

    /// The swarm behind this hash: itself when it is an infohash, else the one derived from this content id.
    pub fn infohash(self) -> Self {
        if self.is_infohash() { self } else { self.derived() }
    }

    /// Whether this is the all-zero hash, which real engines fail to load.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 20]
    }

    /// The infohash of the swarm whose descriptor is at this address.
    pub(crate) fn of_text(text: &str) -> Self {
        Self(Sha1::new().chain_update(b"descriptor at ").chain_update(text).finalize().into()).derived()
    }

    /// Eight bytes that differ between swarms: the seed of everything that is derived from an infohash.
    pub(crate) fn seed(self) -> u64 {
        self.0.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    }

    fn derived(self) -> Self {
        let mut bytes: [u8; 20] =
            Sha1::new().chain_update(b"simulated swarm of ").chain_update(self.0).finalize().into();
        let sum = checksum(&bytes[..IDENTITY_BYTES]);
        bytes[IDENTITY_BYTES..].copy_from_slice(&sum);
        Self(bytes)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The infohash (lower-case hexadecimal) of the channel that `content_id` plays, on every simulated engine. An infohash
/// is returned as it is.
///
/// # Panics
///
/// When `content_id` is not 40 hexadecimal digits: a mistake of the test that asks.
pub fn infohash_of(content_id: &str) -> String {
    ContentHash::parse(content_id).expect("a content id is 40 hexadecimal digits").infohash().to_string()
}

/// The token of a player in playback, stat and command URLs: the MD5 of its pid or, without one, of its address.
pub fn token_of(player: &str) -> String {
    hex(&Md5::digest(player.as_bytes()))
}

/// A fresh random value of `bytes` bytes in lower-case hexadecimal (playback session ids, content keys).
pub(crate) fn random_hex(bytes: usize) -> String {
    (0..bytes).fold(String::new(), |text, _| text + &hex(&[rand::random()]))
}

fn checksum(identity: &[u8]) -> [u8; 3] {
    let sum = Sha1::new().chain_update(b"infohash checksum ").chain_update(identity).finalize();
    [sum[0], sum[1], sum[2]]
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "94c2fd8fb9bc8f2fc71a2cbe9d4b866f227a0209";

    #[test]
    fn an_infohash_differs_from_its_content_id_and_is_recognised() {
        let infohash = infohash_of(ID);
        assert_ne!(infohash, ID);
        assert!(ContentHash::parse(&infohash).unwrap().is_infohash());
        assert!(!ContentHash::parse(ID).unwrap().is_infohash());
    }

    #[test]
    fn the_infohash_of_an_infohash_is_itself_and_case_does_not_matter() {
        let infohash = infohash_of(ID);
        assert_eq!(infohash_of(&infohash), infohash);
        assert_eq!(infohash_of(&ID.to_uppercase()), infohash);
    }

    #[test]
    fn what_is_not_40_hexadecimal_digits_is_no_hash() {
        for bad in ["", "not-a-hash", &ID[1..], &format!("{ID}0"), &ID.replace('9', "g"), &"é".repeat(20)] {
            assert_eq!(ContentHash::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_are_those_that_real_engines_printed() {
        assert_eq!(token_of("127.0.0.1"), "f528764d624db129b32c21fbca0cb8d6");
        assert_eq!(token_of("172.17.0.1"), "1b5337d0c8ad813197b506146d8d503d");
    }
}
