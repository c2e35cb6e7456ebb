//! Secrets of engines in the database, readable only together with a key that is not in it.
//!
//! A copy of the database (a backup, an attachment of a bug report, pages that were freed) holds no token of an
//! engine. Why tokens are kept at all, and what this does not do: `docs/decisions/0015`.

use std::path::Path;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};

use crate::open::OpenError;
use crate::secret::KEY_BYTES;
use crate::{random, secret};

/// The key's file.
const FILE: &str = "seal-key";
/// So many that random ones never meet.
const NONCE_BYTES: usize = 24;

/// What makes secrets unreadable and readable again.
pub(crate) struct Seal(XChaCha20Poly1305);

impl Seal {
    /// With the key in this folder, which is made where it is missing. One that is damaged is replaced: what was sealed with
    /// it is lost, which costs a stop of a playback or a token that has to be entered again.
    pub(crate) fn of(folder: &Path) -> Result<(Self, Option<String>), OpenError> {
        let found = secret::find_or_make(folder, FILE);
        let found = found.map_err(|error| OpenError::of_file(&folder.join(FILE), error))?;
        Ok((Self::new(&found.key), found.note))
    }

    /// With a key that nobody keeps.
    pub(crate) fn of_this_process() -> Self {
        Self::new(&secret::of_this_process())
    }

    fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// `secret`, unreadable; it can only be read again as part of the same `context`. None when the system has no random
    /// bytes: then it is not kept.
    pub(crate) fn close(&self, secret: &str, context: &str) -> Option<String> {
        let nonce: [u8; NONCE_BYTES] = random::bytes().ok()?;
        let message = Payload { msg: secret.as_bytes(), aad: context.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), message).ok()?;
        Some(random::hex(nonce.iter().chain(&sealed)))
    }

    /// What was sealed, if it was with this key and in this context.
    pub(crate) fn open(&self, sealed: &str, context: &str) -> Option<String> {
        let bytes = unhex(sealed)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let message = Payload { msg: sealed, aad: context.as_bytes() };
        let secret = self.0.decrypt(&XNonce::from(*nonce), message).ok()?;
        String::from_utf8(secret).ok()
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_with_its_key_in_its_context_and_not_otherwise() {
        let seal = Seal::of_this_process();
        let sealed = seal.close("/ace/cmd/1/hush", "engine").unwrap();
        assert!(!sealed.contains("hush") && !sealed.contains("ace"));
        assert_eq!(seal.open(&sealed, "engine").as_deref(), Some("/ace/cmd/1/hush"));
        assert_eq!(seal.open(&sealed, "other"), None);
        assert_eq!(Seal::of_this_process().open(&sealed, "engine"), None);
        assert_ne!(seal.close("same", "a"), seal.close("same", "a"), "nobody sees that two are the same");
        for broken in ["", "00", "xyz", "é", &sealed[2..], &format!("{sealed}00"), &format!("{sealed}0")] {
            assert_eq!(seal.open(broken, "engine"), None, "{broken}");
        }
    }

    #[test]
    fn the_key_outlives_a_restart_and_a_damaged_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (first, note) = Seal::of(folder.path()).unwrap();
        assert_eq!(note, None);
        let sealed = first.close("hush", "").unwrap();
        assert_eq!(Seal::of(folder.path()).unwrap().0.open(&sealed, "").as_deref(), Some("hush"));
        for damaged in [&b""[..], &[1; 31], &[1; 33]] {
            std::fs::write(folder.path().join(FILE), damaged).unwrap();
            let (other, note) = Seal::of(folder.path()).unwrap();
            assert!(note.is_some() && other.open(&sealed, "").is_none());
        }
    }
}
