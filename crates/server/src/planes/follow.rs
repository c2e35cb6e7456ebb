//! Has every part follow the settings that are changed while the service runs.
//!
//! Parts of crates that know no settings are told here, each what it needs and in its own words; telling them the same
//! twice changes nothing. What reads the snapshot itself ([`Settings::config`]) is not told.

use std::sync::Arc;

use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::Fleet;
use acemux_relay::Relay;
use acemux_store::Store;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::serve::Server;
use crate::planes::loops::Loops;
use crate::planes::settings::Settings;
use crate::planes::{scaling, setup};
use crate::record::logging;

/// Who follows.
#[derive(Clone)]
pub(crate) struct Followers {
    pub(crate) relay: Relay,
    pub(crate) engines: Arc<Engines>,
    pub(crate) fleet: Option<Fleet>,
    pub(crate) loops: Arc<Loops>,
    pub(crate) server: Arc<Server>,
    pub(crate) store: Store,
}

/// Until the stop.
pub(crate) async fn run(followers: Followers, settings: Arc<Settings>, stop: CancellationToken) {
    let mut current = settings.follow();
    // What changed before this was there, or while it was not.
    current.mark_changed();
    let following = async {
        while current.changed().await.is_ok() {
            let config = Arc::clone(&current.borrow_and_update());
            followers.follow(&config).await;
        }
    };
    stop.run_until_cancelled(following).await;
}

impl Followers {
    async fn follow(&self, config: &Config) {
        logging::set_level(config.log.level);
        self.relay.follow(&setup::relay(config));
        self.server.follow(&setup::serving(config));
        self.loops.set_rules(config.loops);
        setup::retime(&self.engines, config);
        remember(&self.store, config).await;
        if let Some(fleet) = &self.fleet {
            self.lead(fleet, config).await;
        }
    }

    /// The newest word about how many engines there are to be is this one, if it says something new.
    async fn lead(&self, fleet: &Fleet, config: &Config) {
        // What engines are made from is its own, and stays.
        let policy = setup::policy(config, String::new());
        let was = fleet.snapshot().min_replicas;
        let min = policy.min;
        if let Err(error) = fleet.set_policy(policy).await {
            tracing::warn!(%error, "the fleet does not follow the changed settings");
        } else if min != was
            && let Err(error) = scaling::keep(&self.store, min, min).await
        {
            tracing::warn!(%error, "what POST /scale asked for before cannot be forgotten");
        }
    }
}

/// How long what happened is kept.
pub(crate) async fn remember(store: &Store, config: &Config) {
    if let Err(error) = store.keep_events(config.event_retention).await {
        tracing::warn!(%error, "events that are too old cannot be deleted");
    }
}
