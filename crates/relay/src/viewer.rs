//! One HTTP client of a session: the right to watch, and what is known of it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use crate::admission::{AddressGroup, Seat};
use crate::event::Event;
use crate::line::Line;
use crate::relay::{Inner, StreamKey};
use crate::ring::{Cursor, Read};
use crate::session::{EndReason, Shared};

/// Names one viewer for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewerId(pub(crate) u64);

impl ViewerId {
    /// As a number, for pages.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ViewerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Who asks to watch.
#[derive(Clone, Debug)]
pub struct ViewerInfo {
    /// The client's address, behind trusted proxies the forwarded one.
    pub address: IpAddr,
    /// What it calls itself; for display only.
    pub user_agent: String,
    /// How it named the channel, lower case; the first viewer's form is shown as the session's `ace_id`.
    pub label: String,
    /// How its connection is reached, from its request on.
    pub line: Line,
}

/// Why a viewer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// The client closed the connection or vanished.
    Left,
    /// It was paused for longer than `VIEWER_STALL_TIMEOUT`, took next to nothing, or its peer answered nothing any more.
    Stalled,
    /// The stream ended.
    StreamOver,
    /// An operator threw it out.
    Kicked,
    /// It was paused, and somebody else needed its place.
    GaveWay,
}

impl LeaveReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Left, Self::Stalled, Self::StreamOver, Self::Kicked, Self::GaveWay];

    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Stalled => "stalled",
            Self::StreamOver => "stream_over",
            Self::Kicked => "kicked",
            Self::GaveWay => "gave_way",
        }
    }
}

/// One viewer at one moment.
#[derive(Clone, Debug)]
pub struct ViewerSnapshot {
    /// The viewer.
    pub id: ViewerId,
    /// Its address.
    pub address: IpAddr,
    /// What it calls itself.
    pub user_agent: String,
    /// When it asked.
    pub since: Timestamp,
    /// False while it waits for the start.
    pub playing: bool,
    /// Bytes handed to its connection.
    pub bytes: u64,
    /// How often it fell out of the ring.
    pub skips: u64,
    /// Bytes of the stream it did not get because of that.
    pub skipped_bytes: u64,
    /// Chunks that it has not been given yet.
    pub lag_chunks: u64,
    /// Media time of the chunk that it was given last; `None` before that, and of who fetches pieces.
    pub reached: Option<Duration>,
    /// Milliseconds from its request to its first byte.
    pub first_byte_ms: Option<u64>,
}

/// What is known of one viewer; written on the data path, so only counters.
pub(crate) struct Record {
    id: ViewerId,
    address: IpAddr,
    user_agent: String,
    since: Timestamp,
    asked: Instant,
    playing: AtomicBool,
    bytes: AtomicU64,
    skips: AtomicU64,
    skipped_bytes: AtomicU64,
    next_chunk: AtomicU64,
    /// Media time of the chunk before that, in milliseconds.
    reached_ms: AtomicU64,
    first_byte_ms: AtomicU64,
    leaving: AtomicU8,
    /// Its connection, while it has one of its own.
    line: Mutex<Option<Line>>,
    /// Its place in the limits.
    seat: Weak<Seat>,
}

/// Not a time: no chunk yet.
const NOT_YET: u64 = u64::MAX;
/// Not a time: no first byte yet.
const NO_FIRST_BYTE: u64 = u64::MAX;

/// The viewers of one session.
pub(crate) struct Viewers {
    records: Mutex<BTreeMap<ViewerId, Arc<Record>>>,
    /// Bytes that those who have left had got.
    gone: AtomicU64,
    /// Times one of them fell behind and skipped.
    skips: AtomicU64,
    count: watch::Sender<usize>,
    /// When a viewer last left, and whose it was.
    last: Mutex<Option<(Instant, AddressGroup)>>,
}

impl Default for Viewers {
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            gone: AtomicU64::new(0),
            skips: AtomicU64::new(0),
            count: watch::Sender::new(0),
            last: Mutex::default(),
        }
    }
}

impl Viewers {
    pub(crate) fn count(&self) -> usize {
        self.records.lock().len()
    }

    pub(crate) fn count_changes(&self) -> watch::Receiver<usize> {
        let mut changes = self.count.subscribe();
        changes.mark_changed();
        changes
    }

    /// Bytes handed to viewers' connections since the session began.
    pub(crate) fn bytes(&self) -> u64 {
        let records = self.records.lock();
        let present = records.values().map(|record| record.bytes.load(Ordering::Relaxed));
        self.gone.load(Ordering::Relaxed) + present.sum::<u64>()
    }

    /// Times a viewer fell behind and skipped, since the session began.
    pub(crate) fn skips(&self) -> u64 {
        self.skips.load(Ordering::Relaxed)
    }

    /// `next` is the chunk that will be written next.
    pub(crate) fn snapshot(&self, next: u64) -> Vec<ViewerSnapshot> {
        self.records.lock().values().map(|record| record.snapshot(next)).collect()
    }

    pub(crate) fn find(&self, id: ViewerId, next: u64) -> Option<ViewerSnapshot> {
        self.records.lock().get(&id).map(|record| record.snapshot(next))
    }

    /// Whether anybody has got something already.
    pub(crate) fn somebody_plays(&self) -> bool {
        self.records.lock().values().any(|record| record.playing.load(Ordering::Relaxed))
    }

    /// The groups of some of them, at most so many.
    pub(crate) fn groups(&self, most: usize) -> Vec<AddressGroup> {
        let mut groups = Vec::new();
        for record in self.records.lock().values() {
            let group = AddressGroup::from(record.address);
            if !groups.contains(&group) {
                groups.push(group);
            }
            if groups.len() == most {
                break;
            }
        }
        groups
    }

    /// The one that has been paused longest, of those of one client if that is asked for, and since when.
    fn longest_paused(&self, client: Option<AddressGroup>) -> Option<(Instant, Arc<Record>)> {
        let records = self.records.lock();
        let asked = records
            .values()
            .filter(|record| client.is_none_or(|client| AddressGroup::from(record.address) == client));
        let paused = asked.filter_map(|record| Some((record.paused_since()?, Arc::clone(record))));
        paused.min_by_key(|(since, _)| *since)
    }

    /// Since when all of them have been paused: whoever paused last counts. `None` when somebody watches, or nobody does.
    pub(crate) fn all_paused_since(&self) -> Option<Instant> {
        let records = self.records.lock();
        let paused: Option<Vec<Instant>> = records.values().map(|record| record.paused_since()).collect();
        paused?.into_iter().max()
    }

    /// Since when there is nobody, and who was the last.
    pub(crate) fn idle(&self) -> Option<(Instant, AddressGroup)> {
        let records = self.records.lock();
        let last = *self.last.lock();
        last.filter(|_| records.is_empty())
    }

    fn enter(&self, record: Arc<Record>) {
        let mut records = self.records.lock();
        records.insert(record.id, record);
        self.count.send_replace(records.len());
    }

    /// Takes note that one is to go and cuts its connection. False when it is not here. It cannot leave meanwhile, so the
    /// connection is not somebody else's yet.
    fn kick(&self, id: ViewerId) -> bool {
        let line = {
            let records = self.records.lock();
            let Some(record) = records.get(&id) else { return false };
            record.order_out(LeaveReason::Kicked)
        };
        if let Some(line) = line {
            line.wake();
        }
        true
    }

    /// True when it was the last.
    fn leave(&self, id: ViewerId) -> bool {
        let mut records = self.records.lock();
        let left = records.remove(&id);
        if let Some(record) = &left {
            self.gone.fetch_add(record.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
            *self.last.lock() = Some((Instant::now(), record.address.into()));
        }
        self.count.send_replace(records.len());
        left.is_some() && records.is_empty()
    }
}

impl Inner {
    /// Has the one that has been paused longest give way, of this client if one is given. False when nobody is paused.
    pub(crate) fn paused_gives_way(&self, client: Option<AddressGroup>) -> bool {
        let sessions = self.distinct();
        let paused = sessions.iter().filter_map(|shared| shared.viewers.longest_paused(client));
        let longest = paused.min_by_key(|(since, _)| *since);
        if let Some((_, record)) = &longest {
            record.gives_way();
        }
        longest.is_some()
    }
}

impl Shared {
    /// Throws a viewer out. False when it is not here.
    pub(crate) fn kick(&self, id: ViewerId) -> bool {
        let is_here = self.viewers.kick(id);
        let packager = self.hls.lock().upgrade();
        if let Some(packager) = packager.filter(|_| is_here) {
            packager.expel_kicked();
        }
        is_here
    }
}

impl Record {
    fn new(id: ViewerId, info: ViewerInfo, seat: &Arc<Seat>) -> Arc<Self> {
        let ViewerInfo { address, user_agent, line, label: _ } = info;
        Arc::new(Self {
            id,
            address,
            user_agent,
            since: Timestamp::now(),
            asked: Instant::now(),
            playing: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            skips: AtomicU64::new(0),
            skipped_bytes: AtomicU64::new(0),
            next_chunk: AtomicU64::new(0),
            reached_ms: AtomicU64::new(NOT_YET),
            first_byte_ms: AtomicU64::new(NO_FIRST_BYTE),
            leaving: AtomicU8::new(LeaveReason::Left as u8),
            line: Mutex::new(Some(line)),
            seat: Arc::downgrade(seat),
        })
    }

    /// Since when its player is paused. One that fetches pieces gives its seat up by itself.
    fn paused_since(&self) -> Option<Instant> {
        self.line.lock().as_ref().and_then(Line::paused_since)
    }

    /// It is paused, and somebody else needs its place, which is free at once.
    fn gives_way(&self) {
        if let Some(seat) = self.seat.upgrade() {
            seat.vacate();
        }
        let line = self.line.lock().clone();
        if let Some(line) = line {
            line.give_way();
        }
    }

    /// What its connection carries from now on is a file, or is none any more.
    pub(crate) fn reads_file(&self, is_file: bool) {
        if let Some(line) = &*self.line.lock() {
            line.carries_file(is_file);
        }
    }

    /// It is about to go for this reason.
    fn leaves(&self, reason: LeaveReason) {
        self.leaving.store(reason as u8, Ordering::Relaxed);
    }

    /// It is to go for this reason. Its connection, if there is one, ends when its line is woken.
    pub(crate) fn order_out(&self, reason: LeaveReason) -> Option<Line> {
        self.leaves(reason);
        let line = self.line.lock().clone()?;
        line.mark();
        Some(line)
    }

    /// It is to go because an operator said so.
    pub(crate) fn is_kicked(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) == LeaveReason::Kicked as u8
    }

    fn snapshot(&self, next: u64) -> ViewerSnapshot {
        let first_byte = self.first_byte_ms.load(Ordering::Relaxed);
        let began = first_byte != NO_FIRST_BYTE;
        ViewerSnapshot {
            id: self.id,
            address: self.address,
            user_agent: self.user_agent.clone(),
            since: self.since,
            playing: self.playing.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            skips: self.skips.load(Ordering::Relaxed),
            skipped_bytes: self.skipped_bytes.load(Ordering::Relaxed),
            lag_chunks: if began { next.saturating_sub(self.next_chunk.load(Ordering::Relaxed)) } else { 0 },
            reached: Some(self.reached_ms.load(Ordering::Relaxed))
                .filter(|reached| *reached != NOT_YET)
                .map(Duration::from_millis),
            first_byte_ms: began.then_some(first_byte),
        }
    }

    fn sent(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before == 0 {
            let took = u64::try_from(self.asked.elapsed().as_millis()).unwrap_or(NO_FIRST_BYTE - 1);
            self.first_byte_ms.store(took, Ordering::Relaxed);
        }
    }

    fn leave_reason(&self) -> LeaveReason {
        if let Some(line) = &*self.line.lock() {
            if line.is_stalled() {
                return LeaveReason::Stalled;
            }
            if line.gave_way() {
                return LeaveReason::GaveWay;
            }
        }
        let reason = self.leaving.load(Ordering::Relaxed);
        LeaveReason::ALL.into_iter().find(|known| *known as u8 == reason).unwrap_or(LeaveReason::Left)
    }
}

/// Bytes handed to viewers' connections since the process began. They are counted with each viewer, so that no delivery
/// touches what others touch, and added up when somebody asks.
#[derive(Default)]
pub(crate) struct Delivered(Mutex<Counting>);

#[derive(Default)]
struct Counting {
    present: Slab<Arc<Record>>,
    /// Of those who have left.
    gone: u64,
}

impl Delivered {
    fn enter(&self, record: Arc<Record>) -> usize {
        self.0.lock().present.insert(record)
    }

    fn leave(&self, place: usize) {
        let mut counting = self.0.lock();
        if let Some(record) = counting.present.try_remove(place) {
            counting.gone += record.bytes.load(Ordering::Relaxed);
        }
    }

    /// It never falls: who leaves is added under the same lock.
    pub(crate) fn sum(&self) -> u64 {
        let counting = self.0.lock();
        let present = counting.present.iter().map(|(_, record)| record.bytes.load(Ordering::Relaxed));
        counting.gone + present.sum::<u64>()
    }
}

/// A place among a session's viewers, waiting or watching. Dropping it leaves.
pub(crate) struct ViewerGuard {
    relay: Arc<Inner>,
    shared: Arc<Shared>,
    record: Arc<Record>,
    /// Where its bytes are counted.
    counted: usize,
    /// Held for its drop: the place in the limits.
    _seat: Arc<Seat>,
}

impl ViewerGuard {
    /// Must be called while the relay's table is locked, so that the session cannot retire in between.
    pub(crate) fn enter(
        relay: Arc<Inner>,
        shared: Arc<Shared>,
        seat: Arc<Seat>,
        id: ViewerId,
        info: ViewerInfo,
    ) -> Self {
        let record = Record::new(id, info, &seat);
        shared.viewers.enter(Arc::clone(&record));
        shared.progressed();
        let counted = relay.totals.delivered.enter(Arc::clone(&record));
        Self { relay, shared, record, counted, _seat: seat }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What is known of the viewer. It holds nothing but figures and its line.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record)
    }

    /// Its address.
    pub(crate) fn address(&self) -> IpAddr {
        self.record.address
    }

    /// The viewer is about to go for this reason.
    pub(crate) fn leaves(&self, reason: LeaveReason) {
        self.record.leaves(reason);
    }

    /// An operator throws it out.
    pub(crate) fn is_kicked(&self) -> bool {
        self.record.is_kicked()
    }

    /// The viewer stays when the connection ends that it came by, which others may use from now on.
    pub(crate) fn outlives_its_connection(&self) {
        let _dropped_after_unlocking = self.record.line.lock().take();
    }

    /// So many bytes went to the viewer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.record.sent(bytes);
    }
}

impl Drop for ViewerGuard {
    fn drop(&mut self) {
        self.relay.totals.delivered.leave(self.counted);
        if self.shared.viewers.leave(self.record.id) {
            self.relay.origin.unwatched();
        }
        if self.record.playing.load(Ordering::Relaxed) {
            self.relay.observe(&Event::ViewerLeft {
                key: &self.shared.key(),
                viewer: self.record.id,
                reason: self.record.leave_reason(),
                bytes: self.record.bytes.load(Ordering::Relaxed),
                lasted: self.record.asked.elapsed(),
            });
        }
    }
}

/// A viewer with its place in the ring.
pub struct Viewer {
    guard: ViewerGuard,
    cursor: Cursor,
    prelude: Option<Bytes>,
    /// When it is not waited any longer for a place to go on, while there is none.
    until: Option<Pin<Box<Sleep>>>,
}

impl Viewer {
    pub(crate) fn new(guard: ViewerGuard, prelude: Bytes, cursor: Cursor) -> Self {
        guard.record.playing.store(true, Ordering::Relaxed);
        guard.relay.observe(&Event::ViewerJoined {
            key: &guard.shared.key(),
            viewer: guard.record.id,
            waited: guard.record.asked.elapsed(),
        });
        Self { guard, cursor, prelude: Some(prelude), until: None }
    }

    /// The viewer.
    pub fn id(&self) -> ViewerId {
        self.guard.record.id
    }

    /// The channel it watches.
    pub fn key(&self) -> StreamKey {
        self.guard.shared.key()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.guard.shared
    }

    /// Its place among the viewers alone, for one that reads the ring in another way.
    pub(crate) fn into_guard(self) -> ViewerGuard {
        self.guard
    }

    /// The next bytes for this viewer, or the end of the stream.
    pub fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, EndReason>> {
        if let Some(prelude) = self.prelude.take().filter(|prelude| !prelude.is_empty()) {
            return Poll::Ready(Ok(self.hand_over(prelude)));
        }
        let read = self.cursor.poll_next(context);
        if read.is_pending() && !self.cursor.has_start() {
            return self.poll_patience(context).map(|()| Err(self.ends(EndReason::Unjoinable)));
        }
        self.until = None;
        read.map(|read| match read {
            Read::Chunk(chunk) => {
                self.guard.record.next_chunk.store(chunk.seq + 1, Ordering::Relaxed);
                let reached = u64::try_from(chunk.media.as_millis()).unwrap_or(NOT_YET);
                self.guard.record.reached_ms.store(reached, Ordering::Relaxed);
                Ok(self.hand_over(chunk.bytes))
            }
            Read::Lagged { skipped, prelude } => Ok(self.skipped(skipped, prelude)),
            Read::End(reason) => Err(self.ends(reason)),
        })
    }

    /// It has lagged out of a ring that holds no place to go on. What a start may take, that may take.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = self.guard.relay.config().timings.start_budget;
        self.until.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(context)
    }

    fn ends(&self, reason: EndReason) -> EndReason {
        self.guard.leaves(LeaveReason::StreamOver);
        reason
    }

    fn hand_over(&self, bytes: Bytes) -> Bytes {
        self.guard.sent(bytes.len());
        bytes
    }

    fn skipped(&self, bytes: u64, prelude: Bytes) -> Bytes {
        let record = &self.guard.record;
        record.skips.fetch_add(1, Ordering::Relaxed);
        self.shared().viewers.skips.fetch_add(1, Ordering::Relaxed);
        record.skipped_bytes.fetch_add(bytes, Ordering::Relaxed);
        let key = &self.guard.shared.key();
        self.guard.relay.observe(&Event::ViewerSkipped { key, viewer: record.id, bytes });
        self.hand_over(prelude)
    }
}
