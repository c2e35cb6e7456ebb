//! Any bytes as an engine's reply: no panic, and nothing accepted that could lead a request elsewhere.

#![no_main]

use acemux_engine::{EnginePath, MAX_MESSAGE, PlaybackStat, Started, Version, parse_media_files};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    match Started::parse(body) {
        Ok(started) => {
            [Some(started.playback), started.stat, started.command].iter().flatten().for_each(check_path)
        }
        Err(failure) => {
            failure.command.iter().for_each(check_path);
            check_text(&failure.error.to_string());
        }
    }
    if let Ok(stat) = PlaybackStat::parse(body) {
        check_text(stat.status.as_str());
        check_text(&stat.error_message.unwrap_or_default());
    }
    if let Ok(version) = Version::parse(body) {
        check_text(&version.version);
    }
    let _ = parse_media_files(body);
});

/// A path is one word of a request line, under one of the two known prefixes.
fn check_path(path: &EnginePath) {
    let text = path.as_str();
    assert!(text.starts_with("/ace/") || text.starts_with("/content/"));
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!text.split('?').next().unwrap_or_default().contains("/../"));
}

/// What an engine said is short and plain before anybody sees it.
fn check_text(text: &str) {
    const OUR_WORDS: usize = 60;
    assert!(text.chars().count() <= MAX_MESSAGE + OUR_WORDS);
    assert!(!text.chars().any(char::is_control));
}
