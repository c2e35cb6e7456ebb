//! Engines that somebody else runs.

use std::time::Duration;

use acemux_engine::Endpoint;

use super::super::Config;
use super::super::format::{Counts, Durations, Endpoints, Port, Word};
use super::super::setting::{Optional, Setting, settings};

fn external(config: &Config) -> Option<String> {
    let engines: Vec<String> = config.engines.external.iter().map(ToString::to_string).collect();
    (!engines.is_empty()).then(|| engines.join(","))
}

settings! { "Engines that already run":
    /// Engines that somebody else runs.
    ENGINES: Optional<Vec<Endpoint>> = new(&Endpoints).meant(external);

    /// The engine's host, as acexy has it; with ACEXY_PORT it means ENGINES=host:port.
    ACEXY_HOST: Optional<String> = new(&Word).alias("ENGINES");

    /// The engine's port, as acexy has it; 6878 when only ACEXY_HOST is set.
    ACEXY_PORT: Optional<u16> = new(&Port).alias("ENGINES");

    /// Most streams on one engine at a time. A hard cap.
    MAX_STREAMS_PER_ENGINE: Setting<usize> = new(&Counts::from(1), || 3)
        .meant(|config| Some(config.engines.max_streams_per_engine.to_string()));

    /// Another name of MAX_STREAMS_PER_ENGINE.
    ACEXY_MAX_STREAMS_PER_ENGINE: Optional<usize> = new(&Counts::from(1))
        .alias("MAX_STREAMS_PER_ENGINE");

    /// Longest wait for a free slot on the running engines.
    ENGINE_SELECTION_TIMEOUT: Setting<Duration> = new(&Durations::ANY, || Duration::from_secs(5)).at_once();
}
