//! A process that is killed while it writes (D20): what it was told is saved is saved.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use acemux_store::Store;
use acemux_store::events::EventKind;
use acemux_store::identities::Identity;
use acemux_store::playbacks::{NewPlayback, OpenPlayback, PlaybackRow};
use jiff::Timestamp;
use serde_json::json;

use crate::{event, integrity, open};

/// Tells the child where to write.
const FOLDER: &str = "STORE_CRASH_FOLDER";

/// How often to kill; the reliability catalogue asks for 200.
const ROUNDS: &str = "STORE_CRASH_ROUNDS";

/// Lines of one round, at most, before the kill.
const MOST_LINES: u64 = 60;

fn playback(number: usize) -> NewPlayback {
    NewPlayback {
        engine: format!("engine-{number}"),
        endpoint: "127.0.0.1:6878".to_owned(),
        infohash: format!("{number:040x}"),
        command: Some("http://127.0.0.1:6878/ace/cmd/".to_owned() + &"x".repeat(number % 900)),
        opened_at: Timestamp::now(),
    }
}

fn infohash(open: &OpenPlayback) -> String {
    open.playback.infohash.clone()
}

/// Says what it is about to do (`?`) and what it was told is done (`!`), for ever.
async fn write_until_killed(store: Store) {
    let mut open: Vec<(PlaybackRow, String)> = store
        .open_playbacks()
        .await
        .expect("the journal can be read")
        .iter()
        .map(|open| (open.row, infohash(open)))
        .collect();
    for number in 0.. {
        store.record(event(EventKind::Stream, "started"));
        store.remember(Identity {
            id: number.to_string(),
            infohash: "infohash".to_owned(),
            witness: "start".to_owned(),
        });
        if number % 3 == 2 {
            let (row, infohash) = open.remove(0);
            eprintln!("?- {infohash}");
            store.playback_closed(row);
            store.flush().await.expect("the disk takes it");
            eprintln!("!- {infohash}");
        } else {
            let number = std::process::id() as usize * 100_000 + number;
            let playback = playback(number);
            eprintln!("?+ {}", playback.infohash);
            open.push((store.playback_opened(playback.clone()), playback.infohash.clone()));
            store.save_setting("last", json!(number)).await.expect("the disk takes it");
            eprintln!("!+ {}", playback.infohash);
        }
    }
}

#[tokio::test]
#[ignore = "it is the process that the other test kills"]
async fn child() {
    let folder = std::env::var(FOLDER).expect("the other test says where");
    write_until_killed(open(Path::new(&folder)).store).await;
}

/// What must be in the journal, and what may or may not be.
#[derive(Default)]
struct Truth {
    open: BTreeSet<String>,
    pending: Option<String>,
}

impl Truth {
    fn learn(&mut self, line: &str) {
        let Some((sign, infohash)) = line.split_once(' ') else { return };
        let infohash = infohash.to_owned();
        match sign {
            "?+" | "?-" => self.pending = Some(infohash),
            "!+" => self.done(infohash, BTreeSet::insert),
            "!-" => self.done(infohash, |open, gone| open.remove(&gone)),
            _ => panic!("the child failed: {line}"),
        }
    }

    fn done(&mut self, infohash: String, apply: fn(&mut BTreeSet<String>, String) -> bool) {
        self.pending = None;
        apply(&mut self.open, infohash);
    }

    /// The journal is what was acknowledged, but for the one step that was under way.
    fn judge(&mut self, found: BTreeSet<String>) {
        let differs: Vec<_> = self.open.symmetric_difference(&found).cloned().collect();
        assert!(differs.iter().all(|infohash| Some(infohash) == self.pending.as_ref()), "{differs:?}");
        self.open = found;
        self.pending = None;
    }
}

fn spawn(folder: &Path) -> Child {
    let itself = std::env::current_exe().expect("a test is a file");
    Command::new(itself)
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test can run itself")
}

/// Kills it after some lines and a little more, anywhere in the statements that follow; learns all it said.
fn run_and_kill(folder: &Path, truth: &mut Truth, chance: u64) {
    let mut child = spawn(folder);
    let mut lines = BufReader::new(child.stderr.take().expect("it was asked for")).lines();
    for _ in 0..chance % MOST_LINES {
        let line = lines.next().expect("it writes for ever");
        truth.learn(&line.expect("it writes text"));
    }
    (0..(chance >> 8) % 400_000).for_each(|_| std::hint::spin_loop());
    child.kill().expect("it still runs");
    child.wait().expect("it ends");
    // The last line may be cut off; what is not said completely is not said.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    rest.iter().filter(|line| line.len() == "!+ ".len() + 40).for_each(|line| truth.learn(line));
}

/// The numbers of xorshift: chance, but the same at every run.
fn chances() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |last| {
        let mut next = last ^ (last << 13);
        next ^= next >> 7;
        Some(next ^ (next << 17))
    })
}

#[tokio::test]
async fn what_was_acknowledged_survives_every_kill() {
    let rounds = std::env::var(ROUNDS).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(40);
    let folder = tempfile::tempdir().unwrap();
    let mut truth = Truth::default();
    for chance in chances().take(rounds) {
        run_and_kill(folder.path(), &mut truth, chance);
        // The file as the kill left it: SQLite recovers the log, nothing of ours helps.
        assert_eq!(integrity(folder.path()), "ok");
        let opened = open(folder.path());
        assert_eq!(opened.notes, Vec::<String>::new());
        let found = opened.store.open_playbacks().await.unwrap();
        truth.judge(found.iter().map(infohash).collect());
        opened.store.close().await.unwrap();
    }
    assert!(truth.open.len() > rounds, "the processes did write");
}
