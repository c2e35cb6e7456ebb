//! The name of one viewer who fetches pieces. Whoever knows it is the viewer, so it cannot be guessed.

use std::fmt;
use std::str::FromStr;

/// 128 random bits, written as 32 hex digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token(u128);

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is 32 hex digits")]
pub struct NoToken;

impl Token {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let is_written_so = text.len() == 32
            && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        if !is_written_so {
            return Err(NoToken);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NoToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_in_no_other_way() {
        let token = Token::random();
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert_ne!(token, Token::random());
        for other in ["", "0", "+0000000000000000000000000000000", "0000000000000000000000000000000G"] {
            assert_eq!(other.parse::<Token>(), Err(NoToken), "{other}");
        }
        let upper = "A".repeat(32);
        assert_eq!(upper.parse::<Token>(), Err(NoToken));
    }
}
