//! `acemux doctor`: what is wrong with this set-up, in one line each, and how to mend it.
//!
//! ```text
//!   Config ─► settings ─┐
//!   Probes ─► docker ───┼─► Finding (fine, warning, fault) ─► Report ─► text or JSON, exit code
//!    (real or  vpn      │
//!    injected) host ────┤   every check has a deadline; those that do not need each other run at once
//!              listen ──┤
//!              engines ─┘
//! ```
//!
//! It changes nothing, and it works beside a running service: the data directory is not locked, and a port that the
//! service has is asked who has it. What it sees of the world comes from `probes`, so that tests can show it every fault.
//! No value of a setting is printed that could be a secret.

mod docker;
mod engines;
mod host;
mod listen;
mod probes;
mod real;
mod report;
mod settings;
#[cfg(test)]
mod tests;
mod vpn;

pub(crate) use self::host::folder as data_folder;
use self::probes::Probes;
use self::real::Real;
pub(crate) use self::real::is_running;
pub use self::report::Report;
use crate::config::{Config, Problems, Written};

/// Looks at this machine with these settings.
pub async fn examine(loaded: Result<(Config, Written), Problems>) -> Report {
    let (config, written) = match loaded {
        Ok(loaded) => loaded,
        // Without settings nobody knows what to look at.
        Err(problems) => return Report::new(settings::refused(&problems)),
    };
    let mut findings = settings::accepted(&config, &written);
    // It holds all checks at once.
    findings.extend(Box::pin(look(&config, &Real::new(&config))).await);
    Report::new(findings)
}

/// The same without the settings, which a service that runs has accepted.
pub async fn look_around(config: &Config) -> Report {
    // It holds all checks at once.
    Report::new(Box::pin(look(config, &Real::new(config))).await)
}

/// Everything but the settings themselves, in the order in which people mend it.
async fn look(config: &Config, probes: &impl Probes) -> Vec<report::Finding> {
    let (docker, engines, listen, host) = tokio::join!(
        docker::look(config, probes),
        engines::look(config, probes),
        listen::look(config, probes),
        host::look(config, probes),
    );
    [docker, engines, listen, host].into_iter().flatten().collect()
}
