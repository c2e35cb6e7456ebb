//! Fields that hold one word of a few, as the document lists them. The fields themselves are texts.

use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident = $($word:literal)|+;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug)]
            pub enum $name {}

            impl $name {
                /// The words.
                pub const WORDS: &[&str] = &[$($word),+];
            }

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    one_of(Self::WORDS, concat!($($doc),+).trim())
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

words! {
    /// How a stream is.
    StreamVerdict = "smooth" | "starting" | "healing" | "thin_swarm" | "engine_slow" | "vpn_down";
    /// How a viewer is: as its stream, or `viewer_behind`.
    ViewerVerdict = "smooth" | "starting" | "healing" | "thin_swarm" | "engine_slow" | "vpn_down" | "viewer_behind";
    /// What a stream does: `lingering` is without viewers.
    SessionState = "opening" | "live" | "lingering" | "ended";
    /// How pictures are scanned.
    Scan = "progressive" | "interlaced";
    /// What the probe of an engine's API says.
    EngineHealth = "unknown" | "healthy" | "unhealthy";
    /// What streams have shown of an engine: `noted` (a start hung lately), `suspected` (one start at a time), `ejected`, `on_trial` (one start, with another engine beside it).
    EngineTrust = "full" | "noted" | "suspected" | "on_trial" | "ejected";
    /// What a container does, in Docker's words.
    ContainerState = "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead";
    /// What a VPN's container does, in Docker's words; `not_found` when there is none.
    VpnContainerState = "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead" | "not_found";
    /// Of all VPNs together.
    VpnSummaryState = "disabled" | "running" | "unhealthy";
    /// A VPN in the words of the system before us.
    VpnHealth = "healthy" | "starting" | "unknown" | "unhealthy";
    /// What the fleet makes of a VPN.
    TunnelState = "up" | "unsure" | "down";
    /// How many VPNs there are.
    VpnMode = "disabled" | "single" | "redundant";
    /// The service as a whole.
    ServiceState = "healthy" | "degraded" | "unavailable";
    /// The breaker of creations.
    BreakerWord = "closed" | "open" | "half_open";
    /// Why nothing is created.
    BlockedCode = "max_capacity" | "crash_loop" | "circuit_breaker" | "no_ports" | "vpn_disconnected" | "image_unavailable" | "docker_down";
    /// How far a replacement of all engines is.
    ReprovisionState = "idle" | "in_progress" | "success";
    /// What it is about.
    ReprovisionPhase = "provisioning" | "complete";
    /// How somebody became the operator.
    OperatorBy = "key" | "login" | "this_machine";
    /// Who has said which infohash a content id stands for.
    IdentityWitness = "look_up" | "start";
    /// A form of a channel's name.
    NameForm = "content_id" | "infohash";
    /// What a stream was asked for by.
    KeyKind = "content_id" | "infohash" | "url" | "magnet";
    /// Whether a stream runs.
    StreamStatus = "started" | "ended";
    /// How far back, and how fine.
    HistorySpan = "minutes" | "hours" | "days";
    /// Which breaker.
    BreakerName = "general" | "replacement";
    /// Whether engines answer.
    HealthWord = "healthy" | "degraded";
}

fn one_of(words: &[&str], about: &str) -> RefOr<Schema> {
    let words = Some(words.iter().copied());
    ObjectBuilder::new().schema_type(Type::String).enum_values(words).description(Some(about)).into()
}
