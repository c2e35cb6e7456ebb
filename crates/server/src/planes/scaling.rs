//! What `POST /scale` has asked for outlives a restart. The newest word counts: when `MIN_REPLICAS` was changed since,
//! that is the newer one. `MAX_REPLICAS` is a cap on both and changes neither.

use acemux_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::record::saved;

/// Where it stands in the store.
const SCALE: &str = "scale";

/// As it was asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Scale {
    /// Engines to keep.
    engines: usize,
    /// What `MIN_REPLICAS` was then.
    min_replicas: usize,
}

/// Makes it durable. `min_replicas` is the present setting.
pub(crate) async fn keep(store: &Store, engines: usize, min_replicas: usize) -> Result<(), StoreError> {
    saved::write(store, SCALE, &Scale { engines, min_replicas }).await
}

/// What an earlier run was asked for, if it still counts. What cannot be read does not.
pub(crate) async fn kept(store: &Store, min_replicas: usize) -> Option<usize> {
    let scale = saved::read::<Scale>(store, SCALE).await;
    if let Err(error) = &scale {
        tracing::warn!(%error, "what POST /scale asked for cannot be read");
    }
    let Scale { engines, min_replicas: then } = scale.ok().flatten()?;
    if then != min_replicas {
        tracing::info!(
            engines,
            "MIN_REPLICAS was {then} and is {min_replicas}: what POST /scale asked for before is over"
        );
        // For good, also when MIN_REPLICAS is what it was again one day.
        if let Err(error) = keep(store, min_replicas, min_replicas).await {
            tracing::warn!(%error, "it cannot be forgotten");
        }
        return None;
    }
    if engines > min_replicas {
        tracing::info!(engines, "engines are kept as POST /scale has asked for");
    }
    Some(engines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_word_counts() {
        let store = Store::in_memory();
        assert_eq!(kept(&store, 2).await, None);
        keep(&store, 5, 2).await.unwrap();
        assert_eq!(kept(&store, 2).await, Some(5));
        assert_eq!(kept(&store, 3).await, None, "MIN_REPLICAS was changed later");
        assert_eq!(kept(&store, 3).await, Some(3), "and that is all there is to keep");
        keep(&store, 5, 3).await.unwrap();
        assert_eq!(kept(&store, 2).await, None);
        assert_eq!(kept(&store, 3).await, None, "and it is not asked for anew by changing it back");
        keep(&store, 4, 3).await.unwrap();
        assert_eq!(kept(&store, 3).await, Some(4), "and this was asked for later still");
    }
}
