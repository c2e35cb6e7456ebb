//! Which connections have no request under way, from the one that has waited longest to the newest.

use std::collections::{BTreeMap, BTreeSet};

use acemux_relay::admission::AddressGroup;

/// Names a connection.
pub(super) type Number = u64;

/// When a connection became idle, as the count of all that did by then. No two are the same, whatever a clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

/// Idle connections in the order in which they became so, of everybody and of each client.
#[derive(Debug, Default)]
pub(super) struct Idle {
    next: u64,
    all: BTreeMap<Turn, Number>,
    by_client: BTreeSet<(AddressGroup, Turn)>,
}

impl Idle {
    /// One more, the newest. `client` is whom it counts for.
    pub(super) fn add(&mut self, number: Number, client: Option<AddressGroup>) -> Turn {
        let turn = Turn(self.next);
        self.next += 1;
        self.all.insert(turn, number);
        self.by_client.extend(client.map(|client| (client, turn)));
        turn
    }

    /// One less: it has a request, or is gone.
    pub(super) fn remove(&mut self, turn: Turn, client: Option<AddressGroup>) {
        self.all.remove(&turn);
        if let Some(client) = client {
            self.by_client.remove(&(client, turn));
        }
    }

    /// The one that has been idle longest.
    pub(super) fn oldest(&self) -> Option<Number> {
        self.all.values().next().copied()
    }

    /// The same of one client.
    pub(super) fn oldest_of(&self, client: AddressGroup) -> Option<Number> {
        let (_, turn) = self.by_client.range((client, Turn(0))..=(client, Turn(u64::MAX))).next()?;
        self.all.get(turn).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn each_client_has_its_own_oldest_one() {
        let [one, other, nobody] =
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| ip.parse::<IpAddr>().unwrap().into());
        let mut idle = Idle::default();
        let first = idle.add(7, Some(one));
        idle.add(8, Some(other));
        idle.add(9, Some(one));
        idle.add(5, None);
        assert_eq!((idle.oldest(), idle.oldest_of(one), idle.oldest_of(other)), (Some(7), Some(7), Some(8)));
        assert_eq!(idle.oldest_of(nobody), None);
        idle.remove(first, Some(one));
        assert_eq!((idle.oldest(), idle.oldest_of(one)), (Some(8), Some(9)));
        idle.add(7, Some(one));
        assert_eq!(idle.oldest_of(one), Some(9), "who has just become idle is the newest");
    }
}
