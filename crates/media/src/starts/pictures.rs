//! How much of the video is read.
//!
//! As little as will do: of a stream whose flags are right only what is flagged, of one without flags the beginning of each
//! access unit. Everything is read at first, and of streams that keep their key pictures or parameter sets elsewhere.

use std::time::Duration;

use super::StartKind;
use crate::clock::Pcr;
use crate::format::Picture;
use crate::ts::packet::Packet;
use crate::ts::pes::{behind_pes_header, decoding_time};
use crate::ts::psi::Codec;
use crate::ts::video::{Kind, VideoScan};

/// Without a start point for so long more is read than before.
const ENOUGH: Duration = Duration::from_secs(10);

/// Fewer access units than so many in a second hold several pictures each, or are cut anywhere.
const FEWEST: u32 = 12;
const SECOND: Duration = Duration::from_secs(1);
/// Units farther apart than this are not of one run.
const FARTHEST: Duration = Duration::from_secs(10);

/// What is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Depth {
    #[default]
    Everything,
    /// Each access unit up to its first picture.
    Heads,
    /// The same of those that are flagged.
    Flagged,
}

/// What a packet of the video shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// A start point begins with it.
    Begins(StartKind),
    /// An access unit begins with it that may be one.
    Unclear,
    /// An access unit begins with it that is none.
    Inner {
        /// And the one before was not clear until now.
        after_candidate: bool,
    },
    /// The unclear one is a start point.
    Confirmed(StartKind),
    /// It is none.
    Rejected,
}

/// Reads the leading video.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Pictures {
    /// None of a codec that is not looked into: then the flags are all there is.
    scan: Option<VideoScan>,
    depth: Depth,
    /// A packet without payload has flagged the access unit to come.
    is_announced: bool,
    /// The current access unit is flagged.
    is_flagged: bool,
    /// It is not clear yet.
    is_unclear: bool,
    /// It began in a packet of its stream before, with nothing but parameter sets.
    is_continued: bool,
    /// A flag was wrong.
    flags_lie: bool,
    /// The last start point did not bring its parameter sets.
    lacks_sets: bool,
    last_start: Option<Duration>,
    pace: Pace,
}

/// How many units come in a second, by their own time stamps.
#[derive(Clone, Debug, Default)]
struct Pace {
    since: Option<Pcr>,
    units: u32,
    is_slow: bool,
}

impl Pace {
    fn unit(&mut self, at: Option<Pcr>) {
        let Some(at) = at else { return };
        self.units += 1;
        let Some(since) = self.since else {
            (self.since, self.units) = (Some(at), 0);
            return;
        };
        let passed = at.since(since);
        if passed >= SECOND {
            self.is_slow =
                passed < FARTHEST && f64::from(self.units) < f64::from(FEWEST) * passed.as_secs_f64();
            (self.since, self.units) = (Some(at), 0);
        }
    }
}

impl Pictures {
    pub(super) fn of(codec: Codec) -> Self {
        Self { scan: VideoScan::of(codec), ..Self::default() }
    }

    /// True when something was not clear yet.
    pub(super) fn give_up(&mut self) -> bool {
        std::mem::take(&mut self.is_unclear)
    }

    pub(super) fn reads_everything(&self) -> bool {
        self.depth == Depth::Everything
    }

    pub(super) fn missing_sets(&self, first: Packet<'_>) -> Option<Vec<u8>> {
        let scan = self.scan.as_ref().filter(|_| self.lacks_sets)?;
        scan.sets_before(behind_pes_header(first.payload()))
    }

    pub(super) fn picture(&self) -> Option<Picture> {
        self.scan.as_ref()?.picture()
    }

    pub(super) fn take(&mut self, packet: Packet<'_>, now: Duration) -> Seen {
        if !packet.has_payload() {
            self.is_announced |= packet.is_random_access();
            return Seen::Nothing;
        }
        if packet.starts_unit() { self.begin(packet, now) } else { self.read_on(packet, now) }
    }

    fn begin(&mut self, packet: Packet<'_>, now: Duration) -> Seen {
        self.is_flagged = std::mem::take(&mut self.is_announced) || packet.is_random_access();
        let Some(scan) = &mut self.scan else { return self.by_flag() };
        let bytes = behind_pes_header(packet.payload());
        if self.is_unclear && scan.has_only_sets() {
            self.is_continued = true;
            scan.go_on_with(bytes, self.is_flagged);
            return self.read(bytes, now);
        }
        self.pace.unit(decoding_time(packet.payload()));
        if self.pace.is_slow || self.last_start.is_some_and(|last| now.saturating_sub(last) >= ENOUGH) {
            self.depth = Depth::Everything;
        }
        let after_candidate = std::mem::take(&mut self.is_unclear);
        if self.depth == Depth::Flagged && !self.is_flagged {
            return if after_candidate { Seen::Rejected } else { Seen::Nothing };
        }
        scan.begin_with(bytes, self.is_flagged);
        (self.is_unclear, self.is_continued) = (true, false);
        match self.read(bytes, now) {
            Seen::Confirmed(kind) => Seen::Begins(kind),
            Seen::Rejected => Seen::Inner { after_candidate },
            _ => Seen::Unclear,
        }
    }

    /// Of a video that is not looked into.
    fn by_flag(&self) -> Seen {
        if self.is_flagged {
            Seen::Begins(StartKind::RandomAccess)
        } else {
            Seen::Inner { after_candidate: false }
        }
    }

    fn read_on(&mut self, packet: Packet<'_>, now: Duration) -> Seen {
        if self.is_unclear {
            return self.read(packet.payload(), now);
        }
        // What stands behind the picture may be the parameter sets of the next one.
        if self.depth == Depth::Everything
            && let Some(scan) = &mut self.scan
        {
            scan.read_whole(packet.payload());
        }
        Seen::Nothing
    }

    fn read(&mut self, bytes: &[u8], now: Duration) -> Seen {
        let Some(scan) = &mut self.scan else { return Seen::Nothing };
        let kind = match self.depth {
            Depth::Everything => scan.read_whole(bytes),
            Depth::Heads | Depth::Flagged => scan.read(bytes),
        };
        match kind {
            Kind::Unclear => Seen::Nothing,
            Kind::Start { has_sets, is_first } => {
                (self.is_unclear, self.lacks_sets, self.last_start) = (false, !has_sets, Some(now));
                self.depth = if has_sets && is_first { self.least_depth() } else { Depth::Everything };
                Seen::Confirmed(if self.is_flagged { StartKind::RandomAccess } else { StartKind::Intra })
            }
            Kind::Inner => {
                self.is_unclear = false;
                if self.is_flagged {
                    (self.flags_lie, self.depth) = (true, Depth::Heads);
                }
                Seen::Rejected
            }
        }
    }

    /// Of a stream whose start points are what they should be.
    fn least_depth(&self) -> Depth {
        let flags_will_do = self.is_flagged && !self.is_continued && !self.flags_lie;
        if flags_will_do { Depth::Flagged } else { Depth::Heads }
    }
}
