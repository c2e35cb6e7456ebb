//! Guesses at the key: how many each client may make, and what is said of them.
//!
//! A client has twenty wrong keys, and gets one back every three seconds. Beyond that no key of its address is compared,
//! because whatever answers a right key otherwise than a wrong one while guesses are refused lets guessing go on at full
//! speed. So a stranger behind the same address can close the key pages to newcomers there, for as long as he guesses; he
//! can close them to nobody at another address, and not on a connection that has shown the key before: whoever uses the
//! pages goes on (`ConnectionControl::shows_key`). A wrong key takes that away from a connection, so that a proxy which
//! carries several clients over one cannot be used to guess.
//!
//! Clients are remembered in two generations of bounded size. Who would guess from more addresses than fit is forgotten
//! sooner, and nobody else is locked out for it.

use std::collections::HashMap;
use std::mem;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use acemux_relay::admission::AddressGroup;
use governor::Quota;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{RateLimiter, StateStore};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::http::seldom::Seldom;

/// Wrong keys a minute of one client.
const A_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("it is not zero");

/// Clients of one generation. 16,384 in both take about a megabyte.
const GENERATION: usize = 8192;

/// Least time between two log lines.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// What every client has left, and what was counted.
#[derive(Debug)]
pub struct Guesses {
    clients: Clients,
    limiter: RateLimiter<AddressGroup, Clients, SinceStart, NoOpMiddleware<Duration>>,
    log: Mutex<Notice>,
    counts: Counts,
}

/// How often it happened. Shared with the metrics.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Wrong keys.
    pub wrong: Counter,
    /// Keys that were not looked at.
    pub unseen: Counter,
}

/// No key of this client is looked at for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked(pub Duration);

impl Guesses {
    /// Nobody has guessed yet.
    pub fn new(counts: Counts) -> Self {
        let clients = Clients::default();
        let limiter =
            RateLimiter::new(Quota::per_minute(A_MINUTE), clients.clone(), SinceStart(Instant::now()));
        Self { clients, limiter, log: Mutex::default(), counts }
    }

    /// Whether `is_right`, which compares the key, unless this client has guessed too often.
    pub fn check(&self, client: AddressGroup, is_right: impl FnOnce() -> bool) -> Result<bool, Locked> {
        // Paid before and given back when it was right, so that keys that are tried at the same time count, too.
        if let Err(not_until) = self.limiter.check_key(&client) {
            self.counts.unseen.inc();
            self.log.lock().note(client);
            return Err(Locked(not_until.wait_time_from(self.limiter.clock().now())));
        }
        let is_right = is_right();
        if is_right {
            self.clients.give_back(client);
        } else {
            self.counts.wrong.inc();
            self.log.lock().note(client);
        }
        Ok(is_right)
    }
}

/// What each client owes: the time at which everything it has used is given back.
#[derive(Clone, Debug, Default)]
struct Clients(Arc<Mutex<Generations>>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<AddressGroup, Nanos>,
    old: HashMap<AddressGroup, Nanos>,
}

impl Clients {
    fn give_back(&self, client: AddressGroup) {
        let one = Nanos::from(Quota::per_minute(A_MINUTE).replenish_interval());
        if let Some(owed) = self.0.lock().young.get_mut(&client) {
            *owed = owed.saturating_sub(one);
        }
    }
}

impl StateStore for Clients {
    type Key = AddressGroup;

    fn measure_and_replace<T, F, E>(&self, client: &AddressGroup, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut generations = self.0.lock();
        let (outcome, owed) = measure(generations.find(*client))?;
        generations.keep(*client, owed);
        Ok(outcome)
    }
}

impl Generations {
    fn find(&self, client: AddressGroup) -> Option<Nanos> {
        self.young.get(&client).or_else(|| self.old.get(&client)).copied()
    }

    fn keep(&mut self, client: AddressGroup, owed: Nanos) {
        if self.young.len() >= GENERATION && !self.young.contains_key(&client) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(client, owed);
    }
}

/// The runtime's clock, which tests can pause.
#[derive(Debug)]
struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One line a minute, however many guess.
#[derive(Debug, Default)]
struct Notice(Seldom);

impl Notice {
    fn note(&mut self, client: AddressGroup) {
        match self.0.happens(LOG_INTERVAL) {
            None => {}
            Some(0) => tracing::warn!(%client, "a wrong API key was given"),
            Some(more) => {
                tracing::warn!(%client, "a wrong API key was given, and {more} more since the last such line");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn client(text: &str) -> AddressGroup {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn wrong(guesses: &Guesses, from: &str) -> Result<bool, Locked> {
        guesses.check(client(from), || false)
    }

    #[tokio::test(start_paused = true)]
    async fn after_twenty_wrong_keys_none_is_compared_and_one_comes_back_every_three_seconds() {
        let guesses = Guesses::new(Counts::default());
        for _ in 0..20 {
            assert_eq!(wrong(&guesses, "192.0.2.1"), Ok(false));
        }
        for _ in 0..1000 {
            let locked = guesses.check(client("192.0.2.1"), || unreachable!("it is not compared"));
            assert_eq!(locked, Err(Locked(Duration::from_secs(3))));
        }
        assert_eq!((guesses.counts.wrong.get(), guesses.counts.unseen.get()), (20, 1000));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(wrong(&guesses, "192.0.2.1"), Err(Locked(Duration::from_secs(2))));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(wrong(&guesses, "192.0.2.1"), Ok(false));
        assert!(wrong(&guesses, "192.0.2.1").is_err());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!((0..30).filter(|_| wrong(&guesses, "192.0.2.1").is_ok()).count(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_is_one_client_and_the_right_key_is_locked_to_nobody_elsewhere() {
        let guesses = Guesses::new(Counts::default());
        for n in 0..30 {
            let _locked = wrong(&guesses, &format!("2001:db8::{n}"));
            let _locked = wrong(&guesses, "::ffff:192.0.2.1");
        }
        for (from, is_locked) in
            [("2001:db8::ffff", true), ("192.0.2.1", true), ("2001:db8:0:1::1", false), ("192.0.2.2", false)]
        {
            assert_eq!(guesses.check(client(from), || true).is_err(), is_locked, "{from}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn right_keys_cost_nothing_and_forgive_nothing() {
        let guesses = Guesses::new(Counts::default());
        for _ in 0..19 {
            assert_eq!(wrong(&guesses, "192.0.2.1"), Ok(false));
        }
        for _ in 0..1000 {
            assert_eq!(guesses.check(client("192.0.2.1"), || true), Ok(true));
        }
        assert_eq!(wrong(&guesses, "192.0.2.1"), Ok(false));
        assert!(wrong(&guesses, "192.0.2.1").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_addresses_is_remembered_in_bounded_memory_and_locks_nobody_out() {
        let guesses = Guesses::new(Counts::default());
        for n in 0..5 * GENERATION {
            let network = Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | ((n as u128) << 64));
            assert_eq!(guesses.check(IpAddr::from(network).into(), || false), Ok(false));
        }
        let generations = guesses.clients.0.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
        drop(generations);
        assert_eq!(guesses.check(client("192.0.2.1"), || true), Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_says_it_once_a_minute_and_how_many_more_there_were() {
        let mut log = Notice::default();
        for _ in 0..100 {
            log.note(client("192.0.2.1"));
        }
        assert_eq!(log.0.unsaid(), 99);
        tokio::time::advance(LOG_INTERVAL).await;
        log.note(client("192.0.2.1"));
        assert_eq!(log.0.unsaid(), 0);
    }
}
