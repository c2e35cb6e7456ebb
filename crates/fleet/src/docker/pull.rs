//! Pulling images: one pull per image at a time, with progress in the log, for all who wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::read;
use crate::provisioner::ProvisionError;

/// Longest pull. An engine image is a few hundred MB.
const WHOLE: Duration = Duration::from_mins(10);
/// Longest silence within one.
const SILENCE: Duration = Duration::from_mins(1);
/// Time between two lines about one pull.
const TELL: Duration = Duration::from_secs(5);
/// Those who waited for a pull that failed do not begin another one right away.
const FRESH: Duration = Duration::from_secs(5);

/// The pulls under way and how the last ones ended.
#[derive(Default)]
pub(super) struct Pulls(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Last>>>>);

#[derive(Default)]
struct Last(Option<(Instant, Result<(), ProvisionError>)>);

impl Pulls {
    /// Returns when the image is here. Whoever comes while it is being pulled waits for the same pull.
    pub(super) async fn pull(&self, client: &Client, image: &str) -> Result<(), ProvisionError> {
        let gate = Arc::clone(self.0.lock().entry(image.to_owned()).or_default());
        let mut last = gate.lock().await;
        if let Some((at, result)) = &last.0
            && at.elapsed() < FRESH
        {
            return result.clone();
        }
        let result = pull(client, image).await;
        last.0 = Some((Instant::now(), result.clone()));
        result
    }
}

async fn pull(client: &Client, image: &str) -> Result<(), ProvisionError> {
    tracing::info!(image, "the engine image is missing: pulling it");
    let unavailable = |detail: String| ProvisionError::ImageUnavailable { image: image.to_owned(), detail };
    let (name, tag) = split(image);
    let options = CreateImageOptions {
        from_image: Some(name.to_owned()),
        tag: tag.map(str::to_owned),
        ..CreateImageOptions::default()
    };
    let mut progress = client.create_image(Some(options), None, None);
    let (began, deadline, mut told) = (Instant::now(), Instant::now() + WHOLE, Instant::now());
    loop {
        let next = timeout(SILENCE, progress.next());
        let step = match timeout_at(deadline, next).await {
            Ok(Ok(Some(step))) => step,
            Ok(Ok(None)) => break,
            Ok(Err(_)) => return Err(unavailable("the pull made no progress for a minute".to_owned())),
            Err(_) => return Err(unavailable("the pull took longer than ten minutes".to_owned())),
        };
        let step = step.map_err(|error| unavailable(read::error(&error).to_string()))?;
        if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
            return Err(unavailable(read::clean(&message)));
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            let status = step.status.as_deref().map(read::clean).unwrap_or_default();
            tracing::info!(image, status, seconds = began.elapsed().as_secs(), "pulling");
        }
    }
    tracing::info!(image, seconds = began.elapsed().as_secs(), "pulled");
    Ok(())
}

/// Name and tag; a reference by digest has its digest in the name, and one without either gets `latest`.
fn split(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, Some("latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_as_docker_does() {
        assert_eq!(split("jopsis/acestream:x64"), ("jopsis/acestream", Some("x64")));
        assert_eq!(split("localhost:5000/engine"), ("localhost:5000/engine", Some("latest")));
        assert_eq!(split("engine"), ("engine", Some("latest")));
        let digest = "ghcr.io/a/b@sha256:0123";
        assert_eq!(split(digest), (digest, None));
    }
}
