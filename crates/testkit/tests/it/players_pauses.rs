//! Real players that are paused, by their own pause or by the system, and go on by themselves.

use std::time::Duration;

use acemux_sim::{H264_ID, SimOptions};
use acemux_testkit::app::{Setup, TestApp, within};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::players_failover::{Mpv, Vlc, is_missing, manifest, player, suspended_browser, tempfile};
use crate::stream;

/// So little that a pause of seconds is one for the server, too: mpv would read ahead for minutes.
const NO_CACHE: &str = " --demuxer-max-bytes=512KiB --demuxer-max-back-bytes=0";
/// Longest that a player may take to go on.
const GOES_ON: Duration = Duration::from_secs(40);

async fn app(settings: &[(&'static str, &'static str)]) -> TestApp {
    let engine = SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() };
    let setup = Setup::as_shipped([engine]).set("VIEWER_SNDBUF", "16384");
    settings.iter().fold(setup, |setup, (name, value)| setup.set(name, *value)).start().await
}

/// ffmpeg, which writes down how far it is.
struct Ffmpeg {
    child: Child,
    progress: String,
}

impl Ffmpeg {
    fn play(name: &str, url: &str) -> Option<Self> {
        let progress = tempfile(name);
        let arguments = format!("-v error -re -i {url} -f null -progress {progress} -stats_period 0.5 -");
        let child = player("ffmpeg", &arguments).spawn().map_or_else(|_| is_missing("ffmpeg"), Some)?;
        Some(Self { child, progress })
    }

    /// Pictures that it has decoded.
    fn pictures(&self) -> u64 {
        let said = std::fs::read_to_string(&self.progress).unwrap_or_default();
        let last = said.lines().rev().find_map(|line| line.strip_prefix("frame="));
        last.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.progress);
    }
}

async fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().await;
    assert!(sent.expect("kill is there").success());
}

/// Who pauses and how.
struct Players {
    mpv: Option<Mpv>,
    stopped_mpv: Option<Mpv>,
    vlc: Option<Vlc>,
    stopped_vlc: Option<Vlc>,
    ffmpeg: Option<Ffmpeg>,
}

impl Players {
    async fn play(name: &str, url: &str) -> Self {
        Self {
            mpv: Mpv::play_with(NO_CACHE, &format!("{name}-mpv"), url),
            stopped_mpv: Mpv::play_with(NO_CACHE, &format!("{name}-mpv-stopped"), url),
            vlc: Vlc::play(url).await,
            stopped_vlc: Vlc::play(url).await,
            ffmpeg: Ffmpeg::play(&format!("{name}-ffmpeg"), url),
        }
    }

    async fn pause(&self, is_paused: bool) {
        let name = if is_paused { "STOP" } else { "CONT" };
        let stopped = [
            self.stopped_mpv.as_ref().map(Mpv::process),
            self.stopped_vlc.as_ref().map(Vlc::process),
            self.ffmpeg.as_ref().and_then(|ffmpeg| ffmpeg.child.id()),
        ];
        for process in stopped.into_iter().flatten() {
            signal(process, name).await;
        }
        if let Some(mpv) = &self.mpv {
            mpv.pause(is_paused).await;
        }
        if let Some(vlc) = &self.vlc {
            vlc.pause(is_paused).await;
        }
    }

    /// How far each is, in seconds or pictures.
    async fn clocks(&self) -> Vec<(&'static str, f64)> {
        let mut clocks = Vec::new();
        for (name, mpv) in [("mpv", &self.mpv), ("mpv, stopped", &self.stopped_mpv)] {
            if let Some(mpv) = mpv {
                clocks.push((name, within(Duration::from_secs(10), name, mpv.clock()).await));
            }
        }
        for (name, vlc) in [("vlc", &self.vlc), ("vlc, stopped", &self.stopped_vlc)] {
            if let Some(vlc) = vlc {
                clocks.push((name, within(Duration::from_secs(10), name, vlc.clock()).await));
            }
        }
        if let Some(ffmpeg) = &self.ffmpeg {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand pictures")]
            clocks.push(("ffmpeg, stopped", ffmpeg.pictures() as f64 / 25.0));
        }
        clocks
    }

    /// Every clock goes on for five seconds, however far it has jumped before.
    async fn assert_go_on(&self) {
        let began = Instant::now();
        let mut from = self.clocks().await;
        loop {
            sleep(Duration::from_secs(6)).await;
            let to = self.clocks().await;
            let steps = from.iter().zip(&to).map(|((name, from), (_, to))| (*name, to - from));
            let late: Vec<_> = steps.filter(|(_, step)| *step < 4.5).collect();
            if late.is_empty() {
                println!("all go on after {:?}", began.elapsed());
                return;
            }
            println!("after {:?} these do not: {late:?}", began.elapsed());
            assert!(began.elapsed() < GOES_ON, "{late:?}");
            from = to;
        }
    }
}

async fn pause_and_go_on(app: &TestApp, name: &str, url: &str, pause: Duration) {
    let players = Players::play(name, url).await;
    sleep(Duration::from_secs(10)).await;
    players.assert_go_on().await;
    players.pause(true).await;
    sleep(pause).await;
    players.pause(false).await;
    players.assert_go_on().await;
    println!("{name}: {} are watching", app.app.relay.viewers());
}

fn packets(app: &TestApp) -> String {
    format!("http://{}{}", app.address(), stream(H264_ID))
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_pieces_go_on_after_a_pause() {
    let app = app(&[("HLS_VIEWER_TIMEOUT", "3s"), ("STREAM_IDLE_TIMEOUT", "1s")]).await;
    let (name, url) = ("pieces", manifest(&app));
    pause_and_go_on(&app, name, &url, Duration::from_secs(12)).await;
    assert!(app.ledger.counts().opened >= 2, "their stream had ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_packets_go_on_after_a_pause() {
    let app = app(&[]).await;
    pause_and_go_on(&app, "packets", &packets(&app), Duration::from_secs(15)).await;
    assert_eq!(app.ledger.counts().opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_js_goes_on_after_its_page_was_suspended() {
    let app = app(&[("HLS_VIEWER_TIMEOUT", "3s"), ("STREAM_IDLE_TIMEOUT", "1s")]).await;
    let Some(seen) = suspended_browser(&app, 15, 15).await else { return };
    assert_eq!(seen["fatal"], serde_json::json!([]), "{seen}");
    // Of 15 s of pictures; its clock says little, because it jumps over what was missed.
    assert!(seen["shown"].as_u64().is_some_and(|shown| shown >= 250), "{seen}");
    assert!(app.ledger.counts().opened >= 2, "its stream had ended");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: scripts/test --long"]
async fn players_of_pieces_go_on_after_three_minutes_at_full_length() {
    let app = app(&[]).await;
    pause_and_go_on(&app, "long-pieces", &manifest(&app), Duration::from_mins(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: scripts/test --long"]
async fn players_of_packets_go_on_after_three_minutes_at_full_length() {
    let app = app(&[]).await;
    pause_and_go_on(&app, "long-packets", &packets(&app), Duration::from_mins(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: scripts/test --long"]
async fn hls_js_goes_on_after_its_page_was_suspended_at_full_length() {
    let app = app(&[]).await;
    let Some(seen) = suspended_browser(&app, 20, 300).await else { return };
    assert_eq!(seen["fatal"], serde_json::json!([]), "{seen}");
    assert!(seen["shown"].as_u64().is_some_and(|shown| shown >= 350), "{seen}");
}
