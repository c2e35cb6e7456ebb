//! Commands as they are printed, run by bash where nothing is in reach but what is listed here. What would change a machine,
//! or takes minutes, is only written down, for the test to judge.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use acemux_testkit::app::within;
use tempfile::TempDir;
use tokio::process::Command;

/// Longest that one block may take.
const LIMIT: Duration = Duration::from_mins(1);
/// How long a command that would never end is watched, in seconds, as curl reads it.
const ENDLESS: &str = "3";
/// How much is kept of what is printed, bytes.
const MOST: usize = 2000;
/// What is run as it is.
const REAL: [&str; 22] = [
    "base64",
    "cat",
    "cp",
    "curl",
    "date",
    "echo",
    "env",
    "false",
    "grep",
    "head",
    "jq",
    "ls",
    "mkdir",
    "printf",
    "sed",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "true",
    "uniq",
];
/// What is only written down.
const NOTED: [&str; 20] = [
    "acemux",
    "cargo",
    "docker",
    "docker-compose",
    "ffmpeg",
    "ffplay",
    "git",
    "install",
    "iptables",
    "journalctl",
    "kubectl",
    "mpv",
    "npm",
    "node",
    "promtool",
    "sudo",
    "systemctl",
    "systemd-run",
    "vlc",
    "rustup",
];
/// Between the words of a noted command, and behind its last one.
const BETWEEN: char = '\u{1f}';
const BEHIND: char = '\u{1e}';

/// A folder with a copy of what the repository has at its root, and the commands.
pub(crate) struct Shell {
    folder: TempDir,
    key: String,
}

/// What came of a block.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Lines that failed, with their exit codes.
    pub(crate) failed: Vec<(String, i32)>,
    /// Commands that were only noted, word by word.
    pub(crate) noted: Vec<Vec<String>>,
    /// What was printed.
    pub(crate) said: String,
}

impl Shell {
    /// `key` is what `$API_KEY` is.
    pub(crate) fn new(key: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let shell = Self { folder, key: key.to_owned() };
        shell.lay_out();
        // VLC runs as somebody else.
        std::fs::set_permissions(shell.folder.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
        shell
    }

    /// The players are run as well, without picture and sound, for some seconds each.
    pub(crate) fn with_players(self) -> Self {
        let play = |name: &str, line: &str| self.write_command(name, line);
        play(
            "mpv",
            "exec /usr/bin/mpv --no-config --vo=null --ao=null --length=2 --msg-level=all=error \"$@\"",
        );
        play(
            "vlc",
            "exec /usr/sbin/runuser -u nobody -- /usr/bin/cvlc -q --vout dummy --aout dummy --run-time=3 \"$@\" vlc://quit",
        );
        play(
            "ffplay",
            "export SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy\nexec /usr/bin/ffplay -v error -autoexit -t 2 \"$@\"",
        );
        // It records until it is told to stop, as with Ctrl-C.
        play(
            "ffmpeg",
            "/usr/bin/timeout -s INT 5 /usr/bin/ffmpeg -y -nostdin -v error \"$@\"\ntest -s \"${!#}\"",
        );
        self
    }

    /// A file in the folder where commands are run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// Runs these lines one after the other in one shell.
    pub(crate) async fn run(&self, lines: &[String]) -> Ran {
        let own = tempfile::tempdir_in(self.folder.path()).expect("a folder");
        let (noted, failed) = (own.path().join("noted"), own.path().join("failed"));
        let trap = format!("set -o pipefail; trap 'echo \"$LINENO $?\" >>{}' ERR", failed.display());
        let mut bash = Command::new("/bin/bash");
        bash.arg("-c").arg(format!("{trap}\n{}", lines.join("\n")));
        bash.current_dir(self.folder.path().join("work")).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        bash.env("PATH", self.folder.path().join("bin")).env("HOME", self.folder.path());
        bash.env("NOTED", &noted).env("API_KEY", &self.key).env("LC_ALL", "C.UTF-8");
        let output = within(LIMIT, &lines.join("\n"), bash.output()).await.expect("bash is there");
        let said = [output.stdout, output.stderr].concat();
        let read = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
        Ran {
            failed: read(&failed).lines().filter_map(|line| failure(line, lines)).collect(),
            noted: read(&noted).split_terminator(BEHIND).map(words).collect(),
            // Its end says what went wrong.
            said: String::from_utf8_lossy(&said[said.len().saturating_sub(MOST)..]).into_owned(),
        }
    }

    fn lay_out(&self) {
        let at = |name: &str| self.folder.path().join(name);
        for folder in ["bin", "work/scripts", "work/bench", "work/web", "work/target/release"] {
            std::fs::create_dir_all(at(folder)).expect("it is ours");
        }
        for name in REAL {
            let places = [Path::new("/usr/bin"), Path::new("/bin")].map(|place| place.join(name));
            let place = places
                .iter()
                .find(|place| place.exists())
                .unwrap_or_else(|| panic!("{name} is not installed"));
            symlink(place, at("bin").join(name)).expect("it is ours");
        }
        for name in NOTED {
            self.write_command(name, "");
        }
        // What follows is judged by its own name.
        self.write_command("sudo", "\"$@\"");
        self.copy_repository();
        std::fs::write(at(".curlrc"), format!("silent\nshow-error\nfail-with-body\nmax-time = {ENDLESS}\n"))
            .expect("it is ours");
    }

    fn copy_repository(&self) {
        let work = self.folder.path().join("work");
        for entry in std::fs::read_dir(super::root()).expect("it is there").flatten() {
            let name = entry.file_name();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), work.join(name)).expect("it can be read");
            }
        }
        for folder in ["scripts", "bench"] {
            for entry in std::fs::read_dir(super::root().join(folder)).expect("it is there").flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                Self::write_noting(&work.join(folder).join(&name), &format!("./{folder}/{name}"), "");
            }
        }
        Self::write_noting(&work.join("target/release/acemux"), "acemux", "");
    }

    fn write_command(&self, name: &str, then: &str) {
        Self::write_noting(&self.folder.path().join("bin").join(name), name, then);
    }

    /// A program that notes how it was called, reads what is piped into it, and does what is to be done `then`.
    fn write_noting(file: &Path, name: &str, then: &str) {
        let format = format!("%s{BETWEEN}");
        let drain = if then.is_empty() {
            "for word in \"$@\"; do [ \"$word\" != - ] || cat >/dev/null; done"
        } else {
            then
        };
        let text = format!(
            "#!/bin/bash\n{{ printf '{format}' '{name}' \"$@\"; printf '{BEHIND}'; }} >>\"$NOTED\"\n{drain}\n"
        );
        std::fs::write(file, text).expect("it is ours");
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).expect("it is ours");
    }
}

/// Line numbers begin behind the line that is before the commands.
fn failure(noted: &str, lines: &[String]) -> Option<(String, i32)> {
    let (line, code) = noted.split_once(' ')?;
    let line: usize = line.parse().ok()?;
    Some((lines.get(line.saturating_sub(2))?.clone(), code.parse().ok()?))
}

fn words(noted: &str) -> Vec<String> {
    noted.split_terminator(BETWEEN).map(str::to_owned).collect()
}
