//! The tokens of players that fetch pieces, as they stand in addresses: signed with a secret of this data directory.
//!
//! So nothing has to be remembered of players that are away: whoever brings a token back is let in, after a pause of hours
//! and after a restart, and a token that is not of our making is seen to be none before anything is looked up. It is good
//! for one channel. There is no time in it, so it does not matter what the clock does.
//!
//! ```text
//!  /ace/hls/<channel>/<token>/…
//!           40 hex    Base64 of: kind of the channel's name (1) · the viewer's name (16) · signature (16)
//! ```

use std::path::Path;
use std::sync::Arc;

use acemux_engine::{ContentId, Hash, Infohash};
use acemux_relay::output::hls::Token;
use acemux_store::secret::{self, KEY_BYTES};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::record::archive::NOWHERE;

/// Bytes of the signature: nobody finds one by trying.
const SIGNATURE: usize = 16;
const BYTES: usize = 1 + Token::LEN + SIGNATURE;
/// Its letters: a longer text is not looked at.
const LETTERS: usize = BYTES / 3 * 4;
/// What is signed is of this kind and no other.
const PURPOSE: &[u8] = b"acemux viewer of pieces 1";

/// Kinds of a channel's name.
const ID: u8 = 1;
const INFOHASH: u8 = 2;

/// Makes tokens and knows its own.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Hmac<Sha256>>);

/// What an address names: a channel, and a viewer of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) content: ContentId,
    pub(super) token: Token,
}

impl Signer {
    /// With the secret of the data directory, which is made where it is missing. Without one that can be used tokens are
    /// good for this run: people watch meanwhile.
    pub(crate) fn find_or_make(database: &Path) -> Self {
        if database == Path::new(NOWHERE) {
            return Self::new(&secret::of_this_process());
        }
        match secret::for_playlists(database) {
            Ok(found) => {
                if let Some(note) = found.note {
                    tracing::warn!("{note}: players of earlier runs ask for the manifest again");
                }
                Self::new(&found.key)
            }
            Err(error) => {
                tracing::warn!("addresses of playlists are good until the next start only: {error}");
                Self::new(&secret::of_this_process())
            }
        }
    }

    fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Arc::new(Hmac::new_from_slice(key).expect("a key of any length is one")))
    }

    /// Both parts of the address, as the router takes them apart again.
    pub(super) fn address(&self, ticket: Ticket) -> String {
        let Ticket { content, token } = ticket;
        let kind = kind_of(content);
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(kind);
        bytes.extend_from_slice(token.as_bytes());
        let signature = self.signing(kind, content.hash(), token).finalize().into_bytes();
        bytes.extend(signature.iter().take(SIGNATURE));
        format!("{}/{}", content.hash(), URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What they name, if they are of our making.
    pub(super) fn read(&self, channel: &str, token: &str) -> Option<Ticket> {
        let hash: Hash = channel.parse().ok()?;
        if token.len() != LETTERS {
            return None;
        }
        let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let ([kind], rest) = bytes.split_first_chunk::<1>()?;
        let (name, signature) = rest.split_first_chunk::<{ Token::LEN }>()?;
        let token = Token::from_bytes(*name);
        self.signing(*kind, hash, token).verify_truncated_left(signature).ok()?;
        let content = match *kind {
            ID => ContentId::Id(hash),
            INFOHASH => ContentId::Infohash(Infohash::new(hash)),
            _ => return None,
        };
        Some(Ticket { content, token })
    }

    fn signing(&self, kind: u8, channel: Hash, token: Token) -> Hmac<Sha256> {
        let mut signing = Hmac::clone(&self.0);
        signing.update(PURPOSE);
        signing.update(&[kind]);
        signing.update(channel.as_bytes());
        signing.update(token.as_bytes());
        signing
    }
}

fn kind_of(content: ContentId) -> u8 {
    match content {
        ContentId::Id(_) => ID,
        ContentId::Infohash(_) => INFOHASH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";
    const OTHER: &str = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d";

    fn ticket(content: ContentId) -> Ticket {
        Ticket { content, token: Token::random() }
    }

    fn id() -> ContentId {
        ContentId::Id(HEX.parse().unwrap())
    }

    #[test]
    fn a_token_is_read_by_whoever_has_made_it_for_its_channel_and_by_nobody_else() {
        let (signer, stranger) = (Signer::new(&[1; KEY_BYTES]), Signer::new(&[2; KEY_BYTES]));
        for content in [id(), ContentId::Infohash(HEX.parse().unwrap())] {
            let ticket = ticket(content);
            let address = signer.address(ticket);
            let (channel, token) = address.split_once('/').unwrap();
            assert_eq!((channel, token.len()), (HEX, LETTERS));
            assert_eq!(signer.read(channel, token), Some(ticket));
            assert_eq!(Signer::new(&[1; KEY_BYTES]).read(channel, token), Some(ticket), "another run's");
            assert_eq!(stranger.read(channel, token), None);
            assert_eq!(signer.read(OTHER, token), None, "another channel's");
        }
    }

    #[test]
    fn what_is_forged_cut_or_huge_is_no_token() {
        let signer = Signer::new(&[1; KEY_BYTES]);
        let address = signer.address(ticket(id()));
        let (_, token) = address.split_once('/').unwrap();
        for at in 0..token.len() {
            let mut forged = token.as_bytes().to_vec();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(signer.read(HEX, std::str::from_utf8(&forged).unwrap()), None, "letter {at}");
            assert_eq!(signer.read(HEX, &token[..at]), None, "{at} letters");
        }
        let others = [
            format!("{token}="),
            format!("{token}A"),
            format!("{token}{token}"),
            "A".repeat(LETTERS),
            "é".repeat(LETTERS / 2),
            "A".repeat(8000),
            String::new(),
            "..".to_owned(),
        ];
        for other in others {
            assert_eq!(signer.read(HEX, &other), None);
        }
        for channel in ["", "xyz", &HEX[1..], &format!("{HEX}0"), &"0".repeat(8000)] {
            assert_eq!(signer.read(channel, token), None, "{channel}");
        }
    }

    #[test]
    fn the_secret_is_the_data_directorys() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("acemux.db");
        let ticket = ticket(id());
        let address = Signer::find_or_make(&database).address(ticket);
        let (channel, token) = address.split_once('/').unwrap();
        assert_eq!(Signer::find_or_make(&database).read(channel, token), Some(ticket));
        let nowhere = Path::new(NOWHERE);
        assert_eq!(Signer::find_or_make(nowhere).read(channel, token), None);
        std::fs::remove_file(folder.path().join("hls-key")).unwrap();
        std::fs::create_dir(folder.path().join("hls-key")).unwrap();
        let unkept = Signer::find_or_make(&database);
        let address = unkept.address(ticket);
        let (channel, token) = address.split_once('/').unwrap();
        assert_eq!(unkept.read(channel, token), Some(ticket), "it plays until the next start");
    }
}
