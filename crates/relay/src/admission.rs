//! How many viewers there may be, in all and per client address. Checked before any engine is touched.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

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
    most: usize,
    most_per_address: usize,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    per_address: HashMap<IpAddr, usize>,
}

impl Admission {
    /// At most `most` viewers, at most `most_per_address` from one address.
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, seats: Mutex::default() })
    }

    /// A seat for a viewer at `address`.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Seat, Refusal> {
        let mut seats = self.seats.lock();
        if seats.taken >= self.most {
            return Err(Refusal::ServerFull);
        }
        let here = seats.per_address.entry(address).or_default();
        if *here >= self.most_per_address {
            return Err(Refusal::AddressFull);
        }
        *here += 1;
        seats.taken += 1;
        Ok(Seat { admission: Arc::clone(self), address })
    }

    /// Seats taken at this moment.
    pub fn taken(&self) -> usize {
        self.seats.lock().taken
    }

    fn release(&self, address: IpAddr) {
        let mut seats = self.seats.lock();
        seats.taken -= 1;
        if let Some(here) = seats.per_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                seats.per_address.remove(&address);
            }
        }
    }
}

/// One viewer's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.admission.release(self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_seat_given_back_is_free_again() {
        let admission = Admission::new(3, 2);
        let first = admission.admit(HOME).unwrap();
        let _second = admission.admit(HOME).unwrap();
        assert_eq!(admission.admit(HOME).unwrap_err(), Refusal::AddressFull);
        let _third = admission.admit(ELSEWHERE).unwrap();
        assert_eq!(admission.admit(ELSEWHERE).unwrap_err(), Refusal::ServerFull);
        drop(first);
        assert!(admission.admit(HOME).is_ok());
    }

    #[test]
    fn nothing_is_remembered_of_an_address_that_left() {
        let admission = Admission::new(3, 2);
        drop(admission.admit(HOME).unwrap());
        assert_eq!(admission.taken(), 0);
        assert!(admission.seats.lock().per_address.is_empty());
    }
}
