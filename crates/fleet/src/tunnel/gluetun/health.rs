//! Whether a tunnel works: evidence becomes a sign, and signs over time become health.
//!
//! ```text
//!   container, its check ─┐
//!   control server ───────┼─► sign() ─► Judge::see ─► Health
//!   engines inside ───────┘    pure      hysteresis
//! ```
//!
//! One look proves little: gluetun reconnects by itself within seconds, its control server may be closed to us, and a check
//! that is green may be half a minute old. So only a container that does not run is believed at once. Everything else makes
//! a tunnel unsure first, and down when it lasts.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::reply::LoopStatus;
use crate::provisioner::{Check, ContainerState};
use crate::tunnel::Health;

/// How long bad signs must last. gluetun's own restart of a tunnel takes 5 to 10 s; streams hold that long.
pub(super) const DOWN_AFTER: Duration = Duration::from_secs(15);
/// How long bad signs must last that are disputed: what arrives in a VPN's network may come from beside it, not through it.
const DOWN_AFTER_AT_MOST: Duration = Duration::from_mins(1);
/// How long good signs must last before a tunnel that was down is used again.
pub(super) const UP_AFTER: Duration = Duration::from_secs(5);
/// The longest that a tunnel must be good for which goes down again and again.
const UP_AFTER_AT_MOST: Duration = Duration::from_mins(1);
/// Downs are remembered so long: each one doubles how long good signs must last.
const DOWNS_COUNT: Duration = Duration::from_mins(10);

/// What one look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) container: Shown,
    pub(super) control: Control,
    pub(super) engines: Witnesses,
}

/// The container, as Docker shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The daemon said nothing.
    Unknown,
    /// There is none of this name.
    Absent,
    /// It is there.
    Present { state: ContainerState, check: Option<Check> },
}

/// What the control server says of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// It was not asked: there is nobody to ask.
    NotAsked,
    Says(LoopStatus),
    /// It does not answer us. That says nothing about the tunnel.
    Closed,
    /// No answer, or none that can be understood.
    Silent(String),
}

/// What engines inside show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::tunnel) struct Witnesses {
    /// They say that they have a network.
    pub(in crate::tunnel) connected: usize,
    /// They say that they have none.
    pub(in crate::tunnel) cut_off: usize,
    /// More arrives than acknowledgements would account for. It may come from other containers of the same Docker network.
    pub(in crate::tunnel) is_receiving: bool,
}

impl Witnesses {
    fn speak_for(self) -> bool {
        self.is_receiving || self.connected > 0
    }

    fn speak_against(self) -> bool {
        self.connected == 0 && self.cut_off > 0
    }
}

/// What evidence comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tunnel) enum Sign {
    Good,
    /// Nothing speaks for it, and nothing against it.
    Mute(String),
    /// Something speaks against it, and what arrives speaks for it.
    Disputed(String),
    /// Something speaks against it.
    Bad(String),
    /// Its network is gone.
    Dead(String),
}

/// Weighs one look's evidence: the container first, then what its own check and its control server say, then engines. A VPN
/// that gluetun calls off is off. Engines that are cut off outweigh a check that is green, and bytes that arrive dispute one
/// that is red.
pub(super) fn sign(evidence: &Evidence) -> Sign {
    let Evidence { container, control, engines } = evidence;
    let check = match container {
        Shown::Absent => return Sign::Dead("its container does not exist".to_owned()),
        Shown::Present { state: ContainerState::Running, check } => *check,
        Shown::Present { state, .. } => {
            return Sign::Dead(format!("its container does not run: it is {}", state.as_str()));
        }
        Shown::Unknown => None,
    };
    let against = |why: &str| {
        if engines.is_receiving {
            Sign::Disputed(format!("{why}, and engines receive"))
        } else {
            Sign::Bad(why.to_owned())
        }
    };
    match (check, control) {
        (_, Control::Says(status)) if status.is_off() => {
            Sign::Bad(format!("gluetun says that its VPN is {}", status.as_str()))
        }
        _ if engines.speak_against() => against("no engine inside has a network"),
        (Some(Check::Unhealthy), _) => against("its health check fails"),
        (Some(Check::Starting), _) => Sign::Mute("its health check has not passed yet".to_owned()),
        (Some(Check::Healthy), _) | (None, Control::Says(LoopStatus::Running)) => Sign::Good,
        (None, Control::Says(status)) => {
            Sign::Mute(format!("gluetun says that its VPN is {}", status.as_str()))
        }
        (None, _) if engines.speak_for() => Sign::Good,
        (None, Control::Closed) => {
            Sign::Mute("its control server is closed to us and it has no health check".to_owned())
        }
        (None, Control::Silent(why)) => Sign::Mute(format!("{why}, and it has no health check")),
        (None, Control::NotAsked) => Sign::Mute("Docker does not show its container".to_owned()),
    }
}

/// Remembers signs, so that one does not decide.
#[derive(Clone, Debug)]
pub(in crate::tunnel) struct Judge {
    health: Health,
    since: Instant,
    bad_since: Option<Instant>,
    good_since: Option<Instant>,
    /// When it went down, the oldest first.
    downs: VecDeque<Instant>,
}

impl Judge {
    pub(in crate::tunnel) fn new(now: Instant) -> Self {
        let health = Health::Unsure { why: "it has not been looked at yet".to_owned() };
        Self { health, since: now, bad_since: None, good_since: None, downs: VecDeque::new() }
    }

    pub(in crate::tunnel) fn health(&self) -> &Health {
        &self.health
    }

    /// Since when its health is of this kind.
    pub(in crate::tunnel) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it goes down and comes back again and again.
    pub(super) fn is_flapping(&self, now: Instant) -> bool {
        self.downs_lately(now) > 1
    }

    /// Whether the next look should come soon.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.health != Health::Up || self.bad_since.is_some()
    }

    pub(in crate::tunnel) fn see(&mut self, sign: Sign, now: Instant) {
        match sign {
            Sign::Good => {
                self.bad_since = None;
                let good_since = *self.good_since.get_or_insert(now);
                let is_down = matches!(self.health, Health::Down { .. });
                if !is_down || now.duration_since(good_since) >= self.up_after(now) {
                    self.become_(Health::Up, now);
                }
            }
            // What was bad before stays bad until something good is seen.
            Sign::Mute(why) => {
                self.good_since = None;
                self.doubt(why, false, now);
            }
            Sign::Disputed(why) => self.hold_against(why, DOWN_AFTER_AT_MOST, now),
            Sign::Bad(why) => self.hold_against(why, DOWN_AFTER, now),
            Sign::Dead(why) => {
                self.good_since = None;
                self.bad_since.get_or_insert(now);
                self.become_(Health::Down { why }, now);
            }
        }
    }

    fn hold_against(&mut self, why: String, limit: Duration, now: Instant) {
        self.good_since = None;
        let bad_since = *self.bad_since.get_or_insert(now);
        self.doubt(why, now.duration_since(bad_since) >= limit, now);
    }

    /// What is down stays down; what is not becomes unsure, or down when the doubt has lasted.
    fn doubt(&mut self, why: String, lasts: bool, now: Instant) {
        let is_down = lasts || self.is_down();
        self.become_(if is_down { Health::Down { why } } else { Health::Unsure { why } }, now);
    }

    fn is_down(&self) -> bool {
        matches!(self.health, Health::Down { .. })
    }

    fn up_after(&self, now: Instant) -> Duration {
        let again = u32::try_from(self.downs_lately(now).saturating_sub(1)).unwrap_or(u32::MAX);
        UP_AFTER.saturating_mul(2_u32.saturating_pow(again)).min(UP_AFTER_AT_MOST)
    }

    fn downs_lately(&self, now: Instant) -> usize {
        self.downs.iter().filter(|down| now.duration_since(**down) < DOWNS_COUNT).count()
    }

    fn become_(&mut self, health: Health, now: Instant) {
        if health.as_str() != self.health.as_str() {
            self.since = now;
            if matches!(health, Health::Down { .. }) {
                self.downs.retain(|down| now.duration_since(*down) < DOWNS_COUNT);
                self.downs.push_back(now);
            }
        }
        self.health = health;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(check: Option<Check>, control: Control) -> Evidence {
        let container = Shown::Present { state: ContainerState::Running, check };
        Evidence { container, control, engines: Witnesses::default() }
    }

    fn kind(sign: &Sign) -> &'static str {
        match sign {
            Sign::Good => "good",
            Sign::Mute(_) => "mute",
            Sign::Disputed(_) => "disputed",
            Sign::Bad(_) => "bad",
            Sign::Dead(_) => "dead",
        }
    }

    /// Healths at the seconds at which signs are seen.
    fn story(signs: impl IntoIterator<Item = (u64, Sign)>) -> Vec<(u64, &'static str)> {
        let start = Instant::now();
        let mut judge = Judge::new(start);
        signs
            .into_iter()
            .map(|(second, sign)| {
                judge.see(sign, start + Duration::from_secs(second));
                (second, judge.health().as_str())
            })
            .collect()
    }

    fn bad() -> Sign {
        Sign::Bad("b".to_owned())
    }

    fn dead() -> Sign {
        Sign::Dead("d".to_owned())
    }

    fn mute() -> Sign {
        Sign::Mute("m".to_owned())
    }

    #[test]
    fn a_closed_control_server_says_nothing_about_the_tunnel() {
        for (check, expected) in [
            (Some(Check::Healthy), "good"),
            (Some(Check::Starting), "mute"),
            (Some(Check::Unhealthy), "bad"),
            (None, "mute"),
        ] {
            assert_eq!(kind(&sign(&evidence(check, Control::Closed))), expected, "{check:?}");
            let hangs = Control::Silent("it hangs".to_owned());
            assert_eq!(kind(&sign(&evidence(check, hangs))), expected, "{check:?}");
        }
    }

    #[test]
    fn starting_is_not_healthy_whatever_else_is_said() {
        let running = Control::Says(LoopStatus::Running);
        assert_eq!(kind(&sign(&evidence(Some(Check::Starting), running.clone()))), "mute");
        assert_eq!(kind(&sign(&evidence(None, Control::Says(LoopStatus::Starting)))), "mute");
        assert_eq!(kind(&sign(&evidence(None, running))), "good");
    }

    #[test]
    fn a_vpn_that_is_off_is_off_though_its_check_is_still_green() {
        for status in [LoopStatus::Stopped, LoopStatus::Crashed, LoopStatus::Stopping, LoopStatus::Completed]
        {
            for check in [Some(Check::Healthy), Some(Check::Unhealthy), None] {
                let mut off = evidence(check, Control::Says(status));
                assert_eq!(kind(&sign(&off)), "bad");
                off.engines.is_receiving = true;
                assert_eq!(
                    kind(&sign(&off)),
                    "bad",
                    "what arrives may come from beside: {check:?} {status:?}"
                );
            }
        }
    }

    #[test]
    fn engines_outweigh_the_check_in_both_directions() {
        let mut green = evidence(Some(Check::Healthy), Control::Closed);
        green.engines.cut_off = 2;
        assert_eq!(kind(&sign(&green)), "bad");
        green.engines.connected = 1;
        assert_eq!(kind(&sign(&green)), "good", "one that is connected speaks for it");
        let mut red = evidence(Some(Check::Unhealthy), Control::Says(LoopStatus::Running));
        red.engines.is_receiving = true;
        assert_eq!(kind(&sign(&red)), "disputed");
        red.engines.is_receiving = false;
        red.engines.connected = 3;
        assert_eq!(kind(&sign(&red)), "bad", "what they say is older than what they receive");
    }

    #[test]
    fn a_container_that_does_not_run_is_dead_whatever_it_said_last() {
        for state in [ContainerState::Paused, ContainerState::Exited] {
            let container = Shown::Present { state, check: Some(Check::Healthy) };
            let evidence = Evidence {
                container,
                control: Control::Says(LoopStatus::Running),
                engines: Witnesses::default(),
            };
            assert_eq!(kind(&sign(&evidence)), "dead");
        }
        let gone = Evidence { container: Shown::Absent, ..evidence(None, Control::NotAsked) };
        assert_eq!(kind(&sign(&gone)), "dead");
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_nobodys_death() {
        let unknown = |control| Evidence { container: Shown::Unknown, ..evidence(None, control) };
        assert_eq!(kind(&sign(&unknown(Control::Says(LoopStatus::Running)))), "good");
        assert_eq!(kind(&sign(&unknown(Control::NotAsked))), "mute");
    }

    #[test]
    fn two_seconds_down_of_every_twenty_are_never_down() {
        let signs = (0..10).flat_map(|round| {
            let at = round * 22;
            [(at, Sign::Good), (at + 20, bad()), (at + 21, bad())]
        });
        assert!(story(signs).iter().all(|(_, health)| *health != "down"));
    }

    /// What is received may be other containers' chatter on the same network, so it buys time and nothing more.
    #[test]
    fn a_check_that_fails_while_engines_receive_is_down_within_a_minute() {
        let mut red = evidence(Some(Check::Unhealthy), Control::Closed);
        red.engines.is_receiving = true;
        let disputed = || sign(&red);
        let told = story((0..=60).map(|second| (second, if second == 0 { Sign::Good } else { disputed() })));
        assert!(told[1..60].iter().all(|(_, health)| *health == "unsure"), "{told:?}");
        assert_eq!(story((0..=61).map(|second| (second, disputed()))).last(), Some(&(61, "down")));
    }

    #[test]
    fn signs_that_say_nothing_between_bad_ones_do_not_begin_anew() {
        let between = |other: fn() -> Sign| {
            story((0..10).flat_map(|round| [(round * 4, bad()), (round * 4 + 2, other())]))
        };
        assert_eq!(between(mute).last(), Some(&(38, "down")));
    }

    #[test]
    fn fifteen_seconds_of_bad_signs_are_down_and_one_good_one_begins_anew() {
        let told = story([(0, Sign::Good), (5, bad()), (10, bad()), (19, bad()), (20, bad())]);
        assert_eq!(told, [(0, "up"), (5, "unsure"), (10, "unsure"), (19, "unsure"), (20, "down")]);
        let again = story([(0, Sign::Good), (5, bad()), (15, Sign::Good), (16, bad()), (25, bad())]);
        assert_eq!(again.last(), Some(&(25, "unsure")));
    }

    #[test]
    fn a_dead_container_is_down_at_once_and_back_after_five_good_seconds() {
        let told = story([
            (0, Sign::Good),
            (1, dead()),
            (3, mute()),
            (8, Sign::Good),
            (12, Sign::Good),
            (13, Sign::Good),
        ]);
        assert_eq!(told, [(0, "up"), (1, "down"), (3, "down"), (8, "down"), (12, "down"), (13, "up")]);
    }

    #[test]
    fn what_flaps_must_be_good_for_longer_each_time() {
        let start = Instant::now();
        let mut judge = Judge::new(start);
        let (mut now, mut waits) = (start, Vec::new());
        for _ in 0..6 {
            judge.see(dead(), now);
            let back = now;
            while *judge.health() != Health::Up {
                judge.see(Sign::Good, now);
                now += Duration::from_secs(1);
            }
            waits.push((now - back).as_secs() - 1);
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert!(judge.is_flapping(now));
        assert!(!judge.is_flapping(now + DOWNS_COUNT));
    }

    #[test]
    fn a_tunnel_that_was_never_seen_up_is_unsure_before_it_is_down() {
        assert_eq!(
            story([(0, bad()), (14, bad()), (15, bad())]),
            [(0, "unsure"), (14, "unsure"), (15, "down")]
        );
        assert_eq!(story([(0, mute()), (600, mute())]).last(), Some(&(600, "unsure")));
    }
}
