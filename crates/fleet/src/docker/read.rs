//! Docker's answers in our words. What is missing or has the wrong form is a bad reply, never a guess.

use std::io;

use acemux_engine::{shortage, text};
use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerState as State, ContainerStatsResponse, ContainerSummary,
};
use jiff::Timestamp;

use super::bad;
use crate::ident::ContainerId;
use crate::provisioner::{Container, ContainerState, PostMortem, ProvisionError, Usage};

/// Longest text of Docker's that is passed on.
const LONGEST: usize = 300;
/// Longest log line that is kept.
const LONGEST_LINE: usize = 400;
/// Log lines kept.
const LINES: usize = 50;

/// One line of printable characters.
pub(super) fn clean(text: &str) -> String {
    text::line(text, LONGEST)
}

/// How a call failed.
pub(super) fn error(error: &Error) -> ProvisionError {
    match error {
        Error::DockerResponseServerError { message, .. } => {
            ProvisionError::Refused { detail: clean(message) }
        }
        Error::DockerStreamError { error } => ProvisionError::Refused { detail: clean(error) },
        Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::StrParseError { .. } => {
            ProvisionError::BadReply { detail: clean(&error.to_string()) }
        }
        Error::APIVersionParseError {} => {
            ProvisionError::BadReply { detail: "an API version that is none".into() }
        }
        Error::RequestTimeoutError => {
            ProvisionError::Unreachable { detail: "it did not answer in time".into() }
        }
        other if is_our_shortage(other) => ProvisionError::Shortage { detail: clean(&chain(other)) },
        other => ProvisionError::Unreachable { detail: clean(&chain(other)) },
    }
}

/// Whether the connection to the daemon failed for want of something of ours.
fn is_our_shortage(error: &Error) -> bool {
    // This one hides what it holds from the chain of causes.
    if let Error::IOError { err } = error {
        return shortage::is_ours(err);
    }
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).any(shortage::is_ours)
}

/// The innermost cause says what is wrong: "connection refused" rather than "client error".
fn chain(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// An element of the list.
pub(super) fn summary(summary: ContainerSummary) -> Result<Container, ProvisionError> {
    let state = summary.state.map(|state| state.to_string()).unwrap_or_default();
    let name = summary.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    let ports = summary.ports.unwrap_or_default();
    let mode = summary.host_config.and_then(|host| host.network_mode);
    Ok(Container {
        id: id(summary.id)?,
        name: clean(name.trim_start_matches('/')),
        image: clean(&summary.image.unwrap_or_default()),
        state: state_of(&state)?,
        created: Timestamp::from_second(summary.created.unwrap_or_default()).unwrap_or_default(),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        ports: ports
            .into_iter()
            .filter_map(|port| Some((port.private_port, port.ip.unwrap_or_default(), port.public_port?)))
            .collect(),
        inside: mode.as_deref().and_then(anothers),
    })
}

/// The names of an element of the list. Those that another container has for it hold a slash and take nothing.
pub(super) fn names(summary: ContainerSummary) -> impl Iterator<Item = String> {
    let names = summary.names.unwrap_or_default().into_iter();
    names.map(|name| name.trim_start_matches('/').to_owned()).filter(|name| !name.contains('/'))
}

/// One container.
pub(super) fn inspected(found: ContainerInspectResponse) -> Result<Container, ProvisionError> {
    let state =
        found.state.and_then(|state| state.status).map(|status| status.to_string()).unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let mode = found.host_config.and_then(|host| host.network_mode);
    let created = found.created.and_then(|created| created.parse().ok());
    Ok(Container {
        id: id(found.id)?,
        name: clean(found.name.unwrap_or_default().trim_start_matches('/')),
        image: clean(&config.image.unwrap_or_default()),
        state: state_of(&state)?,
        created: created.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        ports: Vec::new(),
        inside: mode.as_deref().and_then(anothers),
    })
}

/// The container whose network this network mode is.
fn anothers(mode: &str) -> Option<String> {
    mode.strip_prefix("container:").map(clean)
}

pub(super) fn id(id: Option<String>) -> Result<ContainerId, ProvisionError> {
    id.unwrap_or_default().parse().map_err(|_| bad("a container without an id"))
}

pub(super) fn state_of(word: &str) -> Result<ContainerState, ProvisionError> {
    match word {
        "created" => Ok(ContainerState::Created),
        "running" => Ok(ContainerState::Running),
        "paused" => Ok(ContainerState::Paused),
        "restarting" => Ok(ContainerState::Restarting),
        "removing" | "stopping" => Ok(ContainerState::Removing),
        "exited" => Ok(ContainerState::Exited),
        "dead" => Ok(ContainerState::Dead),
        _ => Err(bad("a container in a state that does not exist")),
    }
}

/// Why it ended.
pub(super) fn post_mortem(state: State, log: &str) -> PostMortem {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.len().saturating_sub(LINES);
    PostMortem {
        exit_code: state.exit_code,
        out_of_memory: state.oom_killed.unwrap_or_default(),
        error: state.error.filter(|error| !error.is_empty()).map(|error| clean(&error)),
        log: lines.iter().skip(last).map(|line| redact(&text::line(line, LONGEST_LINE))).collect(),
    }
}

/// Engines print their arguments: what follows a word that names a secret is not kept.
fn redact(line: &str) -> String {
    let is_secret = |word: &str| {
        let word = word.to_ascii_lowercase();
        ["token", "password", "passwd", "secret", "api-key", "api_key"].iter().any(|name| word.contains(name))
    };
    let mut hide_next = false;
    let words = line.split(' ').map(|word| {
        if std::mem::take(&mut hide_next) && !word.is_empty() {
            return "***".to_owned();
        }
        match word.split_once(['=', ':']) {
            Some((name, _)) if is_secret(name) => format!("{name}=***"),
            None if is_secret(word) => {
                hide_next = true;
                word.to_owned()
            }
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What it uses.
pub(super) fn usage(stats: &ContainerStatsResponse) -> Usage {
    let networks = stats.networks.iter().flat_map(|networks| networks.values());
    let (network_rx, network_tx) = networks.fold((0, 0), |(rx, tx), network| {
        (rx + network.rx_bytes.unwrap_or_default(), tx + network.tx_bytes.unwrap_or_default())
    });
    let (memory, memory_limit) = memory(stats);
    Usage {
        cpu_percent: cpu_percent(stats),
        memory,
        memory_limit,
        network_rx,
        network_tx,
        block_read: blocks(stats, "read"),
        block_write: blocks(stats, "write"),
    }
}

/// Without the page cache, as `docker stats` shows it: cgroup 2 says `inactive_file`, cgroup 1 `total_inactive_file`.
fn memory(stats: &ContainerStatsResponse) -> (u64, u64) {
    let Some(memory) = &stats.memory_stats else { return (0, 0) };
    let cache = memory
        .stats
        .as_ref()
        .and_then(|stats| stats.get("inactive_file").or_else(|| stats.get("total_inactive_file")).copied());
    let used = memory.usage.unwrap_or_default().saturating_sub(cache.unwrap_or_default());
    (used, memory.limit.unwrap_or_default())
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one second fit a double exactly")]
fn cpu_percent(stats: &ContainerStatsResponse) -> f64 {
    let total = |cpu: &bollard::models::ContainerCpuStats| {
        (cpu.cpu_usage.as_ref().and_then(|usage| usage.total_usage), cpu.system_cpu_usage)
    };
    let (Some(now), Some(before)) = (&stats.cpu_stats, &stats.precpu_stats) else { return 0.0 };
    let ((Some(used), Some(system)), (used_before, Some(system_before))) = (total(now), total(before)) else {
        return 0.0;
    };
    let used = used.saturating_sub(used_before.unwrap_or_default()) as f64;
    let system = system.saturating_sub(system_before) as f64;
    let cpus = f64::from(now.online_cpus.unwrap_or(1));
    if system > 0.0 { used / system * cpus * 100.0 } else { 0.0 }
}

fn blocks(stats: &ContainerStatsResponse, operation: &str) -> u64 {
    let blocks = stats.blkio_stats.as_ref().and_then(|blocks| blocks.io_service_bytes_recursive.as_ref());
    let is_meant = |op: &Option<String>| op.as_ref().is_some_and(|op| op.eq_ignore_ascii_case(operation));
    let entries = blocks.into_iter().flatten().filter(|entry| is_meant(&entry.op));
    entries.map(|entry| entry.value.unwrap_or_default()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_a_daemon_that_is_gone() {
        let failed = |code| error(&Error::IOError { err: io::Error::from_raw_os_error(code) });
        let [no_descriptor, refused] = [24, 111].map(failed);
        assert!(matches!(no_descriptor, ProvisionError::Shortage { .. }), "{no_descriptor}");
        assert!(matches!(refused, ProvisionError::Unreachable { .. }), "{refused}");
    }

    #[test]
    fn secrets_in_an_engines_log_are_not_kept() {
        let line = "start --access-token hush --bind-all --service-access-token=hush api_key:hush ok";
        assert_eq!(
            redact(line),
            "start --access-token *** --bind-all --service-access-token=*** api_key=*** ok"
        );
    }

    #[test]
    fn the_last_lines_of_a_log_are_kept_without_control_characters() {
        let log = (0..60).map(|n| format!("line {n}\u{1b}[0m")).collect::<Vec<_>>().join("\n");
        let state = State { exit_code: Some(137), oom_killed: Some(true), ..State::default() };
        let post_mortem = post_mortem(state, &log);
        assert_eq!((post_mortem.log.len(), post_mortem.exit_code), (50, Some(137)));
        assert_eq!(post_mortem.log[0], "line 10 [0m");
        assert!(post_mortem.out_of_memory);
    }

    #[test]
    fn the_name_that_a_link_gives_is_not_taken() {
        let names = vec!["/acestream-1".to_owned(), "/web/acestream-2".to_owned()];
        let summary = ContainerSummary { names: Some(names), ..ContainerSummary::default() };
        assert_eq!(super::names(summary).collect::<Vec<_>>(), ["acestream-1"]);
    }

    #[test]
    fn a_container_in_the_network_of_another_is_told_by_its_mode() {
        for container in ["gluetun", &"0".repeat(64)] {
            assert_eq!(anothers(&format!("container:{container}")).as_deref(), Some(container));
        }
        assert!(["bridge", "host", "acemux", "containers"].into_iter().all(|mode| anothers(mode).is_none()));
    }

    #[test]
    fn a_summary_without_an_id_or_with_an_unknown_state_is_a_bad_reply() {
        assert!(summary(ContainerSummary::default()).is_err());
        let id = Some("0".repeat(64));
        assert!(summary(ContainerSummary { id, ..ContainerSummary::default() }).is_err());
    }
}
