//! How many viewers there may be, in all and per client address. Checked before any engine is touched.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Leading bits of an IPv6 address that name a network: what a home is given at the least (RFC 6177), and what its
/// devices number themselves within.
const NETWORK_BITS: u32 = 64;

/// Who counts as one client: an IPv4 address, or all 2^64 addresses of an IPv6 network. An IPv4 address written as
/// IPv6 (`::ffff:a.b.c.d`, what a socket for both shows) is that IPv4 address.
///
/// Whatever counts by address counts by this, because whoever has a network has every address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressGroup(IpAddr);

impl From<IpAddr> for AddressGroup {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::MAX << (u128::BITS - NETWORK_BITS);
                Ipv6Addr::from_bits(v6.to_bits() & network).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl AddressGroup {
    /// Its first address, which names it.
    pub fn first(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for AddressGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(first) => write!(f, "{first}/{NETWORK_BITS}"),
        }
    }
}

/// Why one more viewer is refused. Running viewers are never touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `MAX_VIEWERS` are watching.
    ServerFull,
    /// `MAX_VIEWERS_PER_IP` are watching from this address.
    AddressFull,
}

/// The limits and who counts against them.
#[derive(Debug)]
pub struct Admission {
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    most: usize,
    most_per_address: usize,
    taken: usize,
    per_address: AddressCounts,
}

/// How many of something each client has.
#[derive(Debug, Default)]
pub struct AddressCounts(HashMap<AddressGroup, usize>);

impl AddressCounts {
    /// One more for this client. False when it has `most` already.
    pub fn add(&mut self, group: AddressGroup, most: usize) -> bool {
        let count = self.of(group);
        let has_room = count < most;
        if has_room {
            self.0.insert(group, count + 1);
        }
        has_room
    }

    /// How many this client has.
    pub fn of(&self, group: AddressGroup) -> usize {
        self.0.get(&group).copied().unwrap_or(0)
    }

    /// One less. Nothing is remembered of who has none.
    pub fn remove(&mut self, group: AddressGroup) {
        if let Some(count) = self.0.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&group);
            }
        }
    }

    /// Clients that have at least one.
    pub fn clients(&self) -> usize {
        self.0.len()
    }
}

impl Admission {
    /// At most `most` viewers, at most `most_per_address` of one client.
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { seats: Mutex::new(Seats { most, most_per_address, ..Seats::default() }) })
    }

    /// Other limits from now on. Who has a seat keeps it, also when there are more than that.
    pub fn limit(&self, most: usize, most_per_address: usize) {
        let mut seats = self.seats.lock();
        (seats.most, seats.most_per_address) = (most, most_per_address);
    }

    /// A seat for a viewer of this client.
    pub fn admit(self: &Arc<Self>, client: AddressGroup) -> Result<Seat, Refusal> {
        let mut seats = self.seats.lock();
        if seats.taken >= seats.most {
            return Err(Refusal::ServerFull);
        }
        let most = seats.most_per_address;
        if !seats.per_address.add(client, most) {
            return Err(Refusal::AddressFull);
        }
        seats.taken += 1;
        Ok(Seat { admission: Arc::clone(self), client, is_free: AtomicBool::new(false) })
    }

    /// Seats taken at this moment.
    pub fn taken(&self) -> usize {
        self.seats.lock().taken
    }

    fn release(&self, client: AddressGroup) {
        let mut seats = self.seats.lock();
        seats.taken -= 1;
        seats.per_address.remove(client);
    }
}

/// One viewer's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    admission: Arc<Admission>,
    client: AddressGroup,
    is_free: AtomicBool,
}

impl Seat {
    /// The place is free, though its viewer is still to be seen out.
    pub fn vacate(&self) {
        if !self.is_free.swap(true, Ordering::Relaxed) {
            self.admission.release(self.client);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.vacate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(address: &str) -> AddressGroup {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_household_is_one_group_however_its_addresses_are_written() {
        let same = [
            ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("::1", "::2", "::/64"),
        ];
        for (one, other, written) in same {
            assert_eq!(group(one), group(other), "{one} {other}");
            assert_eq!(group(one).to_string(), written);
        }
        let apart = [
            ("192.0.2.7", "192.0.2.8"),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("2001:db8:1:2::1", "2001:db8:1:3::1"),
            ("127.0.0.1", "::1"),
        ];
        for (one, other) in apart {
            assert_ne!(group(one), group(other), "{one} {other}");
        }
    }

    #[test]
    fn lower_limits_refuse_newcomers_and_touch_nobody_who_sits() {
        let (home, elsewhere) = (group("192.0.2.1"), group("192.0.2.2"));
        let admission = Admission::new(9, 9);
        let sitting = [(); 3].map(|()| admission.admit(home).unwrap());
        admission.limit(4, 2);
        assert_eq!(admission.admit(home).unwrap_err(), Refusal::AddressFull);
        let _fourth = admission.admit(elsewhere).unwrap();
        assert_eq!(admission.admit(elsewhere).unwrap_err(), Refusal::ServerFull);
        assert_eq!(admission.taken(), 4);
        drop(sitting);
        assert!(admission.admit(home).is_ok());
        admission.limit(9, 9);
        assert!([(); 5].map(|()| admission.admit(home)).iter().all(Result::is_ok));
    }

    #[test]
    fn a_seat_given_back_is_free_again() {
        let (home, elsewhere) = (group("192.0.2.1"), group("192.0.2.2"));
        let admission = Admission::new(3, 2);
        let first = admission.admit(home).unwrap();
        let _second = admission.admit(home).unwrap();
        assert_eq!(admission.admit(home).unwrap_err(), Refusal::AddressFull);
        let _third = admission.admit(elsewhere).unwrap();
        assert_eq!(admission.admit(elsewhere).unwrap_err(), Refusal::ServerFull);
        drop(first);
        assert!(admission.admit(home).is_ok());
    }

    #[test]
    fn a_place_that_is_vacated_is_free_at_once_and_only_once() {
        let client = group("192.0.2.1");
        let admission = Admission::new(1, 1);
        let paused = admission.admit(client).unwrap();
        paused.vacate();
        let _newcomer = admission.admit(client).unwrap();
        paused.vacate();
        drop(paused);
        assert_eq!(admission.taken(), 1);
        assert_eq!(admission.admit(client).unwrap_err(), Refusal::ServerFull);
    }

    #[test]
    fn nothing_is_remembered_of_an_address_that_left() {
        let admission = Admission::new(3, 1);
        let seat = admission.admit(group("2001:db8::1")).unwrap();
        assert_eq!(admission.admit(group("2001:db8::2")).unwrap_err(), Refusal::AddressFull);
        drop(seat);
        assert_eq!(admission.taken(), 0);
        assert_eq!(admission.seats.lock().per_address.clients(), 0);
    }
}
