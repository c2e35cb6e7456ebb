//! Bytes in, sealed chunks out: runs of whole packets that are shared from then on and never changed.
//!
//! A chunk is sealed when it is full, when it was held long enough, or before a start point, so that a start point is
//! always the first packet of its chunk. Nothing is emitted before the first start point: nobody could play it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::clock::{Bitrate, MediaClock, Pcr};
use crate::starts::{Mark, Moment, StartFinder, StartKind};
use crate::ts::align::Aligner;
use crate::ts::counters::{Counters, Follows};
use crate::ts::packet::{PACKET_LEN, Packet, Pid};
use crate::ts::psi::Tables;
use crate::ts::splice::{Before, discontinuity};

/// Memory is taken in blocks of this size and cut into chunks, in bytes.
const BLOCK: usize = 256 * 1024;
/// Bytes without any packet after which they are no transport stream.
const HOPELESS: u64 = 64 * 1024;
/// Packets in a row that prove a transport stream: far more than chance gives in [`HOPELESS`] bytes.
const PROOF: u64 = 16;

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
    /// Longest time its first byte is held back.
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
}

/// Everything behind alignment.
struct Cutter {
    limits: ChunkLimits,
    tables: Tables,
    clock: MediaClock,
    counters: Counters,
    finder: StartFinder,
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
        Self { aligner: Aligner::default(), cutter: Cutter::new(limits) }
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: ChunkLimits) {
        self.cutter.limits = limits;
    }

    /// Takes bytes that came at `now` (since the stream began) and appends the chunks they complete to `out`.
    pub fn push(&mut self, data: &[u8], now: Duration, out: &mut Vec<Chunk>) {
        let Self { aligner, cutter } = self;
        aligner.feed(data, &mut |packet| cutter.packet(packet, now, out));
        if cutter.seal_at().is_some_and(|at| at <= now) {
            cutter.seal(out);
        }
    }

    /// When what is pending must be sealed.
    pub fn seal_at(&self) -> Option<Duration> {
        self.cutter.seal_at()
    }

    /// Seals what is pending.
    pub fn seal(&mut self, _now: Duration, out: &mut Vec<Chunk>) {
        self.cutter.seal(out);
    }

    /// Another source follows. Its chunks begin at its first start point, after the announcement of the jump.
    pub fn restart(&mut self) {
        self.cutter.add_alignment(&self.aligner);
        self.aligner = Aligner::default();
        self.cutter.restart();
    }

    /// Media time since the stream began.
    pub fn media_time(&self) -> Duration {
        self.cutter.clock.media_time()
    }

    /// By the stream's own clock.
    pub fn bitrate(&self) -> Option<Bitrate> {
        self.cutter.clock.bitrate()
    }

    /// Whether a place to start was found since the last restart.
    pub fn found_start(&self) -> bool {
        matches!(self.cutter.stage, Stage::Flowing { .. })
    }

    /// What the bytes since the last restart are.
    pub fn verdict(&self) -> Verdict {
        let seen = self.aligner.stats();
        if seen.packets >= PROOF {
            Verdict::TransportStream
        } else if seen.dropped_bytes >= HOPELESS {
            Verdict::NotTransportStream
        } else {
            Verdict::Undecided
        }
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

impl Cutter {
    fn new(limits: ChunkLimits) -> Self {
        Self {
            limits,
            tables: Tables::default(),
            clock: MediaClock::default(),
            counters: Counters::default(),
            finder: StartFinder::default(),
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
        if self.next_seq > 0 {
            self.stage = Stage::Resuming;
        }
    }

    fn add_alignment(&mut self, aligner: &Aligner) {
        let seen = aligner.stats();
        self.stats.sync_losses += seen.losses;
        self.stats.dropped_bytes += seen.dropped_bytes;
    }

    fn packet(&mut self, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        self.read_tables(packet);
        let pcr = packet.pcr().filter(|_| Some(packet.pid()) == self.pcr_pid);
        self.clock.bytes(PACKET_LEN, now);
        if let Some(pcr) = pcr {
            self.clock.tick(pcr, packet.is_discontinuity());
        }
        if self.tables.program().is_some() {
            self.place(packet, pcr, now, out);
        }
    }

    fn read_tables(&mut self, packet: Packet<'_>) {
        if self.tables.take(packet)
            && let Some(program) = self.tables.program()
        {
            self.finder.set_program(program);
            self.pcr_pid = Some(program.pcr);
        }
    }

    fn place(&mut self, packet: Packet<'_>, pcr: Option<Pcr>, now: Duration, out: &mut Vec<Chunk>) {
        let media = self.clock.media_time();
        match self.finder.mark(packet, Moment { media, arrival: now }) {
            Mark::Plain => {}
            Mark::Begins(kind) => self.begin(kind, packet, now, out),
            Mark::Candidate => self.hold(packet, now),
            Mark::Confirmed => self.confirm(now, out),
            Mark::Rejected => self.reject(),
        }
        self.count(packet);
        self.append(packet, pcr, now);
        self.seal_full(out);
    }

    fn begin(&mut self, kind: StartKind, packet: Packet<'_>, now: Duration, out: &mut Vec<Chunk>) {
        self.reject();
        self.seal_run(out);
        let point = self.start_point(kind, packet);
        self.flow(&point, now, out);
        self.run = Some(self.fresh_run(now, Some(point)));
    }

    fn hold(&mut self, packet: Packet<'_>, now: Duration) {
        self.reject();
        let point = self.start_point(StartKind::Intra, packet);
        self.held = Some(Held { run: self.fresh_run(now, None), point });
    }

    fn confirm(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        let Some(Held { mut run, point }) = self.held.take() else { return };
        self.seal_run(out);
        self.flow(&point, now, out);
        run.start = Some(point);
        self.run = Some(run);
    }

    /// What was held is nothing special. Before the first start point nobody wants it.
    fn reject(&mut self) {
        let Some(Held { run: held, .. }) = self.held.take() else { return };
        if !matches!(self.stage, Stage::Flowing { .. }) {
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
    fn flow(&mut self, point: &Arc<StartPoint>, now: Duration, out: &mut Vec<Chunk>) {
        match point.kind {
            StartKind::Unindexed => self.stats.makeshift_starts += 1,
            StartKind::RandomAccess | StartKind::Intra | StartKind::Audio => self.stats.start_points += 1,
        }
        if self.stage == Stage::Resuming {
            let Run { media, .. } = self.fresh_run(now, None);
            out.push(Chunk {
                seq: self.next_seq,
                bytes: point.skip_prelude(),
                start: None,
                media,
                pcr: None,
            });
            self.next_seq += 1;
        }
        if !matches!(self.stage, Stage::Flowing { .. }) {
            self.stage = Stage::Flowing { spliced: self.stage == Stage::Resuming };
        }
    }

    fn start_point(&self, kind: StartKind, packet: Packet<'_>) -> Arc<StartPoint> {
        let mut next = Vec::new();
        if let Some(program) = self.tables.program() {
            let clock = Some(program.pcr).filter(|pid| *pid != Pid::NULL && !program.carries(*pid));
            for pid in program.streams.iter().map(|stream| stream.pid).chain(clock) {
                let own = (pid == packet.pid()).then(|| packet.continuity());
                next.extend(own.or_else(|| self.counters.next(pid)).map(|counter| (pid, counter)));
            }
        }
        let before = Before { tables: self.tables.raw(), next: &next };
        Arc::new(StartPoint::new(kind, before.join(), before.skip()))
    }

    fn count(&mut self, packet: Packet<'_>) {
        match self.counters.take(packet) {
            Follows::Well => {}
            Follows::Badly => self.stats.continuity_errors += 1,
            Follows::First => self.announce_first(packet),
        }
    }

    /// A stream that had not shown itself before the splice could not be announced there.
    fn announce_first(&mut self, packet: Packet<'_>) {
        let carried = self.tables.program().is_some_and(|program| program.carries(packet.pid()));
        let starts = self.buffer.is_empty() && self.run.as_ref().is_some_and(|run| run.start.is_some());
        if carried && !starts && self.stage == (Stage::Flowing { spliced: true }) {
            self.append_bytes(&discontinuity(packet.pid(), packet.continuity()), None, Duration::ZERO);
        }
    }

    fn append(&mut self, packet: Packet<'_>, pcr: Option<Pcr>, now: Duration) {
        let wanted = matches!(self.stage, Stage::Flowing { .. }) || self.held.is_some();
        if wanted {
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

    fn seal_full(&mut self, out: &mut Vec<Chunk>) {
        let most = (self.limits.max_bytes / PACKET_LEN).max(1) * PACKET_LEN;
        while self.buffer.len() >= most {
            self.seal(out);
        }
    }

    fn seal_at(&self) -> Option<Duration> {
        let oldest = self.run.as_ref().or(self.held.as_ref().map(|held| &held.run))?;
        Some(oldest.since + self.limits.max_hold)
    }

    /// What is held and still not clear after the longest hold is not waited for any longer.
    fn seal(&mut self, out: &mut Vec<Chunk>) {
        if self.run.is_none() {
            self.reject();
        }
        self.seal_run(out);
    }

    fn seal_run(&mut self, out: &mut Vec<Chunk>) {
        let Some(run) = self.run.take().filter(|run| run.len > 0) else { return };
        let bytes = self.buffer.split_to(run.len).freeze();
        out.push(Chunk { seq: self.next_seq, bytes, start: run.start, media: run.media, pcr: run.pcr });
        self.next_seq += 1;
    }
}
