//! Packets into chunks: what each means is looked up, and the runs between start points are cut off and sealed.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::chunk::{Chunk, ChunkLimits, ChunkerStats, Condition, StartPoint};
use crate::clock::{Bitrate, ClockSource, MediaClock, Moment, Pcr};
use crate::format::Format;
use crate::format::probe::Probe;
use crate::starts::{Mark, StartFinder, StartKind};
use crate::ts::align::Alignment;
use crate::ts::backlog::Backlog;
use crate::ts::counters::{Counters, Follows, first_counter};
use crate::ts::descriptors::Coding;
use crate::ts::packet::{PACKET_LEN, Packet, Pid};
use crate::ts::pes::{decoding_time, header_like};
use crate::ts::programs::{Missing, Tables};
use crate::ts::psi::{Elementary, Program};
use crate::ts::splice::{Before, discontinuity, pes_packets};

/// Memory is taken in blocks of this size and cut into chunks, in bytes.
const BLOCK: usize = 256 * 1024;
/// How long the beginning of an access unit is held until it is clear whether a decoder can start there. Parameter sets
/// and supplemental information come first and fill several packets; at 500 kbit/s a packet takes 3 ms. Whoever reads the
/// source in rounds brings the next packet up to an eighth of a second later.
const CANDIDATE_HOLD: Duration = Duration::from_millis(250);
/// The same where the picture to start with is not the first of its unit: cameras write a second of pictures into one.
const DEEP_HOLD: Duration = Duration::from_millis(1500);
/// Most bytes that are held then, and before the first start point, when nobody waits for them yet.
const MOST_HELD: usize = 2 << 20;
const MOST_HELD_AT_FIRST: usize = 8 << 20;
/// So many packets in a row that are marked as damaged may be so.
const MOST_DAMAGED: u32 = 16;
/// Most streams a player does not need (service information, other programmes) whose jumps are announced as well, so
/// that no stream of thousands makes every start point a megabyte.
const MOST_OTHERS: usize = 32;

/// Everything behind alignment.
#[derive(Clone)]
pub(crate) struct Cutter {
    limits: ChunkLimits,
    tables: Tables,
    clock: MediaClock,
    counters: Counters,
    finder: StartFinder,
    probe: Probe,
    pcr: Option<Clocked>,
    /// What came while there were tables and none that was believed.
    backlog: Backlog,
    /// Packets that are marked as damaged, since one of the programme came that is not. If the first ones are, so are all.
    damaged: u32,
    /// Media time when the last piece of what players decode came.
    shown_until: Duration,
    /// What the last start point was of.
    shown: Option<Shown>,
    /// What follows is of other streams than what was sent.
    streams_changed: bool,
    stage: Stage,
    buffer: BytesMut,
    /// What is pending and will be sealed next.
    run: Option<Run>,
    /// What may turn out to begin with a start point.
    held: Option<Held>,
    next_seq: u64,
    stats: ChunkerStats,
}

/// Whether anything is emitted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waiting for the first start point.
    Seeking,
    /// Waiting for the first start point of another source.
    Resuming,
    /// Every packet goes out.
    Flowing {
        /// The stream continues another source's, so that each stream's first packet is a jump.
        spliced: bool,
    },
}

/// The stream that carries the clock, and the last value.
#[derive(Clone, Copy, Debug)]
struct Clocked {
    pid: Pid,
    last: Option<Pcr>,
}

/// What is said about time: by the program's clock, and by what media time comes from.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    pcr: Option<Pcr>,
    last_pcr: Option<Pcr>,
    time: Option<Pcr>,
}

impl Times {
    /// The first counts, and of the clock the last one, too.
    fn add(&mut self, later: Self) {
        *self = Self {
            pcr: self.pcr.or(later.pcr),
            last_pcr: later.last_pcr.or(self.last_pcr),
            time: self.time.or(later.time),
        };
    }
}

/// What players decode: when it is another, they must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Streams {
    video: Option<(Pid, Coding)>,
    audio: Option<(Pid, Coding)>,
}

impl Streams {
    fn of(program: &Program) -> Self {
        let known = |stream: Elementary| (stream.pid, stream.coding);
        Self { video: program.video().map(known), audio: program.audio().map(known) }
    }
}

/// The same with the pictures' size, once it is known.
#[derive(Clone, Copy, Debug)]
struct Shown {
    streams: Streams,
    size: Option<(u32, u32)>,
}

/// A part of the buffer.
#[derive(Clone, Debug)]
struct Run {
    len: usize,
    since: Duration,
    media: Duration,
    times: Times,
    start: Option<Arc<StartPoint>>,
    new_format: bool,
}

/// A candidate, and the counters that streams go on with from there.
#[derive(Clone, Debug)]
struct Held {
    run: Run,
    next: Vec<(Pid, u8)>,
}

impl Cutter {
    pub(crate) fn new(limits: ChunkLimits) -> Self {
        Self {
            limits,
            tables: Tables::default(),
            clock: MediaClock::default(),
            counters: Counters::default(),
            finder: StartFinder::default(),
            probe: Probe::default(),
            pcr: None,
            backlog: Backlog::default(),
            damaged: MOST_DAMAGED,
            shown_until: Duration::ZERO,
            shown: None,
            streams_changed: false,
            stage: Stage::Seeking,
            buffer: BytesMut::new(),
            run: None,
            held: None,
            next_seq: 0,
            stats: ChunkerStats::default(),
        }
    }

    pub(crate) fn restart(&mut self) {
        self.buffer.clear();
        self.run = None;
        self.held = None;
        self.stats.wrong_checksums += self.tables.wrong_checksums();
        self.tables = self.tables.of_another_source();
        self.counters = Counters::default();
        self.finder = StartFinder::default();
        self.backlog = Backlog::default();
        (self.pcr, self.streams_changed, self.damaged) = (None, false, MOST_DAMAGED);
        self.clock.restart();
        self.stage = if self.next_seq > 0 { Stage::Resuming } else { Stage::Seeking };
    }

    /// What alignment has cost, of a source that is over.
    pub(crate) fn lost(&mut self, seen: Alignment) {
        self.stats.sync_losses += seen.losses;
        self.stats.dropped_bytes += seen.dropped_bytes;
    }

    pub(crate) fn media_time(&self) -> Duration {
        self.clock.media_time()
    }

    pub(crate) fn shown_until(&self) -> Duration {
        self.shown_until
    }

    pub(crate) fn bitrate(&self) -> Option<Bitrate> {
        self.clock.bitrate()
    }

    pub(crate) fn format(&self) -> &Arc<Format> {
        self.probe.format()
    }

    pub(crate) fn missing(&self) -> Option<Missing> {
        self.tables.missing()
    }

    pub(crate) fn stats(&self) -> ChunkerStats {
        let wrong_checksums = self.stats.wrong_checksums + self.tables.wrong_checksums();
        ChunkerStats { wrong_checksums, ..self.stats }
    }

    pub(crate) fn condition(&self) -> Condition {
        Condition {
            clock: self.clock.source(),
            is_scrambled: self.finder.is_scrambled(),
            wrong_checksums: self.stats().wrong_checksums,
        }
    }

    /// If not, its counters are ahead of what readers have got.
    pub(crate) fn has_emitted_all(&self) -> bool {
        self.run.is_none() && self.held.is_none()
    }

    /// The source in between has brought nothing. Only time has passed meanwhile.
    pub(crate) fn give_back(&mut self, left: Self) {
        let Self { limits, stats, clock, .. } = std::mem::replace(self, left);
        self.limits = limits;
        self.stats = stats;
        self.clock.advance_to(clock.media_time());
    }

    pub(crate) fn interrupt(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        if self.is_flowing() {
            self.give_up();
            self.seal(now, out);
        }
    }

    pub(crate) fn packet(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        self.count_damage(packet);
        if self.tables.are_doubted() {
            return self.wait_for_tables(packet, now, out);
        }
        self.take(packet, now, true, out);
    }

    /// The tables of those that had to wait have been read.
    fn take(&mut self, packet: Packet<'_>, now: Duration, reads_tables: bool, out: &mut Vec<Chunk>) {
        self.clock.bytes(PACKET_LEN, now);
        // First, because what it announces belongs before a start point that begins here.
        self.count(packet, now, out);
        let mut times = None;
        if self.is_readable(packet) {
            if reads_tables {
                self.read_tables(packet, now, out);
            }
            times = self.read_times(packet);
            self.mark(packet, now, out);
        }
        self.append(packet, times, now);
        self.seal_full(now, out);
    }

    #[inline]
    fn count_damage(&mut self, packet: Packet<'_>) {
        if packet.is_damaged() {
            self.damaged = self.damaged.saturating_add(1);
        } else if self.damaged > 0 && self.is_ours(packet) {
            self.damaged = 0;
        }
    }

    fn is_ours(&self, packet: Packet<'_>) -> bool {
        let is_carried = |program: &Program| program.carries(packet.pid());
        self.tables.program().map_or(packet.pid() != Pid::NULL, is_carried)
    }

    /// A receiver marks what it could not mend, and what that says is nothing to go by. Where nothing comes without the mark
    /// it means nothing: other readers do not look at it.
    #[inline]
    fn is_readable(&self, packet: Packet<'_>) -> bool {
        !packet.is_damaged() || self.damaged > MOST_DAMAGED
    }

    /// Other readers believe these tables at once, and play from the first picture on: so does who joins here, later.
    #[cold]
    fn wait_for_tables(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        self.clock.bytes(0, now);
        self.backlog.push(packet, now);
        if self.is_readable(packet) {
            self.read_tables(packet, now, out);
        }
        if self.tables.are_doubted() {
            return;
        }
        for (bytes, arrival) in self.backlog.take() {
            let Some(packet) = Packet::parse(&bytes) else { continue };
            self.take(packet, arrival, false, out);
        }
    }

    fn moment(&self, arrival: Duration) -> Moment {
        Moment { media: self.clock.media_time(), arrival }
    }

    #[inline]
    fn read_tables(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        let moment = self.moment(now);
        if self.tables.take(packet, moment) {
            self.program_changes(out);
        }
    }

    #[cold]
    fn program_changes(&mut self, out: &mut Vec<Chunk>) {
        if let Some(program) = self.tables.program() {
            self.finder.set_program(program);
            self.probe.set_program(program);
            self.pcr = Some(Clocked { pid: program.pcr, last: None });
            let streams = Streams::of(program);
            self.streams_are(streams, out);
        }
    }

    /// What was sent until now belongs to another format, if these streams are others.
    fn streams_are(&mut self, streams: Streams, out: &mut Vec<Chunk>) {
        let Some(shown) = &mut self.shown else { return };
        if shown.streams == streams || !matches!(self.stage, Stage::Flowing { .. }) {
            return;
        }
        *shown = Shown { streams, size: None };
        self.reject();
        self.seal_run(out);
        self.streams_changed = true;
    }

    /// What the packet says about time.
    #[inline]
    fn read_times(&mut self, packet: Packet<'_>) -> Option<Times> {
        let has_pcr = self.pcr.is_some_and(|clocked| clocked.pid == packet.pid());
        let may_have_stamp = packet.starts_unit() || self.clock.source() == ClockSource::Arrival;
        if !has_pcr && !may_have_stamp {
            return None;
        }
        let mut times = Times::default();
        if let Some(pcr) = packet.pcr().filter(|_| has_pcr) {
            times = self.read_clock(packet, pcr);
        }
        if may_have_stamp {
            times.time = self.read_stamp(packet).or(times.time);
        }
        (times.pcr.is_some() || times.time.is_some()).then_some(times)
    }

    /// A clock that stands still is none.
    fn read_clock(&mut self, packet: Packet<'_>, pcr: Pcr) -> Times {
        let last = self.pcr.as_mut().and_then(|clocked| clocked.last.replace(pcr));
        let is_led = self.clock.tick(pcr, packet.is_discontinuity());
        let pcr_moved = (last != Some(pcr)).then_some(pcr);
        Times { pcr: pcr_moved, last_pcr: pcr_moved, time: is_led.then_some(pcr) }
    }

    fn read_stamp(&mut self, packet: Packet<'_>) -> Option<Pcr> {
        let program = self.tables.program()?;
        if !packet.has_payload() || !program.played().any(|pid| pid == packet.pid()) {
            return None;
        }
        if self.clock.source() == ClockSource::Arrival {
            self.clock.payload();
        }
        if !packet.starts_unit() || packet.hides_its_unit() {
            return None;
        }
        let time = decoding_time(packet.payload())?;
        self.clock.stamp(packet.pid(), time).then_some(time)
    }

    /// Without tables nobody can start.
    fn mark(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        if self.tables.program().is_none() {
            return;
        }
        let moment = self.moment(now);
        let mark = self.finder.mark(packet, moment);
        if packet.has_payload() && self.finder.is_concerned() {
            self.shown_until = moment.media;
        }
        if let Mark::Begins(_) | Mark::Candidate = mark {
            self.probe.starts(now);
        }
        if self.probe.is_looking() {
            self.probe.take(packet);
        }
        match mark {
            Mark::Plain => {}
            Mark::Begins(kind) => self.begin(kind, packet, now, out),
            Mark::Candidate => self.hold(packet, now),
            Mark::Confirmed(kind) => self.confirm(kind, out),
            Mark::Rejected => self.reject(),
        }
    }

    fn begin(&mut self, kind: StartKind, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        self.reject();
        self.seal_run(out);
        let point = self.start_point(kind, packet, &self.jumps(packet));
        let run = self.fresh_run(now);
        self.start(run, point, out);
    }

    fn hold(&mut self, packet: Packet<'_>, now: Duration) {
        self.reject();
        self.held = Some(Held { run: self.fresh_run(now), next: self.jumps(packet) });
    }

    fn confirm(&mut self, kind: StartKind, out: &mut Vec<Chunk>) {
        let Some(Held { run, next }) = self.held.take() else { return };
        self.seal_run(out);
        // What is left in the buffer is what was held.
        let Some(packet) = Packet::parse(&self.buffer) else { return };
        let point = self.start_point(kind, packet, &next);
        self.start(run, point, out);
    }

    /// What was held is nothing special. Before the first start point nobody wants it.
    fn reject(&mut self) {
        let Some(Held { run: held, .. }) = self.held.take() else { return };
        if !self.is_flowing() {
            self.buffer.clear();
            return;
        }
        match &mut self.run {
            Some(run) => {
                run.len += held.len;
                run.times.add(held.times);
            }
            None => self.run = Some(Run { new_format: std::mem::take(&mut self.streams_changed), ..held }),
        }
    }

    /// From the first start point on everything goes out; another source's after the announcement of the jump.
    fn start(&mut self, mut run: Run, point: Arc<StartPoint>, out: &mut Vec<Chunk>) {
        match point.kind() {
            StartKind::Unindexed => self.stats.makeshift_starts += 1,
            StartKind::RandomAccess | StartKind::Intra | StartKind::Audio => self.stats.start_points += 1,
        }
        if self.stage == Stage::Resuming {
            self.emit_prelude(point.skip_prelude(), run.media, out);
        }
        if !self.is_flowing() {
            self.stage = Stage::Flowing { spliced: self.stage == Stage::Resuming };
        }
        run.new_format = self.shows_another_format() | std::mem::take(&mut self.streams_changed);
        run.start = Some(point);
        self.run = Some(run);
    }

    /// Whether the start point that is found is of another format than the one before.
    fn shows_another_format(&mut self) -> bool {
        let Some(streams) = self.tables.program().map(Streams::of) else { return false };
        let size = self.finder.picture().map(|picture| (picture.width, picture.height));
        let before = self.shown.replace(Shown { streams, size });
        let Some(before) = before else { return false };
        let has_grown = size.zip(before.size).is_some_and(|(now, before)| now != before);
        before.streams != streams || has_grown
    }

    fn emit_prelude(&mut self, mut prelude: Bytes, media: Duration, out: &mut Vec<Chunk>) {
        while !prelude.is_empty() {
            let bytes = prelude.split_to(self.most_bytes().min(prelude.len()));
            self.emit(Chunk { jump: true, ..Chunk::plain(bytes, media) }, out);
        }
    }

    /// The one that `packet` begins with, from where on each stream goes on with the counter in `next`.
    fn start_point(&self, kind: StartKind, packet: Packet<'_>, next: &[(Pid, u8)]) -> Arc<StartPoint> {
        let (pat, pmt) = self.tables.raw();
        let is_read = matches!(kind, StartKind::RandomAccess | StartKind::Intra);
        let missing = self.finder.missing_sets(packet).filter(|_| is_read);
        let sets = missing.map(|(pid, sets)| pes_packets(pid, &header_like(packet.payload()), &sets));
        let sets = sets.unwrap_or_default();
        let before = Before { tables: (&pat, &pmt), sets: &sets, next };
        Arc::new(StartPoint::new(kind, before.join(), before.skip()).with_sets(sets.len()))
    }

    /// The counter that each stream goes on with from `packet` on.
    fn jumps(&self, packet: Packet<'_>) -> Vec<(Pid, u8)> {
        let needed = |pid| self.tables.program().is_some_and(|program| program.needs(pid));
        let others = self.counters.seen().filter(|(pid, _)| *pid != packet.pid());
        let (mut next, others): (Vec<_>, Vec<_>) = others.partition(|(pid, _)| needed(*pid));
        next.push((packet.pid(), first_counter(packet)));
        next.sort_unstable();
        next.extend(others.into_iter().take(MOST_OTHERS));
        next
    }

    fn count(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        match self.counters.take(packet) {
            Follows::Well => {}
            Follows::Badly => self.stats.continuity_errors += 1,
            Follows::First => self.announce_first(packet, now, out),
        }
    }

    /// A stream that had not shown itself before the splice could not be announced there.
    fn announce_first(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        let spliced = match self.stage {
            Stage::Seeking => false,
            Stage::Resuming => self.held.is_some(),
            Stage::Flowing { spliced } => spliced,
        };
        if spliced && !packet.is_discontinuity() {
            self.append_bytes(&discontinuity(packet.pid(), first_counter(packet)), None, now);
            self.seal_full(now, out);
        }
    }

    pub(crate) fn is_flowing(&self) -> bool {
        matches!(self.stage, Stage::Flowing { .. })
    }

    fn append(&mut self, packet: Packet<'_>, times: Option<Times>, now: Duration) {
        if self.is_flowing() || self.held.is_some() {
            self.append_bytes(packet.bytes(), times, now);
        }
    }

    fn append_bytes(&mut self, packet: &[u8; PACKET_LEN], times: Option<Times>, now: Duration) {
        if self.buffer.capacity() - self.buffer.len() < PACKET_LEN {
            self.buffer.reserve(BLOCK);
        }
        self.buffer.extend_from_slice(packet);
        if self.held.is_none() && self.run.is_none() {
            let new_format = std::mem::take(&mut self.streams_changed);
            self.run = Some(Run { new_format, ..self.fresh_run(now) });
        }
        let pending = self.held.as_mut().map(|held| &mut held.run).or(self.run.as_mut());
        let Some(run) = pending else { return };
        run.len += PACKET_LEN;
        if let Some(times) = times {
            run.times.add(times);
        }
    }

    fn fresh_run(&self, now: Duration) -> Run {
        let media = self.clock.media_time();
        Run { len: 0, since: now, media, times: Times::default(), start: None, new_format: false }
    }

    fn most_bytes(&self) -> usize {
        (self.limits.max_bytes / PACKET_LEN).max(1) * PACKET_LEN
    }

    /// What is held and still not clear when a whole chunk is full of it is not waited for any longer, unless pictures to
    /// start with may be far behind.
    fn seal_full(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        while self.buffer.len() >= self.most_bytes() {
            if self.run.is_none() {
                if self.may_hold_more() {
                    return;
                }
                self.give_up();
            }
            self.seal(now, out);
        }
    }

    fn may_hold_more(&self) -> bool {
        let most = if self.is_flowing() { MOST_HELD } else { MOST_HELD_AT_FIRST };
        self.held.as_ref().is_some_and(|held| self.is_deep(held) && held.run.len < most)
    }

    pub(crate) fn seal_at(&self) -> Option<Duration> {
        let run = self.run.as_ref().map(|run| run.since.saturating_add(self.limits.max_hold));
        let held = self.held.as_ref().map(|held| self.clear_at(held));
        run.into_iter().chain(held).min().filter(|_| self.is_flowing())
    }

    /// Whether the picture to start with may be anywhere in `held`.
    fn is_deep(&self, held: &Held) -> bool {
        self.finder.reads_everything(self.moment(held.run.since))
    }

    /// When it is not waited any longer whether `held` is a start point.
    fn clear_at(&self, held: &Held) -> Duration {
        let patience = if self.is_deep(held) { DEEP_HOLD } else { CANDIDATE_HOLD };
        held.run.since.saturating_add(self.limits.max_hold.max(patience))
    }

    /// Nobody waits for what is held before the first start point.
    pub(crate) fn seal(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        let late = self.held.as_ref().is_some_and(|held| self.clear_at(held) <= now);
        if late && self.is_flowing() {
            self.give_up();
        }
        self.seal_run(out);
    }

    fn give_up(&mut self) {
        self.reject();
        self.finder.give_up();
    }

    fn seal_run(&mut self, out: &mut Vec<Chunk>) {
        let Some(run) = self.run.take().filter(|run| run.len > 0) else { return };
        let mut bytes = self.buffer.split_to(run.len).freeze();
        let Run { media, times: Times { pcr, last_pcr, time }, start, new_format, .. } = run;
        let mut next = Chunk { start, pcr, last_pcr, time, new_format, ..Chunk::plain(Bytes::new(), media) };
        // What was held for long is more than fits into one.
        while !bytes.is_empty() {
            let part = bytes.split_to(self.most_bytes().min(bytes.len()));
            let chunk = std::mem::replace(&mut next, Chunk::plain(Bytes::new(), media));
            self.emit(Chunk { bytes: part, ..chunk }, out);
        }
    }

    fn emit(&mut self, chunk: Chunk, out: &mut Vec<Chunk>) {
        out.push(Chunk { seq: self.next_seq, ..chunk });
        self.next_seq += 1;
    }
}
