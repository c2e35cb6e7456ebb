//! Which program an engine is, and what follows from that.
//!
//! Programs that speak the same routes differ in what their answers are worth. What is known of each is one row here;
//! what can be found out by asking is asked (see [`Engine::echoes`](crate::Engine::echoes)), whatever the row says.

use std::fmt;

/// A program that speaks the engine API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// The closed engine of AceStream.
    Acestream,
    /// `outpace`, the open one.
    Outpace,
    /// Not asked yet, or a program that nobody has looked at.
    #[default]
    Unknown,
}

/// What is known of a family, as measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// It loads a bare infohash with a guessed piece size. On a swarm of another one it sends a head and
    /// no media, says that it has neither peers nor downloaded anything, and downloads on after the stop.
    pub runs_away_by_infohash: bool,
    /// It answers every infohash that it is asked for with the same infohash.
    pub echoes_infohashes: bool,
    /// A start ends the session that another client has of the same channel.
    pub supersedes: bool,
    /// HTTP statuses that are its words for a channel that cannot be had.
    pub refusals: &'static [u16],
}

impl Family {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Acestream, Self::Outpace, Self::Unknown];

    /// As pages, logs and the database say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acestream => "acestream",
            Self::Outpace => "outpace",
            Self::Unknown => "unknown",
        }
    }

    /// The family that is written so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.as_str() == name)
    }

    /// What is known of it.
    pub const fn facts(self) -> Facts {
        match self {
            Self::Acestream => Facts {
                runs_away_by_infohash: false,
                echoes_infohashes: false,
                supersedes: true,
                refusals: &[],
            },
            Self::Outpace => Facts {
                runs_away_by_infohash: true,
                echoes_infohashes: true,
                supersedes: false,
                refusals: &[404, 422],
            },
            // The careful guess in each column.
            Self::Unknown => Facts {
                runs_away_by_infohash: false,
                echoes_infohashes: true,
                supersedes: true,
                refusals: &[],
            },
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_survives_its_name() {
        for family in Family::ALL {
            assert_eq!(Family::named(family.as_str()), Some(family));
        }
        assert_eq!(Family::named("vlc"), None);
    }
}
