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
];
