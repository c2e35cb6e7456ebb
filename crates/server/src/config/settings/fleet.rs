//! Engines that are created.

use std::time::Duration;

use acemux_fleet::allowed::OperatorLabel;
use acemux_fleet::ident::{DockerName, InstanceId};
use acemux_fleet::image::{ImageRef, Tag};
use acemux_fleet::profile::{ArmTags, Variant};

use super::super::PortRange;
use super::super::format::{
    Billionths, Capabilities, CapabilityNames, Choice, Counts, Durations, Flag, Parsed, Ports, Sizes, Word,
};
use super::super::setting::{Optional, Setting, settings};

/// Who creates engines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Provisioner {
    /// We do, by Docker.
    Docker,
    /// Somebody else.
    None,
}

/// Every engine uses more than a few bytes: with less it would not run, or be replaced as soon as it is idle.
const LEAST_MEMORY: usize = 32 << 20;

const PROVISIONERS: Choice<Provisioner> =
    Choice::of(&[("docker", Provisioner::Docker), ("none", Provisioner::None)]);
const IMAGE: Parsed<ImageRef> = Parsed::new("an image's name in lower case, like ghcr.io/owner/name:tag");
const TAG: Parsed<Tag> = Parsed::new("an image's tag: letters, digits, dots, dashes and underscores");
const INSTANCE: Parsed<InstanceId> = Parsed::new("1 to 64 letters, digits, dots, underscores and dashes");
const LABEL: Parsed<OperatorLabel> =
    Parsed::new("key=value, one line, and none of the fleet's own labels").free();

/// The name of a container or a network.
pub(super) const DOCKER: Parsed<DockerName> =
    Parsed::new("a name of Docker's: letters, digits, dots, dashes and underscores");

/// Why some settings are none of a page's business: a key that is found out must not be worth this machine.
const RUNS: &str =
    "what runs on this machine, and with which rights, is decided where the service is started";

settings! { "Provisioned engines":
    /// Who creates engines: docker, or none when only ENGINES is set.
    ENGINE_PROVISIONER: Optional<Provisioner> = new(&PROVISIONERS);

    /// Longest wait for a new engine to become ready.
    STARTUP_TIMEOUT_S: Setting<Duration> = new(&Durations::from_ms(1_000), || Duration::from_secs(25)).at_once();

    /// Engines kept; when not set, at most MAX_REPLICAS.
    MIN_REPLICAS: Setting<usize> = new(&Counts::from(0), || 2)
        .meant(|config| Some(config.fleet.min_replicas.to_string())).at_once();

    /// Engines allowed. A hard cap.
    MAX_REPLICAS: Setting<usize> = new(&Counts::from(1), || 20).at_once();

    /// Engines kept idle; when not set, at most MAX_REPLICAS.
    MIN_FREE_REPLICAS: Setting<usize> = new(&Counts::from(0), || 1)
        .meant(|config| Some(config.fleet.min_free_replicas.to_string())).at_once();

    /// Engine image family; per architecture when not set.
    ENGINE_VARIANT: Optional<Variant> = new(&Choice::of(&Variant::NAMED));

    /// Another image for the variant.
    ENGINE_IMAGE: Optional<ImageRef> = new(&IMAGE)
        .outside(RUNS);

    /// Memory limit per engine.
    ENGINE_MEMORY_LIMIT: Optional<usize> = new(&Sizes::from(LEAST_MEMORY).or_none());

    /// Image tag on 32-bit ARM.
    ENGINE_ARM32_VERSION: Setting<Tag> = new(&TAG, || ArmTags::default().arm32);

    /// Image tag on 64-bit ARM.
    ENGINE_ARM64_VERSION: Setting<Tag> = new(&TAG, || ArmTags::default().arm64);

    /// Idle time before an engine may be removed.
    ENGINE_GRACE_PERIOD_S: Setting<Duration> = new(&Durations::ANY, || Duration::from_secs(30)).at_once();

    /// Host ports for engines; a request for an engine may choose one of them and no other.
    PORT_RANGE_HOST: Setting<PortRange> = new(&Ports, || PortRange { first: 19_000, last: 19_999 });

    /// Engine HTTPS ports inside containers.
    ACE_HTTPS_RANGE: Setting<PortRange> = new(&Ports, || PortRange { first: 45_000, last: 49_999 });

    /// Also publish the engine's HTTPS port.
    ACE_MAP_HTTPS: Setting<bool> = new(&Flag, || false);

    /// Where the Docker daemon answers; the local socket when not set.
    DOCKER_HOST: Optional<String> = new(&Word)
        .outside(RUNS);

    /// Docker network for engines; our own when not set.
    DOCKER_NETWORK: Optional<DockerName> = new(&DOCKER)
        .outside(RUNS);

    /// Label put on every engine; one line, of a name that is none of the fleet's own.
    CONTAINER_LABEL: Setting<OperatorLabel> = new(&LABEL, OperatorLabel::default)
        .outside(RUNS);

    /// Which containers are ours; random and kept beside the database when not set.
    INSTANCE_ID: Optional<InstanceId> = new(&INSTANCE)
        .outside("another one would leave the containers of this one behind");

    /// Age, from when this run of the service first saw it, at which an idle engine is replaced, one a minute at most;
    /// never when not set.
    ENGINE_MAX_AGE: Optional<Duration> = new(&Durations::from_ms(60_000)).at_once();

    /// Memory in use at which an idle engine is replaced, one a minute at most; never when not set.
    ENGINE_MAX_MEMORY: Optional<usize> = new(&Sizes::from(LEAST_MEMORY)).at_once();

    /// CPUs that one engine may use, e.g. 1.5; all of them when not set.
    ENGINE_CPUS: Optional<i64> = new(&Billionths);

    /// Processes and threads that one engine may have.
    ENGINE_PIDS_LIMIT: Setting<usize> = new(&Counts::from(16), || 512);

    /// Relaxation: Linux capabilities that engines keep, e.g. NET_RAW,CHOWN; none when not set. Unknown names are left
    /// out.
    ENGINE_CAPABILITIES: Optional<Capabilities> = new(&CapabilityNames)
        .outside(RUNS);

    /// Relaxation: whether programs in an engine's container may gain rights.
    ENGINE_NEW_PRIVILEGES: Setting<bool> = new(&Flag, || false)
        .outside(RUNS);

    /// Relaxation: a writable root file system also where the image does without.
    ENGINE_WRITABLE_ROOTFS: Setting<bool> = new(&Flag, || false)
        .outside(RUNS);

    /// Whether idle engines are removed.
    AUTO_DELETE: Setting<bool> = new(&Flag, || true).at_once();

    /// Whether a stop of the service stops its engines.
    STOP_ENGINES_ON_EXIT: Setting<bool> = new(&Flag, || false);

    /// Period of the pass that repairs what an event missed.
    MONITOR_INTERVAL_S: Setting<Duration> = new(&Durations::from_ms(1_000), || Duration::from_secs(10));

    /// Failed checks in a row that make an engine unhealthy.
    HEALTH_FAILURE_THRESHOLD: Setting<usize> = new(&Counts::from(1), || 3);

    /// How long an unhealthy engine may recover.
    HEALTH_UNHEALTHY_GRACE_PERIOD_S: Setting<Duration> = new(&Durations::ANY, || Duration::from_mins(1)).at_once();

    /// Failed creations that stop further ones.
    CIRCUIT_BREAKER_FAILURE_THRESHOLD: Setting<usize> = new(&Counts::from(1), || 5);

    /// How long they stay stopped.
    CIRCUIT_BREAKER_RECOVERY_TIMEOUT_S: Setting<Duration> =
        new(&Durations::from_ms(1_000), || Duration::from_mins(5));

    /// Failed replacements that stop further ones.
    CIRCUIT_BREAKER_REPLACEMENT_THRESHOLD: Setting<usize> = new(&Counts::from(1), || 3);

    /// How long they stay stopped.
    CIRCUIT_BREAKER_REPLACEMENT_TIMEOUT_S: Setting<Duration> =
        new(&Durations::from_ms(1_000), || Duration::from_mins(3));

    /// Engines created at the same time.
    MAX_CONCURRENT_PROVISIONS: Setting<usize> = new(&Counts::from(1), || 2).at_once();

    /// Least time between two creations.
    MIN_PROVISION_INTERVAL_S: Setting<Duration> = new(&Durations::ANY, || Duration::from_millis(500)).at_once();
}
