//! Which packets begin a place where a player may start.
//!
//! In order of trust: the video itself, read in `pictures`; the random access flag, where the video cannot be read; for
//! radio, and while the picture is away or scrambled, any audio frame; and when nothing of that is found in five seconds,
//! the beginning of any access unit: a channel without flags must play, not time out. What is scrambled begins nowhere: no
//! player can show it, and who waits for it is told so.

mod pictures;

use std::time::Duration;

use self::pictures::{Pictures, Seen};
use crate::clock::Moment;
use crate::format::Picture;
use crate::ts::packet::{Packet, Pid};
use crate::ts::psi::{Codec, Elementary, Program};

/// Media without any start point after which the next access unit has to do.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same once the stream has shown that it has some: no encoder's key frames are further apart.
const LONGEST_GROUP: Duration = Duration::from_secs(30);
/// So long it is waited for the first of several videos while another one comes, with so many access units.
const OTHER_VIDEO: Duration = Duration::from_millis(500);
/// So many access units of other streams without a packet of the leading one mean that it is away, and not that the source
/// has been silent.
const UNITS_WITHOUT: u32 = 8;
/// Distance of start points in audio, and of makeshift ones: enough to join anywhere, and no chunk per frame.
const AUDIO_SPACING: Duration = Duration::from_millis(500);
const MAKESHIFT_SPACING: Duration = Duration::from_secs(2);

/// Why a decoder can start at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartKind {
    /// The multiplexer says so, and the video nothing else.
    RandomAccess,
    /// The video alone does: IDR, recovery point, IRAP or sequence header.
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
    Confirmed(StartKind),
    /// The last candidate is none.
    Rejected,
}

/// What has to be known of a stream with every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    pid: Pid,
    codec: Codec,
}

impl From<Elementary> for Place {
    fn from(stream: Elementary) -> Self {
        Self { pid: stream.pid, codec: stream.codec }
    }
}

/// Finds start points in one programme.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartFinder {
    /// The stream that is listed to decide: the first video, or in radio the first audio.
    listed: Option<Place>,
    /// The one that does: that one, or another video while it does not come.
    leading: Option<Place>,
    /// A unit of it has begun. One that is only listed decides nothing.
    leading_seen: bool,
    /// Its last access unit was scrambled.
    leading_is_hidden: bool,
    /// What came since a unit of it last began: nobody can join in the middle of one.
    without_it: Option<Without>,
    /// Its longest pause so far: a picture every ten seconds is one.
    longest_pause: Duration,
    streams: Vec<Place>,
    /// The last packet was of the programme.
    is_concerned: bool,
    pictures: Pictures,
    begun: Option<Moment>,
    last_start: Option<Duration>,
    /// The last start point that the stream itself has.
    last_real: Option<Duration>,
}

/// Access units of other streams.
#[derive(Clone, Copy, Debug)]
struct Without {
    since: Moment,
    units: u32,
}

impl StartFinder {
    /// The programme has changed.
    pub(crate) fn set_program(&mut self, program: &Program) {
        let listed = program.leading().map(Place::from);
        let streams: Vec<Place> = program.streams.iter().copied().map(Place::from).collect();
        let stays = self.leading.is_none_or(|leading| streams.contains(&leading));
        if listed == self.leading {
            self.listed = listed;
        } else if listed != self.listed || !stays {
            *self = Self { listed, ..Self::led_by(listed) };
        }
        self.streams = streams;
    }

    fn led_by(leading: Option<Place>) -> Self {
        let pictures = Pictures::of(leading.map_or(Codec::Other, |leading| leading.codec));
        Self { leading, pictures, ..Self::default() }
    }

    /// The video that was to decide is away, and this one is there. Whoever waits has waited all the same.
    fn follow(&mut self, other: Place) {
        let streams = std::mem::take(&mut self.streams);
        let Self { listed, begun, last_start, last_real, .. } = *self;
        *self = Self { listed, streams, begun, last_start, last_real, ..Self::led_by(Some(other)) };
    }

    /// What the next packet means.
    pub(crate) fn mark(&mut self, packet: Packet<'_>, now: Moment) -> Mark {
        self.begun.get_or_insert(now);
        let mark = self.judge(packet, now);
        if let Mark::Begins(kind) | Mark::Confirmed(kind) = mark {
            self.last_start = Some(now.media);
            if kind != StartKind::Unindexed {
                self.last_real = Some(now.media);
            }
        }
        mark
    }

    /// The last candidate is not waited for any longer.
    pub(crate) fn give_up(&mut self) {
        let _was_unclear = self.pictures.give_up();
    }

    /// Whether the leading stream is scrambled.
    pub(crate) fn is_scrambled(&self) -> bool {
        self.leading_is_hidden
    }

    /// Whether the last packet was part of the programme.
    pub(crate) fn is_concerned(&self) -> bool {
        self.is_concerned
    }

    /// Whether a candidate may turn out to be a start point far behind its beginning. Nobody is kept waiting for that in a
    /// stream that has had none for too long.
    pub(crate) fn reads_everything(&self, now: Moment) -> bool {
        self.pictures.reads_everything() && !self.is_out_of_patience(now)
    }

    /// The parameter sets that a decoder must be given at the start point found last, which begins with `first`, with the
    /// number of their stream, if the start point does not bring its own.
    pub(crate) fn missing_sets(&self, first: Packet<'_>) -> Option<(Pid, Vec<u8>)> {
        Some((self.leading?.pid, self.pictures.missing_sets(first)?))
    }

    /// How large the pictures are, as the last parameter sets say.
    pub(crate) fn picture(&self) -> Option<Picture> {
        self.pictures.picture()
    }

    fn judge(&mut self, packet: Packet<'_>, now: Moment) -> Mark {
        let pid = packet.pid();
        if let Some(leading) = self.leading.filter(|leading| leading.pid == pid) {
            self.is_concerned = true;
            if packet.starts_unit() {
                self.leading_is_hidden = packet.hides_its_unit();
            }
            // The clock may go on where the picture was, and so may a unit that never ends.
            if packet.starts_unit() && packet.has_payload() && !self.leading_is_hidden {
                self.leading_seen = true;
                let pause = self.without_it.take().map_or(Duration::ZERO, |without| now.since(without.since));
                self.longest_pause = self.longest_pause.max(pause);
            }
            return match leading.codec {
                Codec::Audio => self.audio(packet, now),
                _ => self.video(packet, now),
            };
        }
        let other = self.streams.iter().copied().find(|stream| stream.pid == pid);
        self.is_concerned = other.is_some();
        match other.filter(|_| packet.starts_unit() && !packet.hides_its_unit()) {
            Some(other) => self.other(other, packet, now),
            None => Mark::Plain,
        }
    }

    /// Another stream's access unit begins.
    fn other(&mut self, other: Place, packet: Packet<'_>, now: Moment) -> Mark {
        let is_away = self.leading_is_away(other.codec.is_video(), now);
        if is_away && other.codec.is_video() {
            self.follow(other);
            return self.judge(packet, now);
        }
        match (is_away, self.leading_seen) {
            (true, true) => self.instead(other, now),
            (_, false) => self.makeshift(now),
            (false, true) => Mark::Plain,
        }
    }

    /// Whether the leading one has not shown itself for long, or never, and another video does not wait for that.
    fn leading_is_away(&mut self, is_video: bool, now: Moment) -> bool {
        let without = self.without_it.get_or_insert(Without { since: now, units: 0 });
        without.units = without.units.saturating_add(1);
        let usual = if self.leading_seen {
            (self.longest_pause * 2).clamp(PATIENCE, LONGEST_GROUP)
        } else if is_video {
            OTHER_VIDEO
        } else {
            return false;
        };
        without.units > UNITS_WITHOUT && now.since(without.since) >= usual
    }

    /// The picture has stopped and the sound goes on: who joins is better off with it than with nothing.
    fn instead(&self, other: Place, now: Moment) -> Mark {
        if other.codec == Codec::Audio {
            self.spaced(StartKind::Audio, AUDIO_SPACING, now)
        } else {
            self.spaced(StartKind::Unindexed, MAKESHIFT_SPACING, now)
        }
    }

    fn video(&mut self, packet: Packet<'_>, now: Moment) -> Mark {
        if self.leading_is_hidden {
            return self.hidden(packet, now);
        }
        match self.pictures.take(packet, now.media) {
            Seen::Nothing => Mark::Plain,
            Seen::Begins(kind) => Mark::Begins(kind),
            // Read on even when any unit will do: a real start point ends that.
            Seen::Unclear => self.makeshift_or(Mark::Candidate, now),
            Seen::Inner { after_candidate: true } => self.makeshift_or(Mark::Rejected, now),
            Seen::Inner { after_candidate: false } => self.makeshift(now),
            Seen::Confirmed(kind) => Mark::Confirmed(kind),
            Seen::Rejected => Mark::Rejected,
        }
    }

    /// Who watches already sees it come back, and joins are counted on until then.
    fn hidden(&mut self, packet: Packet<'_>, now: Moment) -> Mark {
        let otherwise = if self.pictures.give_up() { Mark::Rejected } else { Mark::Plain };
        if !packet.starts_unit() || self.last_start.is_none() {
            return otherwise;
        }
        let mark = self.spaced(StartKind::Unindexed, MAKESHIFT_SPACING, now);
        Some(mark).filter(|mark| *mark != Mark::Plain).unwrap_or(otherwise)
    }

    fn makeshift_or(&self, otherwise: Mark, now: Moment) -> Mark {
        Some(self.makeshift(now)).filter(|mark| *mark != Mark::Plain).unwrap_or(otherwise)
    }

    fn audio(&self, packet: Packet<'_>, now: Moment) -> Mark {
        let begins = packet.starts_unit() && !self.leading_is_hidden;
        if begins { self.spaced(StartKind::Audio, AUDIO_SPACING, now) } else { Mark::Plain }
    }

    /// The beginning of an access unit, if nothing better came for too long.
    fn makeshift(&self, now: Moment) -> Mark {
        if self.is_out_of_patience(now) {
            self.spaced(StartKind::Unindexed, MAKESHIFT_SPACING, now)
        } else {
            Mark::Plain
        }
    }

    /// Before the first start point a viewer waits, so arrival time counts too; later it would count a stall.
    fn is_out_of_patience(&self, now: Moment) -> bool {
        match (self.last_real, self.begun) {
            (Some(real), _) => now.media.saturating_sub(real) >= LONGEST_GROUP,
            (None, Some(begun)) => now.since(begun) >= PATIENCE,
            (None, None) => false,
        }
    }

    fn spaced(&self, kind: StartKind, spacing: Duration, now: Moment) -> Mark {
        let near = self.last_start.is_some_and(|last| now.media.saturating_sub(last) < spacing);
        if near { Mark::Plain } else { Mark::Begins(kind) }
    }
}
