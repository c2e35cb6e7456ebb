//! Whether an exit is at fault, judged by what it plays and not by a ping: pure.
//!
//! A channel that fails is most often dead, and an engine that fails may be ill; neither says anything about the VPN. But
//! two different channels that fail on one exit and play, or have just played, on another have only the exit in common:
//! its address is refused, or its port is blocked. Then new starts prefer the other exits for a while. Nothing is removed,
//! and what plays goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::TunnelName;

/// Different channels that must have failed.
const CHANNELS: usize = 2;
/// How long a failure counts. Zapping through dead channels takes minutes; an exit that is refused fails at once.
const FAILED_LATELY: Duration = Duration::from_mins(5);
/// How long a channel that has played somewhere counts as one that can be had: as long as for engines.
const PLAYED_LATELY: Duration = Duration::from_mins(10);
/// How long an exit is avoided. Then it gets starts again, and fails or not.
pub const AVOIDED: Duration = Duration::from_mins(5);
/// Channels remembered; a household knows a few hundred.
const MOST: usize = 4096;

/// What channels have shown about exits.
#[derive(Clone, Debug, Default)]
pub struct Blame {
    channels: HashMap<String, BTreeMap<TunnelName, Shown>>,
    verdicts: BTreeMap<TunnelName, Verdict>,
}

/// What one channel has shown of one exit.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    failed: Option<Instant>,
    played: Option<Instant>,
}

/// An exit that is avoided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For so long.
    pub until: Instant,
    /// How many channels have shown it.
    pub channels: usize,
}

impl Blame {
    /// A start of a channel has failed on this exit, by whatever engine.
    pub fn failed(&mut self, tunnel: &TunnelName, channel: &str, now: Instant) {
        if let Some(shown) = self.shown(tunnel, channel, now) {
            shown.failed = Some(now);
            self.judge(now);
        }
    }

    /// A channel plays on this exit, or has played there until now: what it failed with there is answered, and what failed
    /// elsewhere was not the channel's fault.
    pub fn played(&mut self, tunnel: &TunnelName, channel: &str, now: Instant) {
        if let Some(shown) = self.shown(tunnel, channel, now) {
            *shown = Shown { failed: None, played: Some(now) };
            self.judge(now);
        }
    }

    /// The exits that new starts should not use while there is another one.
    pub fn avoided(&self, now: Instant) -> BTreeSet<TunnelName> {
        let standing = self.verdicts.iter().filter(|(_, verdict)| verdict.until > now);
        standing.map(|(tunnel, _)| tunnel.clone()).collect()
    }

    /// Why an exit is avoided, if it is.
    pub fn verdict(&self, tunnel: &TunnelName, now: Instant) -> Option<&Verdict> {
        self.verdicts.get(tunnel).filter(|verdict| verdict.until > now)
    }

    /// The host's own way out is no exit that could be blamed: there is none beside it.
    fn shown(&mut self, tunnel: &TunnelName, channel: &str, now: Instant) -> Option<&mut Shown> {
        tunnel.vpn()?;
        if self.channels.len() >= MOST && !self.channels.contains_key(channel) {
            self.channels.retain(|_, exits| exits.values().any(|shown| shown.is_remembered(now)));
            if self.channels.len() >= MOST {
                return None;
            }
        }
        Some(self.channels.entry(channel.to_owned()).or_default().entry(tunnel.clone()).or_default())
    }

    /// Each verdict stands for its time once it is given; evidence is used up by it, so that it takes new failures to
    /// prolong it.
    fn judge(&mut self, now: Instant) {
        self.verdicts.retain(|_, verdict| verdict.until > now);
        let mut against: BTreeMap<TunnelName, usize> = BTreeMap::new();
        for exits in self.channels.values() {
            for (tunnel, _) in exits.iter().filter(|(tunnel, shown)| is_evidence(exits, tunnel, **shown, now))
            {
                *against.entry(tunnel.clone()).or_default() += 1;
            }
        }
        for (tunnel, channels) in against.into_iter().filter(|(_, channels)| *channels >= CHANNELS) {
            for exits in self.channels.values_mut() {
                exits.entry(tunnel.clone()).and_modify(|shown| shown.failed = None);
            }
            self.verdicts.insert(tunnel, Verdict { until: now + AVOIDED, channels });
        }
    }
}

/// Whether a channel's failure on an exit is the exit's: it has played on another, lately.
fn is_evidence(exits: &BTreeMap<TunnelName, Shown>, tunnel: &TunnelName, shown: Shown, now: Instant) -> bool {
    shown.has_failed(now)
        && exits.iter().any(|(other, elsewhere)| other != tunnel && elsewhere.has_played(now))
}

impl Shown {
    fn has_failed(self, now: Instant) -> bool {
        self.failed.is_some_and(|at| now.saturating_duration_since(at) <= FAILED_LATELY)
    }

    fn has_played(self, now: Instant) -> bool {
        self.played.is_some_and(|at| now.saturating_duration_since(at) <= PLAYED_LATELY)
    }

    fn is_remembered(self, now: Instant) -> bool {
        self.has_failed(now) || self.has_played(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(name: &str) -> TunnelName {
        TunnelName::Vpn(name.parse().expect("a name"))
    }

    /// `a-1` failed on exit `a` with channel 1, `a+1` played it there; a number in front is seconds that pass.
    fn after(story: &str) -> Vec<String> {
        let (mut blame, mut now) = (Blame::default(), Instant::now());
        for word in story.split_whitespace() {
            if let Ok(seconds) = word.parse::<u64>() {
                now += Duration::from_secs(seconds);
            } else if let Some((name, channel)) = word.split_once('-') {
                blame.failed(&exit(name), channel, now);
            } else if let Some((name, channel)) = word.split_once('+') {
                blame.played(&exit(name), channel, now);
            }
        }
        blame.avoided(now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_channels_that_fail_on_one_exit_and_play_on_another_blame_it() {
        for story in ["a-1 b+1 a-2 b+2", "b+1 b+2 a-1 a-2", "a-1 a-2 b+1 c+2", "b+1 100 a-1 100 b+2 a-2"] {
            assert_eq!(after(story), ["a"], "{story}");
        }
    }

    #[test]
    fn one_channel_blames_nobody_however_often_it_fails() {
        for story in ["a-1 b+1", "a-1 a-1 a-1 b+1 a-1", "a-1 a-2 b+1", "a-1 a-2 a-3 a-4"] {
            assert!(after(story).is_empty(), "{story}");
        }
    }

    #[test]
    fn dead_channels_that_fail_everywhere_blame_nobody() {
        assert!(after("a-1 b-1 a-2 b-2 a-3 b-3").is_empty());
    }

    #[test]
    fn what_failed_or_played_long_ago_is_no_evidence() {
        assert!(after("a-1 b+1 301 a-2 b+2").is_empty(), "the first failure is forgotten");
        assert!(after("b+1 b+2 601 a-1 a-2").is_empty(), "the channels may be dead by now");
        assert!(after("a-1 b+1 a+1 a-2 b+2").is_empty(), "it has played there since");
    }

    #[test]
    fn an_exit_is_avoided_for_five_minutes_and_longer_only_by_new_failures() {
        assert_eq!(after("a-1 b+1 a-2 b+2 299"), ["a"]);
        assert!(after("a-1 b+1 a-2 b+2 300").is_empty());
        assert!(after("a-1 b+1 a-2 b+2 290 a-1 20").is_empty(), "one more is not two");
        assert_eq!(after("a-1 b+1 a-2 b+2 290 a-1 a-2 20"), ["a"]);
    }

    #[test]
    fn the_hosts_own_way_out_is_never_blamed() {
        let (mut blame, now) = (Blame::default(), Instant::now());
        for channel in ["1", "2"] {
            blame.failed(&TunnelName::Direct, channel, now);
            blame.played(&exit("a"), channel, now);
        }
        assert!(blame.avoided(now).is_empty());
    }

    #[test]
    fn the_page_learns_how_many_channels_have_shown_it_and_until_when() {
        let (mut blame, now) = (Blame::default(), Instant::now());
        for channel in ["1", "2", "3"] {
            blame.played(&exit("b"), channel, now);
        }
        blame.failed(&exit("a"), "1", now);
        blame.failed(&exit("a"), "2", now);
        assert_eq!(blame.verdict(&exit("a"), now), Some(&Verdict { until: now + AVOIDED, channels: 2 }));
        assert_eq!(blame.verdict(&exit("b"), now), None);
    }

    #[test]
    fn it_remembers_a_bounded_number_of_channels() {
        let (mut blame, now) = (Blame::default(), Instant::now());
        (0..2 * MOST).for_each(|channel| blame.failed(&exit("a"), &channel.to_string(), now));
        assert_eq!(blame.channels.len(), MOST);
        blame.failed(&exit("a"), "new", now + FAILED_LATELY + Duration::from_secs(1));
        assert_eq!(blame.channels.len(), 1);
    }
}
