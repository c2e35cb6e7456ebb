//! The binary as people type it: what it prints, what it returns, how it stops.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// A clean environment and a folder without settings files.
fn acemux(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_acemux"));
    let folder = std::env::temp_dir();
    command
        .args(arguments)
        .env_clear()
        .envs(settings.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    acemux(arguments, settings).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running service that is killed if the test fails, and its log.
struct Running(Child, BufReader<ChildStderr>);

impl Running {
    /// Of a child whose log is piped.
    fn of(mut child: Child) -> Self {
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        Self(child, log)
    }

    /// Starts it and waits until its log names the address it listens on.
    fn start(arguments: &[&str], settings: &[(&str, &str)]) -> (Self, String) {
        let child =
            acemux(arguments, settings).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("runs");
        let mut running = Self::of(child);
        let address = running.1.by_ref().lines().map_while(Result::ok).find_map(|line| {
            let after = line.split("address").nth(1)?.trim_start_matches(['=', '"', ':']).to_owned();
            Some(after.split([' ', '"', ',']).next().unwrap_or_default().to_owned())
        });
        (running, address.expect("it says where it listens"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("it listens");
    write!(connection, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("it is open");
    let mut reply = String::new();
    connection.read_to_string(&mut reply).expect("a reply");
    reply
}

#[test]
fn settings_that_cannot_be_used_end_with_64_and_are_all_named() {
    let bad = [("APP_PORT", "many"), ("JOIN_BURST", "soon")];
    for arguments in [&["serve"][..], &[], &["config", "check"], &["config", "show"]] {
        let output = run(arguments, &bad);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains("APP_PORT=many") && said.contains("JOIN_BURST=soon"), "{said}");
    }
    assert_eq!(run(&["--no-such-flag"], &[]).status.code(), Some(64));
}

#[test]
fn a_check_tells_where_the_constants_of_the_reference_went() {
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = folder.path().join("app/services/proxy");
    std::fs::create_dir_all(&proxy).expect("a folder");
    std::fs::write(proxy.join("config.py"), "STREAM_BUFFER_SIZE = 8 * 1024 * 1024  # 8 MB\n")
        .expect("a file");
    let output = acemux(&["config", "check"], &[]).current_dir(&folder).output().expect("the binary runs");
    let said = text(&output.stdout);
    assert!(said.contains("write STREAM_BUFFER_SIZE=8 * 1024 * 1024 into .env"), "{said}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn good_settings_are_checked_and_shown_with_their_source() {
    let good = [("APP_PORT", "8123"), ("API_KEY", "a-long-and-secret-key")];
    assert_eq!(run(&["config", "check"], &good).status.code(), Some(0));
    let shown = text(&run(&["config", "show"], &good).stdout);
    let line = shown.lines().find(|line| line.starts_with("APP_PORT")).expect("it is shown");
    assert!(line.contains("8123") && line.contains("environment") && line.contains("default 8000"), "{line}");
    assert!(!shown.contains("secret"), "secrets are not shown");
}

#[test]
fn what_was_changed_through_a_page_is_known_beside_the_service_and_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("acemux.db").to_str().expect("text").to_owned();
    let settings = [
        ("APP_HOST", "127.0.0.1"),
        ("APP_PORT", "0"),
        ("ENGINE_PROVISIONER", "none"),
        ("OPERATOR_WITHOUT_KEY", "loopback"),
        ("DB_PATH", &database),
    ];
    let line = |name: &str| {
        let output = run(&["config", "show"], &settings);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        let shown = text(&output.stdout);
        shown.lines().find(|line| line.starts_with(name)).expect("it is shown").to_owned()
    };
    assert!(line("STALL_TIMEOUT").contains(" 5s "));
    assert!(!folder.path().join("acemux.db").exists(), "who only looks makes nothing");
    let (running, address) = Running::start(&["serve"], &settings);
    let body = r#"{"STALL_TIMEOUT":"8s","MIN_REPLICAS":4}"#;
    let mut connection = TcpStream::connect(&address).expect("it listens");
    write!(
        connection,
        "PATCH /api/v1/settings HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it is open");
    let mut reply = String::new();
    connection.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let is_override = |line: String, value: &str| {
        assert!(line.contains(value) && line.contains("override"), "{line}");
    };
    is_override(line("STALL_TIMEOUT"), " 8s ");
    drop(running);
    is_override(line("MIN_REPLICAS"), " 4 ");
    let checked = run(&["config", "check"], &settings);
    assert_eq!((checked.status.code(), text(&checked.stderr)), (Some(0), String::new()));

    // What does not go together with the environment any more is left out and said to be.
    let fewer: Vec<_> = settings.iter().copied().chain([("MAX_REPLICAS", "3")]).collect();
    let checked = run(&["config", "check"], &fewer);
    let said = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains("warning: MIN_REPLICAS, which was changed through a page, is not used"), "{said}");
    let (_running, address) = Running::start(&["serve"], &fewer);
    assert!(get(&address, "/livez").starts_with("HTTP/1.1 200"), "and it starts");
}

#[test]
fn a_port_that_is_taken_ends_with_69() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let output = run(&["serve"], &[("APP_HOST", "127.0.0.1"), ("APP_PORT", &port)]);
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn help_and_version_end_with_0() {
    assert_eq!(run(&["--help"], &[]).status.code(), Some(0));
    assert!(text(&run(&["--version"], &[]).stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_engines_it_serves_answers_503_and_stops_when_told() {
    let settings = [
        ("APP_HOST", "127.0.0.1"),
        ("APP_PORT", "0"),
        ("LOG_FORMAT", "json"),
        ("ENGINE_PROVISIONER", "none"),
        ("DB_PATH", ":memory:"),
    ];
    let (mut running, address) = Running::start(&["serve"], &settings);
    assert!(get(&address, "/livez").starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/readyz").starts_with("HTTP/1.1 503"));
    let reply = get(&address, "/ace/getstream?id=94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d");
    assert!(
        reply.starts_with("HTTP/1.1 503") && reply.contains("no_engine") && reply.contains("ENGINES"),
        "{reply}"
    );
    let port = address.rsplit(':').next().expect("a port");
    let health = [("APP_HOST", "127.0.0.1"), ("APP_PORT", port)];
    assert_eq!(run(&["healthcheck"], &health).status.code(), Some(0));
    let told = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().expect("kill runs");
    assert!(told.success());
    assert_eq!(running.0.wait().expect("it ends").code(), Some(0));
    assert_eq!(run(&["healthcheck"], &health).status.code(), Some(1));
}

/// Behind a published port of Docker's, who knows its address?
#[test]
fn the_log_names_a_proxy_once_that_nobody_has_named() {
    let settings = [
        ("APP_HOST", "127.0.0.1"),
        ("APP_PORT", "0"),
        ("ENGINE_PROVISIONER", "none"),
        ("DB_PATH", ":memory:"),
    ];
    let named = [&settings[..], &[("TRUSTED_PROXIES", "127.0.0.1")]].concat();
    for (settings, times) in [(&settings[..], 1), (&named, 0)] {
        let (mut running, address) = Running::start(&["serve"], settings);
        for _ in 0..3 {
            let mut connection = TcpStream::connect(&address).expect("it listens");
            let ask =
                "GET /livez HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n";
            connection.write_all(ask.as_bytes()).expect("it is open");
            let mut reply = String::new();
            connection.read_to_string(&mut reply).expect("a reply");
            assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        }
        let told =
            Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
        let mut log = String::new();
        running.1.read_to_string(&mut log).expect("its log, to its end");
        let lines = log.lines().filter(|line| line.contains("TRUSTED_PROXIES") && line.contains("127.0.0.1"));
        assert_eq!(lines.count(), times, "{log}");
    }
}

/// The bit of its body that comes next.
fn next_of(body: &mut TcpStream, bytes: usize) -> std::io::Result<()> {
    body.read_exact(&mut vec![0; bytes])
}

#[test]
fn a_simulated_open_engine_that_is_told_to_end_streams_on_for_a_while() {
    let patience = Duration::from_secs(30);
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let arguments = ["sim", "engine", "--dialect", "outpace", "--prebuffer-ms", "0", "--burst-ms", "0"];
    let more = [
        "--listen",
        &address,
        "--control",
        "127.0.0.1:0",
        "--engine-version",
        "1.2.1",
        "--channel",
        "verify",
    ];
    let child = acemux(&[&arguments[..], &more].concat(), &[]).stderr(Stdio::piped()).spawn().expect("runs");
    let mut running = Running::of(child);
    let began = Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(began.elapsed() < patience, "it never listens");
    }
    let version = get(&address, "/server/api?method=get_version");
    assert!(version.ends_with(r#"{"error":null,"result":{"code":10201,"version":"1.2.1"}}"#), "{version}");

    let mut body = TcpStream::connect(&address).expect("it listens");
    body.set_read_timeout(Some(patience)).expect("a socket");
    let id = "acec000000000000000000000000000000000c4c";
    write!(body, "GET /ace/getstream?id={id} HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    next_of(&mut body, 20_000).expect("media");
    let told = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().expect("kill runs");
    assert!(told.success());
    let began = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(began.elapsed() < patience, "it takes somebody new");
    }
    assert!(running.0.try_wait().expect("a child").is_none(), "it waits for its reader");
    // At 375 kB a second and without a burst this was not broadcast when it was told to end.
    next_of(&mut body, 500_000).expect("the body goes on");
    drop(body);
    assert_eq!(running.0.wait().expect("it ends").code(), Some(0));
}

/// Settings of a service that keeps something in `folder`.
fn keeping<'a>(database: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [
        ("APP_HOST", "127.0.0.1"),
        ("APP_PORT", "0"),
        ("ENGINE_PROVISIONER", "none"),
        ("DB_PATH", database),
        ("LOG_FORMAT", "json"),
    ];
    usual.into_iter().chain(more.iter().copied()).collect()
}

fn status_of(address: &str, key: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("it listens");
    let header = if key.is_empty() { String::new() } else { format!("X-API-KEY: {key}\r\n") };
    let head = "POST /events/cleanup HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    write!(connection, "{head}{header}Content-Length: 0\r\n\r\n").expect("it is open");
    let mut reply = String::new();
    connection.read_to_string(&mut reply).expect("a reply");
    reply
}

#[test]
fn without_a_key_in_the_settings_one_is_made_that_acemux_key_prints_beside_the_service() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let (database, file) = (folder.path().join("acemux.db"), folder.path().join("api-key"));
    let database = database.to_str().expect("text");
    let settings = keeping(database, &[("API_KEY", "your-secure-key")]);
    let before = run(&["key"], &settings);
    assert_eq!((before.status.code(), text(&before.stdout)), (Some(1), String::new()), "none was made yet");
    let (mut running, address) = Running::start(&["serve"], &settings);
    let printed = run(&["key"], &settings);
    assert_eq!(printed.status.code(), Some(0));
    assert!(text(&printed.stderr).contains(file.to_str().expect("text")), "it says where the key lies");
    let key = text(&printed.stdout).trim_end().to_owned();
    assert_eq!(std::fs::read_to_string(&file).expect("it is there").trim_end(), key);
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert!(status_of(&address, &key).starts_with("HTTP/1.1 200"));
    for wrong in ["your-secure-key", &key[1..], ""] {
        assert!(status_of(&address, wrong).starts_with("HTTP/1.1 401"), "{wrong}");
    }
    let told = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().expect("kill runs");
    assert!(told.success() && running.0.wait().expect("it ends").success());
    let (_running, address) = Running::start(&["serve"], &settings);
    assert!(status_of(&address, &key).starts_with("HTTP/1.1 200"), "the same after a restart");
    let chosen = keeping(database, &[("API_KEY", "a-long-and-secret-key")]);
    assert_eq!(text(&run(&["key"], &chosen).stdout), "a-long-and-secret-key\n");
}

#[test]
fn the_log_names_the_keys_place_and_never_the_key_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let (database, file) = (folder.path().join("acemux.db"), folder.path().join("api-key"));
    let settings = keeping(database.to_str().expect("text"), &[]);
    let program = env!("CARGO_BIN_EXE_acemux");
    for start in 1..=2 {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "umask 000; exec \"$0\" serve", program])
            .env_clear()
            .envs(settings.iter().copied());
        let child = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = child.stderr(Stdio::piped()).spawn().expect("runs");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        while !said.contains("serving") {
            assert_ne!(log.read_line(&mut said).expect("text"), 0, "it ended: {said}");
        }
        let mut running = Running(child, log);
        let told =
            Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
        running.1.read_to_string(&mut said).expect("its log, to its end");
        assert!(said.contains(file.to_str().expect("text")), "start {start}: {said}");
        let key = std::fs::read_to_string(&file).expect("it was made");
        assert!(!said.contains(key.trim_end()), "start {start}: {said}");
        assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_short_key_or_an_unusable_file_stops_nothing_but_the_pages_that_need_a_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("acemux.db");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("api-key"))
        .expect("a link");
    let database = database.to_str().expect("text");
    for (more, code) in [(&[("API_KEY", "abc")][..], "short_key"), (&[], "no_key")] {
        let settings = keeping(database, more);
        let (running, address) = Running::start(&["serve"], &settings);
        assert!(get(&address, "/livez").starts_with("HTTP/1.1 200"));
        assert!(get(&address, "/proxy/status").starts_with("HTTP/1.1 200"));
        for given in ["", "abc"] {
            let reply = status_of(&address, given);
            assert!(reply.starts_with("HTTP/1.1 401") && reply.contains(code), "{reply}");
        }
        assert_eq!(run(&["key"], &settings).status.code(), Some(1));
        drop(running);
    }
    assert!(!folder.path().join("elsewhere").exists(), "no link is followed");
}

/// The real process, because whoever starts it again looks at nothing but its code.
#[cfg(target_os = "linux")]
#[test]
fn a_service_that_has_lost_its_port_for_good_ends_with_70_and_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let (library, broken) = (folder.path().join("listener.so"), folder.path().join("broken"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/preload/listener.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.expect("what links Rust programs compiles C").success());
    let settings = [
        ("APP_HOST", "127.0.0.1"),
        ("APP_PORT", "0"),
        ("ENGINE_PROVISIONER", "none"),
        ("DB_PATH", ":memory:"),
        ("LD_PRELOAD", library.to_str().expect("text")),
        ("BREAK", broken.to_str().expect("text")),
    ];
    let (mut running, address) = Running::start(&["serve"], &settings);
    assert!(get(&address, "/livez").starts_with("HTTP/1.1 200"));
    std::fs::write(&broken, "").expect("a file");
    // The next connection is what it finds out by.
    let _refused_or_reset = TcpStream::connect(&address);
    let mut log = String::new();
    running.1.read_to_string(&mut log).expect("its log, to its end");
    assert_eq!(running.0.wait().expect("it ends").code(), Some(70), "{log}");
    let why: Vec<_> = log.lines().filter(|line| line.contains("The service stops")).collect();
    assert!(why.len() == 1 && why[0].contains("the listener failed: Address"), "{log}");
}

#[test]
fn credentials_in_settings_are_printed_by_no_command() {
    let settings = [
        ("DOCKER_HOST", "tcp://user:hush@127.0.0.1:1/?token=hush"),
        ("API_KEY", "hush-hush-hush-hush"),
        ("DB_PATH", ":memory:"),
    ];
    for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
        let output = run(arguments, &settings);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(
            printed.contains("tcp://***@127.0.0.1:1/?token=***") && !printed.contains("hush"),
            "{printed}"
        );
    }
    let refused = run(&["config", "check"], &[("ENGINES", "http://user:hush@engine:6878")]);
    assert_eq!(refused.status.code(), Some(64));
    let printed = text(&refused.stdout) + &text(&refused.stderr);
    assert!(printed.contains("ENGINES=http://***@engine:6878") && !printed.contains("hush"), "{printed}");
}

#[test]
fn a_start_warns_of_settings_that_open_more_than_they_seem_to_and_refuses_those_that_mean_something_else() {
    let open = [
        ("TRUSTED_PROXIES", "0.0.0.0/0,::/0", "TRUSTED_PROXIES trusts 0.0.0.0/0, ::/0"),
        ("ENGINE_CAPABILITIES", "EVIL", "ENGINE_CAPABILITIES has 1 name(s) of no Linux capability"),
        ("ENGINE_CAPABILITIES", "SYS_ADMIN", "ENGINE_CAPABILITIES leaves SYS_ADMIN"),
        ("ENGINE_IMAGE", "engine", "ENGINE_IMAGE=engine names neither registry nor owner"),
    ];
    for (name, value, said) in open {
        let output = run(&["config", "check"], &[(name, value)]);
        assert_eq!(output.status.code(), Some(0), "{name}={value}");
        assert!(text(&output.stderr).contains(&format!("warning: {said}")), "{}", text(&output.stderr));
    }
    for (name, value) in [("APP_HOST", "[::1"), ("APP_HOST", "[::1]evil.example")] {
        let output = run(&["serve"], &[(name, value), ("APP_PORT", "0"), ("DB_PATH", ":memory:")]);
        assert_eq!(output.status.code(), Some(64), "{name}={value}");
        assert!(text(&output.stderr).contains(name), "{}", text(&output.stderr));
    }
}

/// The catalogue's row, variables, the exit code, and words of what is said.
type Row<'a> = (u8, &'a [(&'a str, &'a str)], i32, &'a str);

/// §3.6 of the fault catalogue: settings, the exit code of a check, and what is said. Decision 19 says where the catalogue
/// wants another answer.
#[test]
fn settings_that_are_none_or_mean_too_much_are_answered_as_documented() {
    let long = "a".repeat(65);
    let table: [Row<'_>; 32] = [
        (
            109,
            &[("MIN_REPLICAS", "5"), ("MAX_REPLICAS", "2")],
            64,
            "MIN_REPLICAS=5 (environment): accepted is at most MAX_REPLICAS, which is 2",
        ),
        (
            109,
            &[("MIN_REPLICAS", "-1")],
            64,
            "MIN_REPLICAS=-1 (environment): accepted is a whole number from 0",
        ),
        (109, &[("MIN_REPLICAS", "1099511627776")], 64, "accepted is a whole number from 0"),
        (109, &[("MIN_REPLICAS", "1.5")], 64, "accepted is a whole number from 0"),
        (109, &[("MIN_REPLICAS", "")], 0, ""),
        (109, &[("MIN_REPLICAS", " 5 ")], 0, ""),
        (109, &[("STALL_TIMEOUT", "5s")], 0, ""),
        (109, &[("STALL_TIMEOUT", "5")], 0, ""),
        (109, &[("STALL_TIMEOUT", "1e3")], 64, "accepted is a duration from 500ms to a year"),
        (109, &[("STALL_TIMEOUT", "0")], 64, "accepted is a duration from 500ms to a year"),
        (
            110,
            &[("ACE_HTTP_RAGE", "1")],
            0,
            "warning: ACE_HTTP_RAGE is no setting; the nearest is ACE_HTTP_RANGE",
        ),
        (110, &[("PATH_TO_NOTHING", "1")], 0, ""),
        (111, &[("PORT_RANGE_HOST", "19999-19000")], 64, "accepted is a range of ports"),
        (111, &[("PORT_RANGE_HOST", "19000-70000")], 64, "accepted is a range of ports"),
        (
            111,
            &[("PORT_RANGE_HOST", "40000-40100")],
            0,
            "warning: PORT_RANGE_HOST=40000-40100 is inside the kernel's ephemeral range",
        ),
        (111, &[("PORT_RANGE_HOST", "7990-8010")], 64, "accepted is a range without APP_PORT"),
        (111, &[("PORT_RANGE_HOST", "80-90")], 0, "warning: PORT_RANGE_HOST begins at 80"),
        (112, &[("API_KEY", "short")], 0, "warning: API_KEY is shorter than 16 characters and opens nothing"),
        (112, &[("API_KEY", "a-key-of-twenty-signs\n")], 0, ""),
        (112, &[("API_KEY_FILE", "no/such/file")], 64, "API_KEY"),
        (113, &[("APP_HOST", "0.0.0.0")], 0, ""),
        (113, &[("MIN_REPLICAS", "\"5\""), ("LOG_LEVEL", "WARNING"), ("ENGINE_VARIANT", "'Outpace'")], 0, ""),
        (
            115,
            &[("DOCKER_HOST", "tcp://192.0.2.1:2375")],
            0,
            "warning: DOCKER_HOST is asked over a network without TLS",
        ),
        (115, &[("DOCKER_HOST", "tcp://socket-proxy:2375")], 0, ""),
        (
            116,
            &[("INSTANCE_ID", "a=b")],
            64,
            "accepted is 1 to 64 letters, digits, dots, underscores and dashes",
        ),
        (116, &[("INSTANCE_ID", "a,b")], 64, "accepted is 1 to 64 letters"),
        (116, &[("INSTANCE_ID", "\u{fc}")], 64, "accepted is 1 to 64 letters"),
        (116, &[("INSTANCE_ID", &long)], 64, "accepted is 1 to 64 letters"),
        (116, &[("CONTAINER_LABEL", "a=b\nc")], 64, "CONTAINER_LABEL"),
        (116, &[("ENGINE_IMAGE", "--privileged")], 64, "ENGINE_IMAGE"),
        (116, &[("DOCKER_NETWORK", "container:other")], 64, "DOCKER_NETWORK"),
        (118, &[("MAX_CONNECTIONS", "0")], 64, "MAX_CONNECTIONS"),
    ];
    for (row, settings, code, said) in table {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = [settings, &[("ENGINE_PROVISIONER", "docker"), ("DB_PATH", ":memory:")]].concat();
        let output =
            acemux(&["config", "check"], &settings).current_dir(&folder).output().expect("the binary runs");
        let printed = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "row {row}: {settings:?}: {printed}");
        assert!(printed.contains(said), "row {row}: {settings:?}: {printed}");
        let lines = printed.lines().filter(|line| line.contains("warning: ") || line.contains("accepted is"));
        assert_eq!(
            lines.count(),
            usize::from(!said.is_empty()),
            "row {row}, one line: {settings:?}: {printed}"
        );
    }
}

/// Row 117 of the same.
#[test]
fn a_settings_file_that_is_too_large_or_none_is_named_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let huge = "a".repeat(1 << 21);
    for (file, said) in [
        (huge.as_str(), "accepted is a readable file (larger than 1 MiB)"),
        ("app_port = 1\napp_port = 2\n", "accepted is valid TOML (line 2: duplicate key)"),
        ("x: &a [*a, *a]\n", "accepted is valid TOML"),
        ("app_prot = 1\n", "app_port"),
        ("\0", "accepted is valid TOML"),
    ] {
        std::fs::write(folder.path().join("acemux.toml"), file).expect("the folder can be written");
        let output =
            acemux(&["config", "check"], &[]).current_dir(&folder).output().expect("the binary runs");
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}: {printed}");
        assert!(printed.contains(said) && printed.len() < 1_000, "{said}: {printed}");
    }
}
