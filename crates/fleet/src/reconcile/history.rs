//! What the fleet remembers: failures and their pauses, what it removed, and what operators have asked for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::backoff::{Breaker, Moment};
use crate::ident::ContainerId;
use crate::options::FleetOptions;
use crate::plan::{Memory, Purpose};
use crate::provisioner::Container;
use crate::snapshot::{FailureNote, Rollout};

/// Pause before a failed removal is tried again, doubled by each further failure.
const REMOVAL_PAUSE: Duration = Duration::from_secs(5);

const LONGEST_REMOVAL_PAUSE: Duration = Duration::from_mins(1);

/// Pause after the image could not be pulled, doubled by each further failure.
const IMAGE_PAUSE: Duration = Duration::from_secs(5);

const LONGEST_IMAGE_PAUSE: Duration = Duration::from_mins(1);

/// Failures kept for the operator's page.
const FAILURES_KEPT: usize = 20;

pub(super) struct History {
    pub(super) memory: Memory,
    /// Engines that have ended behind a VPN that worked, as far as was known by then.
    pub(super) ends: Vec<End>,
    /// When we removed what: a list that was asked for before still shows it.
    pub(super) gone: BTreeMap<ContainerId, Moment>,
    /// Removals that failed.
    removals: BTreeMap<ContainerId, Trouble>,
    /// Why images could not be pulled.
    image: Option<(Trouble, String)>,
    pub(super) failures: VecDeque<FailureNote>,
    /// What `POST /scale` asked for.
    pub(super) floor: Option<usize>,
    pub(super) rollout: Rollout,
    /// Own containers found outside of their VPN.
    pub(super) outside: u64,
}

/// An engine has ended, and its place is blamed for it.
pub(super) struct End {
    pub(super) at: Moment,
    pub(super) container: Container,
    pub(super) place: usize,
    pub(super) purpose: Purpose,
    /// Whether it had never been ready.
    pub(super) came_to_nothing: bool,
}

/// Something that failed is not tried again before then.
#[derive(Clone, Copy)]
struct Trouble {
    until: Moment,
    pause: Duration,
}

impl Trouble {
    fn again(before: Option<Self>, (first, longest): (Duration, Duration), now: Moment) -> Self {
        let pause = before.map_or(first, |trouble| trouble.pause * 2).min(longest);
        Self { until: now + pause, pause }
    }
}

impl History {
    pub(super) fn new(options: &FleetOptions) -> Self {
        let breaker = |(failures, pause)| Breaker::new(failures, pause);
        let memory = Memory::new(breaker(options.growth), breaker(options.replacement));
        Self {
            memory,
            ends: Vec::new(),
            gone: BTreeMap::new(),
            removals: BTreeMap::new(),
            image: None,
            failures: VecDeque::new(),
            floor: options.floor,
            rollout: Rollout::default(),
            outside: 0,
        }
    }

    pub(super) fn removal_failed(&mut self, id: ContainerId, now: Moment) {
        let before = self.removals.get(&id).copied();
        let trouble = Trouble::again(before, (REMOVAL_PAUSE, LONGEST_REMOVAL_PAUSE), now);
        self.removals.insert(id, trouble);
    }

    /// Whether its removal has failed so lately that it is not tried again yet.
    pub(super) fn is_removal_held(&self, id: &ContainerId, now: Moment) -> bool {
        self.removals.get(id).is_some_and(|trouble| trouble.until > now)
    }

    pub(super) fn forget(&mut self, id: &ContainerId) {
        self.removals.remove(id);
    }

    pub(super) fn image_failed(&mut self, why: String, now: Moment) {
        let before = self.image.as_ref().map(|(trouble, _)| *trouble);
        self.image = Some((Trouble::again(before, (IMAGE_PAUSE, LONGEST_IMAGE_PAUSE), now), why));
    }

    pub(super) fn image_works(&mut self) {
        self.image = None;
    }

    /// Why the image is not tried now.
    pub(super) fn image_trouble(&self, now: Moment) -> Option<&str> {
        self.image.as_ref().filter(|(trouble, _)| trouble.until > now).map(|(_, why)| why.as_str())
    }

    pub(super) fn note(&mut self, failure: FailureNote) {
        self.failures.truncate(FAILURES_KEPT - 1);
        self.failures.push_front(failure);
    }
}
