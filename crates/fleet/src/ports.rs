//! Which host ports new engines get: inside the operator's range, outside the kernel's ephemeral range, free when
//! probed, and not one that has just failed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::time::Duration;

use acemux_engine::shortage;

use crate::backoff::Moment;

/// How long a port is left alone on which an engine could not be started.
const QUARANTINE: Duration = Duration::from_mins(1);

/// Ports one call may probe: a bind costs about 5 µs, so a range full of listeners costs 5 ms, not a spin.
const PROBES: usize = 1_000;

/// The ports of one range.
#[derive(Clone, Debug)]
pub struct PortPool {
    range: RangeInclusive<u16>,
    /// Where the kernel takes the ports of outgoing connections; a client socket there blocks a listener even in
    /// `TIME_WAIT`.
    ephemeral: Option<RangeInclusive<u16>>,
    quarantined: BTreeMap<u16, Moment>,
    next: u16,
}

impl PortPool {
    /// Ports of `range` that are not in `ephemeral`.
    pub fn new(range: RangeInclusive<u16>, ephemeral: RangeInclusive<u16>) -> Self {
        Self { ephemeral: Some(ephemeral), ..Self::elsewhere(range) }
    }

    /// All ports of `range`, in a network that is not this machine's.
    pub fn elsewhere(range: RangeInclusive<u16>) -> Self {
        let next = *range.start();
        Self { range, ephemeral: None, quarantined: BTreeMap::new(), next }
    }

    fn is_ephemeral(&self, port: u16) -> bool {
        self.ephemeral.as_ref().is_some_and(|ephemeral| ephemeral.contains(&port))
    }

    /// No engine could be started on it at `now`.
    pub fn quarantine(&mut self, port: u16, now: Moment) {
        self.quarantined.insert(port, now + QUARANTINE);
    }

    /// At most `count` ports that are neither `used` nor quarantined and that `is_free` finds free. Goes round the
    /// range, so that a port that was just given up is the last to be tried again.
    pub fn free(
        &mut self,
        count: usize,
        used: &BTreeSet<u16>,
        now: Moment,
        is_free: impl Fn(u16) -> bool,
    ) -> Vec<u16> {
        self.quarantined.retain(|_, until| *until > now);
        let start = if self.range.contains(&self.next) { self.next } else { *self.range.start() };
        let round = (start..=*self.range.end()).chain(*self.range.start()..start);
        let found: Vec<u16> = round
            .filter(|port| !self.is_ephemeral(*port) && !used.contains(port))
            .filter(|port| !self.quarantined.contains_key(port))
            .take(PROBES)
            .filter(|port| is_free(*port))
            .take(count)
            .collect();
        if let Some(last) = found.last() {
            self.next = last.saturating_add(1);
        }
        found
    }

    /// Whether no port of the range can ever be used.
    pub fn is_hopeless(&self) -> bool {
        self.range.clone().all(|port| self.is_ephemeral(port))
    }
}

/// Whether nothing listens on the port, on any address of this machine.
pub fn is_free_here(port: u16) -> bool {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(_) => true,
        // Nothing is known of a port that we cannot try.
        Err(error) => shortage::is_ours(&error),
    }
}

/// The kernel's range for outgoing connections; its usual default when it cannot be read.
pub fn ephemeral_range() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32_768..=60_999,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(ports: &[u16]) -> BTreeSet<u16> {
        ports.iter().copied().collect()
    }

    const NOW: Moment = Duration::ZERO;

    #[test]
    fn used_quarantined_busy_and_ephemeral_ports_are_passed_over() {
        let mut pool = PortPool::new(19_000..=19_005, 19_005..=60_000);
        pool.quarantine(19_001, NOW);
        let free = pool.free(9, &used(&[19_000]), NOW, |port| port != 19_002);
        assert_eq!(free, [19_003, 19_004]);
        let later = NOW + QUARANTINE;
        assert!(pool.free(9, &used(&[]), later, |_| true).contains(&19_001));
    }

    #[test]
    fn ports_are_taken_round_the_range_and_reused() {
        let mut pool = PortPool::new(19_000..=19_003, 40_000..=50_000);
        assert_eq!(pool.free(2, &used(&[]), NOW, |_| true), [19_000, 19_001]);
        assert_eq!(pool.free(2, &used(&[]), NOW, |_| true), [19_002, 19_003]);
        assert_eq!(pool.free(1, &used(&[]), NOW, |_| true), [19_000]);
    }

    #[test]
    fn an_exhausted_range_gives_nothing() {
        let mut pool = PortPool::new(19_000..=19_001, 40_000..=50_000);
        assert!(pool.free(1, &used(&[19_000, 19_001]), NOW, |_| true).is_empty());
        assert!(!pool.is_hopeless());
        assert!(PortPool::new(40_001..=40_002, 40_000..=50_000).is_hopeless());
    }

    #[test]
    fn a_port_somebody_listens_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free_here(listener.local_addr().unwrap().port()));
    }
}
