//! Names of the systems that this one replaces: understood, so that old files still work, and without meaning here.

/// A name that is understood and means nothing.
#[derive(Debug)]
pub(in crate::config) struct Ignored {
    /// Its name in the environment.
    pub(in crate::config) name: &'static str,
    /// Why it means nothing, or what does what it promised.
    pub(in crate::config) why: &'static str,
}

/// What people read above them.
pub(in crate::config) const TITLE: &str = "Understood, without meaning here";

/// All of them.
#[rustfmt::skip]
pub(in crate::config) static IGNORED: &[Ignored] = &[
    Ignored { name: "ENGINE_CACHE_TTL", why: "The list of engines is never stale." },
    Ignored { name: "VPN_RESTART_ENGINES_ON_RECONNECT", why: "Engines are created anew when their network is gone, and only then: a VPN that reconnects keeps them." },
    Ignored { name: "IDLE_TTL_S", why: "It had no effect in the system that this one replaces." },
    Ignored { name: "PROXY_MODE", why: "There is one mode, without ffmpeg." },
    Ignored { name: "REDIS_HOST", why: "There is no Redis." },
    Ignored { name: "REDIS_PORT", why: "There is no Redis." },
    Ignored { name: "REDIS_DB", why: "There is no Redis." },
    Ignored { name: "DB_URL", why: "The database is embedded: DB_PATH." },
    Ignored { name: "DEBUG_MODE", why: "LOG_LEVEL=debug does what it promised." },
    Ignored { name: "ACE_HTTP_RANGE", why: "Inside its container an engine has the port at which it is reached." },
    Ignored { name: "AUTOSCALE_INTERVAL_S", why: "Scaling is decided when something changes, and every second." },
    Ignored { name: "HEALTH_CHECK_INTERVAL_S", why: "Engines are asked every 5 s, and new ones four times a second." },
    Ignored { name: "HEALTH_REPLACEMENT_COOLDOWN_S", why: "Replacements have a back-off per place and a circuit breaker." },
    Ignored { name: "COLLECT_INTERVAL_S", why: "Statistics of streams are read every 2 s." },
    Ignored { name: "DOCKER_TLS_VERIFY", why: "TLS to the daemon is not supported: use a socket, or a tunnel." },
    Ignored { name: "DOCKER_CERT_PATH", why: "TLS to the daemon is not supported: use a socket, or a tunnel." },
    Ignored { name: "STATS_HISTORY_MAX", why: "Statistics are current values; Prometheus keeps the history." },
    Ignored { name: "DEBUG_LOG_DIR", why: "Logs go to standard error." },
    Ignored { name: "PUBLIC_URL", why: "Pages and playlists name each other relatively; ALLOWED_HOSTS says by which names pages are asked for." },
    Ignored { name: "ACEXY_LISTEN_ADDR", why: "APP_HOST and APP_PORT say where it listens." },
    Ignored { name: "ACEXY_SCHEME", why: "Engines speak HTTP." },
    Ignored { name: "ACEXY_M3U8", why: "HLS is at /ace/manifest.m3u8, beside MPEG-TS." },
    Ignored { name: "ACEXY_M3U8_STREAM_TIMEOUT", why: "HLS_VIEWER_TIMEOUT says how long an HLS viewer stays." },
    Ignored { name: "ACEXY_EMPTY_TIMEOUT", why: "STALL_TIMEOUT and HOLD_TIMEOUT say what happens when a source is silent." },
    Ignored { name: "ACEXY_EMPTY_RETRY_COUNT", why: "Other engines are tried as long as HOLD_TIMEOUT lasts." },
    Ignored { name: "ACEXY_NO_RESPONSE_TIMEOUT", why: "EMPTY_STREAM_TIMEOUT is the budget of a start." },
    Ignored { name: "ACEXY_BUFFER_SIZE", why: "STREAM_BUFFER_SIZE is the history of a stream; nothing waits until it is full." },
    Ignored { name: "ACEXY_CLIENT_EVICTION_TIMEOUT", why: "VIEWER_STALL_TIMEOUT says how long a viewer may take nothing." },
    Ignored { name: "ACESTREAM_MIN_REPLICAS", why: "MIN_REPLICAS." },
    Ignored { name: "ACESTREAM_MAX_REPLICAS", why: "MAX_REPLICAS." },
    Ignored { name: "ACESTREAM_STREAMS_PER_INSTANCE", why: "MAX_STREAMS_PER_ENGINE." },
    Ignored { name: "ACESTREAM_IDLE_TIMEOUT", why: "ENGINE_GRACE_PERIOD_S." },
    Ignored { name: "ACESTREAM_IMAGE", why: "ENGINE_VARIANT and ENGINE_IMAGE." },
    Ignored { name: "ACESTREAM_CONTAINER_FAILURE_THRESHOLD", why: "HEALTH_FAILURE_THRESHOLD." },
    Ignored { name: "ACESTREAM_STREAM_FAILURE_THRESHOLD", why: "An engine whose streams fail is left after each of them." },
    Ignored { name: "COMPOSE_PROFILE", why: "GLUETUN_CONTAINER_NAME turns the VPN on." },
];
