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
        let for_waiting = world.demand.waiting.div_ceil(policy.slots.max(1));
        let free_wanted = policy.min_free.max(for_waiting);
        let wanted = policy.min.max(busy + free_wanted).min(policy.max);
        let (below, unfree) = (policy.min.saturating_sub(have), free_wanted.saturating_sub(free));
        let reason = if for_waiting > 0 && for_waiting > free {
            Reason::StreamsWait { streams: world.demand.waiting }
        } else if unfree >= below && unfree > 0 {
            Reason::KeepFree { free, want: free_wanted }
        } else {
            Reason::BelowMinimum { have, want: policy.min }
        };
        let because = format!(
            "{wanted} wanted: {busy} in use, {free_wanted} to be free ({} waiting), at least {}, at most {}",
            world.demand.waiting, policy.min, policy.max
        );
        Self { wanted, because, missing: below.max(unfree), surplus: have.saturating_sub(wanted), reason }
    }
}
