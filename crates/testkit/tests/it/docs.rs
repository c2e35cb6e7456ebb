//! The documentation keeps its promise: every command on its pages runs or is judged, every configuration is read by the
//! program that it is for, every link leads somewhere.

mod blocks;
mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use acemux_server::cli::Cli;
use acemux_server::config::Config;
use acemux_sim::{GluetunOptions, SimGluetun};
use acemux_testkit::app::Setup;
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::FakeDockerd;
use acemux_testkit::netns::Network;
use clap::Parser as _;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

pub(crate) use self::blocks::{Block, commands};
pub(crate) use self::shell::{Ran, Shell};

/// What `$API_KEY` is where a page uses it.
pub(crate) const KEY: &str = "a-key-of-the-documentation";

/// Lines that show a failure on purpose, by what is in them, and the exit code of the program that fails.
const MEANT_TO_FAIL: [(&str, i32); 1] = [("id=not-an-id", 22)];

/// What never ends by itself is ended by its time: curl's exit code for it.
const ENDLESS: i32 = 28;
/// A player that has watched for long enough reads no more: curl's exit code for it.
const UNREAD: i32 = 23;

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every page by its path in the repository, and its text. Decisions and the history are no instructions.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for name in ["README.md", "CONTRIBUTING.md", "bench/README.md"] {
        pages.insert(name.to_owned(), read(name));
    }
    for entry in std::fs::read_dir(root().join("docs")).expect("it is there").flatten() {
        let name = format!("docs/{}", entry.file_name().to_string_lossy());
        if has_ending(&name, "md") {
            let text = read(&name);
            pages.insert(name, text);
        }
    }
    pages
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|known| known == ending)
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn all_blocks() -> Vec<Block> {
    pages().iter().flat_map(|(page, text)| blocks::of(page, text)).collect()
}

/// Blocks of a page that is no page of the documentation.
pub(crate) fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    blocks::of(page, text)
}

#[test]
fn every_page_is_in_the_book_and_every_link_leads_somewhere() {
    let pages = pages();
    let summary = &pages["docs/SUMMARY.md"];
    for page in pages.keys().filter_map(|page| page.strip_prefix("docs/")) {
        assert!(
            page == "SUMMARY.md" || summary.contains(&format!("]({page})")),
            "{page} is not in SUMMARY.md"
        );
    }
    for entry in std::fs::read_dir(root().join("docs/decisions")).expect("it is there").flatten() {
        let page = format!("](decisions/{})", entry.file_name().to_string_lossy());
        assert!(summary.contains(&page), "{page} is not in SUMMARY.md");
    }
    let mut linked = pages;
    linked.insert("CHANGELOG.md".to_owned(), read("CHANGELOG.md"));
    for entry in std::fs::read_dir(root().join("docs/decisions")).expect("it is there").flatten() {
        let name = format!("docs/decisions/{}", entry.file_name().to_string_lossy());
        let text = read(&name);
        linked.insert(name, text);
    }
    let mut links = 0;
    for (page, text) in &linked {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if !link.contains("://") {
                assert!(leads_somewhere(page, link), "{page}: {link} leads nowhere");
                links += 1;
            }
        }
    }
    assert!(links > 150, "only {links} links were seen");
}

fn leads_somewhere(page: &str, link: &str) -> bool {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => root().join(page),
        path => root().join(page).parent().expect("a folder").join(path),
    };
    let Ok(found) = std::fs::metadata(&target) else { return false };
    let is_heading = || {
        std::fs::read_to_string(&target)
            .is_ok_and(|text| blocks::anchors(&text).iter().any(|known| known == anchor))
    };
    anchor.is_empty() || (found.is_file() && is_heading())
}

#[test]
fn what_stands_in_front_is_printed_as_it_is_shipped() {
    let page = read("docs/reverse-proxy.md");
    let printed: BTreeSet<String> =
        blocks::of("reverse-proxy", &page).into_iter().map(|block| block.text).collect();
    let mut shipped = 0;
    for folder in ["nginx", "haproxy", "caddy"] {
        for entry in std::fs::read_dir(root().join("deploy").join(folder)).expect("it is there").flatten() {
            let name = format!("deploy/{folder}/{}", entry.file_name().to_string_lossy());
            assert!(page.contains(&format!("`{name}`")), "{name} is not named");
            assert!(
                printed.contains(&read(&name)),
                "{name} is printed otherwise: copy it into docs/reverse-proxy.md"
            );
            shipped += 1;
        }
    }
    assert!(shipped >= 7, "{shipped}");
}

#[test]
fn the_list_of_errors_has_every_code_once_and_no_other() {
    let document: Value = serde_json::from_str(&read("openapi.json")).expect("JSON");
    let known = document["components"]["schemas"]["ProblemCode"]["enum"].as_array().expect("codes");
    let known: BTreeSet<&str> = known.iter().filter_map(Value::as_str).collect();
    let page = read("docs/PROXY_API.md");
    let tables =
        page.split("## Errors").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    let rows = tables.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5"));
    let codes: Vec<&str> = rows
        .filter_map(|row| row.split('|').nth(2))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let listed: BTreeSet<&str> = codes.iter().copied().collect();
    assert_eq!(listed, known);
    assert_eq!(codes.len(), listed.len(), "{codes:?}");
}

#[test]
fn every_configuration_in_the_documentation_is_read_by_what_it_is_for() {
    let mut seen = BTreeMap::<String, usize>::new();
    for block in all_blocks() {
        let Block { place, language, text, .. } = &block;
        match language.as_str() {
            // What is judged elsewhere, or is for people.
            "bash" | "html" | "text" => {}
            "env" => judge_settings(place, text),
            "json" => {
                drop(serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{place}: {error}")));
            }
            "toml" => drop(text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{place}: {error}"))),
            "m3u" => judge_playlist(place, text),
            "nginx" => judge_nginx(place, text),
            "haproxy" => judge_haproxy(place, text),
            "caddy" => judge_caddy(place, text),
            other => panic!("{place}: nobody reads a block of {other:?}"),
        }
        *seen.entry(language.clone()).or_default() += 1;
    }
    println!("{seen:?}");
    for (language, least) in
        [("bash", 40), ("env", 6), ("nginx", 4), ("haproxy", 2), ("caddy", 2), ("html", 2), ("m3u", 1)]
    {
        assert!(seen.get(language).is_some_and(|count| *count >= least), "{language}: {seen:?}");
    }
}

/// Lines as in `.env`, of settings or of what the compose files take beside them.
fn judge_settings(place: &str, text: &str) {
    let compose: String = compose_files().iter().map(|name| read(name)).collect();
    let known = read("docs/settings.md");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let pairs: Vec<(&str, &str)> = lines.map(|line| line.split_once('=').expect("NAME=value")).collect();
    assert!(!pairs.is_empty(), "{place}");
    for (name, _) in &pairs {
        let is_known = known.contains(&format!("| `{name}` |")) || compose.contains(&format!("${{{name}:-"));
        assert!(is_known, "{place}: {name} is no setting");
    }
    if let Err(problems) = Config::from_pairs(pairs) {
        panic!("{place}: {problems}");
    }
}

pub(crate) fn compose_files() -> Vec<String> {
    let names = std::fs::read_dir(root()).expect("it is there").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("docker-compose") && has_ending(name, "yml")).collect()
}

fn judge_playlist(place: &str, text: &str) {
    assert!(text.starts_with("#EXTM3U\n#EXTINF:"), "{place}");
    let address = text.lines().last().expect("an address");
    assert!(address.starts_with("http://localhost:8000/ace/getstream.ts?id="), "{place}: {address}");
}

/// Names of nodes are nobody's here.
fn with_addresses(text: &str) -> String {
    (1..=3).fold(text.to_owned(), |text, node| {
        text.replace(&format!("orchestrator{node}"), &format!("127.0.0.1{node}"))
    })
}

fn judge_nginx(place: &str, text: &str) {
    let text = with_addresses(text);
    let inside = if text.contains("server {") { text } else { format!("server {{\n{text}\n}}") };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("nginx.conf");
    let pid = folder.path().join("pid");
    std::fs::write(&file, format!("pid {};\nevents {{}}\nhttp {{\n{inside}\n}}\n", pid.display()))
        .expect("it is ours");
    must_accept(
        place,
        Command::new("/usr/sbin/nginx").arg("-t").arg("-q").arg("-e").arg("stderr").arg("-c").arg(&file),
    );
}

fn judge_haproxy(place: &str, text: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, with_addresses(text)).expect("it is ours");
    let output = must_accept(place, Command::new("/usr/sbin/haproxy").arg("-c").arg("-f").arg(&file));
    assert!(!said(&output).contains("WARNING"), "{place}: {}", said(&output));
}

fn judge_caddy(place: &str, text: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("Caddyfile");
    std::fs::write(&file, text).expect("it is ours");
    let mut caddy = Command::new("caddy");
    caddy.args(["validate", "--adapter", "caddyfile", "--config"]).arg(&file).env("HOME", folder.path());
    let output = must_accept(place, &mut caddy);
    assert!(!said(&output).contains("not formatted"), "{place}: {}", said(&output));
}

/// Runs what judges; it is installed where CI runs.
pub(crate) fn must_accept(place: &str, judge: &mut Command) -> Output {
    let output =
        judge.output().unwrap_or_else(|error| panic!("{judge:?}: {error}: ./scripts/test installs it"));
    assert!(output.status.success(), "{place}: {}", said(&output));
    output
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// In a network of its own, so that `localhost:8000` is the program and nothing that is printed reaches anybody else.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_in_the_documentation_runs() {
    let test = "docs::every_command_in_the_documentation_runs";
    let Some(network) = Network::enter(test, Duration::from_mins(3)).await else { return };
    // Where the guide carries settings to.
    network.name(&[("other", Ipv4Addr::LOCALHOST)]).await;
    let daemon = FakeDockerd::start(&[FAST], true);
    let settings =
        [("APP_HOST", "all"), ("APP_PORT", "8000"), ("API_KEY", KEY), ("PORT_RANGE_HOST", "21000-21099")];
    let setup = Setup::as_shipped([]).set_all(settings).set_all(daemon.settings());
    let app = setup.start().await;
    let script = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9998);
    let _vpn =
        SimGluetun::start(GluetunOptions { script, ..GluetunOptions::default() }).await.expect("a free port");
    let shell = Shell::new(KEY);
    // Who watches, so that there is somebody to be shown.
    let _viewer = acemux_testkit::get(app.address(), &crate::stream(crate::ID)).await;
    let blocks = all_blocks().into_iter().filter(|block| block.language == "bash");
    // What ends something comes when nobody else needs it any more.
    let (ending, harmless): (Vec<_>, Vec<_>) = blocks.partition(|block| block.text.contains("-X DELETE"));
    // What a release has beside its files.
    let sums =
        Command::new("sha256sum").arg("LICENSE-MIT").current_dir(root()).output().expect("it is there");
    std::fs::write(shell.file("SHA256SUMS"), sums.stdout).expect("it is ours");
    let shell = &shell;
    let run = |block: Block| async move { (shell.run(&commands(&block.text)).await, block) };
    let mut ran: Vec<(Ran, Block)> = stream::iter(harmless).map(run).buffer_unordered(4).collect().await;
    for (number, block) in ending.into_iter().enumerate() {
        // Somebody else, because who is thrown out stays out for a while.
        let path = crate::stream(crate::ID);
        let _viewer =
            acemux_testkit::http::get_from(crate::home(number), (Ipv4Addr::LOCALHOST, 8000).into(), &path)
                .await;
        ran.push(run(block).await);
    }
    let mut noted = BTreeSet::new();
    for (ran, block) in ran {
        for (line, code) in &ran.failed {
            assert!(may_fail(line, *code), "{}: {line} ended with {code}: {}", block.place, ran.said);
        }
        noted.extend(ran.noted.into_iter().map(|words| (words, block.place.clone())));
    }
    assert!(noted.len() > 50, "{}", noted.len());
    for (words, place) in &noted {
        judge(words, place);
    }
    let rules: Vec<String> =
        noted.iter().filter(|(words, _)| words[0] == "iptables").map(|(words, _)| words.join(" ")).collect();
    assert!(rules.len() >= 3, "{rules:?}");
    accepted_by_iptables(&rules).await;
}

/// Rules in the firewall of this network, which nobody else has.
pub(crate) async fn accepted_by_iptables(rules: &[String]) {
    // Docker's chain is there where Docker is.
    let lines: Vec<String> =
        std::iter::once("iptables -N DOCKER-USER".to_owned()).chain(rules.iter().cloned()).collect();
    let script = format!("set -e\n{}\niptables -F INPUT", lines.join("\n"));
    let mut bash = tokio::process::Command::new("/bin/bash");
    bash.arg("-c").arg(&script).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    let output = bash.output().await.expect("bash is there");
    assert!(output.status.success(), "{rules:?}: {}", said(&output));
}

pub(crate) fn may_fail(line: &str, code: i32) -> bool {
    let is_endless = line.contains("getstream") || line.contains("/events/live");
    (code == ENDLESS && is_endless)
        || (code == UNREAD && line.contains("| mpv"))
        || MEANT_TO_FAIL.iter().any(|(part, known)| line.contains(part) && *known == code)
}

/// A command that was not run: whether it could be, as far as that can be told.
pub(crate) fn judge(words: &[String], place: &str) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let exists = |name: &str| root().join(name).exists();
    let is_right = match words[..] {
        ["acemux", ref arguments @ ..] | ["cargo", "run", "--release", "--", ref arguments @ ..] => {
            is_ours(arguments)
        }
        ["cargo", command, ..] => ["bench", "build", "deny", "nextest"].contains(&command),
        ["docker-compose", ref arguments @ ..] | ["docker", "compose", ref arguments @ ..] => {
            is_compose(arguments)
        }
        ["docker", command, ..] => {
            ["build", "exec", "run", "ps", "volume", "network", "inspect", "pull"].contains(&command)
        }
        ["git", command, ..] => ["clone", "pull", "push", "tag"].contains(&command),
        ["install", .., from, _to] => from == "acemux" || exists(from),
        ["kubectl", "apply", "-f", file] | ["promtool", "test", "rules", file] => exists(file),
        ["kubectl", "create", "secret", "generic", "acemux", key] => {
            key.starts_with("--from-literal=api-key=")
        }
        ["npm", "ci"] | ["npm", "run", "build"] => exists("web/package.json"),
        ["systemctl", command, ..] => ["daemon-reload", "enable", "restart"].contains(&command),
        ["systemd-run", "--quiet", "--pipe", _settings, _folder, "/usr/local/bin/acemux", ref rest @ ..] => {
            is_ours(rest)
        }
        ["journalctl", "-u", "acemux", ..] | ["iptables" | "sudo", ..] => true,
        ["ffmpeg" | "ffplay" | "mpv" | "vlc", ref arguments @ ..] => plays_a_channel(arguments),
        [script, ..] => script.starts_with("./") && exists(script),
        [] => false,
    };
    assert!(is_right, "{place}: {words:?}");
}

fn is_ours(arguments: &[&str]) -> bool {
    let words = std::iter::once("acemux").chain(arguments.iter().copied());
    match Cli::try_parse_from(words) {
        Ok(_) => true,
        Err(error) => !error.use_stderr(),
    }
}

/// With these files and such a command; what is run in the container is ours again.
fn is_compose(arguments: &[&str]) -> bool {
    match *arguments {
        ["-f", file, ref rest @ ..] => compose_files().iter().any(|known| known == file) && is_compose(rest),
        ["exec", "acemux", "/acemux", ref rest @ ..] | ["run", "--rm", "acemux", ref rest @ ..] => {
            is_ours(rest)
        }
        ["logs", "-f", "acemux"] => true,
        [command, ..] => ["up", "down", "stop", "build", "pull"].contains(&command),
        [] => false,
    }
}

fn plays_a_channel(arguments: &[&str]) -> bool {
    let is_address = |word: &str| word.starts_with("http://localhost:8000/ace/getstream?id=");
    arguments.iter().any(|word| *word == "-" || is_address(word))
}
