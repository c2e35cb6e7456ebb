//! The name of one viewer who fetches pieces. Whoever knows it is the viewer, so it cannot be guessed.

/// 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token([u8; Self::LEN]);

impl Token {
    /// Bytes of a token.
    pub const LEN: usize = 16;

    /// Another one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The one with these bytes. Whoever reads them from a request has to know that they are of our making.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}
