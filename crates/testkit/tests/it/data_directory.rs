//! What the program leaves on the disk, and who can read it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use acemux_sim::SimEngine;
use acemux_testkit::app::until;
use acemux_testkit::{Process, StrictViewer};

use crate::visits::engine;
use crate::{id, stream};

/// Names of all files in the folder, with their modes and bytes.
fn files(folder: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let entries =
        fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    let read = |path: &Path| {
        (fs::metadata(path).expect("it is there").permissions().mode() & 0o7777, fs::read(path))
    };
    let file = |path: std::path::PathBuf| {
        let (mode, bytes) = read(&path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, mode, bytes.expect("it can be read"))
    };
    entries.map(file).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_umask_all_of_it_is_closed_and_no_token_of_an_open_playback_is_in_it() {
    let engine = SimEngine::start(engine()).await.expect("a free port");
    let program = Process::start(&[engine.addr()], &[("LOG_LEVEL", "trace")]).await;
    let mut viewers = Vec::new();
    for n in 1..=3 {
        viewers.push(StrictViewer::open(program.address, &id(n)).await);
    }
    for viewer in &mut viewers {
        viewer.watch(Duration::from_millis(200)).await;
    }
    let sessions = engine.ledger().snapshot().sessions;
    assert!(sessions.len() >= 3, "playbacks are open: {sessions:?}");
    let journal =
        || files(&program.data()).iter().any(|(_, _, bytes)| holds(bytes, &engine.addr().to_string()));
    until("the journal is on the disk", journal).await;

    let mode = fs::metadata(program.data()).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o700);
    for (name, mode, bytes) in files(&program.data()) {
        assert_eq!(mode, 0o600, "{name}");
        for session in &sessions {
            assert!(!holds(&bytes, &session.token), "{name} has the token of {session:?}");
        }
        assert!(!holds(&bytes, "/ace/cmd"), "{name}");
    }
    let pages = [program.text("/streams").await, program.text("/proxy/sessions").await, program.log()];
    for (page, session) in pages.iter().flat_map(|page| sessions.iter().map(move |session| (page, session))) {
        assert!(!page.contains(&session.token), "{}", stream(&session.infohash));
    }
}
