//! Every setting, in the order in which people read them.

pub(super) mod engines;
pub(super) mod fleet;
pub(super) mod ignored;
pub(super) mod service;
pub(super) mod streams;
pub(super) mod viewers;
pub(super) mod vpn;

use super::setting::{Group, Item};

/// All of them by subject.
pub(super) static GROUPS: [&Group; 6] =
    [&service::GROUP, &streams::GROUP, &viewers::GROUP, &engines::GROUP, &fleet::GROUP, &vpn::GROUP];

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static dyn Item> {
    GROUPS.iter().flat_map(|group| group.items).copied()
}

/// The setting of this name.
pub(super) fn find(name: &str) -> Option<&'static dyn Item> {
    all().find(|item| item.name() == name)
}
