//! Small documents in the store, by key.

use acemux_store::{Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The document as it was saved; `None` when none was, or when it cannot be read any more.
pub(crate) async fn read<T: DeserializeOwned>(store: &Store, key: &str) -> Result<Option<T>, StoreError> {
    let Some(value) = store.setting(key).await? else { return Ok(None) };
    let read = serde_json::from_value(value);
    if let Err(error) = &read {
        tracing::warn!(key, %error, "a saved setting cannot be read and is not used");
    }
    Ok(read.ok())
}

/// Makes the document durable.
///
/// # Panics
///
/// If it is no JSON, which a type with text keys always is.
pub(crate) async fn write(store: &Store, key: &str, document: &impl Serialize) -> Result<(), StoreError> {
    let value = serde_json::to_value(document).expect("documents have text keys only");
    store.save_setting(key, value).await
}
