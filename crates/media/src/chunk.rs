//! Bytes in, sealed chunks out: runs of whole packets that are shared from then on and never changed.
//!
//! A chunk is sealed when it is full, when it was held long enough, or before a start point, so that a start point is
//! always the first packet of its chunk. Nothing is emitted before the first start point: nobody could play it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::clock::{Bitrate, MediaClock, Pcr};
use crate::format::Format;
use crate::format::probe::Probe;
use crate::starts::{Mark, Moment, StartFinder, StartKind};
use crate::ts::align::{Aligner, Alignment};
use crate::ts::counters::{Counters, Follows, first_counter};
use crate::ts::packet::{PACKET_LEN, Packet, Pid};
use crate::ts::psi::Tables;
use crate::ts::splice::{Before, discontinuity};

/// Memory is taken in blocks of this size and cut into chunks, in bytes.
const BLOCK: usize = 256 * 1024;
/// Bytes without any packet after which they are no transport stream.
const HOPELESS: u64 = 64 * 1024;
/// Packets in a row that prove a transport stream: far more than chance gives in [`HOPELESS`] bytes.
const PROOF: u64 = 16;

/// How long the beginning of an access unit is held until it is clear whether a decoder can start there. Parameter sets
/// and supplemental information come first and fill several packets; at 500 kbit/s a packet takes 3 ms. Whoever reads the
/// source in rounds brings the next packet up to an eighth of a second later.
const CANDIDATE_HOLD: Duration = Duration::from_millis(250);
/// Most streams a player does not need (service information, other programmes) whose jumps are announced as well, so
/// that no stream of thousands makes every start point a megabyte.
const MOST_OTHERS: usize = 32;

/// A sealed run of whole packets.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Position in the stream, without gaps.
    pub seq: u64,
    /// The packets.
    pub bytes: Bytes,
    /// Set when a decoder can start with the first packet.
    pub start: Option<Arc<StartPoint>>,
    /// Media time at the first byte, since the stream began.
    pub media: Duration,
    /// The first clock value inside.
    pub pcr: Option<Pcr>,
    /// Packets of our own: what follows does not continue what came before.
    pub jump: bool,
}

/// What a reader who starts here must be given first.
#[derive(Clone, Debug)]
pub struct StartPoint {
    kind: StartKind,
    join: Bytes,
    skip: Bytes,
}

impl StartPoint {
    /// Built by the chunker; public so that rings can be tested without media.
    pub fn new(kind: StartKind, join: Bytes, skip: Bytes) -> Self {
        Self { kind, join, skip }
    }

    /// Why a decoder can start here.
    pub fn kind(&self) -> StartKind {
        self.kind
    }

    /// PAT and PMT, for a reader who has nothing yet.
    pub fn join_prelude(&self) -> Bytes {
        self.join.clone()
    }

    /// The same with every stream's jump announced, for a reader who skipped.
    pub fn skip_prelude(&self) -> Bytes {
        self.skip.clone()
    }
}

/// How large and how old a chunk may get.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// Most bytes; rounded down to whole packets, at least one.
    pub max_bytes: usize,
    /// Longest time its first byte is held back, unless it may turn out to be a start point (at most 100 ms).
    pub max_hold: Duration,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too few yet.
    Undecided,
    /// A transport stream.
    TransportStream,
    /// Something else, a web page for example.
    NotTransportStream,
}

/// What a stream was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkerStats {
    /// Times the packets' step was lost.
    pub sync_losses: u64,
    /// Bytes that belonged to no whole packet.
    pub dropped_bytes: u64,
    /// Jumps of a continuity counter that nothing announced.
    pub continuity_errors: u64,
    /// Start points the stream itself has.
    pub start_points: u64,
    /// Start points made because it has none.
    pub makeshift_starts: u64,
}

/// Cuts one stream, across changes of its source.
pub struct Chunker {
    aligner: Aligner,
    cutter: Cutter,
    /// The cutter from before the last restart, until the source that followed brings something: it may bring nothing.
    left: Option<Box<Cutter>>,
}

/// Everything behind alignment.
#[derive(Clone)]
struct Cutter {
    limits: ChunkLimits,
    tables: Tables,
    clock: MediaClock,
    counters: Counters,
    finder: StartFinder,
    probe: Probe,
    pcr_pid: Option<Pid>,
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

/// A part of the buffer.
#[derive(Clone, Debug)]
struct Run {
    len: usize,
    since: Duration,
    media: Duration,
    pcr: Option<Pcr>,
    start: Option<Arc<StartPoint>>,
}

#[derive(Clone, Debug)]
struct Held {
    run: Run,
    point: Arc<StartPoint>,
}

impl Chunker {
    /// Chunks within `limits`.
    pub fn new(limits: ChunkLimits) -> Self {
        Self { aligner: Aligner::default(), cutter: Cutter::new(limits), left: None }
    }

    /// Takes bytes that came at `now` (since the stream began) and appends the chunks they complete to `out`.
    pub fn push(&mut self, data: &[u8], now: Duration, out: &mut Vec<Chunk>) {
        let Self { aligner, cutter, .. } = self;
        aligner.feed(data, &mut |packet| cutter.packet(packet, now, out));
        while cutter.seal_at().is_some_and(|at| at <= now) {
            cutter.seal(now, out);
        }
        if cutter.is_flowing() {
            self.left = None;
        }
    }

    /// When what is pending must be sealed. Before the first start point nothing is.
    pub fn seal_at(&self) -> Option<Duration> {
        self.cutter.seal_at()
    }

    /// Seals what is pending, except what may turn out to be a start point: that when [`Self::seal_at`] says so.
    pub fn seal(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        self.cutter.seal(now, out);
    }

    /// The source has stopped. What is whole goes out; a partial packet is lost. Whatever comes next either continues
    /// this exactly, or [`Self::restart`] comes first.
    pub fn interrupt(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        self.realign();
        self.cutter.interrupt(now, out);
    }

    /// Another source follows. Its chunks begin at its first start point, after the announcement of the jump.
    pub fn restart(&mut self) {
        self.realign();
        if self.cutter.is_flowing() {
            self.left = self.cutter.has_emitted_all().then(|| Box::new(self.cutter.clone()));
        }
        self.cutter.restart();
    }

    /// The exact continuation of what was last emitted follows. False if nothing ever was, or it was forgotten: then
    /// only [`Self::restart`] is left.
    pub fn resume(&mut self) -> bool {
        if let Some(left) = self.left.take() {
            self.realign();
            self.cutter.give_back(*left);
        }
        self.cutter.is_flowing()
    }

    fn realign(&mut self) {
        let seen = std::mem::take(&mut self.aligner).finish();
        self.cutter.stats.sync_losses += seen.losses;
        self.cutter.stats.dropped_bytes += seen.dropped_bytes;
    }

    /// Media time since the stream began.
    pub fn media_time(&self) -> Duration {
        self.cutter.clock.media_time()
    }

    /// By the stream's own clock.
    pub fn bitrate(&self) -> Option<Bitrate> {
        self.cutter.clock.bitrate()
    }

    /// What the stream is, as far as it has shown it; of the last source that had a programme. The same allocation as long as
    /// it is the same.
    pub fn format(&self) -> &Arc<Format> {
        self.cutter.probe.format()
    }

    /// What the bytes since the last restart are.
    pub fn verdict(&self) -> Verdict {
        judge(self.aligner.stats())
    }

    /// What the stream was like so far.
    pub fn stats(&self) -> ChunkerStats {
        let seen = self.aligner.stats();
        let mut stats = self.cutter.stats;
        stats.sync_losses += seen.losses;
        stats.dropped_bytes += seen.dropped_bytes;
        stats
    }
}

/// What these bytes are, for whoever has them from another source than the chunker's.
pub fn verdict_on(bytes: &[u8]) -> Verdict {
    let mut aligner = Aligner::default();
    aligner.feed(bytes, &mut |_| {});
    judge(aligner.stats())
}

fn judge(seen: Alignment) -> Verdict {
    if seen.packets >= PROOF {
        Verdict::TransportStream
    } else if seen.dropped_bytes >= HOPELESS {
        Verdict::NotTransportStream
    } else {
        Verdict::Undecided
    }
}

impl Cutter {
    fn new(limits: ChunkLimits) -> Self {
        Self {
            limits,
            tables: Tables::default(),
            clock: MediaClock::default(),
            counters: Counters::default(),
            finder: StartFinder::default(),
            probe: Probe::default(),
            pcr_pid: None,
            stage: Stage::Seeking,
            buffer: BytesMut::new(),
            run: None,
            held: None,
            next_seq: 0,
            stats: ChunkerStats::default(),
        }
    }

    fn restart(&mut self) {
        self.buffer.clear();
        self.run = None;
        self.held = None;
        self.tables = Tables::default();
        self.counters = Counters::default();
        self.finder = StartFinder::default();
        self.pcr_pid = None;
        self.clock.restart();
        self.stage = if self.next_seq > 0 { Stage::Resuming } else { Stage::Seeking };
    }

    /// If not, its counters are ahead of what readers have got.
    fn has_emitted_all(&self) -> bool {
        self.run.is_none() && self.held.is_none()
    }

    /// The source in between has brought nothing. Only time has passed meanwhile.
    fn give_back(&mut self, left: Self) {
        let Self { limits, stats, clock, .. } = std::mem::replace(self, left);
        self.limits = limits;
        self.stats = stats;
        self.clock.advance_to(clock.media_time());
    }

    fn interrupt(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        if self.is_flowing() {
            self.give_up();
            self.seal(now, out);
        }
    }

    fn packet(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        self.clock.bytes(PACKET_LEN, now);
        // First, because what it announces belongs before a start point that begins here.
        self.count(packet, now, out);
        let mut pcr = None;
        if !packet.is_damaged() {
            self.read_tables(packet);
            pcr = packet.pcr().filter(|_| Some(packet.pid()) == self.pcr_pid);
            if let Some(pcr) = pcr {
                self.clock.tick(pcr, packet.is_discontinuity());
            }
            self.mark(packet, now, out);
        }
        self.append(packet, pcr, now);
        self.seal_full(now, out);
    }

    fn read_tables(&mut self, packet: Packet<'_>) {
        if self.tables.take(packet)
            && let Some(program) = self.tables.program()
        {
            self.finder.set_program(program);
            self.probe.set_program(program);
            self.pcr_pid = Some(program.pcr);
        }
    }

    /// Without tables nobody can start.
    fn mark(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        if self.tables.program().is_none() {
            return;
        }
        let media = self.clock.media_time();
        let mark = self.finder.mark(packet, Moment { media, arrival: now });
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
            Mark::Confirmed => self.confirm(out),
            Mark::Rejected => self.reject(),
        }
    }

    fn begin(&mut self, kind: StartKind, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        self.reject();
        self.seal_run(out);
        let point = self.start_point(kind, packet);
        let run = self.fresh_run(now, None);
        self.start(run, point, out);
    }

    fn hold(&mut self, packet: Packet<'_>, now: Duration) {
        self.reject();
        let point = self.start_point(StartKind::Intra, packet);
        self.held = Some(Held { run: self.fresh_run(now, None), point });
    }

    fn confirm(&mut self, out: &mut Vec<Chunk>) {
        if let Some(Held { run, point }) = self.held.take() {
            self.seal_run(out);
            self.start(run, point, out);
        }
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
                run.pcr = run.pcr.or(held.pcr);
            }
            None => self.run = Some(held),
        }
    }

    /// From the first start point on everything goes out; another source's after the announcement of the jump.
    fn start(&mut self, mut run: Run, point: Arc<StartPoint>, out: &mut Vec<Chunk>) {
        match point.kind {
            StartKind::Unindexed => self.stats.makeshift_starts += 1,
            StartKind::RandomAccess | StartKind::Intra | StartKind::Audio => self.stats.start_points += 1,
        }
        if self.stage == Stage::Resuming {
            self.emit_prelude(point.skip_prelude(), run.media, out);
        }
        if !self.is_flowing() {
            self.stage = Stage::Flowing { spliced: self.stage == Stage::Resuming };
        }
        run.start = Some(point);
        self.run = Some(run);
    }

    fn emit_prelude(&mut self, mut prelude: Bytes, media: Duration, out: &mut Vec<Chunk>) {
        while !prelude.is_empty() {
            let bytes = prelude.split_to(self.most_bytes().min(prelude.len()));
            let run = Run { len: 0, since: media, media, pcr: None, start: None };
            self.emit(bytes, run, true, out);
        }
    }

    fn start_point(&self, kind: StartKind, packet: Packet<'_>) -> Arc<StartPoint> {
        let next = self.jumps(packet);
        let before = Before { tables: self.tables.raw(), next: &next };
        Arc::new(StartPoint::new(kind, before.join(), before.skip()))
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

    fn is_flowing(&self) -> bool {
        matches!(self.stage, Stage::Flowing { .. })
    }

    fn append(&mut self, packet: Packet<'_>, pcr: Option<Pcr>, now: Duration) {
        if self.is_flowing() || self.held.is_some() {
            self.append_bytes(packet.bytes(), pcr, now);
        }
    }

    fn append_bytes(&mut self, packet: &[u8; PACKET_LEN], pcr: Option<Pcr>, now: Duration) {
        if self.buffer.capacity() - self.buffer.len() < PACKET_LEN {
            self.buffer.reserve(BLOCK);
        }
        self.buffer.extend_from_slice(packet);
        let fresh = self.fresh_run(now, None);
        let run = match &mut self.held {
            Some(held) => &mut held.run,
            None => self.run.get_or_insert(fresh),
        };
        run.len += PACKET_LEN;
        run.pcr = run.pcr.or(pcr);
    }

    fn fresh_run(&self, now: Duration, start: Option<Arc<StartPoint>>) -> Run {
        Run { len: 0, since: now, media: self.clock.media_time(), pcr: None, start }
    }

    fn most_bytes(&self) -> usize {
        (self.limits.max_bytes / PACKET_LEN).max(1) * PACKET_LEN
    }

    /// What is held and still not clear when a whole chunk is full of it is not waited for any longer.
    fn seal_full(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        while self.buffer.len() >= self.most_bytes() {
            if self.run.is_none() {
                self.give_up();
            }
            self.seal(now, out);
        }
    }

    fn seal_at(&self) -> Option<Duration> {
        let run = self.run.as_ref().map(|run| run.since.saturating_add(self.limits.max_hold));
        let held = self.held.as_ref().map(|held| self.clear_at(held));
        run.into_iter().chain(held).min().filter(|_| self.is_flowing())
    }

    /// When it is not waited any longer whether `held` is a start point.
    fn clear_at(&self, held: &Held) -> Duration {
        held.run.since.saturating_add(self.limits.max_hold.max(CANDIDATE_HOLD))
    }

    /// Nobody waits for what is held before the first start point.
    fn seal(&mut self, now: Duration, out: &mut Vec<Chunk>) {
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
        let bytes = self.buffer.split_to(run.len).freeze();
        self.emit(bytes, run, false, out);
    }

    fn emit(&mut self, bytes: Bytes, run: Run, jump: bool, out: &mut Vec<Chunk>) {
        let Run { media, pcr, start, .. } = run;
        out.push(Chunk { seq: self.next_seq, bytes, start, media, pcr, jump });
        self.next_seq += 1;
    }
}
