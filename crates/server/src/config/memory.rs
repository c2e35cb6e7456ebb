//! How much memory there is to share, for `STREAM_MEMORY`'s default.

use std::fs;

/// Least that streams are given, in bytes.
const LEAST: usize = 64 * 1024 * 1024;

/// A quarter of what the process may use: the control group's limit, or the machine's memory.
pub(super) fn for_streams() -> usize {
    let limits = [control_group_v2(), control_group_v1(), machine()];
    limits.into_iter().flatten().min().map_or(LEAST, |limit| (limit / 4).max(LEAST))
}

fn control_group_v2() -> Option<usize> {
    fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()
}

fn control_group_v1() -> Option<usize> {
    fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes").ok()?.trim().parse().ok()
}

fn machine() -> Option<usize> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().trim_end_matches(" kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_has_a_share_for_streams() {
        assert!(super::for_streams() >= super::LEAST);
    }
}
