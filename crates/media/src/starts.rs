//! Which packets begin a place where a player may start.
//!
//! In order of trust: the random access flag; the elementary stream itself; for radio, any audio frame; and when
//! nothing of that is found in five seconds or the video is scrambled, the beginning of any access unit: a channel
//! without flags must play, not time out.

use std::time::Duration;

use crate::ts::packet::{Packet, Pid};
use crate::ts::psi::{Codec, Program};
use crate::ts::start::{Kind, UnitScan};

/// Media without any start point after which the next access unit has to do.
const PATIENCE: Duration = Duration::from_secs(5);
/// While flags come at least this often the elementary stream is not read.
const FLAGS_TRUSTED: Duration = Duration::from_secs(10);
/// Distance of start points in audio, and of makeshift ones: enough to join anywhere, and no chunk per frame.
const AUDIO_SPACING: Duration = Duration::from_millis(500);
const MAKESHIFT_SPACING: Duration = Duration::from_secs(2);

/// Why a decoder can start at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartKind {
    /// The multiplexer says so.
    RandomAccess,
    /// The video does: IDR, recovery point, IRAP or sequence header.
    Intra,
    /// It is audio, which starts anywhere.
    Audio,
    /// Nothing says so; it is the beginning of an access unit.
    Unindexed,
}

/// What a packet means for start points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing.
    Plain,
    /// A start point begins with it.
    Begins(StartKind),
    /// One may begin with it; later packets tell.
    Candidate,
    /// The last candidate is one.
    Confirmed,
    /// The last candidate is none.
    Rejected,
}

/// Finds start points in one programme.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartFinder {
    streams: Streams,
    scan: Option<UnitScan>,
    begun: Option<Moment>,
    last_flag: Option<Duration>,
    last_start: Option<Duration>,
    found_real: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    video: Option<(Pid, Codec)>,
    audio: Option<Pid>,
    any: Option<Pid>,
}

/// Media time and arrival time of the same packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) media: Duration,
    pub(crate) arrival: Duration,
}

impl StartFinder {
    /// The programme has changed.
    pub(crate) fn set_program(&mut self, program: &Program) {
        self.streams = Streams {
            video: program.video().map(|video| (video.pid, video.codec)),
            audio: program.audio().map(|audio| audio.pid),
            any: program.streams.first().map(|stream| stream.pid),
        };
        self.scan = None;
    }

    /// What the next packet means.
    pub(crate) fn mark(&mut self, packet: Packet<'_>, now: Moment) -> Mark {
        let begun = *self.begun.get_or_insert(now);
        let pid = packet.pid();
        let mark = match self.streams {
            Streams { video: Some((video, codec)), .. } if video == pid => {
                self.video(packet, codec, now, begun)
            }
            Streams { video: None, audio: Some(audio), .. } if audio == pid => self.audio(packet, now),
            Streams { video: None, audio: None, any: Some(any) } if any == pid => {
                self.makeshift(packet, now, begun)
            }
            _ => Mark::Plain,
        };
        if matches!(mark, Mark::Begins(_) | Mark::Confirmed) {
            self.last_start = Some(now.media);
        }
        mark
    }

    fn video(&mut self, packet: Packet<'_>, codec: Codec, now: Moment, begun: Moment) -> Mark {
        if !packet.starts_unit() {
            return self.scan_on(packet);
        }
        let abandoned = self.scan.take().is_some();
        let mark = self.video_unit(packet, codec, now, begun);
        if abandoned && mark == Mark::Plain { Mark::Rejected } else { mark }
    }

    fn video_unit(&mut self, packet: Packet<'_>, codec: Codec, now: Moment, begun: Moment) -> Mark {
        if packet.is_random_access() {
            self.last_flag = Some(now.media);
            self.found_real = true;
            return Mark::Begins(StartKind::RandomAccess);
        }
        if packet.is_scrambled() {
            return self.spaced(StartKind::Unindexed, MAKESHIFT_SPACING, now);
        }
        if self.last_flag.is_some_and(|flag| now.media.saturating_sub(flag) < FLAGS_TRUSTED) {
            return Mark::Plain;
        }
        let mut scan = UnitScan::new(codec);
        match scan.read(packet.payload()) {
            Kind::Start => {
                self.found_real = true;
                Mark::Begins(StartKind::Intra)
            }
            Kind::Inner => self.makeshift(packet, now, begun),
            Kind::Unclear => {
                self.scan = Some(scan);
                Mark::Candidate
            }
        }
    }

    fn scan_on(&mut self, packet: Packet<'_>) -> Mark {
        let Some(scan) = &mut self.scan else { return Mark::Plain };
        let verdict = scan.read(packet.payload());
        if verdict != Kind::Unclear {
            self.scan = None;
        }
        match verdict {
            Kind::Unclear => Mark::Plain,
            Kind::Inner => Mark::Rejected,
            Kind::Start => {
                self.found_real = true;
                Mark::Confirmed
            }
        }
    }

    fn audio(&self, packet: Packet<'_>, now: Moment) -> Mark {
        if packet.starts_unit() { self.spaced(StartKind::Audio, AUDIO_SPACING, now) } else { Mark::Plain }
    }

    fn makeshift(&self, packet: Packet<'_>, now: Moment, begun: Moment) -> Mark {
        let waited = now.media.saturating_sub(begun.media).max(now.arrival.saturating_sub(begun.arrival));
        if self.found_real || waited < PATIENCE || !packet.starts_unit() {
            return Mark::Plain;
        }
        self.spaced(StartKind::Unindexed, MAKESHIFT_SPACING, now)
    }

    fn spaced(&self, kind: StartKind, spacing: Duration, now: Moment) -> Mark {
        let near = self.last_start.is_some_and(|last| now.media.saturating_sub(last) < spacing);
        if near { Mark::Plain } else { Mark::Begins(kind) }
    }
}
