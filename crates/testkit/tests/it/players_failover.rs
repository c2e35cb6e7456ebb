//! Real players across the death of an engine, and on the pieces of HLS. What they need is installed by `scripts/test`.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use acemux_sim::{H264_ID, SimOptions};
use acemux_testkit::app::{Setup, TestApp, within};
use acemux_testkit::send;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout_at};

use crate::stream;

/// Longest run of a player: the longest that is asked for, and its start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(110);

async fn app(engines: usize) -> TestApp {
    let engine = || SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() };
    Setup::with_engines((0..engines).map(|_| engine())).start().await
}

fn url(app: &TestApp) -> String {
    format!("http://{}{}", app.address(), stream(H264_ID))
}

pub(crate) fn manifest(app: &TestApp) -> String {
    format!("http://{}/ace/manifest.m3u8?id={H264_ID}", app.address())
}

/// What a program said and how long it took.
struct Played {
    success: bool,
    said: String,
    took: Duration,
}

/// Runs a program to its end; `None` when it is not installed.
async fn run(program: &str, arguments: &str) -> Option<Played> {
    run_within(PATIENCE, program, arguments).await
}

async fn run_within(patience: Duration, program: &str, arguments: &str) -> Option<Played> {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).stdin(Stdio::null()).kill_on_drop(true);
    let began = Instant::now();
    let Ok(output) = within(patience, program, command.output()).await else { return is_missing(program) };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some(Played { success: output.status.success(), said, took: began.elapsed() })
}

/// Where everything must be there it is a failure that something is not.
pub(crate) fn is_missing<T>(what: &str) -> Option<T> {
    let must = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "ci");
    assert!(!must, "{what} is not installed");
    println!("skipped: {what} is not installed");
    None
}

/// The engine that plays dies after a while.
async fn kill_after(app: &TestApp, time: Duration) {
    sleep(time).await;
    let playing = app.engines.iter().find(|engine| engine.sessions() > 0).expect("one plays");
    playing.crash().await;
}

/// A path that no other test has.
pub(crate) fn tempfile(name: &str) -> String {
    std::env::temp_dir().join(format!("acemux-{name}-{}.ts", std::process::id())).display().to_string()
}

/// The longest step between the times of two video packets, in seconds.
async fn longest_step(file: &str) -> Option<(usize, f64)> {
    let read = "-v error -select_streams v -show_entries packet=pts_time -of csv=p=0";
    let probed = run("ffprobe", &format!("{read} {file}")).await?;
    assert!(probed.success, "{}", probed.said);
    let lines = probed.said.lines().map(|line| line.trim_matches(',')).filter(|line| !line.is_empty());
    let times = lines.map(|line| line.parse().unwrap_or_else(|_| panic!("no time: {line}")));
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    // ffmpeg cuts in the order of decoding, so some of the last pictures to be shown are missing.
    times.truncate(times.len().saturating_sub(12));
    let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
    Some((times.len(), steps.fold(0.0, f64::max)))
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_copies_across_the_death_of_an_engine_and_its_file_has_no_seam() {
    let app = app(2).await;
    let file = tempfile("failover");
    let copy = format!("-v warning -y -i {} -t 25 -c copy -f mpegts {file}", url(&app));
    let (played, ()) = tokio::join!(run("ffmpeg", &copy), kill_after(&app, Duration::from_secs(8)));
    let Some(played) = played else { return };
    assert!(played.success && played.said.is_empty(), "{}", played.said);
    let Some((packets, step)) = longest_step(&file).await else { return };
    let _removed = std::fs::remove_file(&file);
    println!("{packets} pictures, the longest step {step} s, in {:?}", played.took);
    assert!(packets > 600 && step < 0.1, "{packets} pictures, a step of {step} s");
    assert_eq!(app.ledger.counts().opened, 2, "it was opened on the other engine");
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_copies_across_a_gap_of_ten_seconds_and_its_file_has_one_seam() {
    let app = app(1).await;
    let file = tempfile("gap");
    let copy = format!("-v error -y -i {} -t 30 -c copy -f mpegts {file}", url(&app));
    let broken = async {
        kill_after(&app, Duration::from_secs(6)).await;
        sleep(Duration::from_secs(10)).await;
        app.engine().restart().await;
    };
    let (played, ()) = tokio::join!(run("ffmpeg", &copy), broken);
    let Some(played) = played else { return };
    assert!(played.success, "{}", played.said);
    // The file is decodable: nothing but the one jump in its times.
    let decoded = run("ffmpeg", &format!("-v error -i {file} -f null -")).await;
    let Some((packets, step)) = longest_step(&file).await else { return };
    let _removed = std::fs::remove_file(&file);
    println!("{packets} pictures, the longest step {step} s, in {:?}", played.took);
    assert!(packets > 400 && step < 15.0, "{packets} pictures, a step of {step} s");
    assert!(decoded.is_none_or(|decoded| decoded.success), "the copy decodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clocks_of_mpv_and_vlc_advance_for_half_a_minute_after_an_engine_died() {
    let app = app(2).await;
    let (mpv, vlc) = (Mpv::play(&url(&app)), Vlc::play(&url(&app)).await);
    sleep(Duration::from_secs(8)).await;
    let before = clocks(mpv.as_ref(), vlc.as_ref()).await;
    kill_after(&app, Duration::ZERO).await;
    sleep(Duration::from_secs(30)).await;
    let after = clocks(mpv.as_ref(), vlc.as_ref()).await;
    for ((name, before), (_, after)) in before.into_iter().zip(after) {
        println!("{name}: at {before} s before the death, at {after} s thirty seconds later");
        assert!((27.0..33.0).contains(&(after - before)), "{name}: from {before} to {after}");
    }
    assert_eq!(app.ledger.counts().opened, 2, "it was opened on the other engine");
}

/// Where the players that run here are, in seconds of what they play.
async fn clocks(mpv: Option<&Mpv>, vlc: Option<&Vlc>) -> Vec<(&'static str, f64)> {
    let mut clocks = Vec::new();
    if let Some(mpv) = mpv {
        clocks.push(("mpv", within(Duration::from_secs(5), "mpv", mpv.clock()).await));
    }
    if let Some(vlc) = vlc {
        clocks.push(("vlc", within(Duration::from_secs(5), "vlc", vlc.clock()).await));
    }
    clocks
}

/// The user that nobody is, for programs that refuse to run as root.
const NOBODY: u32 = 65_534;

pub(crate) fn player(program: &str, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// mpv, asked over its IPC socket.
pub(crate) struct Mpv {
    child: Child,
    socket: String,
}

impl Mpv {
    fn play(url: &str) -> Option<Self> {
        Self::play_with("", "mpv-socket", url)
    }

    /// With more options, each behind a blank, and a name for its socket.
    pub(crate) fn play_with(options: &str, name: &str, url: &str) -> Option<Self> {
        let socket = tempfile(name);
        let arguments = format!(
            "--no-config --really-quiet --vo=null --ao=null --input-ipc-server={socket}{options} {url}"
        );
        let child = player("mpv", &arguments).spawn().map_or_else(|_| is_missing("mpv"), Some)?;
        Some(Self { child, socket })
    }

    pub(crate) async fn clock(&self) -> f64 {
        let time = self.ask(&serde_json::json!(["get_property", "playback-time"])).await;
        time.as_f64().expect("seconds")
    }

    pub(crate) async fn pause(&self, is_paused: bool) {
        self.ask(&serde_json::json!(["set_property", "pause", is_paused])).await;
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    async fn ask(&self, command: &Value) -> Value {
        let mut stream = UnixStream::connect(&self.socket).await.expect("mpv runs");
        let ask = format!("{}\n", serde_json::json!({ "command": command, "request_id": 7 }));
        stream.write_all(ask.as_bytes()).await.expect("mpv listens");
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next_line().await.expect("mpv answers") {
            let said: Value = serde_json::from_str(&line).expect("JSON");
            if said["request_id"] == 7 && said["error"] == "success" {
                return said["data"].clone();
            }
        }
        panic!("mpv ended");
    }
}

impl Drop for Mpv {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.socket);
    }
}

/// VLC, asked over its HTTP interface.
pub(crate) struct Vlc {
    child: Child,
    address: SocketAddr,
}

impl Vlc {
    /// It does not run as root.
    pub(crate) async fn play(url: &str) -> Option<Self> {
        let address = free_address().await;
        let interface =
            format!("-I http --http-host 127.0.0.1 --http-port {} --http-password x", address.port());
        let arguments = format!("-q --vout dummy --aout dummy {interface} {url}");
        let mut command = player("cvlc", &arguments);
        let child = command.uid(NOBODY).env("HOME", "/nonexistent").spawn();
        let child = child.map_or_else(|_| is_missing("cvlc"), Some)?;
        Some(Self { child, address })
    }

    pub(crate) async fn clock(&self) -> f64 {
        let status = self.ask("").await;
        assert_eq!(status["state"], "playing", "{status}");
        status["time"].as_f64().expect("seconds")
    }

    pub(crate) async fn pause(&self, is_paused: bool) {
        self.ask(if is_paused { "?command=pl_forcepause" } else { "?command=pl_forceresume" }).await;
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// No user name, the password "x".
    async fn ask(&self, query: &str) -> Value {
        let ask = format!(
            "GET /requests/status.json{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Ong=\r\n\
             Connection: close\r\n\r\n"
        );
        send(self.address, &ask).await.json().await
    }
}

async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    listener.local_addr().expect("it is bound")
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_a_minute_of_pieces_without_an_error_line() {
    let app = app(1).await;
    let Some(played) = run("ffmpeg", &format!("-v error -i {} -t 60 -f null -", manifest(&app))).await else {
        return;
    };
    println!("a minute of HLS in {:?}", played.took);
    assert!(played.success && played.said.is_empty(), "{}", played.said);
}

/// What `hlsdemux` has shown in some time, each picture when its time had come.
struct Shown {
    /// The times of the pictures, in seconds of the stream.
    times: Vec<f64>,
    /// Longest wait for the next one.
    longest_wait: Duration,
    /// Whatever it complained about.
    complaints: String,
}

/// Plays by the `hlsdemux` of `GStreamer` for so long; `None` when there is none. It asks for the playlist once in a target duration,
/// and begins three segments behind the newest.
async fn hlsdemux(url: &str, time: Duration) -> Option<Shown> {
    if !run("gst-inspect-1.0", "--exists hlsdemux").await?.success {
        return is_missing("GStreamer's hlsdemux");
    }
    let mut command = Command::new("gst-launch-1.0");
    let pipeline = format!("-v souphttpsrc location={url} ! hlsdemux ! tsdemux ! h264parse ! fakesink");
    command.args(pipeline.split(' ')).args(["sync=true", "silent=false"]);
    command.envs([("GST_DEBUG", "*:1,hlsdemux:2,adaptivedemux:2"), ("GST_DEBUG_NO_COLOR", "1")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("it is there as gst-inspect is");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut shown = Shown { times: Vec::new(), longest_wait: Duration::ZERO, complaints: String::new() };
    let (until, mut last) = (Instant::now() + time, None);
    while let Ok(line) = timeout_at(until, lines.next_line()).await {
        let line = line.expect("it prints text").unwrap_or_else(|| panic!("it ended: {}", shown.complaints));
        if ["ERROR", "WARNING", "CRITICAL"].iter().any(|word| line.contains(word)) {
            shown.complaints.push_str(&line);
        }
        if let Some(time) = time_of_picture(&line) {
            let waited = last.replace(Instant::now()).map_or(Duration::ZERO, |last: Instant| last.elapsed());
            shown.longest_wait = shown.longest_wait.max(waited);
            shown.times.push(time);
        }
    }
    let process = child.id().expect("it runs").to_string();
    let told = Command::new("kill").args(["-INT", &process]).status().await;
    assert!(told.expect("kill is there").success());
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    let read = within(Duration::from_secs(20), "its end", stderr.read_to_string(&mut said)).await;
    read.expect("it prints text");
    shown.complaints.push_str(&said);
    Some(shown)
}

/// Of a line as `fakesink` prints it: `… chain … pts: 0:00:04.330005037, …`.
fn time_of_picture(line: &str) -> Option<f64> {
    let (_, chain) = line.split_once("= chain ")?;
    let (_, rest) = chain.split_once(" pts: ")?;
    let mut parts = rest.split(',').next()?.split(':').map(str::parse);
    let (hours, minutes, seconds): (f64, f64, f64) =
        (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some(hours.mul_add(3600.0, minutes.mul_add(60.0, seconds)))
}

#[tokio::test(flavor = "multi_thread")]
async fn hlsdemux_of_gstreamer_plays_half_a_minute_of_pieces_as_it_comes_and_misses_none() {
    let app = app(1).await;
    let began = Instant::now();
    let Some(shown) = hlsdemux(&manifest(&app), Duration::from_secs(36)).await else { return };
    let Shown { mut times, longest_wait, complaints } = shown;
    times.sort_by(f64::total_cmp);
    // Pictures come in the order of decoding, so some of the last to be shown are missing.
    times.truncate(times.len().saturating_sub(12));
    let step = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    println!(
        "{} pictures in {:?}, {step} s at most between two, and a wait of {longest_wait:?}",
        times.len(),
        began.elapsed()
    );
    assert!(complaints.is_empty(), "{complaints}");
    assert!((30 * 25..37 * 25).contains(&times.len()), "{} pictures are not half a minute", times.len());
    assert!(step < 0.05, "a step of {step} s");
    assert!(longest_wait < Duration::from_secs(3), "it ran dry for {longest_wait:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mpv_and_vlc_play_the_pieces_too() {
    let app = app(1).await;
    let url = manifest(&app);
    let mpv = format!("--no-config --vo=null --ao=null --length=15 --msg-level=all=error {url}");
    let vlc = format!("-u nobody -- cvlc -q --vout dummy --aout dummy --run-time=15 {url} vlc://quit");
    for (name, played) in
        ["mpv", "vlc"].into_iter().zip(join_all([run("mpv", &mpv), run("runuser", &vlc)]).await)
    {
        let Some(played) = played else { continue };
        println!("{name}: 15 s of pieces in {:?}", played.took);
        assert!(played.success && played.took < Duration::from_mins(1), "{name}: {}", played.said);
    }
    assert_eq!(app.ledger.counts().opened, 1);
}

/// What the browser saw; `None` when it cannot be run here.
async fn browser(app: &TestApp, seconds: u64) -> Option<Value> {
    suspended_browser(app, seconds, 0).await
}

/// The same, whose page is suspended for so many seconds when it has played for a while.
pub(crate) async fn suspended_browser(app: &TestApp, seconds: u64, suspended: u64) -> Option<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/play.mjs");
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/node_modules/hls.js");
    if !std::path::Path::new(modules).exists() {
        return is_missing("what `npm ci` in crates/testkit/browser brings");
    }
    let patience = PATIENCE + Duration::from_secs(suspended);
    let arguments = format!("{script} {} {seconds} {suspended}", manifest(app));
    let played = run_within(patience, "node", &arguments).await?;
    let line = played.said.lines().last().unwrap_or_default();
    let seen = serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", played.said));
    println!("{seen}");
    Some(seen)
}

fn assert_played(seen: &Value, at_least: f64) {
    assert_eq!(seen["fatal"], Value::Array(Vec::new()), "{seen}");
    assert!(seen["advanced"].as_f64().is_some_and(|advanced| advanced >= at_least), "{seen}");
    assert!(seen["frames"].as_u64().is_some_and(|frames| frames > 100) && seen["width"] == 640, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_js_plays_a_minute_and_across_the_death_of_an_engine() {
    let app = app(2).await;
    let (seen, ()) = tokio::join!(browser(&app, 60), kill_after(&app, Duration::from_secs(15)));
    let Some(seen) = seen else { return };
    assert_played(&seen, 58.0);
    assert_eq!(app.ledger.counts().opened, 2);
}
