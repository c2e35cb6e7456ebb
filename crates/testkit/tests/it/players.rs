//! Real players on the real channel. Each test says which program it needs; `scripts/test` installs them.

use std::process::{Output, Stdio};
use std::time::Duration;

use acemux_sim::{H264_ID, SimOptions, Timing};
use acemux_testkit::app::{Setup, TestApp, within};
use acemux_testkit::get;
use tokio::process::Command;
use tokio::time::Instant;

use crate::stream;

async fn app() -> TestApp {
    let engine = SimOptions { timing: Timing::fast(), ..SimOptions::default() };
    Setup::with_engines([engine]).start().await
}

fn url(app: &TestApp) -> String {
    format!("http://{}{}", app.address(), stream(H264_ID))
}

/// Runs a program to its end; `None`, and a line that says so, when it is not installed.
async fn run(program: &str, arguments: String) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).stdin(Stdio::null()).kill_on_drop(true);
    let output = within(Duration::from_mins(1), program, command.output()).await;
    if output.is_err() {
        let must = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "ci");
        assert!(!must, "{program} is not installed");
        println!("skipped: {program} is not installed");
    }
    output.ok()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn ffprobe_knows_a_warm_stream_at_once() {
    let app = app().await;
    let warm = get(app.address(), &stream(H264_ID)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let frames =
        "-v error -select_streams v -read_intervals %+#1 -show_entries frame=key_frame,pict_type -of csv";
    let mut best = Duration::MAX;
    // The best of a few: what is promised is ours, what else the machine does is not.
    for _ in 0..5 {
        let asked = Instant::now();
        let Some(output) = run("ffprobe", format!("{frames} {}", url(&app))).await else { return };
        best = best.min(asked.elapsed());
        assert!(said(&output).contains("frame,1,I"), "{}", said(&output));
    }
    println!("first frame after {best:?}");
    assert!(best < Duration::from_millis(500), "{best:?}");
    drop(warm);
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_decodes_without_an_error_line() {
    let app = app().await;
    let Some(output) = run("ffmpeg", format!("-v error -i {} -t 12 -f null -", url(&app))).await else {
        return;
    };
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn four_players_at_the_same_time_are_one_engine_session() {
    let app = app().await;
    let url = url(&app);
    let copy = tempfile();
    let (ffprobe, ffmpeg, mpv, vlc) = tokio::join!(
        run("ffprobe", format!("-v error -show_entries stream=codec_name -of csv {url}")),
        run("ffmpeg", format!("-v error -y -i {url} -t 6 -c copy -f mpegts {copy}")),
        run("mpv", format!("--no-config --vo=null --ao=null --length=6 --msg-level=all=error {url}")),
        // VLC refuses to run as root.
        run(
            "runuser",
            format!("-u nobody -- cvlc -q --vout dummy --aout dummy --run-time=6 {url} vlc://quit")
        ),
    );
    for (name, output) in [("ffprobe", ffprobe), ("ffmpeg", ffmpeg), ("mpv", mpv), ("vlc", vlc)] {
        if let Some(output) = output {
            assert!(output.status.success(), "{name}: {}", said(&output));
        }
    }
    let copied = std::fs::metadata(&copy).map(|file| file.len()).unwrap_or_default();
    let _removed = std::fs::remove_file(copy);
    assert!(copied > 500_000, "ffmpeg copied {copied} bytes");
    assert_eq!(app.ledger.counts().opened, 1);
}

/// A path that no other test has.
fn tempfile() -> String {
    let name = format!("acemux-players-{}.ts", std::process::id());
    std::env::temp_dir().join(name).display().to_string()
}
