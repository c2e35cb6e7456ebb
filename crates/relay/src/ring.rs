//! Bounded recent history of one stream: one writer, any number of readers.
//!
//! The writer ([`Producer`]) never waits. A reader ([`Cursor`]) that falls out of the history resumes at the newest
//! start point and is told so. The lock is held for a few instructions per chunk and never while anything is woken.
//! A mutex was measured against a lock-free ring at 1,000 readers: 0.7 µs per delivery, less than a tenth of the
//! `send` that follows, so exact lag and history decide the structure, not speed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use acemux_media::chunk::{Chunk, StartPoint};
use bytes::Bytes;
use slab::Slab;
use tokio::time::Instant;

use crate::rounds::Delivery;
use crate::session::EndReason;
use crate::turns::Part;
use sync::Mutex;

/// How much a ring keeps.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// Media seconds of history (`STREAM_BUFFER_SECONDS`).
    pub media: Duration,
    /// Bytes of history; the owner lowers it when memory is short.
    pub bytes: usize,
}

/// What a reader finds next.
#[derive(Debug)]
pub enum Read {
    /// The next run of whole packets.
    Chunk(Chunk),
    /// The reader was overtaken. It resumes at a start point; `prelude` must be sent before the next chunk.
    Lagged {
        /// Bytes of the stream this reader did not get.
        skipped: u64,
        /// PAT, PMT and the discontinuity flags.
        prelude: Bytes,
    },
    /// The stream is over and everything was read.
    End(EndReason),
}

/// The shared side: joins readers and tells what is inside.
#[derive(Clone)]
pub struct Ring {
    state: Arc<Mutex<State>>,
}

/// The writing side. There is one, by type.
pub struct Producer {
    state: Arc<Mutex<State>>,
    woken: Vec<Waker>,
    turns: Option<Part>,
}

/// One reader's place in the ring.
pub struct Cursor {
    state: Arc<Mutex<State>>,
    place: Place,
    slot: usize,
}

/// What a ring holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingLevel {
    /// Bytes held.
    pub bytes: usize,
    /// Media time held.
    pub media: Duration,
    /// Start points held.
    pub starts: usize,
    /// Sequence number of the next chunk to be written.
    pub next: u64,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// The next chunk to read, and the stream bytes before it.
    At { seq: u64, offset: u64 },
    /// Overtaken while the ring held no start point: the next one written is the place to resume.
    NextStart { from: u64 },
}

struct State {
    limits: RingLimits,
    chunks: VecDeque<Chunk>,
    /// Stream bytes before the first chunk held.
    base: u64,
    /// Sequence number of the next chunk to be written.
    next: u64,
    bytes: usize,
    starts: VecDeque<Start>,
    waiting: Slab<Option<Waiting>>,
    /// Of the readers that the last push has woken, one whose turn comes late, until it has come.
    last_in_line: Option<(usize, Instant)>,
    /// How long that took, and how many chunks readers have taken since the last push.
    delivery: Delivery,
    ended: Option<EndReason>,
}

/// A reader that waits.
struct Waiting {
    waker: Waker,
    wants: Wanted,
}

/// What a reader waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Chunk,
    /// A place to begin. A chunk without one is nothing to be woken for.
    Start,
}

/// Where a reader may begin.
#[derive(Clone)]
struct Start {
    seq: u64,
    offset: u64,
    media: Duration,
    point: Arc<StartPoint>,
}

impl Ring {
    /// An empty ring within `limits`.
    pub fn new(limits: RingLimits) -> (Producer, Self) {
        let state = Arc::new(Mutex::new(State::new(limits)));
        (Producer { state: Arc::clone(&state), woken: Vec::new(), turns: None }, Self { state })
    }

    /// A reader at the newest start point at least `back` behind live, or the oldest there is.
    ///
    /// The bytes are PAT and PMT, to be sent first. A join is never in the older half of the ring, so that a reader as
    /// fast as the stream is not overtaken before it has begun. A ring shorter than the distance of two key frames may
    /// hold no start point for a while: then the reader begins, flagged, at the next one written, and
    /// [`Cursor::start`] waits for it.
    pub fn join(&self, back: Duration) -> (Bytes, Cursor) {
        let mut state = self.state.lock();
        let slot = state.waiting.insert(None);
        let (prelude, place) = match state.join_point(back) {
            Some(start) => (start.point.join_prelude(), Place::At { seq: start.seq, offset: start.offset }),
            None => (Bytes::new(), Place::NextStart { from: state.head() }),
        };
        (prelude, Cursor { state: Arc::clone(&self.state), place, slot })
    }

    /// A reader at the oldest start point, for one that keeps up with whatever comes because it waits for nobody.
    pub fn reread(&self) -> Cursor {
        let mut state = self.state.lock();
        let slot = state.waiting.insert(None);
        let place = match state.starts.front() {
            Some(start) => Place::At { seq: start.seq, offset: start.offset },
            None => Place::NextStart { from: state.head() },
        };
        Cursor { state: Arc::clone(&self.state), place, slot }
    }

    /// Whether a reader can begin now.
    pub fn has_start(&self) -> bool {
        !self.state.lock().starts.is_empty()
    }

    /// Bytes of history at most.
    pub fn most_bytes(&self) -> usize {
        self.state.lock().limits.bytes
    }

    /// Lets go of the oldest history above `bytes` and keeps to it from now on.
    pub fn set_most_bytes(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.limits.bytes = bytes;
        state.trim();
    }

    /// Everything that is held, the oldest first.
    pub fn held(&self) -> Vec<Chunk> {
        self.state.lock().chunks.iter().cloned().collect()
    }

    /// What is inside now.
    pub fn level(&self) -> RingLevel {
        let state = self.state.lock();
        let media = state.media_held();
        RingLevel { bytes: state.bytes, media, starts: state.starts.len(), next: state.next }
    }
}

impl Producer {
    /// The same, whose readers are woken in turns with those of other rings.
    pub(crate) fn in_turns(self, part: Part) -> Self {
        let mut producer = self;
        producer.turns = Some(part);
        producer
    }

    /// Appends a chunk and wakes the readers that wait for it. Tells what they have done since the last one.
    pub fn push(&mut self, chunk: Chunk) -> Delivery {
        self.change(|state| state.append(chunk))
    }

    /// Ends the stream: readers get what is left, then `reason`.
    pub fn finish(mut self, reason: EndReason) {
        self.end(reason);
    }

    fn end(&mut self, reason: EndReason) {
        self.change(|state| {
            state.ended.get_or_insert(reason);
        });
    }

    /// Wakes outside the lock: a woken reader takes it at once.
    fn change(&mut self, write: impl FnOnce(&mut State)) -> Delivery {
        let delivery = {
            let mut state = self.state.lock();
            write(&mut state);
            state.call(&mut self.woken);
            std::mem::take(&mut state.delivery)
        };
        match &self.turns {
            Some(turns) => turns.call(&mut self.woken),
            None => self.woken.drain(..).for_each(Waker::wake),
        }
        delivery
    }
}

impl Drop for Producer {
    /// A writer that vanishes without a word (its task panicked) must not leave readers waiting for ever.
    fn drop(&mut self) {
        self.end(EndReason::Lost);
    }
}

impl Cursor {
    /// The next chunk, or where reading goes on, or the end.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Read> {
        let Self { state, place, slot } = self;
        let mut state = state.lock();
        state.served(*slot);
        let read = state.read(place);
        match &read {
            Poll::Pending => state.wait(*slot, context.waker(), Wanted::Chunk),
            Poll::Ready(Read::Chunk(_)) => state.delivery.reads += 1,
            Poll::Ready(_) => {}
        }
        read
    }

    /// Whether it has something to begin with, or has begun.
    pub fn has_start(&self) -> bool {
        matches!(self.place, Place::At { .. })
    }

    /// Returns when there is something to begin with, or nothing will come any more.
    pub async fn start(&self) {
        poll_fn(|context| self.poll_start(context)).await;
    }

    fn poll_start(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.starts.is_empty() || state.ended.is_some() {
            return Poll::Ready(());
        }
        state.wait(self.slot, context.waker(), Wanted::Start);
        Poll::Pending
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.waiting.try_remove(self.slot);
        // Who gets the slot next was not woken.
        state.last_in_line.take_if(|(slot, _)| *slot == self.slot);
    }
}

impl State {
    fn new(limits: RingLimits) -> Self {
        Self {
            limits,
            chunks: VecDeque::new(),
            base: 0,
            next: 0,
            bytes: 0,
            starts: VecDeque::new(),
            waiting: Slab::new(),
            last_in_line: None,
            delivery: Delivery::default(),
            ended: None,
        }
    }

    /// Sequence number of the oldest chunk held.
    fn first(&self) -> u64 {
        self.next - self.chunks.len() as u64
    }

    fn chunk(&self, seq: u64) -> Option<&Chunk> {
        let index = usize::try_from(seq.checked_sub(self.first())?).ok()?;
        self.chunks.get(index)
    }

    /// What a reader there finds, and where it goes on.
    fn read(&self, place: &mut Place) -> Poll<Read> {
        match *place {
            Place::At { seq, offset } if seq >= self.first() => self.read_on(place, seq, offset),
            Place::At { offset, .. } => self.skip(place, offset),
            Place::NextStart { from } => self.skip(place, from),
        }
    }

    fn read_on(&self, place: &mut Place, seq: u64, offset: u64) -> Poll<Read> {
        let Some(chunk) = self.chunk(seq) else { return self.end() };
        *place = Place::At { seq: seq + 1, offset: offset + chunk.bytes.len() as u64 };
        Poll::Ready(Read::Chunk(chunk.clone()))
    }

    fn skip(&self, place: &mut Place, from: u64) -> Poll<Read> {
        let Some(start) = self.starts.back() else {
            *place = Place::NextStart { from };
            return self.end();
        };
        *place = Place::At { seq: start.seq, offset: start.offset };
        let skipped = start.offset.saturating_sub(from);
        Poll::Ready(Read::Lagged { skipped, prelude: start.point.skip_prelude() })
    }

    /// Takes the wakers of those who have got what they wait for.
    fn call(&mut self, woken: &mut Vec<Waker>) {
        let has_start = !self.starts.is_empty() || self.ended.is_some();
        let (mut last, mut last_but_one) = (None, None);
        for (slot, place) in &mut self.waiting {
            let is_called = |waiting: &mut Waiting| waiting.wants == Wanted::Chunk || has_start;
            if let Some(Waiting { waker, wants }) = place.take_if(is_called) {
                woken.push(waker);
                if wants == Wanted::Chunk {
                    last_but_one = last.replace(slot);
                }
            }
        }
        // The runtime runs the task first that was woken last, before all that are in its queue.
        if let Some(slot) = last_but_one.or(last) {
            self.last_in_line = Some((slot, Instant::now()));
        }
    }

    /// It is this reader's turn.
    fn served(&mut self, slot: usize) {
        if let Some((_, since)) = self.last_in_line.take_if(|(last, _)| *last == slot) {
            self.delivery.served_after = Some(since.elapsed());
        }
    }

    fn end(&self) -> Poll<Read> {
        match &self.ended {
            Some(reason) => Poll::Ready(Read::End(reason.clone())),
            None => Poll::Pending,
        }
    }

    fn wait(&mut self, slot: usize, waker: &Waker, wants: Wanted) {
        if let Some(place) = self.waiting.get_mut(slot) {
            match place {
                Some(known) => {
                    known.waker.clone_from(waker);
                    known.wants = wants;
                }
                None => *place = Some(Waiting { waker: waker.clone(), wants }),
            }
        }
    }

    fn append(&mut self, mut chunk: Chunk) {
        chunk.seq = self.next;
        if let Some(point) = &chunk.start {
            let point = Arc::clone(point);
            self.starts.push_back(Start { seq: chunk.seq, offset: self.head(), media: chunk.media, point });
        }
        self.next += 1;
        self.bytes += chunk.bytes.len();
        self.chunks.push_back(chunk);
        self.trim();
    }

    /// Stream bytes written so far.
    fn head(&self) -> u64 {
        self.base + self.bytes as u64
    }

    /// The newest chunk always stays: a ring that holds nothing could not be joined.
    fn trim(&mut self) {
        while self.chunks.len() > 1
            && (self.bytes > self.limits.bytes || self.media_held() > self.limits.media)
        {
            if let Some(oldest) = self.chunks.pop_front() {
                self.bytes -= oldest.bytes.len();
                self.base += oldest.bytes.len() as u64;
            }
        }
        let first = self.first();
        while self.starts.front().is_some_and(|start| start.seq < first) {
            self.starts.pop_front();
        }
    }

    fn media_held(&self) -> Duration {
        match (self.chunks.front(), self.chunks.back()) {
            (Some(oldest), Some(newest)) => newest.media.saturating_sub(oldest.media),
            _ => Duration::ZERO,
        }
    }

    fn join_point(&self, back: Duration) -> Option<&Start> {
        let live = self.chunks.back()?.media;
        let safe = |start: &&Start| {
            live.saturating_sub(start.media) <= self.limits.media / 2
                && self.head() - start.offset <= self.limits.bytes as u64 / 2
        };
        let far_enough = |start: &&Start| live.saturating_sub(start.media) >= back;
        let newest_first = || self.starts.iter().rev().take_while(safe);
        newest_first().find(far_enough).or_else(|| newest_first().last()).or_else(|| self.starts.back())
    }
}

/// The lock, or loom's model of it.
mod sync {
    #[cfg(ring_model)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    #[cfg(ring_model)]
    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }
        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no reader panics while it holds the ring")
        }
    }

    #[cfg(not(ring_model))]
    pub(super) use parking_lot::Mutex;
}

#[cfg(all(test, not(ring_model)))]
mod tests {
    use std::task::Waker;

    use acemux_media::starts::StartKind;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: RingLimits = RingLimits { media: Duration::from_secs(30), bytes: 10_000 };

    /// A chunk of `bytes` at `media` seconds; with `start` a reader may begin there.
    fn chunk(bytes: usize, media: u64, start: bool) -> Chunk {
        let name = |what: &str| Bytes::from(format!("{what} {media}"));
        let point = StartPoint::new(StartKind::RandomAccess, name("join"), name("skip"));
        Chunk {
            start: start.then(|| Arc::new(point)),
            ..Chunk::plain(Bytes::from(vec![0; bytes]), Duration::from_secs(media))
        }
    }

    fn read(cursor: &mut Cursor) -> Poll<Read> {
        cursor.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    /// Media times of the chunks that can be read now.
    fn drain(cursor: &mut Cursor) -> Vec<u64> {
        std::iter::from_fn(|| match read(cursor) {
            Poll::Ready(Read::Chunk(chunk)) => Some(chunk.media.as_secs()),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn a_join_starts_at_the_newest_start_point_far_enough_behind_live() {
        let (mut producer, ring) = Ring::new(LIMITS);
        for second in 0..=20 {
            producer.push(chunk(10, second, second % 2 == 0));
        }
        let (prelude, mut cursor) = ring.join(Duration::from_secs(5));
        assert_eq!(prelude, "join 14");
        assert_eq!(drain(&mut cursor), [14, 15, 16, 17, 18, 19, 20]);
    }

    #[test]
    fn a_young_stream_is_joined_at_its_oldest_start_point() {
        let (mut producer, ring) = Ring::new(LIMITS);
        producer.push(chunk(10, 0, true));
        producer.push(chunk(10, 2, true));
        assert_eq!(ring.join(Duration::from_secs(5)).0, "join 0");
    }

    #[test]
    fn a_join_is_never_in_the_older_half_of_the_ring() {
        let (mut producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(30), bytes: 1000 });
        for second in 0..20 {
            producer.push(chunk(100, second, true));
        }
        assert_eq!(ring.join(Duration::from_secs(9)).0, "join 15");
    }

    #[test]
    fn who_falls_out_resumes_at_the_newest_start_point_and_learns_what_was_lost() {
        let (mut producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(30), bytes: 500 });
        producer.push(chunk(100, 0, true));
        let (_, mut cursor) = ring.join(Duration::ZERO);
        assert_eq!(drain(&mut cursor), [0]);
        for second in 1..=10 {
            producer.push(chunk(100, second, second % 2 == 0));
        }
        let Poll::Ready(Read::Lagged { skipped, prelude }) = read(&mut cursor) else {
            panic!("it was overtaken")
        };
        assert_eq!((skipped, prelude), (900, Bytes::from("skip 10")));
        assert_eq!(drain(&mut cursor), [10]);
    }

    #[test]
    fn who_falls_out_of_a_ring_without_start_points_waits_for_the_next() {
        let (mut producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(30), bytes: 300 });
        producer.push(chunk(100, 0, true));
        let (_, mut cursor) = ring.join(Duration::ZERO);
        for second in 1..=5 {
            producer.push(chunk(100, second, false));
        }
        assert!(read(&mut cursor).is_pending());
        producer.push(chunk(100, 6, true));
        assert!(matches!(read(&mut cursor), Poll::Ready(Read::Lagged { skipped: 600, .. })));
        assert_eq!(drain(&mut cursor), [6]);
    }

    #[test]
    fn a_push_tells_what_readers_have_done_since_the_last_one() {
        let (mut producer, ring) = Ring::new(LIMITS);
        assert_eq!(producer.push(chunk(10, 0, true)), Delivery::default());
        let mut readers: Vec<_> = (0..3).map(|_| ring.join(Duration::ZERO).1).collect();
        for reader in &mut readers {
            drain(reader);
        }
        let first = producer.push(chunk(10, 1, false));
        assert_eq!((first.reads, first.served_after), (3, None), "nobody was woken for the first");
        // Two catch up only after the next one.
        drain(&mut readers[0]);
        assert_eq!(producer.push(chunk(10, 2, false)).reads, 1);
        for reader in &mut readers {
            drain(reader);
        }
        let last = producer.push(chunk(10, 3, false));
        assert_eq!(last.reads, 5, "who is behind counts for what it takes");
        assert!(last.served_after.is_some());
    }

    /// A waker that counts.
    #[derive(Default)]
    struct Calls(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_for_a_place_to_begin_is_woken_for_nothing_else() {
        let (mut producer, ring) = Ring::new(LIMITS);
        let calls = Arc::new(Calls::default());
        let waker = Waker::from(Arc::clone(&calls));
        let (_, cursor) = ring.join(Duration::ZERO);
        let mut start = std::pin::pin!(cursor.start());
        assert!(start.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        for second in 0..5 {
            producer.push(chunk(10, second, false));
        }
        assert_eq!(calls.0.load(std::sync::atomic::Ordering::Relaxed), 0);
        producer.push(chunk(10, 5, true));
        assert_eq!(calls.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(start.poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[test]
    fn readers_get_what_is_left_and_then_the_reason() {
        let (mut producer, ring) = Ring::new(LIMITS);
        producer.push(chunk(10, 0, true));
        let (_, mut cursor) = ring.join(Duration::ZERO);
        producer.finish(EndReason::UpstreamEnded);
        assert_eq!(drain(&mut cursor), [0]);
        assert!(matches!(read(&mut cursor), Poll::Ready(Read::End(EndReason::UpstreamEnded))));
    }

    #[test]
    fn a_writer_that_vanishes_ends_the_stream() {
        let (mut producer, ring) = Ring::new(LIMITS);
        producer.push(chunk(10, 0, true));
        let (_, mut cursor) = ring.join(Duration::ZERO);
        drop(producer);
        drain(&mut cursor);
        assert!(matches!(read(&mut cursor), Poll::Ready(Read::End(EndReason::Lost))));
    }

    #[test]
    fn history_is_bounded_in_seconds_and_shrinks_when_told() {
        let (mut producer, ring) = Ring::new(LIMITS);
        for second in 0..100 {
            producer.push(chunk(10, second, true));
        }
        assert_eq!(ring.level().media, LIMITS.media);
        ring.set_most_bytes(50);
        assert_eq!(ring.level().bytes, 50);
    }

    #[test]
    fn a_reader_that_left_is_forgotten() {
        let (producer, ring) = Ring::new(LIMITS);
        let readers: Vec<_> = (0..10).map(|_| ring.join(Duration::ZERO)).collect();
        assert_eq!(ring.state.lock().waiting.len(), 10);
        drop(readers);
        assert!(ring.state.lock().waiting.is_empty());
        drop(producer);
    }

    /// What may be done to a ring with one reader.
    #[derive(Clone, Debug)]
    enum Deed {
        Push { bytes: usize, start: bool },
        Read,
        Shrink { bytes: usize },
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            4 => (1..200_usize, any::<bool>()).prop_map(|(bytes, start)| Deed::Push { bytes, start }),
            3 => Just(Deed::Read),
            1 => (50..2000_usize).prop_map(|bytes| Deed::Shrink { bytes }),
        ]
    }

    proptest! {
        /// Every byte is either read or reported as skipped, in order, and after a skip comes a start point.
        #[test]
        fn nothing_is_lost_without_being_counted(deeds in prop::collection::vec(deed(), 1..200)) {
            let (mut producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(1000), bytes: 1000 });
            producer.push(chunk(100, 0, true));
            let (_, mut cursor) = ring.join(Duration::ZERO);
            let (mut written, mut read_bytes, mut skipped_bytes, mut pushed) = (100_u64, 0_u64, 0_u64, 0);
            let mut after_skip = false;
            for deed in deeds {
                match deed {
                    Deed::Push { bytes, start } => {
                        pushed += 1;
                        written += bytes as u64;
                        producer.push(chunk(bytes, pushed, start));
                    }
                    Deed::Shrink { bytes } => ring.set_most_bytes(bytes),
                    Deed::Read => match read(&mut cursor) {
                        Poll::Ready(Read::Chunk(chunk)) => {
                            prop_assert!(!after_skip || chunk.start.is_some());
                            after_skip = false;
                            read_bytes += chunk.bytes.len() as u64;
                        }
                        Poll::Ready(Read::Lagged { skipped, .. }) => {
                            skipped_bytes += skipped;
                            after_skip = true;
                        }
                        Poll::Ready(Read::End(_)) => prop_assert!(false, "it has not ended"),
                        Poll::Pending => prop_assert!(read_bytes + skipped_bytes <= written),
                    },
                }
                prop_assert!(read_bytes + skipped_bytes <= written);
                let level = ring.level();
                prop_assert!(level.bytes <= 2000 || level.next - ring.state.lock().first() == 1);
            }
        }
    }

    /// Real threads: a fast writer, readers that are overtaken, and no wake-up lost.
    #[test]
    fn readers_on_other_threads_reach_the_end() {
        let (mut producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(1000), bytes: 2000 });
        producer.push(chunk(10, 0, true));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (_, mut cursor) = ring.join(Duration::ZERO);
                scope.spawn(move || read_to_end(&mut cursor));
            }
            for second in 1..20_000 {
                producer.push(chunk(10, second, second % 5 == 0));
            }
            producer.finish(EndReason::Idle);
        });
    }

    /// Reads to the end on this thread, parked while there is nothing.
    fn read_to_end(cursor: &mut Cursor) {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            match cursor.poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(Read::End(_)) => return,
                Poll::Ready(_) => {}
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

/// Every interleaving of one writer and two readers, with a ring that overtakes them. Run with `--cfg ring_model`:
/// the name is our own, because tokio reads `loom` too.
#[cfg(all(test, ring_model))]
mod loom_tests {
    use acemux_media::starts::StartKind;
    use loom::future::block_on;

    use super::*;

    fn chunk(media: u64) -> Chunk {
        let point = StartPoint::new(StartKind::RandomAccess, Bytes::new(), Bytes::new());
        Chunk {
            start: Some(Arc::new(point)),
            ..Chunk::plain(Bytes::from_static(&[0; 10]), Duration::from_secs(media))
        }
    }

    /// Bytes read and skipped until the end.
    fn read_to_end(mut cursor: Cursor) -> u64 {
        let mut bytes = 0;
        loop {
            match block_on(poll_fn(|context| cursor.poll_next(context))) {
                Read::Chunk(chunk) => bytes += chunk.bytes.len() as u64,
                Read::Lagged { skipped, .. } => bytes += skipped,
                Read::End(_) => return bytes,
            }
        }
    }

    /// Two preemptions find nearly all races of this size; without a bound the model runs for hours.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(body);
    }

    #[test]
    fn loom_no_wake_up_and_no_byte_is_lost() {
        model(|| {
            let (mut producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(1000), bytes: 15 });
            producer.push(chunk(0));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let (_, cursor) = ring.join(Duration::ZERO);
                    loom::thread::spawn(move || read_to_end(cursor))
                })
                .collect();
            producer.push(chunk(1));
            producer.finish(EndReason::Idle);
            for reader in readers {
                assert_eq!(reader.join().expect("the reader ends"), 20);
            }
        });
    }

    #[test]
    fn loom_a_reader_may_leave_at_any_moment() {
        model(|| {
            let (mut producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(1000), bytes: 15 });
            producer.push(chunk(0));
            let (_, cursor) = ring.join(Duration::ZERO);
            let leaver = loom::thread::spawn(move || drop(cursor));
            producer.push(chunk(1));
            producer.finish(EndReason::Idle);
            leaver.join().expect("leaving does not fail");
        });
    }
}
