//! One direction of one connection: from a socket, through a bounded queue and the toxics, into the other socket.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Cut, How, Lane, Toxics};

/// Largest block that is read at once.
const BLOCK: usize = 4096;
/// Blocks on their way: with [`BLOCK`] 128 KiB a direction, enough for 20 Mbit/s at 50 ms.
const BLOCKS: usize = 32;
/// With limited bandwidth so much time's worth of bytes is written at once.
const GRAIN: u64 = 50;

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// This direction only.
    Direction,
    /// The connection is to be closed.
    Close,
    /// The connection is to be reset.
    Reset,
}

/// Bytes that were read, and when they are due.
struct Block {
    bytes: Vec<u8>,
    due: Instant,
}

/// What the reading side tells the writing one.
enum Read {
    Block(Block),
    Broken,
}

/// One direction of one connection.
pub(super) struct Pump<'a> {
    lane: &'a Lane,
    toxics: watch::Receiver<Toxics>,
    random: Random,
    /// Bytes passed on, repetitions not counted.
    position: u64,
    /// When bandwidth allows the next byte.
    next_at: Instant,
}

impl<'a> Pump<'a> {
    pub(super) fn new(lane: &'a Lane, seed: u64) -> Self {
        let toxics = lane.toxics.subscribe();
        Self { lane, toxics, random: Random(seed), position: 0, next_at: Instant::now() }
    }

    pub(super) async fn run(mut self, from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Over {
        let (blocks, queue) = mpsc::channel(BLOCKS);
        let reader = Reader { lane: self.lane, toxics: self.toxics.clone(), random: self.random.split() };
        tokio::select! {
            biased;
            over = ordered_off(self.toxics.clone()) => over,
            over = self.deliver(queue, &mut to) => over,
            never = reader.fill(from, blocks) => match never {},
        }
    }

    async fn deliver(&mut self, mut queue: mpsc::Receiver<Read>, to: &mut WriteHalf<'_>) -> Over {
        let mut block: Option<Block> = None;
        loop {
            let toxics = *self.toxics.borrow_and_update();
            if let Some(how) = self.reached(&toxics) {
                match how {
                    How::Close => return Over::Close,
                    How::Reset => return Over::Reset,
                    How::HalfClose => return end(to).await,
                    How::Silence => {
                        // The proxy's own end drops this future.
                        let _changed = self.toxics.changed().await;
                        continue;
                    }
                }
            }
            match block.take() {
                None => tokio::select! {
                    biased;
                    _ = self.toxics.changed() => {}
                    read = queue.recv() => match read {
                        Some(Read::Block(read)) => block = Some(read),
                        Some(Read::Broken) => return Over::Reset,
                        None => {
                            sleep(toxics.end_delay).await;
                            return end(to).await;
                        }
                    },
                },
                Some(due) if due.due > Instant::now() => {
                    tokio::select! {
                        _ = self.toxics.changed() => {}
                        () = sleep_until(due.due) => {}
                    }
                    block = Some(due);
                }
                Some(mut ready) => {
                    let Ok(taken) = self.send(&toxics, &ready.bytes, to).await else { return Over::Reset };
                    ready.bytes.drain(..taken);
                    block = Some(ready).filter(|rest| !rest.bytes.is_empty());
                }
            }
        }
    }

    /// How the direction ends, when it has come so far.
    fn reached(&self, toxics: &Toxics) -> Option<How> {
        toxics.cut.filter(|cut| cut.after <= self.position).map(|cut| cut.how)
    }

    /// Sends the first piece of `bytes`; returns its length.
    async fn send(
        &mut self,
        toxics: &Toxics,
        bytes: &[u8],
        to: &mut WriteHalf<'_>,
    ) -> std::io::Result<usize> {
        let length = self.piece(toxics, bytes.len());
        let mut piece = bytes[..length].to_vec();
        let range = self.position..self.position + length as u64;
        if let Some(place) = toxics.corrupt_every.and_then(|every| multiple_in(&range, every)) {
            piece[usize::try_from(place - range.start).unwrap_or_default()] ^= 1;
        }
        self.wait_for_bandwidth(toxics, length).await;
        to.write_all(&piece).await?;
        if toxics.duplicate_every.is_some_and(|every| range.end.is_multiple_of(every.max(1))) {
            to.write_all(&piece).await?;
        }
        self.position = range.end;
        self.lane.passed.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }

    /// How many bytes may be sent in one write: never across a place where something happens.
    pub(super) fn piece(&mut self, toxics: &Toxics, available: usize) -> usize {
        let to_next = |every: u64| every.max(1) - self.position % every.max(1);
        let limits = [
            toxics.cut.map(|cut| cut.after - self.position),
            toxics.corrupt_every.map(to_next),
            toxics.duplicate_every.map(to_next),
            toxics.bandwidth.map(|rate| (rate / GRAIN).max(1)),
            toxics.slice.then(|| 1 + self.random.below(7)),
        ];
        let least = limits.into_iter().flatten().min().unwrap_or(u64::MAX);
        usize::try_from(least).unwrap_or(usize::MAX).clamp(1, available.max(1)).min(available)
    }

    async fn wait_for_bandwidth(&mut self, toxics: &Toxics, bytes: usize) {
        let Some(rate) = toxics.bandwidth else { return };
        let nanoseconds = bytes as u64 * 1_000_000_000 / rate.max(1);
        self.next_at = self.next_at.max(Instant::now()) + Duration::from_nanos(nanoseconds);
        sleep_until(self.next_at).await;
    }
}

/// Until the connection is to end whatever it has carried: also one whose receiver takes nothing.
async fn ordered_off(mut toxics: watch::Receiver<Toxics>) -> Over {
    let now = |toxics: &Toxics| match toxics.cut {
        Some(Cut { after: 0, how: How::Close }) => Some(Over::Close),
        Some(Cut { after: 0, how: How::Reset }) => Some(Over::Reset),
        _ => None,
    };
    let ordered = toxics.wait_for(|toxics| now(toxics).is_some()).await.map(|toxics| now(&toxics));
    ordered.ok().flatten().unwrap_or(Over::Close)
}

/// Passes the sender's end on.
async fn end(to: &mut WriteHalf<'_>) -> Over {
    // The receiver may have gone first.
    let _gone = to.shutdown().await;
    Over::Direction
}

/// The last byte of a full run of `every` bytes that lies in `range`, which has at most one.
fn multiple_in(range: &Range<u64>, every: u64) -> Option<u64> {
    let every = every.max(1);
    range.end.is_multiple_of(every).then(|| range.end - 1)
}

/// Never ends by itself: the writing side decides.
enum Never {}

struct Reader<'a> {
    lane: &'a Lane,
    toxics: watch::Receiver<Toxics>,
    random: Random,
}

impl Reader<'_> {
    async fn fill(mut self, mut from: ReadHalf<'_>, blocks: mpsc::Sender<Read>) -> Never {
        let mut due = Instant::now();
        let mut buffer = vec![0; BLOCK];
        loop {
            let read = match from.read(&mut buffer).await {
                Ok(0) => break,
                Ok(bytes) => {
                    self.lane.hear(&buffer[..bytes]);
                    due = due.max(Instant::now() + self.delay());
                    Read::Block(Block { bytes: buffer[..bytes].to_vec(), due })
                }
                Err(_) => Read::Broken,
            };
            let is_broken = matches!(read, Read::Broken);
            // The receiver lives as long as this future.
            if blocks.send(read).await.is_err() || is_broken {
                break;
            }
        }
        drop(blocks);
        std::future::pending().await
    }

    fn delay(&mut self) -> Duration {
        let toxics = *self.toxics.borrow();
        let jitter = u64::try_from(toxics.jitter.as_micros()).unwrap_or(u64::MAX);
        toxics.latency + Duration::from_micros(self.random.below(jitter.saturating_add(1)))
    }
}

/// Numbers that are the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn split(&mut self) -> Self {
        Self(self.next())
    }
}
