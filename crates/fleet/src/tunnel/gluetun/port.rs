//! Which forwarded port counts: what was read last, but no port that comes and goes.
//!
//! A provider takes a port back while the VPN reconnects and often gives the same one again; some change it every minute. An
//! engine must be replaced for every change, so changes count at most once a minute, and a port that is missing is missed
//! only after a while.

use std::time::Duration;

use tokio::time::Instant;

use super::client::Answer;

/// How long a port must have been missing before there is none.
pub(super) const MISSED_AFTER: Duration = Duration::from_mins(1);
/// Least time between two changes.
pub(super) const SETTLED_AFTER: Duration = Duration::from_mins(1);

/// The forwarded port of one life of a VPN's container.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forwarded {
    port: Option<u16>,
    since: Option<Instant>,
    missing_since: Option<Instant>,
}

impl Forwarded {
    pub(super) fn port(self) -> Option<u16> {
        self.port
    }

    /// Takes an answer in. An answer that says nothing about the port changes nothing.
    pub(super) fn see(&mut self, answer: &Answer<Option<u16>>, now: Instant) {
        match answer {
            Answer::Says(Some(port)) => self.found(*port, now),
            Answer::Says(None) => self.missed(now),
            Answer::Closed { .. } | Answer::Unknown(_) => {}
        }
    }

    fn found(&mut self, port: u16, now: Instant) {
        self.missing_since = None;
        let is_settled = self.since.is_none_or(|since| now.duration_since(since) >= SETTLED_AFTER);
        if self.port != Some(port) && (self.port.is_none() || is_settled) {
            (self.port, self.since) = (Some(port), Some(now));
        }
    }

    fn missed(&mut self, now: Instant) {
        let since = *self.missing_since.get_or_insert(now);
        if now.duration_since(since) >= MISSED_AFTER {
            *self = Self { missing_since: self.missing_since, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What counts after each answer: a port, `Some(0)` for "not yet", `None` for no answer.
    fn story(answers: &[(u64, Option<u16>)]) -> Vec<Option<u16>> {
        let start = Instant::now();
        let mut forwarded = Forwarded::default();
        let see = |(second, said): &(u64, Option<u16>)| {
            let answer = match said {
                None => Answer::Unknown("it hangs".to_owned()),
                Some(0) => Answer::Says(None),
                Some(port) => Answer::Says(Some(*port)),
            };
            forwarded.see(&answer, start + Duration::from_secs(*second));
            forwarded.port()
        };
        answers.iter().map(see).collect()
    }

    #[test]
    fn the_first_port_counts_at_once_and_a_changed_one_after_a_minute() {
        let told = story(&[(0, Some(0)), (5, Some(7)), (10, Some(8)), (64, Some(8)), (65, Some(8))]);
        assert_eq!(told, [None, Some(7), Some(7), Some(7), Some(8)]);
    }

    #[test]
    fn a_port_that_flaps_changes_once_a_minute_at_most() {
        let answers: Vec<_> = (0..600).map(|second| (second, Some(1 + (second % 2) as u16))).collect();
        let told = story(&answers);
        let changes = told.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((1..=10).contains(&changes), "{changes}");
    }

    #[test]
    fn a_port_that_is_missing_for_a_moment_stays() {
        let told =
            story(&[(0, Some(7)), (5, Some(0)), (30, None), (64, Some(0)), (65, Some(0)), (66, Some(9))]);
        assert_eq!(told, [Some(7), Some(7), Some(7), Some(7), None, Some(9)]);
        assert_eq!(story(&[(0, Some(7)), (5, Some(0)), (6, Some(7)), (66, Some(0))]), [Some(7); 4]);
    }
}
