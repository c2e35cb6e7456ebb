//! How many connections there may be, in all and from one address, and which there are.
//!
//! A connection holds a [`Seat`]; dropping it gives the place back, on every way a connection can end. Nobody is refused
//! while a connection without a request is there to give way: silent ones cost whoever opens them nothing, and would
//! otherwise take every place there is. The oldest goes first; one with a request under way never does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use acemux_relay::admission::{AddressCounts, AddressGroup};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::idle::{Idle, Number, Turn};
use super::{ConnectionControl, Counters, Order, ServeOptions};
use crate::http::client::TrustedProxies;

/// Every place there is, and who sits where.
#[derive(Debug)]
pub(super) struct Seats {
    for_loopback: usize,
    trusted: TrustedProxies,
    counters: Arc<Counters>,
    taken: Mutex<Taken>,
    /// Bounds those that have given their place away and are not closed yet: their descriptors are still open.
    ways_out: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Taken {
    /// How many there may be, in all and of one client. Who sits stays when it becomes fewer.
    all: usize,
    per_client: usize,
    next: Number,
    /// What whoever comes late is told too.
    standing: Option<Order>,
    sitting: HashMap<Number, Sitting>,
    clients: AddressCounts,
    idle: Idle,
    leaving: HashMap<Number, WayOut>,
}

#[derive(Debug)]
struct Sitting {
    control: ConnectionControl,
    /// Whom it counts for.
    client: Option<AddressGroup>,
    /// Since when it has had no request; `None` while one is under way.
    idle: Option<Turn>,
}

/// Room for one more connection that gives way. Without it none is accepted, because whoever comes may need it.
#[derive(Debug)]
pub(super) struct WayOut(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// The right to one connection. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: Number,
    /// Whether it is known to be idle, so that it is said once.
    is_idle: AtomicBool,
}

/// The place was given to somebody else before the request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection has given way")]
pub(super) struct GaveWay;

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// As many connections are open as may be, and all of them are in use.
    Server,
    /// The address has as many as it may have, and all of them are in use.
    Address,
}

impl Seats {
    pub(super) fn new(options: &ServeOptions) -> Self {
        Self {
            for_loopback: options.loopback_places,
            trusted: options.trusted_proxies.clone(),
            counters: Arc::clone(&options.counters),
            taken: Mutex::new(Taken {
                all: options.max_connections,
                per_client: options.max_connections_per_ip,
                ..Taken::default()
            }),
            ways_out: Arc::new(Semaphore::new(options.leaving.max(1))),
        }
    }

    /// Other limits from now on.
    pub(super) fn limit(&self, options: &ServeOptions) {
        let mut taken = self.taken.lock();
        (taken.all, taken.per_client) = (options.max_connections, options.max_connections_per_ip);
    }

    /// Waits until one more connection may give way. It waits for our own tasks to close what has given way before, never
    /// for a client.
    pub(super) async fn way_out(&self) -> WayOut {
        let permit = Arc::clone(&self.ways_out).acquire_owned().await;
        WayOut(permit.expect("the semaphore is never closed"))
    }

    /// A seat for the connection of `control`, counted for its peer's address unless that is a trusted proxy. When it
    /// needs somebody else's, that connection is told to go, by the way out.
    pub(super) fn take(
        seats: &Arc<Self>,
        control: &ConnectionControl,
        way_out: WayOut,
    ) -> Result<Seat, Full> {
        let (number, giving_way) =
            seats.enter(control, way_out).inspect_err(|full| seats.count_refusal(*full))?;
        if let Some(control) = giving_way {
            seats.counters.gave_way.fetch_add(1, Ordering::Relaxed);
            control.gives_way();
        }
        seats.counters.accepted.fetch_add(1, Ordering::Relaxed);
        seats.counters.open.fetch_add(1, Ordering::Relaxed);
        Ok(Seat { seats: Arc::clone(seats), number, is_idle: AtomicBool::new(true) })
    }

    /// Gives every connection an order, also those that are just coming, and says how many there are.
    pub(super) fn order(&self, order: Order) -> usize {
        let controls: Vec<_> = {
            let mut taken = self.taken.lock();
            taken.standing = Some(order);
            taken.sitting.values().map(|sitting| sitting.control.clone()).collect()
        };
        for control in &controls {
            control.give(order);
        }
        controls.len()
    }

    /// The newcomer's number, and who gives way to it.
    fn enter(
        &self,
        control: &ConnectionControl,
        way_out: WayOut,
    ) -> Result<(Number, Option<ConnectionControl>), Full> {
        let address = control.peer().ip();
        let client = (!self.trusted.contains(address)).then(|| address.into());
        // Of a connection that is just made nothing but its peer is known.
        let is_local = address.to_canonical().is_loopback();
        let mut taken = self.taken.lock();
        let places = if is_local { taken.all + self.for_loopback } else { taken.all };
        let giving_way = taken.who_gives_way(client, places)?;
        let giving_way = giving_way.and_then(|number| taken.send_away(number, way_out));
        let number = taken.seat(control.clone(), client);
        if let Some(order) = taken.standing {
            control.give(order);
        }
        Ok((number, giving_way))
    }

    fn count_refusal(&self, full: Full) {
        let counter = match full {
            Full::Server => &self.counters.refused_full,
            Full::Address => &self.counters.refused_address,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Taken {
    fn who_gives_way(&self, client: Option<AddressGroup>, places: usize) -> Result<Option<Number>, Full> {
        if let Some(client) = client.filter(|client| self.clients.of(*client) >= self.per_client) {
            let of_client = self.idle.oldest_of(client).or_else(|| self.longest_paused(Some(client)));
            return of_client.map(Some).ok_or(Full::Address);
        }
        if self.sitting.len() >= places {
            return self.idle.oldest().or_else(|| self.longest_paused(None)).map(Some).ok_or(Full::Server);
        }
        Ok(None)
    }

    /// Whose player has been paused longest, of those of one client if one is given. Looked for only when nobody is idle.
    fn longest_paused(&self, client: Option<AddressGroup>) -> Option<Number> {
        let asked = self.sitting.iter().filter(|(_, one)| client.is_none() || one.client == client);
        let paused = asked.filter_map(|(number, one)| Some((one.control.paused_since()?, *number)));
        paused.min().map(|(_, number)| number)
    }

    /// Everybody begins without a request.
    fn seat(&mut self, control: ConnectionControl, client: Option<AddressGroup>) -> Number {
        let number = self.next;
        self.next += 1;
        if let Some(client) = client {
            self.clients.add(client, usize::MAX);
        }
        let idle = Some(self.idle.add(number, client));
        self.sitting.insert(number, Sitting { control, client, idle });
        number
    }

    fn send_away(&mut self, number: Number, way_out: WayOut) -> Option<ConnectionControl> {
        let sitting = self.stand_up(number)?;
        self.leaving.insert(number, way_out);
        Some(sitting.control)
    }

    fn stand_up(&mut self, number: Number) -> Option<Sitting> {
        let sitting = self.sitting.remove(&number)?;
        if let Some(client) = sitting.client {
            self.clients.remove(client);
        }
        if let Some(turn) = sitting.idle {
            self.idle.remove(turn, sitting.client);
        }
        Some(sitting)
    }
}

impl Seat {
    /// A request has come. From here on the connection gives way to nobody.
    pub(super) fn begin(&self) -> Result<(), GaveWay> {
        let mut taken = self.seats.taken.lock();
        let Taken { sitting, idle, .. } = &mut *taken;
        let sitting = sitting.get_mut(&self.number).ok_or(GaveWay)?;
        if let Some(turn) = sitting.idle.take() {
            idle.remove(turn, sitting.client);
        }
        self.is_idle.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// The reply is out: the connection waits for a request.
    pub(super) fn rest(&self) {
        if self.is_idle.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut taken = self.seats.taken.lock();
        let Taken { sitting, idle, .. } = &mut *taken;
        if let Some(sitting) = sitting.get_mut(&self.number) {
            sitting.idle.get_or_insert_with(|| idle.add(self.number, sitting.client));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        if taken.stand_up(self.number).is_none() {
            taken.leaving.remove(&self.number);
        }
        drop(taken);
        self.seats.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn options(all: usize, per_client: usize, trusted: &str) -> ServeOptions {
        ServeOptions {
            max_connections: all,
            loopback_places: 0,
            max_connections_per_ip: per_client,
            trusted_proxies: trusted.parse().unwrap(),
            ..ServeOptions::default()
        }
    }

    #[tokio::test]
    async fn lower_limits_refuse_newcomers_and_higher_ones_let_them_in() {
        let seats = seats(9, 9, "");
        let busy = |seat: Seat| {
            seat.begin().unwrap();
            seat
        };
        let peer = |last| ConnectionControl::new(([192, 0, 2, last], 1).into());
        let _first = busy(Seats::take(&seats, &peer(1), seats.way_out().await).unwrap());
        let _second = busy(Seats::take(&seats, &peer(1), seats.way_out().await).unwrap());
        seats.limit(&options(3, 1, ""));
        assert_eq!(Seats::take(&seats, &peer(1), seats.way_out().await).unwrap_err(), Full::Address);
        let _third = busy(Seats::take(&seats, &peer(2), seats.way_out().await).unwrap());
        assert_eq!(Seats::take(&seats, &peer(3), seats.way_out().await).unwrap_err(), Full::Server);
        seats.limit(&options(4, 1, ""));
        assert!(Seats::take(&seats, &peer(3), seats.way_out().await).is_ok());
    }

    fn seats(all: usize, per_client: usize, trusted: &str) -> Arc<Seats> {
        Arc::new(Seats::new(&options(all, per_client, trusted)))
    }

    async fn take(seats: &Arc<Seats>, peer: &str) -> Result<Seat, Full> {
        let control = ConnectionControl::new((peer.parse::<IpAddr>().unwrap(), 1).into());
        Seats::take(seats, &control, seats.way_out().await)
    }

    async fn take_and_ask(seats: &Arc<Seats>, peer: &str) -> Result<Seat, Full> {
        let seat = take(seats, peer).await?;
        seat.begin().unwrap();
        Ok(seat)
    }

    fn open(seats: &Seats) -> u64 {
        seats.counters.open.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_seat_is_free_again_when_its_connection_ends() {
        let seats = seats(2, 9, "");
        let first = take_and_ask(&seats, "192.0.2.1").await.unwrap();
        let _second = take_and_ask(&seats, "192.0.2.1").await.unwrap();
        assert_eq!(take(&seats, "192.0.2.2").await.unwrap_err(), Full::Server);
        drop(first);
        let _third = take(&seats, "192.0.2.2").await.unwrap();
        assert_eq!(open(&seats), 2);
        assert_eq!(seats.counters.accepted.load(Ordering::Relaxed), 3);
        assert_eq!(seats.counters.refused_full.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_one_that_has_been_idle_longest_gives_way_and_no_request_does() {
        let seats = seats(3, 9, "");
        let busy = take_and_ask(&seats, "192.0.2.1").await.unwrap();
        let rested = take_and_ask(&seats, "192.0.2.2").await.unwrap();
        let silent = take(&seats, "192.0.2.3").await.unwrap();
        rested.rest();
        let _newcomer = take_and_ask(&seats, "192.0.2.4").await.unwrap();
        assert_eq!(silent.begin(), Err(GaveWay), "it was idle before the other");
        drop(silent);
        assert_eq!(rested.begin(), Ok(()), "a request that comes in time keeps its place");
        assert_eq!(take(&seats, "192.0.2.5").await.unwrap_err(), Full::Server);
        busy.rest();
        let _another = take(&seats, "192.0.2.5").await.unwrap();
        assert_eq!(busy.begin(), Err(GaveWay));
        assert_eq!(seats.counters.gave_way.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_address_makes_room_for_its_newcomers_itself() {
        let seats = seats(9, 2, "");
        let other = take(&seats, "192.0.2.9").await.unwrap();
        let first = take(&seats, "192.0.2.1").await.unwrap();
        let second = take(&seats, "192.0.2.1").await.unwrap();
        let _third = take_and_ask(&seats, "192.0.2.1").await.unwrap();
        assert_eq!((first.begin(), second.begin(), other.begin()), (Err(GaveWay), Ok(()), Ok(())));
        assert_eq!(take(&seats, "192.0.2.1").await.unwrap_err(), Full::Address);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_is_idle_whoever_is_paused_longest_gives_way_and_whoever_reads_does_not() {
        let seats = seats(3, 2, "");
        let sit = async |peer: &str| {
            let control = ConnectionControl::new((peer.parse::<IpAddr>().unwrap(), 1).into());
            let seat = Seats::take(&seats, &control, seats.way_out().await).unwrap();
            seat.begin().unwrap();
            (control, seat)
        };
        let (reading, _first) = sit("192.0.2.1").await;
        let (long, second) = sit("192.0.2.2").await;
        let (short, _third) = sit("192.0.2.3").await;
        long.blocked(tokio::time::Instant::now());
        tokio::time::advance(std::time::Duration::from_secs(9)).await;
        short.blocked(tokio::time::Instant::now());
        assert_eq!(take(&seats, "192.0.2.4").await.unwrap_err(), Full::Server, "nine seconds are no pause");
        tokio::time::advance(std::time::Duration::from_secs(30)).await;
        let (_, _newcomer) = sit("192.0.2.4").await;
        assert!(long.line().gave_way() && long.is_aborted());
        assert!(!short.line().gave_way() && !reading.line().gave_way());
        drop(second);
        let (_, _another) = sit("192.0.2.4").await;
        assert!(short.line().gave_way(), "then the next");
        assert_eq!(take(&seats, "192.0.2.4").await.unwrap_err(), Full::Address, "none of its own is paused");
        assert!(!reading.line().gave_way());
    }

    #[tokio::test]
    async fn loopback_has_places_that_others_cannot_take() {
        let seats = Arc::new(Seats::new(&ServeOptions { loopback_places: 1, ..options(1, 9, "") }));
        let _full = take_and_ask(&seats, "192.0.2.1").await.unwrap();
        assert_eq!(take(&seats, "192.0.2.2").await.unwrap_err(), Full::Server);
        for local in ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1"] {
            drop(take_and_ask(&seats, local).await.unwrap());
        }
        let _health = take_and_ask(&seats, "127.0.0.1").await.unwrap();
        assert_eq!(take(&seats, "127.0.0.1").await.unwrap_err(), Full::Server);
    }

    #[tokio::test]
    async fn nobody_is_accepted_while_too_many_that_gave_way_are_not_closed_yet() {
        let seats = Arc::new(Seats::new(&ServeOptions { leaving: 1, ..options(1, 9, "") }));
        let first = take(&seats, "192.0.2.1").await.unwrap();
        let _second = take(&seats, "192.0.2.2").await.unwrap();
        let waiting = seats.way_out();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        assert!(futures_util::poll!(&mut waiting).is_ready());
        assert_eq!(open(&seats), 1);
    }

    #[tokio::test]
    async fn who_comes_after_an_order_has_it_too() {
        let seats = seats(9, 9, "");
        assert_eq!(seats.order(Order::Finish), 0);
        let control = ConnectionControl::new(([192, 0, 2, 1], 1).into());
        let _seat = Seats::take(&seats, &control, seats.way_out().await).unwrap();
        assert_eq!(control.order(&std::task::Context::from_waker(std::task::Waker::noop())), Order::Finish);
    }

    #[tokio::test]
    async fn an_address_has_its_own_limit_and_loopback_is_no_exception() {
        let seats = seats(9, 1, "");
        for (one, other) in [
            ("127.0.0.1", "127.0.0.1"),
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("2001:db8::1", "2001:db8::ffff:1"),
        ] {
            let held = take_and_ask(&seats, one).await.unwrap();
            assert_eq!(take(&seats, other).await.unwrap_err(), Full::Address, "{one} {other}");
            drop(held);
            drop(take(&seats, other).await.unwrap());
        }
        assert_eq!(
            seats.taken.lock().clients.clients(),
            0,
            "no address is remembered after its last connection"
        );
    }

    #[tokio::test]
    async fn all_clients_of_a_trusted_proxy_share_its_address_so_it_is_not_counted() {
        let seats = seats(9, 1, "10.0.0.0/8");
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(take_and_ask(&seats, "10.0.0.1").await.unwrap());
        }
        assert_eq!(held.len(), 5);
    }
}
