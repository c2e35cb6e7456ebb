//! The service itself: its socket, who may change something, what is logged.

use std::path::PathBuf;
use std::time::Duration;

use acemux_store::events::USUALLY_KEPT;
use tracing::Level;

use super::super::format::{Choice, Counts, Durations, FilePath, Host, HostNames, Key, Port};
use super::super::setting::{Optional, Setting, settings};
use super::super::{ListenHost, LogFormat, Secret, WithoutKey};

const WITHOUT_KEY: Choice<WithoutKey> =
    Choice::of(&[("off", WithoutKey::Nobody), ("loopback", WithoutKey::Loopback)]);

const LEVELS: Choice<Level> = Choice::of(&[
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
])
// As programs in Python have them.
.or(&[("warning", "warn"), ("critical", "error"), ("fatal", "error")]);

const FORMATS: Choice<LogFormat> = Choice::of(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);

/// Why the service's own address is none of its pages' business.
const REACHED: &str = "health checks, proxies and players find the service there";

settings! { "Service":
    /// Address to listen on; all means IPv6 and IPv4.
    APP_HOST: Setting<ListenHost> = new(&Host, || ListenHost::All)
        .outside(REACHED);

    /// Port to listen on; 0 picks a free one.
    APP_PORT: Setting<u16> = new(&Port, || 8000)
        .outside(REACHED);

    /// Key for pages that change something, at least 16 characters; when not set, one is made beside the database
    /// (acemux key prints it). API_KEY_FILE names a file to read it from.
    API_KEY: Optional<Secret<String>> = new(&Key);

    /// Whether, while API_KEY is not set, requests from this machine that came through no proxy need no key: off or
    /// loopback. Never loopback behind a reverse proxy or tunnel on this machine.
    OPERATOR_WITHOUT_KEY: Setting<WithoutKey> = new(&WITHOUT_KEY, || WithoutKey::Nobody)
        .outside("who needs no key is not decided by who has got one");

    /// Names by which our pages may be asked for, beside addresses, names without a dot or that nobody can own (.local,
    /// .lan, .home, .internal, .localdomain, .home.arpa) and the machine's own. Media is answered under every name.
    ALLOWED_HOSTS: Optional<Vec<String>> = new(&HostNames);

    /// How much is logged, to standard error.
    LOG_LEVEL: Setting<Level> = new(&LEVELS, || Level::INFO).at_once();

    /// How log lines look.
    LOG_FORMAT: Setting<LogFormat> = new(&FORMATS, || LogFormat::Text)
        .outside("lines are written before the saved settings are read");

    /// Longest wait for a request's head, also on an idle connection.
    HEADER_TIMEOUT: Setting<Duration> = new(&Durations::from_ms(100), || Duration::from_secs(10)).at_once();

    /// How long a stop waits for connections to end.
    DRAIN_TIMEOUT: Setting<Duration> = new(&Durations::ANY, || Duration::from_secs(10)).at_once();

    /// Most connections at a time, viewers and pages together; MAX_VIEWERS and 256 when not set. Idle ones give way to
    /// new ones, and 64 more are for this machine alone.
    MAX_CONNECTIONS: Optional<usize> = new(&Counts::from(1))
        .meant(|config| Some(config.listen.max_connections.to_string())).at_once();

    /// Embedded database; its folder is the data directory. :memory: keeps nothing.
    DB_PATH: Setting<PathBuf> = new(&FilePath, || "./data/acemux.db".into())
        .outside("it says where changed settings are kept");

    /// How long /events remembers what happened; of each category the newest 2000 at most. What operators have changed
    /// is kept for 30 days at least.
    EVENT_RETENTION: Setting<Duration> = new(&Durations::from_ms(60 * 60 * 1_000), || USUALLY_KEPT).at_once();
}
