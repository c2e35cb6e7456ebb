//! What a channel is called: content ids and infohashes, and the forms people paste.
//!
//! Both names are twenty bytes written as 40 hex digits, and nothing in the digits tells which one it is. This module
//! owns the two types and their text forms. It repairs nothing: trimming or filling up would merge distinct channels.

use std::fmt;
use std::str::FromStr;

/// Twenty bytes that name a channel in one way or the other. Written as 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Self::LEN]);

impl Hash {
    /// Bytes in a hash.
    pub const LEN: usize = 20;

    /// The hash with these bytes.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl FromStr for Hash {
    type Err = InvalidHash;

    /// Exactly 40 ASCII hex digits of either case.
    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        if text.len() != 2 * Self::LEN {
            return Err(InvalidHash);
        }
        let mut bytes = [0; Self::LEN];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let &[high, low] = pair else { return Err(InvalidHash) };
            *byte = hex_digit(high).ok_or(InvalidHash)? << 4 | hex_digit(low).ok_or(InvalidHash)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value of one ASCII hex digit.
pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The text is not 40 hex digits. It is not repeated here: it may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 40 hexadecimal digits")]
pub struct InvalidHash;

/// The swarm's name of a channel: what engines load by, and the identity that all forms of a channel end in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Infohash(Hash);

impl Infohash {
    /// Declares that `hash` is known to be an infohash.
    pub const fn new(hash: Hash) -> Self {
        Self(hash)
    }

    /// The bare hash.
    pub const fn hash(self) -> Hash {
        self.0
    }
}

impl FromStr for Infohash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Infohash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Infohash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentId {
    /// Given as `id=`: a content id or an infohash, nobody has said which.
    Id(Hash),
    /// Given as `infohash=`.
    Infohash(Infohash),
}

/// The scheme of links that start AceStream players.
const SCHEME: &str = "acestream:";

impl ContentId {
    /// The name in any form a person may paste: 40 hex digits of either case, `acestream://<40 hex>`,
    /// `acestream:?infohash=<40 hex>` or `acestream:?content_id=<40 hex>`. Nothing is trimmed or repaired, but for the slash
    /// that some programs add to a link of the first kind.
    pub fn from_any_form(text: &str) -> Result<Self, InvalidHash> {
        let Some(rest) = strip_scheme(text) else { return text.parse().map(Self::Id) };
        if let Some(hash) = rest.strip_prefix("//") {
            hash.strip_suffix('/').unwrap_or(hash).parse().map(Self::Id)
        } else if let Some(hash) = rest.strip_prefix("?infohash=") {
            hash.parse().map(Self::Infohash)
        } else if let Some(hash) = rest.strip_prefix("?content_id=") {
            hash.parse().map(Self::Id)
        } else {
            Err(InvalidHash)
        }
    }

    /// The bare hash, of whichever kind.
    pub const fn hash(self) -> Hash {
        match self {
            Self::Id(hash) => hash,
            Self::Infohash(infohash) => infohash.hash(),
        }
    }
}

/// What follows `acestream:`, written in any case.
fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

impl fmt::Display for ContentId {
    /// The 40 digits, without saying of which kind they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";

    #[test]
    fn every_form_of_an_id_is_the_same_id() {
        let id = ContentId::Id(HEX.parse().unwrap());
        let upper = HEX.to_uppercase();
        for form in [
            HEX.to_owned(),
            upper.clone(),
            format!("acestream://{HEX}"),
            format!("AceStream://{upper}"),
            format!("acestream:?content_id={HEX}"),
        ] {
            assert_eq!(ContentId::from_any_form(&form), Ok(id), "{form}");
        }
    }

    #[test]
    fn a_link_may_say_that_it_holds_an_infohash() {
        let wanted = ContentId::Infohash(HEX.parse().unwrap());
        assert_eq!(ContentId::from_any_form(&format!("acestream:?infohash={HEX}")), Ok(wanted));
    }

    #[test]
    fn nothing_is_repaired() {
        for form in [
            format!(" {HEX}"),
            format!("{HEX}\n"),
            format!("{{{HEX}}}"),
            format!("acestream://{HEX}//"),
            format!("acestream:///{HEX}"),
            format!("acestream://{HEX}?"),
            format!("acestream:?infohash={HEX}/"),
            format!("{HEX}/"),
            format!("acestream:/{HEX}"),
            format!("acestream:{HEX}"),
            format!("http://{HEX}"),
            format!("acestream://acestream://{HEX}"),
            HEX.replace('0', "\u{ff10}"),
            HEX.replacen('0', "g", 1),
            HEX[1..].to_owned(),
            format!("{HEX}0"),
            String::new(),
        ] {
            assert_eq!(ContentId::from_any_form(&form), Err(InvalidHash), "{form}");
        }
    }

    proptest! {
        #[test]
        fn a_hash_survives_its_text(bytes: [u8; 20]) {
            let text = Hash::new(bytes).to_string();
            prop_assert_eq!(text.len(), 40);
            prop_assert!(text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)));
            prop_assert_eq!(text.parse(), Ok(Hash::new(bytes)));
            prop_assert_eq!(text.to_uppercase().parse(), Ok(Hash::new(bytes)));
        }

        #[test]
        fn what_is_accepted_ends_in_the_hash_it_stands_for(text in "\\PC{0,60}|(acestream:(//)?)?[0-9a-fA-F]{39,41}") {
            if let Ok(id) = ContentId::from_any_form(&text) {
                prop_assert!(text.to_ascii_lowercase().ends_with(&id.to_string()));
            }
        }
    }
}
