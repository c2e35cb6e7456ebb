//! How many engines are missing or too many, and why.

use super::cast::{Cast, Role};
use super::types::{Policy, Reason, World};

/// How many engines are missing or too many, and why.
pub(super) struct Need {
    pub(super) wanted: usize,
    pub(super) because: String,
    pub(super) missing: usize,
    pub(super) surplus: usize,
    /// Why what is missing is wanted.
    pub(super) reason: Reason,
}

impl Need {
    pub(super) fn new(policy: &Policy, world: &World<'_>, cast: &Cast<'_>) -> Self {
        let coming = cast.coming(world);
        let suspect = cast.with(|role| *role == Role::Suspect).count();
        let busy =
            cast.with(|role| matches!(role, Role::Serving | Role::Suspect)).filter(|e| e.used > 0).count();
        let free = cast.serving().filter(|engine| engine.used == 0).count() + coming;
        let have = cast.serving().count() + suspect + coming;
        let for_waiting = homeless(world, cast).div_ceil(policy.slots.max(1));
        let free_wanted = policy.min_free.max(for_waiting);
        let wanted = policy.min.max(busy + free_wanted).min(policy.max);
        let (below, unfree) = (policy.min.saturating_sub(have), free_wanted.saturating_sub(free));
        let reason = if for_waiting > 0 && for_waiting > free {
            Reason::StreamsWait { streams: homeless(world, cast) }
        } else if unfree >= below && unfree > 0 {
            Reason::KeepFree { free, want: free_wanted }
        } else {
            Reason::BelowMinimum { have, want: policy.min }
        };
        let because = format!(
            "{wanted} wanted: {busy} in use, {free_wanted} to be free ({} waiting), at least {}, at most {}",
            homeless(world, cast),
            policy.min,
            policy.max
        );
        Self { wanted, because, missing: below.max(unfree), surplus: have.saturating_sub(wanted), reason }
    }
}

/// Streams that wait for a slot, or will when they have noticed that their tunnel is down. They may be the same.
fn homeless(world: &World<'_>, cast: &Cast<'_>) -> usize {
    let stranded = cast.with(|role| matches!(role, Role::Stranded(_))).map(|engine| engine.used).sum();
    if world.any_usable() { world.demand.waiting.max(stranded) } else { world.demand.waiting }
}
