//! How many connections there may be, in all and from one address, and which there are.
//!
//! A connection holds a [`Seat`]; dropping it gives the place back, on every way a connection can end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use acemux_relay::admission::{AddressCounts, AddressGroup};
use parking_lot::Mutex;

use super::{ConnectionControl, Counters, Order, ServeOptions};
use crate::client::TrustedProxies;

/// Every place there is, and who sits where.
#[derive(Debug)]
pub(super) struct Seats {
    all: usize,
    per_client: usize,
    trusted: TrustedProxies,
    counters: Arc<Counters>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// What whoever comes late is told too.
    standing: Option<Order>,
    controls: HashMap<u64, ConnectionControl>,
    clients: AddressCounts,
}

/// The right to one connection. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    client: Option<AddressGroup>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// As many connections are open as may be.
    Server,
    /// The address has as many as it may have.
    Address,
}

impl Seats {
    pub(super) fn new(options: &ServeOptions) -> Self {
        Self {
            all: options.max_connections,
            per_client: options.max_connections_per_ip,
            trusted: options.trusted_proxies.clone(),
            counters: Arc::clone(&options.counters),
            taken: Mutex::default(),
        }
    }

    /// A seat for the connection of `control`, counted for its peer's address unless that is a trusted proxy.
    pub(super) fn take(seats: &Arc<Self>, control: &ConnectionControl) -> Result<Seat, Full> {
        let address = control.peer().ip();
        let client = (!seats.trusted.contains(address)).then(|| address.into());
        let number = seats.enter(client, control).inspect_err(|full| seats.count_refusal(*full))?;
        seats.counters.accepted.fetch_add(1, Ordering::Relaxed);
        seats.counters.open.fetch_add(1, Ordering::Relaxed);
        Ok(Seat { seats: Arc::clone(seats), number, client })
    }

    /// Gives every connection an order, also those that are just coming, and says how many there are.
    pub(super) fn order(&self, order: Order) -> usize {
        let controls: Vec<_> = {
            let mut taken = self.taken.lock();
            taken.standing = Some(order);
            taken.controls.values().cloned().collect()
        };
        for control in &controls {
            control.give(order);
        }
        controls.len()
    }

    fn enter(&self, client: Option<AddressGroup>, control: &ConnectionControl) -> Result<u64, Full> {
        let mut taken = self.taken.lock();
        if taken.controls.len() >= self.all {
            return Err(Full::Server);
        }
        if client.is_some_and(|client| !taken.clients.add(client, self.per_client)) {
            return Err(Full::Address);
        }
        let number = taken.next;
        taken.next += 1;
        taken.controls.insert(number, control.clone());
        if let Some(order) = taken.standing {
            control.give(order);
        }
        Ok(number)
    }

    fn count_refusal(&self, full: Full) {
        let counter = match full {
            Full::Server => &self.counters.refused_full,
            Full::Address => &self.counters.refused_address,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        taken.controls.remove(&self.number);
        if let Some(client) = self.client {
            taken.clients.remove(client);
        }
        self.seats.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn seats(all: usize, per_client: usize, trusted: &str) -> Arc<Seats> {
        Arc::new(Seats::new(&ServeOptions {
            max_connections: all,
            max_connections_per_ip: per_client,
            trusted_proxies: trusted.parse().unwrap(),
            ..ServeOptions::default()
        }))
    }

    fn take(seats: &Arc<Seats>, peer: &str) -> Result<Seat, Full> {
        Seats::take(seats, &ConnectionControl::new((peer.parse::<IpAddr>().unwrap(), 1).into()))
    }

    #[tokio::test]
    async fn a_seat_is_free_again_when_its_connection_ends() {
        let seats = seats(2, 9, "");
        let first = take(&seats, "192.0.2.1").unwrap();
        let _second = take(&seats, "192.0.2.1").unwrap();
        assert_eq!(take(&seats, "192.0.2.2").unwrap_err(), Full::Server);
        drop(first);
        let _third = take(&seats, "192.0.2.2").unwrap();
        assert_eq!(seats.counters.open.load(Ordering::Relaxed), 2);
        assert_eq!(seats.counters.accepted.load(Ordering::Relaxed), 3);
        assert_eq!(seats.counters.refused_full.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_comes_after_an_order_has_it_too() {
        let seats = seats(9, 9, "");
        assert_eq!(seats.order(Order::Finish), 0);
        let control = ConnectionControl::new(([192, 0, 2, 1], 1).into());
        let _seat = Seats::take(&seats, &control).unwrap();
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
            let held = take(&seats, one).unwrap();
            assert_eq!(take(&seats, other).unwrap_err(), Full::Address, "{one} {other}");
            drop(held);
            drop(take(&seats, other).unwrap());
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
        let held: Vec<_> = (0..5).map(|_| take(&seats, "10.0.0.1").unwrap()).collect();
        assert_eq!(held.len(), 5);
    }
}
