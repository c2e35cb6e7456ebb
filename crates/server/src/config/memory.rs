//! How much memory there is to share, for `STREAM_MEMORY`'s default.

use std::fs;
use std::path::{Path, PathBuf};

/// Least that streams are given, in bytes.
const LEAST: usize = 64 * 1024 * 1024;

/// A quarter of what the process may use: its control group's limit, or the machine's memory.
pub(super) fn for_streams() -> usize {
    quarter(control_groups(Path::new("/")).chain(machine()))
}

fn quarter(limits: impl Iterator<Item = usize>) -> usize {
    limits.min().map_or(LEAST, |limit| (limit / 4).max(LEAST))
}

/// Every limit on the way from the process's own group to the root, of both versions: a service's or a container's own
/// limit is rarely the root's. "max" and groups that cannot be seen from here are no limits.
fn control_groups(root: &Path) -> impl Iterator<Item = usize> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let files: Vec<PathBuf> = groups.lines().filter_map(|line| limit_files(root, line)).flatten().collect();
    files.into_iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// The files that a line `number:controllers:/path` of the process's groups leads to.
fn limit_files(root: &Path, line: &str) -> Option<Vec<PathBuf>> {
    let (_, line) = line.split_once(':')?;
    let (controllers, path) = line.split_once(':')?;
    let (mount, name) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let path = Path::new(path.trim_start_matches('/'));
    Some(path.ancestors().map(|group| root.join(mount).join(group).join(name)).collect())
}

fn machine() -> Option<usize> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().trim_end_matches(" kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with the process in `groups` and the given limit files.
    fn limits(groups: &str, files: &[(&str, &str)]) -> Vec<usize> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files.iter().chain([&("proc/self/cgroup", groups)]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        control_groups(root.path()).collect()
    }

    #[test]
    fn this_machine_has_a_share_for_streams() {
        assert!(for_streams() >= LEAST);
    }

    #[test]
    fn streams_get_a_quarter_and_never_less_than_the_least() {
        assert_eq!(quarter([4 << 30, 8 << 30].into_iter()), 1 << 30);
        assert_eq!(quarter([1 << 20].into_iter()), LEAST);
        assert_eq!(quarter(std::iter::empty()), LEAST);
    }

    #[test]
    fn a_services_own_limit_and_those_above_it_count() {
        let files = [
            ("sys/fs/cgroup/system.slice/acemux.service/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "1000\n"),
        ];
        assert_eq!(limits("0::/system.slice/acemux.service\n", &files), [1000]);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        assert_eq!(limits("0::/\n", &[("sys/fs/cgroup/memory.max", "2000\n")]), [2000]);
    }

    #[test]
    fn the_first_version_of_control_groups_counts_too() {
        let files = [("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "3000\n")];
        assert_eq!(limits("5:cpu:/docker/abc\n4:memory:/docker/abc\n", &files), [3000]);
    }
}
