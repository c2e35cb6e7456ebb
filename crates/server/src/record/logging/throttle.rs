//! How many lines a second are logged, whatever happens: no more than a disk, and whoever reads them, can bear.
//!
//! There are two shares, for what requests of anybody cause and for what the service itself has to say, and neither can
//! take from the other: however much strangers ask for, the lines about engines and the audit are there. In both a place
//! in the program has no more than its part, and some room is for places that have said nothing for a second. What is
//! left out is counted by place; one line a second says how many and what the first of each was.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write as _};
use std::time::Duration;

use acemux_engine::text;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::record::event;

/// Under which the line about what was left out stands, also with `LOG_LEVEL=error`.
pub(super) const TARGET: &str = module_path!();

/// Over this every number counts.
const WINDOW: Duration = Duration::from_secs(1);

/// Lines of one share in a window. Both shares and the line about the rest are under 200.
const MOST: usize = 99;

/// Of these, for places that were silent for a window.
const RESERVED: usize = 19;

/// Lines of one place of the program in a window.
const MOST_OF_A_PLACE: usize = 40;

/// Places that the line about the rest names.
const MOST_NAMED: usize = 3;

/// Longest part of what was left out that is repeated, in characters.
const LONGEST_EXAMPLE: usize = 80;

/// The modules that work for whoever asks. Everything else of ours is the service's own.
const FOR_STRANGERS: [&str; 12] = [
    "acemux_relay",
    "acemux_engine",
    "acemux_media",
    event::STREAMS,
    "acemux_server::record::recorder",
    "acemux_server::planes::origins",
    "acemux_server::http::play",
    "acemux_server::http::serve",
    "acemux_server::http::edge",
    "acemux_server::http::auth",
    "acemux_server::http::hosts",
    "acemux_server::http::api",
];

/// Whom a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// Requests of anybody, and other people's crates.
    Strangers,
    /// The service itself, and its operator.
    Ours,
}

impl Share {
    fn of(target: &str) -> Self {
        let is_within = |module: &str| {
            target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let is_own = target == crate::record::audit::TARGET || target.starts_with("acemux");
        if is_own && !FOR_STRANGERS.into_iter().any(is_within) { Self::Ours } else { Self::Strangers }
    }
}

/// Lets lines pass or counts them.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    strangers: Recent,
    ours: Recent,
    /// As many as the program has places that log.
    places: HashMap<Identifier, CallSite>,
    reported_at: Option<Instant>,
}

/// Moments of the last second, the oldest first.
#[derive(Debug, Default)]
struct Recent(VecDeque<Instant>);

#[derive(Debug, Default)]
struct CallSite {
    recent: Recent,
    left_out: u64,
    example: String,
}

impl Recent {
    fn count(&mut self, now: Instant) -> usize {
        while self.0.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        self.0.len()
    }
}

impl Lines {
    fn admit(
        &mut self,
        place: Identifier,
        share: Share,
        now: Instant,
        example: impl FnOnce() -> String,
    ) -> bool {
        let place = self.places.entry(place).or_default();
        let recent = if share == Share::Ours { &mut self.ours } else { &mut self.strangers };
        let said = place.recent.count(now);
        let most = if said == 0 { MOST } else { MOST - RESERVED };
        let has_room = said < MOST_OF_A_PLACE && recent.count(now) < most;
        if has_room {
            place.recent.0.push_back(now);
            recent.0.push_back(now);
        } else {
            if place.left_out == 0 {
                place.example = example();
            }
            place.left_out += 1;
        }
        has_room
    }

    /// What was left out since the last time, at most once in a window unless it is the last time of all.
    fn report(&mut self, now: Instant, is_last: bool) -> Option<String> {
        let is_early = self.reported_at.is_some_and(|at| now.duration_since(at) < WINDOW);
        let mut silent: Vec<&mut CallSite> =
            self.places.values_mut().filter(|place| place.left_out > 0).collect();
        if silent.is_empty() || (is_early && !is_last) {
            return None;
        }
        self.reported_at = Some(now);
        silent.sort_by_key(|place| std::cmp::Reverse(place.left_out));
        let total: u64 = silent.iter().map(|place| place.left_out).sum();
        let mut text = format!("and {total} more lines, which were left out");
        for (at, place) in silent.iter().take(MOST_NAMED).enumerate() {
            let begin = if at == 0 { ':' } else { ';' };
            // Into a text, which takes everything.
            let _written = write!(text, "{begin} {} like {:?}", place.left_out, place.example);
        }
        for place in silent {
            place.left_out = 0;
            place.example.clear();
        }
        Some(text)
    }
}

impl Throttle {
    /// Writes how many lines were left out, if it is time to.
    pub(super) fn report(&self, is_last: bool) {
        // Not under the lock: the line passes through here itself.
        let report = self.0.lock().report(Instant::now(), is_last);
        if let Some(report) = report {
            tracing::warn!(target: TARGET, "{report}");
        }
    }
}

/// The throttle as a part of the subscriber.
pub(super) struct ThrottleLayer(pub(super) std::sync::Arc<Throttle>);

impl<S: Subscriber> Layer<S> for ThrottleLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let (place, target) = (metadata.callsite(), metadata.target());
        target == TARGET
            || self.0.0.lock().admit(place, Share::of(target), Instant::now(), || message_of(event))
    }
}

/// The sentence of an event, cut.
fn message_of(event: &Event<'_>) -> String {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                self.0 = text::line(&format!("{value:?}"), LONGEST_EXAMPLE);
            }
        }
    }
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::prelude::*;

    use super::*;

    /// Takes every line that passes.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<(Instant, String)>>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().push((Instant::now(), message_of(event)));
        }
    }

    impl Written {
        fn texts(&self) -> Vec<String> {
            self.0.lock().iter().map(|(_, text)| text.clone()).collect()
        }

        /// The most in any window.
        fn densest(&self) -> usize {
            let lines = self.0.lock();
            let within =
                |from: Instant| lines.iter().filter(|(at, _)| (from..from + WINDOW).contains(at)).count();
            lines.iter().map(|(at, _)| within(*at)).max().unwrap_or_default()
        }
    }

    fn with_throttle(test: impl AsyncFnOnce(Arc<Throttle>, Written)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (throttle, written) = (Arc::<Throttle>::default(), Written::default());
        let subscriber =
            tracing_subscriber::registry().with(written.clone()).with(ThrottleLayer(Arc::clone(&throttle)));
        tracing::subscriber::with_default(subscriber, || {
            runtime.unwrap().block_on(test(throttle, written));
        });
    }

    fn of_strangers(kind: usize) {
        match kind {
            0 => tracing::warn!(target: event::STREAMS, "dead id"),
            1 => tracing::info!(target: "acemux_relay::session", "ended"),
            2 => tracing::warn!(target: "acemux_server::http::serve::refusal", "refused"),
            3 => tracing::error!(target: "hyper", "odd"),
            _ => tracing::info!(target: "acemux_engine::calls", "failed"),
        }
    }

    #[test]
    fn a_flood_of_everything_is_under_two_hundred_lines_a_second_and_every_line_is_counted() {
        with_throttle(async |throttle, written| {
            const ROUNDS: usize = 3_000;
            for round in 0..ROUNDS {
                (0..5).for_each(of_strangers);
                tracing::info!(target: "acemux_fleet", "created");
                tracing::info!(target: "audit", "changed");
                if round % 10 == 0 {
                    tokio::time::advance(Duration::from_millis(10)).await;
                    throttle.report(false);
                }
            }
            throttle.report(true);
            assert!(written.densest() <= 200, "{}", written.densest());
            let told: usize = written.texts().iter().filter_map(|text| left_out(text)).sum();
            let lines = written.texts().iter().filter(|text| left_out(text).is_none()).count();
            assert_eq!(lines + told, 7 * ROUNDS);
        });
    }

    fn left_out(text: &str) -> Option<usize> {
        text.strip_prefix("and ")?.split_once(' ')?.0.parse().ok()
    }

    #[test]
    fn what_strangers_cause_takes_nothing_from_what_an_operator_needs() {
        with_throttle(async |_, written| {
            for kind in 0..5 {
                (0..500).for_each(|_| of_strangers(kind));
            }
            for number in 0..20 {
                tracing::warn!(target: event::FLEET, "engine {number} ended");
                tracing::info!(target: "audit", "change {number}");
            }
            let texts = written.texts();
            for number in 0..20 {
                assert!(texts.contains(&format!("engine {number} ended")), "{number}");
                assert!(texts.contains(&format!("change {number}")), "{number}");
            }
        });
    }

    #[test]
    fn a_place_that_was_silent_is_heard_beside_those_that_flood() {
        with_throttle(async |_, written| {
            for kind in 0..3 {
                (0..500).for_each(|_| of_strangers(kind));
            }
            of_strangers(4);
            assert!(written.texts().contains(&"failed".to_owned()));
        });
    }

    #[test]
    fn one_line_says_how_many_were_left_out_and_what_they_were_like() {
        with_throttle(async |throttle, written| {
            (0..MOST_OF_A_PLACE + 412).for_each(|_| of_strangers(0));
            throttle.report(false);
            throttle.report(false);
            let texts = written.texts();
            assert_eq!(texts.len(), MOST_OF_A_PLACE + 1);
            let expected = "and 412 more lines, which were left out: 412 like \"dead id\"";
            assert_eq!(texts.last().map(String::as_str), Some(expected));
            tokio::time::advance(WINDOW).await;
            of_strangers(0);
            throttle.report(false);
            assert_eq!(
                written.texts().last().map(String::as_str),
                Some("dead id"),
                "and nothing is told twice"
            );
        });
    }

    #[test]
    fn whose_a_line_is_is_told_by_its_module() {
        for target in [
            "acemux_relay::session::task",
            "acemux_server::http::play",
            "hyper::proto",
            "acemux_server::http::api::x",
            event::STREAMS,
        ] {
            assert_eq!(Share::of(target), Share::Strangers, "{target}");
        }
        for target in ["audit", "acemux", event::FLEET, "acemux_server::playlist", "acemux_store::worker"] {
            assert_eq!(Share::of(target), Share::Ours, "{target}");
        }
    }
}
