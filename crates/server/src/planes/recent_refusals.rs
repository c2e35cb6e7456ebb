//! What engines have just refused, so that a player that asks again every second does not keep an engine busy with a
//! dead channel.

use std::time::Duration;

use acemux_engine::{Believed, Hash};
use acemux_fleet::member::EngineKey;
use acemux_relay::origin::OpenError;

/// How long a refusal is believed. Short: a channel that comes back is tried again with the next click.
const BELIEVED: Duration = Duration::from_secs(5);

/// The refusals of the last seconds, by channel and engine. An engine answers a few starts a second.
pub(crate) struct RecentRefusals(Believed<(Hash, EngineKey), OpenError>);

impl Default for RecentRefusals {
    fn default() -> Self {
        Self(Believed::new(BELIEVED))
    }
}

impl RecentRefusals {
    /// This engine does not have this channel.
    pub(crate) fn note(&self, channel: Hash, engine: &EngineKey, error: &OpenError) {
        self.0.note((channel, engine.clone()), error.clone());
    }

    /// What this engine has just said of this channel.
    pub(crate) fn find(&self, channel: Hash, engine: &EngineKey) -> Option<OpenError> {
        self.0.find(&(channel, engine.clone()))
    }

    /// Everything is tried again.
    pub(crate) fn forget(&self, channel: Hash) {
        self.0.forget(|(refused, _)| *refused == channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_for_five_seconds_for_its_own_channel_and_engine() {
        let refusals = RecentRefusals::default();
        let (one, other) = (EngineKey::named("a:1"), EngineKey::named("b:1"));
        let [channel, another] = ["1", "2"].map(|digit| digit.repeat(40).parse::<Hash>().unwrap());
        let error = OpenError::Failed { detail: "failed to load content".into(), source_id: None };
        refusals.note(channel, &one, &error);
        assert_eq!(refusals.find(channel, &one), Some(error.clone()));
        assert_eq!((refusals.find(channel, &other), refusals.find(another, &one)), (None, None));
        tokio::time::advance(BELIEVED).await;
        assert_eq!(refusals.find(channel, &one), None);
        refusals.note(channel, &one, &error);
        refusals.forget(channel);
        assert_eq!(refusals.find(channel, &one), None);
    }
}
