//! Playlists: by the rules from version to version, as another parser reads them, and what stays fetchable.

use std::collections::BTreeMap;
use std::time::Duration;

use acemux_media::hls::{Missing, Playlist, PlaylistLimits, Segment};
use acemux_media::starts::StartKind;
use bytes::Bytes;
use m3u8_rs::{MediaPlaylist, parse_media_playlist_res};
use proptest::prelude::*;

use crate::hls_rules::Rules;

const SIZE: usize = 1880;

fn segment(number: u64, milliseconds: u64) -> Segment {
    let duration = Duration::from_millis(milliseconds);
    let parts = vec![Bytes::from_static(&[0x47; 188]), Bytes::from_static(&[0x47; SIZE - 188])];
    Segment { number, discontinuity: false, duration, start: Some(StartKind::Intra), parts }
}

/// `count` segments of `milliseconds` each, each listed when it is complete.
fn playlist(count: u64, milliseconds: u64) -> Playlist {
    let mut playlist = Playlist::new(PlaylistLimits::default());
    for number in 0..count {
        playlist.push(segment(number, milliseconds), Duration::from_millis((number + 1) * milliseconds));
    }
    playlist
}

fn text(playlist: &Playlist) -> String {
    playlist.text(|number| format!("{number}.ts"))
}

fn numbers(playlist: &Playlist) -> Vec<u64> {
    playlist.listed().map(|segment| segment.number).collect()
}

#[test]
fn the_text_says_what_there_is() {
    let mut playlist = Playlist::new(PlaylistLimits::default());
    assert_eq!(
        text(&playlist),
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:0\n"
    );
    playlist.push(segment(0, 4004), Duration::ZERO);
    let duration = Duration::from_nanos(5_999_999_499);
    playlist.push(Segment { discontinuity: true, duration, ..segment(1, 0) }, Duration::ZERO);
    playlist.end();
    assert_eq!(
        playlist.text(|number| format!("../{number}?key=a")),
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXTINF:4.004000,\n../0?key=a\n#EXT-X-DISCONTINUITY\n\
         #EXTINF:5.999999,\n../1?key=a\n#EXT-X-ENDLIST\n"
    );
}

#[test]
fn the_peak_is_of_runs_as_long_as_the_standard_measures_and_no_glimpse_of_a_segment_counts() {
    let sized = |number, milliseconds, bytes: usize| Segment {
        parts: vec![Bytes::from(vec![0x47; bytes])],
        ..segment(number, milliseconds)
    };
    let mut playlist = Playlist::new(PlaylistLimits::default());
    assert_eq!(playlist.peak(), None);
    playlist.push(sized(0, 300, 1_000_000), Duration::ZERO);
    assert_eq!(playlist.peak(), None, "less than half a second says nothing");
    playlist.push(sized(1, 1700, 1_000_000), Duration::ZERO);
    assert_eq!(playlist.peak(), Some(8_000_000), "2 s are all there is");
    playlist.push(sized(2, 4000, 4_000_000), Duration::ZERO);
    playlist.push(sized(3, 6000, 3_000_001), Duration::ZERO);
    // The first three are 6 s of 8 Mbit/s, as the third alone is; the last is slower.
    assert_eq!(playlist.peak(), Some(8_000_000));
    playlist.push(sized(4, 3000, 6_000_001), Duration::ZERO);
    assert_eq!(playlist.peak(), Some(16_000_003), "rounded up");
}

#[test]
fn discontinuities_are_counted_from_where_the_owner_says() {
    let limits = PlaylistLimits { discontinuities: 1_700_000_000, ..PlaylistLimits::default() };
    let mut playlist = Playlist::new(limits);
    for number in 0..6 {
        let first = number == 0;
        playlist.push(Segment { discontinuity: first, ..segment(number, 6000) }, Duration::ZERO);
        let gone = u64::from(!numbers(&playlist).contains(&0));
        let said = format!("#EXT-X-DISCONTINUITY-SEQUENCE:{}\n", 1_700_000_000 + gone);
        assert!(text(&playlist).contains(&said), "{}", text(&playlist));
    }
}

#[test]
fn three_target_durations_stay_listed_and_no_more_than_needed() {
    assert_eq!(numbers(&playlist(3, 2000)), [0, 1, 2]);
    assert_eq!(numbers(&playlist(20, 2000)), (11..20).collect::<Vec<_>>());
    assert_eq!(numbers(&playlist(20, 4000)), [15, 16, 17, 18, 19]);
    assert_eq!(numbers(&playlist(20, 6000)), [17, 18, 19]);
    assert_eq!(numbers(&playlist(20, 6400)), [17, 18, 19]);
    // Something is wrong with this stream; the list stays finite.
    assert_eq!(numbers(&playlist(500, 0)).len(), 64);
    let limits = PlaylistLimits { least_listed: 5, ..PlaylistLimits::default() };
    let mut playlist = Playlist::new(limits);
    (0..9).for_each(|number| playlist.push(segment(number, 6000), Duration::ZERO));
    assert_eq!(numbers(&playlist), [4, 5, 6, 7, 8]);
}

#[test]
fn segments_stay_fetchable_for_their_own_duration_and_that_of_the_longest_playlist() {
    // Segment 0 leaves when segment 3 comes, at 24 s; it was listed with two others.
    let mut playlist = playlist(4, 6000);
    let at = |seconds| Duration::from_secs(seconds);
    assert_eq!(numbers(&playlist), [1, 2, 3]);
    playlist.expire(at(24 + 6 + 18 - 1));
    assert_eq!(playlist.segment(0).map(|segment| segment.number), Ok(0));
    assert_eq!(playlist.bytes(), 4 * SIZE);
    playlist.expire(at(24 + 6 + 18));
    assert_eq!(playlist.segment(0).map(|segment| segment.number), Err(Missing::Gone));
    assert_eq!(playlist.bytes(), 3 * SIZE);
    playlist.expire(at(1 << 40));
    assert_eq!(numbers(&playlist), [1, 2, 3], "what is listed does not expire");
}

#[test]
fn a_segment_is_found_by_its_number_or_it_is_known_why_not() {
    let mut playlist = playlist(10, 6000);
    playlist.expire(Duration::from_hours(1));
    let found = |playlist: &Playlist, number| playlist.segment(number).map(|segment| segment.number);
    assert_eq!(found(&playlist, 6), Err(Missing::Gone));
    assert_eq!((7..10).map(|number| found(&playlist, number)).collect::<Vec<_>>(), [Ok(7), Ok(8), Ok(9)]);
    assert_eq!(found(&playlist, 10), Err(Missing::NotYet));
    assert_eq!(found(&playlist, u64::MAX), Err(Missing::NotYet));
    playlist.end();
    assert_eq!(found(&playlist, 10), Err(Missing::Gone));
}

#[test]
fn only_the_next_segment_is_taken() {
    let mut playlist = playlist(0, 0);
    for number in [7, 8, 8, 7, 10, 9] {
        playlist.push(segment(number, 2000), Duration::ZERO);
    }
    assert_eq!(numbers(&playlist), [7, 8, 9]);
    playlist.end();
    playlist.push(segment(10, 2000), Duration::ZERO);
    assert_eq!(numbers(&playlist), [7, 8, 9]);
}

#[test]
fn when_memory_is_short_the_oldest_go_first_and_the_newest_stays() {
    let mut playlist = playlist(10, 6000);
    assert_eq!(playlist.bytes(), 10 * SIZE);
    playlist.shed(10 * SIZE);
    assert_eq!(playlist.bytes(), 10 * SIZE);
    playlist.shed(5 * SIZE - 1);
    assert_eq!(playlist.bytes(), 4 * SIZE);
    assert_eq!(numbers(&playlist), [7, 8, 9]);
    assert!(playlist.segment(6).is_ok() && playlist.segment(5).is_err());
    playlist.shed(2 * SIZE);
    assert_eq!(numbers(&playlist), [8, 9]);
    assert!(text(&playlist).contains("#EXT-X-MEDIA-SEQUENCE:8\n"));
    playlist.shed(0);
    assert_eq!(numbers(&playlist), [9]);
    assert_eq!(playlist.bytes(), SIZE);
}

#[test]
fn discontinuities_are_counted_when_they_leave_the_list() {
    let mut playlist = Playlist::new(PlaylistLimits::default());
    for number in 0..8 {
        let discontinuity = [2, 4, 6].contains(&number);
        playlist.push(Segment { discontinuity, ..segment(number, 6000) }, Duration::ZERO);
    }
    assert_eq!(numbers(&playlist), [5, 6, 7]);
    assert!(text(&playlist).contains("#EXT-X-DISCONTINUITY-SEQUENCE:2\n"));
    playlist.shed(SIZE);
    assert!(text(&playlist).contains("#EXT-X-DISCONTINUITY-SEQUENCE:3\n"));
}

#[test]
fn the_target_duration_grows_only_when_a_segment_leaves_no_choice() {
    for (longest, milliseconds, expected) in
        [(6000, 6499, 6), (6000, 6500, 7), (5100, 100, 6), (0, 0, 1), (6000, 12_000, 12)]
    {
        let limits = PlaylistLimits { longest: Duration::from_millis(longest), ..PlaylistLimits::default() };
        let mut playlist = Playlist::new(limits);
        playlist.push(segment(0, milliseconds), Duration::ZERO);
        assert_eq!(playlist.target_duration(), Duration::from_secs(expected), "{longest} {milliseconds}");
    }
    // What is rounded is what is written.
    let mut playlist = playlist(0, 0);
    playlist.push(Segment { duration: Duration::from_nanos(6_499_999_600), ..segment(0, 0) }, Duration::ZERO);
    assert!(text(&playlist).contains("#EXTINF:6.500000,"));
    assert_eq!(playlist.target_duration(), Duration::from_secs(7));
}

/// What the other parser must have read.
fn assert_reads_the_same(theirs: &MediaPlaylist, ours: &Playlist) {
    assert_eq!(theirs.version, Some(3));
    assert_eq!(Duration::from_secs(theirs.target_duration), ours.target_duration());
    assert_eq!(theirs.segments.len(), ours.listed().len());
    for ((number, theirs), ours) in (theirs.media_sequence..).zip(&theirs.segments).zip(ours.listed()) {
        assert_eq!(number, ours.number);
        assert_eq!(theirs.uri, format!("{number}.ts"));
        assert_eq!(theirs.discontinuity, ours.discontinuity);
        let seconds = f64::from(theirs.duration);
        assert!((seconds - ours.duration.as_secs_f64()).abs() < 1e-5, "{seconds}");
        assert!(theirs.unknown_tags.is_empty());
    }
    assert!(theirs.unknown_tags.is_empty());
}

proptest! {
    #[test]
    fn random_streams_keep_all_rules_and_every_promise(
        stream in prop::collection::vec((100..6499_u64, prop::bool::weighted(0.2)), 1..100),
    ) {
        let mut playlist = Playlist::new(PlaylistLimits::default());
        let (mut rules, mut now) = (Rules::default(), Duration::ZERO);
        // Until when each number may be asked for: while it is listed, and then as long as its list was.
        let mut promised: BTreeMap<u64, Duration> = BTreeMap::new();
        let mut lengths: BTreeMap<u64, Duration> = BTreeMap::new();
        for (number, (milliseconds, discontinuity)) in (0..).zip(stream) {
            let segment = Segment { discontinuity, ..segment(number, milliseconds) };
            now += segment.duration;
            let before: Vec<Segment> = playlist.listed().cloned().collect();
            playlist.push(segment, now);
            playlist.expire(now);
            let text = text(&playlist);
            prop_assert_eq!(rules.check(&text, now), []);
            let theirs = parse_media_playlist_res(text.as_bytes()).expect("a playlist");
            assert_reads_the_same(&theirs, &playlist);
            prop_assert!(!theirs.end_list);
            for segment in playlist.listed() {
                let longest = lengths.entry(segment.number).or_default();
                *longest = playlist.duration().max(*longest);
            }
            let listed = numbers(&playlist);
            for gone in before.iter().filter(|segment| !listed.contains(&segment.number)) {
                promised.insert(gone.number, now + gone.duration + lengths[&gone.number]);
            }
            promised.retain(|_, until| *until > now);
            prop_assert!(promised.keys().chain(&listed).all(|number| playlist.segment(*number).is_ok()));
            let kept = (0..=number).filter(|number| playlist.segment(*number).is_ok()).count();
            prop_assert_eq!(playlist.bytes(), kept * SIZE);
        }
        playlist.end();
        prop_assert_eq!(rules.check(&text(&playlist), now), []);
        let text = text(&playlist);
        prop_assert!(parse_media_playlist_res(text.as_bytes()).expect("a playlist").end_list);
        playlist.expire(now + Duration::from_hours(1));
        prop_assert_eq!(playlist.bytes(), playlist.listed().len() * SIZE);
    }
}
