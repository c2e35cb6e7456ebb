//! What can go wrong, on request.
//!
//! A [`Fault`] is one deviation from a healthy engine; a [`Rule`] says for which content and for how many starts. Faults
//! combine: a session suffers all that match it. A rule without a count applies at once, to sessions that run too; a rule
//! with a count is used up by starts and stays with the sessions it hit.
//!
//! Every fault is also a JSON object, `{"mode": "eof", "after_bytes": 1000000}`, for the control port and the command
//! line. Fields left out are 0 or their stated default.

use std::fmt;
use std::str::FromStr;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::identity::ContentHash;

/// One deviation from a healthy engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Fault {
    /// Connections are refused: nobody listens.
    Refuse,
    /// Connections are accepted and reset at once.
    ResetAtAccept,
    /// Connections are accepted and never answered.
    HangAll,

    /// One page answers in another shape.
    Reply {
        /// Which page.
        page: Page,
        /// What it does instead.
        shape: Shape,
    },
    /// Version, status and network pages never answer; the rest works.
    HangStatus,
    /// Commands (stop) are carried out and never answered.
    HangStop,
    /// Commands are carried out and answered late.
    SlowStop {
        /// Delay of the answer, milliseconds.
        #[serde(default)]
        ms: u64,
    },
    /// The engine cannot look content up: `get_media_files` is an unknown method.
    NoMediaFiles,
    /// `get_media_files` answers without an infohash.
    MediaFilesWithoutInfohash,

    /// Every stage of a start takes longer by this much.
    SlowStart {
        /// The start's reply, milliseconds.
        #[serde(default)]
        json_ms: u64,
        /// The playback's headers, milliseconds.
        #[serde(default)]
        headers_ms: u64,
        /// The first byte of media after the headers, milliseconds.
        #[serde(default)]
        first_byte_ms: u64,
    },
    /// The content does not exist: starts fail to load it, look-ups find no transport file.
    FailedToLoad,
    /// Starts fail to load the content after this long, as when the engine looks for its peers in vain. Look-ups find it.
    LateRefusal {
        /// Milliseconds; 28000 when left out, what real engines take for an infohash that nobody has.
        #[serde(default = "half_a_minute_in_vain")]
        ms: u64,
    },
    /// Starts are refused with this `error` text.
    StartError {
        /// The engine's words.
        error: String,
    },
    /// Starts are refused because a paid option is missing (`extra_data` names it).
    MissingOption,
    /// No more than this many sessions at once; further starts are refused with an error.
    RefuseMoreThan {
        /// Sessions allowed.
        n: usize,
    },
    /// URLs in replies name this authority instead of the one that was asked.
    UrlAuthority {
        /// `host` or `host:port`.
        authority: String,
    },
    /// The stream is said to be encrypted.
    Encrypted,

    /// The playback URL redirects wrongly.
    Redirect {
        /// How.
        to: Redirect,
    },
    /// The playback URL is accepted and never answered (its redirect is missing).
    HangRedirect,
    /// The playback answers with this HTTP status and no media.
    PlaybackStatus {
        /// The status code.
        status: u16,
    },
    /// The media URL behind the playback's redirect answers 404 `download not found`, as after another client of the engine
    /// has begun the same content.
    MediaNotFound,
    /// The playback answers 500 `start timeout` after a while.
    StartTimeout,
    /// The playback answers `failed to start` and the session is gone.
    FailedToStart,
    /// The playback is accepted and never sends a header; stat says `prebuf` for ever.
    #[serde(alias = "hang_headers")]
    PrebufSilent,
    /// Headers and then not one byte.
    HangFirstByte,
    /// Headers and the end.
    #[serde(rename = "empty_200")]
    Empty200,
    /// A 200 whose body is no media. Broadcasts only.
    WrongContent {
        /// What it is instead.
        #[serde(default)]
        kind: WrongContent,
    },
    /// The body's end is told in this way. Broadcasts only: a recording declares its length.
    Framing {
        /// Which way.
        framing: Framing,
    },
    /// The body is compressed (`Content-Encoding: gzip`), asked for or not. Broadcasts only.
    Gzip,

    /// The engine's machine has lost the internet: what plays stalls, what starts finds no peer, and the network page says so.
    /// Its own API answers.
    Offline,
    /// Nobody has the channel: stat says `prebuf` with no peer, playback is silent.
    NoPeers,
    /// Peers and no data: stat says `prebuf` with peers, playback is silent.
    PeersNoData,
    /// After this many bytes of a reader's body nothing more comes; everything stays open and stat says `dl`.
    #[serde(alias = "stall")]
    BurstThenStall {
        /// Bytes that still arrive. 0 stalls a running reader now.
        #[serde(default)]
        after_bytes: u64,
    },
    /// Media comes no faster than this.
    Trickle {
        /// Kilobits a second.
        #[serde(default)]
        kbps: u64,
    },
    /// Media comes and stays away in turns.
    Oscillate {
        /// Flowing, milliseconds.
        #[serde(default = "one_second")]
        on_ms: u64,
        /// Silent, milliseconds.
        #[serde(default = "one_second")]
        off_ms: u64,
    },
    /// The body ends cleanly after this many bytes: whole packets of a broadcast, to the byte in a recording, whose
    /// declared length is then not reached.
    Eof {
        /// Bytes; 0 ends a running reader now.
        #[serde(default)]
        after_bytes: u64,
    },
    /// The connection is reset after this many bytes (whole packets).
    Reset {
        /// Bytes; 0 resets a running reader now.
        #[serde(default)]
        after_bytes: u64,
    },
    /// As `eof`, but the last packet is cut short.
    MidPacketCut {
        /// Bytes.
        #[serde(default)]
        after_bytes: u64,
    },
    /// The source has gone away: the engine plays the same window again and again, and the live position in stat stands
    /// still. Broadcasts only.
    Loop {
        /// Length of the window, milliseconds.
        #[serde(default = "one_second")]
        window_ms: u64,
    },
    /// The program clock stands still: after this many bytes (whole packets) the packets of the last 100 ms come again and
    /// again, at the bit rate and with continuity counters that go on, so that only PCR and PTS show it. The live
    /// position in stat stands still from then on. Broadcasts only.
    Stagnate {
        /// Bytes; 0 lets a running reader's clock stand still now.
        #[serde(default)]
        after_bytes: u64,
    },
    /// After this many bytes (whole packets) only null packets come, at the bit rate. Broadcasts only.
    NullFlood {
        /// Bytes; 0 floods a running reader now.
        #[serde(default)]
        after_bytes: u64,
    },
    /// The live position in stat lies this far behind the clock, and moves with it; the media is healthy.
    StaleLive {
        /// Seconds; 7200 when left out, twice what orchestrators take for a loop.
        #[serde(default = "two_hours")]
        seconds: u64,
    },
    /// Media is written one to seven bytes at a time.
    Dribble,

    /// The open engine's catalogue of content ids knows nothing, at once. Starts by content id are accepted all the same: the
    /// swarm knows.
    CatalogueFails,
    /// The open engine's catalogue of content ids does not answer, and is given up at the start and again at the playback.
    CatalogueHangs,
    /// A download of the open engine that never becomes media ends when nobody reads it any more, as every other does.
    /// Without this it goes on until the engine ends.
    RunawayEnds,

    /// A second session of an infohash does not end the first.
    NoSupersede,
    /// A playback URL admits any number of readers.
    ManyReaders,
    /// One player may have several contents at once.
    IndependentPids,
}

/// A page of the engine that answers with JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// `/ace/getstream` and `/ace/manifest.m3u8`.
    Start,
    /// `/ace/stat/…`.
    Stat,
    /// `/ace/cmd/…`.
    Command,
    /// `get_version`.
    Version,
    /// `get_status`.
    Status,
    /// `get_network_connection_status`.
    Network,
    /// `get_media_files`.
    MediaFiles,
    /// Any other method.
    Other,
}

/// What a page does instead of answering properly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Shape {
    /// Never answers.
    Hang,
    /// Answers this much later.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// Closes the connection without a byte.
    Close,
    /// Resets the connection.
    Reset,
    /// This HTTP status with a plain text.
    Status {
        /// The status code.
        status: u16,
    },
    /// A 200 with an HTML page.
    Html,
    /// A 200 whose body is no JSON.
    BadJson,
    /// A 200 with an empty body.
    Empty,
    /// `{"response": {}, "error": null}`.
    EmptyResponse,
    /// The proper answer, ended after this many bytes of its declared length.
    Cut {
        /// Bytes of the body that arrive.
        bytes: usize,
    },
    /// The proper answer with every number as a string.
    StringNumbers,
    /// The proper answer without half of its fields.
    MissingFields,
    /// Valid JSON of this many bytes.
    Huge {
        /// Bytes.
        bytes: usize,
    },
    /// JSON arrays nested this deep.
    Deep {
        /// Levels.
        levels: usize,
    },
    /// The proper answer, one byte at a time.
    Drip {
        /// Milliseconds between two bytes.
        ms: u64,
    },
}

/// Where a playback URL wrongly leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redirect {
    /// Back to itself.
    Loop,
    /// To the right place, by a path without host.
    Relative,
    /// To this URL.
    Elsewhere(String),
    /// To a URL of this many bytes.
    Huge(usize),
    /// Nowhere: 302 without a `Location`.
    Nowhere,
}

/// How the end of a media body is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// HTTP/1.1, the connection's end.
    #[default]
    Close,
    /// HTTP/1.1, chunked.
    Chunked,
    /// HTTP/1.0.
    Http10,
}

/// What comes instead of media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrongContent {
    /// An HTML page, again and again.
    #[default]
    Html,
    /// Random bytes.
    Random,
}

fn one_second() -> u64 {
    1_000
}

fn half_a_minute_in_vain() -> u64 {
    28_000
}

fn two_hours() -> u64 {
    7_200
}

impl FromStr for Fault {
    type Err = BadFault;

    /// Reads a bare mode (`hang_stop`) or a JSON object.
    fn from_str(text: &str) -> Result<Self, BadFault> {
        let object = text.trim_start().starts_with('{');
        let parsed = if object {
            serde_json::from_str(text)
        } else {
            serde_json::from_value(serde_json::json!({ "mode": text }))
        };
        parsed.map_err(|error| BadFault { text: text.to_owned(), error: error.to_string() })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// The text is no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such fault: {text} ({error})")]
pub struct BadFault {
    text: String,
    error: String,
}

/// For whom a fault is meant. Written `all`, a content id or an infohash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// Every content, and the engine itself.
    #[default]
    All,
    /// One content, by its content id or its infohash.
    Content(ContentHash),
}

impl Target {
    /// The content with this content id or infohash.
    ///
    /// # Panics
    ///
    /// When `hash` is not 40 hexadecimal digits: a mistake of the test that asks.
    pub fn content(hash: &str) -> Self {
        Self::Content(ContentHash::parse(hash).expect("a content id or infohash is 40 hexadecimal digits"))
    }

    fn covers(self, infohash: Option<ContentHash>) -> bool {
        match self {
            Self::All => true,
            Self::Content(hash) => infohash == Some(hash.infohash()),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match ContentHash::parse(&text) {
            Some(hash) => Ok(Self::Content(hash)),
            None if text == "all" => Ok(Self::All),
            None => Err(format!("a target is \"all\" or 40 hexadecimal digits, not {text:?}")),
        }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        match target {
            Target::All => "all".to_owned(),
            Target::Content(hash) => hash.to_string(),
        }
    }
}

/// A fault and where it applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// For whom.
    #[serde(default)]
    pub target: Target,
    /// For how many starts; `None` until it is cleared.
    #[serde(default)]
    pub starts: Option<u32>,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// `fault` for everybody until it is cleared.
    pub fn always(fault: Fault) -> Self {
        Self { target: Target::All, starts: None, fault }
    }
}

/// The faults that one request or one session suffers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn has(&self, fault: &Fault) -> bool {
        self.0.contains(fault)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// The first fault that `pick` makes something of.
    pub(crate) fn find<'a, T>(&'a self, pick: impl FnMut(&'a Fault) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(pick)
    }

    pub(crate) fn and(mut self, more: &Self) -> Self {
        self.0.extend_from_slice(&more.0);
        self
    }

    /// Whether the network page says that there is a network.
    pub(crate) fn is_online(&self) -> bool {
        !self.has(&Fault::Offline)
    }

    /// What happens to a reply of `page`, in the order in which the faults were set.
    pub(crate) fn shapes(&self, page: Page) -> impl Iterator<Item = Shape> {
        self.0.iter().filter_map(move |fault| fault.shape(page))
    }
}

impl Fault {
    /// The fault and those that come with it.
    fn with_consequences(&self) -> Vec<Self> {
        match self {
            Self::Offline => vec![Self::Offline, Self::NoPeers, Self::BurstThenStall { after_bytes: 0 }],
            other => vec![other.clone()],
        }
    }

    fn shape(&self, page: Page) -> Option<Shape> {
        match (self, page) {
            (Self::Reply { page: at, shape }, _) if *at == page => Some(shape.clone()),
            (Self::HangStatus, Page::Version | Page::Status | Page::Network)
            | (Self::HangStop, Page::Command) => Some(Shape::Hang),
            (Self::SlowStop { ms }, Page::Command) => Some(Shape::Slow { ms: *ms }),
            (Self::SlowStart { json_ms, .. }, Page::Start) => Some(Shape::Slow { ms: *json_ms }),
            _ => None,
        }
    }
}

/// All rules of one engine.
#[derive(Debug, Default)]
pub(crate) struct FaultTable(Mutex<Vec<Rule>>);

impl FaultTable {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self(Mutex::new(rules))
    }

    pub(crate) fn add(&self, rule: Rule) {
        self.0.lock().push(rule);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Lets `rule` be there, once, or not.
    pub(crate) fn set(&self, rule: &Rule, present: bool) {
        let mut rules = self.0.lock();
        if present != rules.contains(rule) {
            rules.retain(|one| one != rule);
            rules.extend(present.then(|| rule.clone()));
        }
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.0.lock().clone()
    }

    /// Faults without a count that cover this content (or, with `None`, the engine itself).
    pub(crate) fn standing(&self, infohash: Option<ContentHash>) -> Faults {
        let rules = self.0.lock();
        let standing = rules.iter().filter(|rule| rule.starts.is_none() && rule.target.covers(infohash));
        Faults(standing.flat_map(|rule| rule.fault.with_consequences()).collect())
    }

    /// Counted faults that cover a start of this content; each is used up by one.
    pub(crate) fn take_start(&self, infohash: Option<ContentHash>) -> Faults {
        let mut taken = Vec::new();
        self.0.lock().retain_mut(|rule| match &mut rule.starts {
            Some(left) if rule.target.covers(infohash) => {
                taken.push(rule.fault.clone());
                *left = left.saturating_sub(1);
                *left > 0
            }
            _ => true,
        });
        Faults(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::infohash_of;

    const ID: &str = "94c2fd8fb9bc8f2fc71a2cbe9d4b866f227a0209";

    fn hash(text: &str) -> Option<ContentHash> {
        ContentHash::parse(text)
    }

    #[test]
    fn a_fault_is_read_from_its_mode_or_from_json() {
        assert_eq!("hang_stop".parse(), Ok(Fault::HangStop));
        assert_eq!("empty_200".parse(), Ok(Fault::Empty200));
        assert_eq!("eof".parse(), Ok(Fault::Eof { after_bytes: 0 }));
        assert_eq!("stagnate".parse(), Ok(Fault::Stagnate { after_bytes: 0 }));
        assert_eq!("null_flood".parse(), Ok(Fault::NullFlood { after_bytes: 0 }));
        assert_eq!("stale_live".parse(), Ok(Fault::StaleLive { seconds: 7_200 }));
        assert_eq!("late_refusal".parse(), Ok(Fault::LateRefusal { ms: 28_000 }));
        assert_eq!("media_not_found".parse(), Ok(Fault::MediaNotFound));
        assert_eq!(r#"{"mode":"eof","after_bytes":9}"#.parse(), Ok(Fault::Eof { after_bytes: 9 }));
        let cut = Fault::Reply { page: Page::Start, shape: Shape::Cut { bytes: 7 } };
        assert_eq!(cut.to_string().parse(), Ok(cut));
        assert!("explode".parse::<Fault>().is_err());
    }

    #[test]
    fn a_rule_covers_the_content_id_and_the_infohash() {
        let rule = Rule { target: Target::content(ID), starts: None, fault: Fault::NoPeers };
        let table = FaultTable::new(vec![rule]);
        assert!(table.standing(hash(&infohash_of(ID))).has(&Fault::NoPeers));
        assert!(!table.standing(hash(&infohash_of(crate::channel::H264_ID))).has(&Fault::NoPeers));
        assert!(!table.standing(None).has(&Fault::NoPeers));
    }

    #[test]
    fn a_counted_rule_is_used_up_by_starts_alone() {
        let table = FaultTable::new(vec![Rule { target: Target::All, starts: Some(2), fault: Fault::Gzip }]);
        assert!(!table.standing(None).has(&Fault::Gzip));
        assert!(table.take_start(None).has(&Fault::Gzip));
        assert!(table.take_start(None).has(&Fault::Gzip));
        assert!(!table.take_start(None).has(&Fault::Gzip));
    }
}
