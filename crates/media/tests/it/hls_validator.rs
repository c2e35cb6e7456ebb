//! The rules themselves: each is broken by something, and only by that.

use std::time::Duration;

use crate::hls_rules::{Broken, Rules};

const START: &str = "#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:2
#EXTINF:4.000000,
7.ts
#EXT-X-DISCONTINUITY
#EXTINF:3.250000,
8.ts
#EXTINF:4.499999,
9.ts
#EXTINF:4.000000,
10.ts
";

/// `START` a segment later.
const NEXT: &str = "#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:8
#EXT-X-DISCONTINUITY-SEQUENCE:2
#EXT-X-DISCONTINUITY
#EXTINF:3.250000,
8.ts
#EXTINF:4.499999,
9.ts
#EXTINF:4.000000,
10.ts
#EXTINF:4.000000,
11.ts
";

/// And another: the discontinuity has left.
const LATER: &str = "#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:9
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXTINF:4.499999,
9.ts
#EXTINF:4.000000,
10.ts
#EXTINF:4.000000,
11.ts
#EXTINF:4.000000,
12.ts
";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn broken_by(text: &str) -> Vec<Broken> {
    Rules::default().check(text, Duration::ZERO)
}

/// What `second` breaks after `first`.
fn broken_after(first: &str, second: &str) -> Vec<Broken> {
    let mut rules = Rules::default();
    assert_eq!(rules.check(first, Duration::ZERO), []);
    rules.check(second, seconds(4))
}

#[test]
fn a_playlist_that_keeps_all_rules_breaks_none() {
    let mut rules = Rules::default();
    let ended = format!("{LATER}#EXT-X-ENDLIST\n");
    for (text, at) in [(START, 0), (START, 3), (NEXT, 4), (LATER, 8), (LATER, 14), (&ended, 15), (&ended, 99)]
    {
        assert_eq!(rules.check(text, seconds(at)), [], "at {at}");
    }
    let windows_lines = START.replace('\n', "\r\n");
    assert_eq!(broken_by(&windows_lines), []);
}

#[test]
fn every_rule_about_one_text_is_broken_by_something() {
    let line = |line: &str| line.to_owned();
    let version = "#EXT-X-VERSION:3";
    let cases = [
        ("#EXTM3U\n", "#EXTM3U8\n", Broken::FirstLine),
        ("#EXTM3U\n", "\u{feff}#EXTM3U\n", Broken::FirstLine),
        ("\n10.ts\n", "\n10.ts", Broken::LastLine),
        ("10.ts", "1\u{1}0.ts", Broken::Control),
        ("9.ts\n", "9.ts\n\n", Broken::UnknownLine(line(""))),
        ("9.ts\n", "9.ts\n# good\n", Broken::UnknownLine(line("# good"))),
        (version, "#EXT-X-VERSION:3\n#EXT-X-VERSION:3", Broken::Misplaced(line(version))),
        ("9.ts\n", "9.ts\n#EXT-X-ENDLIST\n#EXT-X-ENDLIST\n", Broken::Misplaced(line("#EXT-X-ENDLIST"))),
        ("MEDIA-SEQUENCE:7", "MEDIA-SEQUENCE:-7", Broken::Value(line("#EXT-X-MEDIA-SEQUENCE:-7"))),
        ("#EXTINF:3.250000,", "#EXTINF:3.25", Broken::Value(line("#EXTINF:3.25"))),
        ("#EXTINF:3.250000,", "#EXTINF:-3.25,", Broken::Value(line("#EXTINF:-3.25,"))),
        ("#EXT-X-TARGETDURATION:4\n", "", Broken::NoTag("TARGETDURATION")),
        ("#EXT-X-VERSION:3\n", "", Broken::NoTag("VERSION")),
        ("#EXT-X-MEDIA-SEQUENCE:7\n", "", Broken::NoTag("MEDIA-SEQUENCE")),
        ("#EXT-X-DISCONTINUITY-SEQUENCE:2\n", "", Broken::NoTag("DISCONTINUITY-SEQUENCE")),
        (version, "#EXT-X-VERSION:2", Broken::Version),
        ("\n9.ts", "\n9.ts\nextra.ts", Broken::Unpaired),
        ("\n9.ts", "", Broken::Unpaired),
        ("\n10.ts\n", "\n10.ts\n#EXTINF:4,\n", Broken::Unpaired),
        ("\n10.ts\n", "\n10.ts\n#EXT-X-DISCONTINUITY\n", Broken::Unpaired),
        ("10.ts", "7.ts", Broken::SameUri(line("7.ts"))),
        ("4.499999", "4.500000", Broken::TooLong(9)),
    ];
    for (from, to, expected) in cases {
        let broken = broken_by(&START.replacen(from, to, 1));
        assert!(broken.contains(&expected), "{from:?} → {to:?}: {broken:?}");
        assert_eq!(broken.iter().filter(|one| **one != expected).count(), 0, "{from:?} → {to:?}: {broken:?}");
    }
}

#[test]
fn what_describes_all_segments_comes_before_the_first() {
    let tag = "#EXT-X-DISCONTINUITY-SEQUENCE:2\n";
    let moved = START.replacen(tag, "", 1).replacen("7.ts\n", &format!("7.ts\n{tag}"), 1);
    assert_eq!(broken_by(&moved), [Broken::Misplaced(tag.trim_end().to_owned())]);
}

#[test]
fn every_rule_about_two_texts_is_broken_by_something() {
    let cases = [
        (NEXT, "VERSION:3", "VERSION:4", vec![Broken::HeadChanged]),
        (NEXT, "TARGETDURATION:4", "TARGETDURATION:5", vec![Broken::HeadChanged]),
        (NEXT, "9.ts", "nine.ts", vec![Broken::Changed(9)]),
        (NEXT, "4.499999", "4.499998", vec![Broken::Changed(9)]),
        (NEXT, "#EXT-X-DISCONTINUITY\n", "", vec![Broken::Changed(8)]),
        // The first stays and another goes.
        (
            NEXT,
            "#EXTINF:4.499999,\n9.ts\n",
            "",
            vec![Broken::Changed(9), Broken::Changed(10), Broken::TooShort],
        ),
        (START, "#EXTINF:4.000000,\n10.ts\n", "", vec![Broken::EndLost]),
        (NEXT, "SEQUENCE:2\n", "SEQUENCE:3\n", vec![Broken::DiscontinuitySequence]),
        (NEXT, "SEQUENCE:2\n", "SEQUENCE:1\n", vec![Broken::DiscontinuitySequence]),
        (LATER, "SEQUENCE:3\n", "SEQUENCE:2\n", vec![Broken::DiscontinuitySequence]),
        (LATER, "#EXTINF:4.000000,\n11.ts\n#EXTINF:4.000000,\n12.ts\n", "", vec![Broken::TooShort]),
    ];
    for (second, from, to, expected) in cases {
        let mut broken = broken_after(START, &second.replacen(from, to, 1));
        broken.retain(|one| !matches!(one, Broken::Stale));
        assert_eq!(broken, expected, "{from:?} → {to:?}");
    }
}

#[test]
fn numbers_do_not_go_back() {
    let broken = broken_after(NEXT, START);
    assert!(broken.contains(&Broken::WentBack) && broken.contains(&Broken::EndLost), "{broken:?}");
}

#[test]
fn discontinuities_may_have_come_and_gone_unseen() {
    let far = |discontinuities: u64| {
        let head = LATER.replacen("MEDIA-SEQUENCE:9", "MEDIA-SEQUENCE:20", 1);
        let tag = format!("DISCONTINUITY-SEQUENCE:{discontinuities}");
        head.replacen("DISCONTINUITY-SEQUENCE:3", &tag, 1)
    };
    assert_eq!(broken_after(START, &far(3)), []);
    assert_eq!(broken_after(START, &far(12)), []);
    assert_eq!(broken_after(START, &far(2)), [Broken::DiscontinuitySequence]);
    assert_eq!(broken_after(START, &far(13)), [Broken::DiscontinuitySequence]);
}

#[test]
fn a_live_playlist_grows_in_time_and_one_that_has_ended_does_not() {
    let mut rules = Rules::default();
    assert_eq!(rules.check(START, seconds(10)), []);
    assert_eq!(rules.check(START, seconds(16)), []);
    assert_eq!(rules.check(START, seconds(17)), [Broken::Stale]);
    let ended = format!("{START}#EXT-X-ENDLIST\n");
    assert_eq!(rules.check(&ended, seconds(18)), []);
    assert_eq!(rules.check(&format!("{NEXT}#EXT-X-ENDLIST\n"), seconds(19)), [Broken::ChangedAfterEnd]);
}
