//! A client's socket as hyper sees it: reads and writes go through, and time without progress is noticed.
//!
//! Owns deadlines that nothing above the socket can keep, with one timer per connection that is armed
//! only while a write waits:
//!
//! * a socket that takes nothing belongs to a player that is *paused* as long as its peer answers the kernel, which
//!   asks now and then whether there is room again. It is kept for `stall_timeout`, all pauses together between which it
//!   reads next to nothing; then the connection ends with a reset (a stalled peer would see nothing of an orderly close, it
//!   has no room for it);
//! * a peer that owes the kernel an answer for `peer_timeout` is gone, and the connection with it;
//! * a client that takes a few bytes now and then, to keep its place for nothing, is cut after [`RATE_WINDOW`];
//! * a client that shut down its sending side before its reply began is given up after `half_close_grace`,
//!   because it has most likely gone: hyper does not read while it waits for a reply, so it would never know;
//! * a socket that is closed while bytes of the client are still unread is drained for a moment, because
//!   closing it at once would make the kernel send a reset that can destroy the reply on its way (a 413 would
//!   arrive as "connection reset").
//!
//! While writes go through this costs two branches and a plain store per write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use acemux_relay::line::PAUSE;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::{ConnectionControl, ServeOptions, set_user_timeout, usual_user_timeout};

/// How long a closed socket waits for the client to stop sending. nginx waits up to 5 s; a player needs a
/// round trip.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Most bytes thrown away on that occasion: a body of the size we accept, four times over.
pub(super) const DRAIN_LIMIT: u64 = 256 * 1024;

/// Looks at whether the peer of a paused player still answers, in the time that it may owe an answer.
const LOOKS: u32 = 6;

/// The kernel asks a paused peer less and less often, in the end every two minutes, unless it is to give up before the next
/// time: then it asks once more. It is told to give up this part of that time after the next look, and that is put off by
/// each look which finds that the peer has answered (`tcp_clamp_probe0_to_user_timeout` in Linux).
const ASKED_WITHIN: u32 = 3;

/// The longest time over which a client's rate is taken.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// A client that takes so much after a pause has gone on: what kernels hold for it is less.
const GONE_ON: u64 = 1 << 20;

/// Bytes a second that a client must take, on average over that window, if it keeps us waiting nearly all of that
/// time. A radio channel of 64 kbit/s has half of it, and a client that keeps up with one never keeps us waiting.
const LEAST_RATE: f64 = 16.0 * 1024.0;

/// Part of that time that a client must keep us waiting to be measured at all.
const WAITING: f64 = 0.9;

/// One client connection.
#[derive(Debug)]
pub(super) struct ViewerIo {
    stream: TcpStream,
    control: ConnectionControl,
    stall_timeout: Option<Duration>,
    peer_timeout: Duration,
    half_close_grace: Duration,
    timer: LazyTimer,
    /// Since when bytes wait without one being taken.
    blocked_since: Option<Instant>,
    pauses: Pauses,
    /// How fast the client is, since it last began to keep us waiting.
    pace: Option<Pace>,
    /// The client has sent something and got no byte since: its reply has not begun.
    unanswered: bool,
    /// When a client that shut down its sending side is given up.
    gone_at: Option<Instant>,
    drain: Option<Drain>,
}

/// A player's pauses.
#[derive(Clone, Copy, Debug, Default)]
struct Pauses {
    /// All together since it last read in earnest.
    lasted: Duration,
    /// Bytes taken since the last one.
    taken: u64,
    /// When it is looked next whether the peer of the one that lasts still answers.
    look_at: Option<Instant>,
    /// The kernel has been told to be more patient with that peer.
    is_put_off: bool,
}

impl Pauses {
    fn took(&mut self, bytes: usize) {
        self.taken += bytes as u64;
        if self.taken >= GONE_ON {
            self.lasted = Duration::ZERO;
        }
    }

    /// How long the next one may be. Who has just gone on stops now and then, and that is no pause.
    fn left_of(&self, limit: Duration) -> Duration {
        limit.saturating_sub(self.lasted).max(limit.min(PAUSE))
    }

    fn end(&mut self, lasted: Duration) {
        (self.lasted, self.taken) = (self.lasted + lasted, 0);
    }
}

/// What a slow client took in a stretch of time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn new(since: Instant) -> Self {
        Self { since, waited: Duration::ZERO, bytes: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no byte exactly")]
    fn is_too_slow(&self, now: Instant) -> bool {
        let seconds = now.duration_since(self.since).as_secs_f64();
        let is_waiting = self.waited.as_secs_f64() >= seconds * WAITING;
        is_waiting && (self.bytes as f64) < seconds * LEAST_RATE
    }
}

#[derive(Debug)]
struct Drain {
    deadline: Instant,
    thrown_away: u64,
}

impl ViewerIo {
    pub(super) fn new(stream: TcpStream, control: ConnectionControl, options: &ServeOptions) -> Self {
        Self {
            stream,
            control,
            stall_timeout: options.stall_timeout,
            peer_timeout: options.peer_timeout,
            half_close_grace: options.half_close_grace,
            timer: LazyTimer::default(),
            blocked_since: None,
            pauses: Pauses::default(),
            pace: None,
            unanswered: false,
            gone_at: None,
            drain: None,
        }
    }

    /// Takes note of how a write went, and ends the connection when it has been waiting for too long.
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => self.progressed(bytes),
            // The kernel's own timeout for bytes that nobody acknowledges.
            Poll::Ready(Err(ref error)) if error.kind() == io::ErrorKind::TimedOut => self.control.stalled(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => return self.poll_stalled(cx).map(Err),
        }
        written
    }

    fn progressed(&mut self, bytes: usize) {
        self.unanswered = false;
        self.control.wrote(bytes);
        if let Some(pace) = &mut self.pace {
            pace.bytes += bytes as u64;
        }
        if let Some(since) = self.blocked_since.take() {
            self.goes_on(since.elapsed());
        }
        self.pauses.took(bytes);
    }

    fn goes_on(&mut self, waited: Duration) {
        self.control.unblocked();
        if waited >= PAUSE {
            self.pauses.end(waited);
            // Nobody reads slowly who does not read.
            self.pace = None;
        } else if let Some(pace) = &mut self.pace {
            pace.waited += waited;
        }
        self.pauses.look_at = None;
        if std::mem::take(&mut self.pauses.is_put_off) {
            // What it was put off to is no measure any more.
            let _unchanged = set_user_timeout(
                &SockRef::from(&self.stream),
                usual_user_timeout(self.stall_timeout, self.peer_timeout),
            );
        }
    }

    #[cold]
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let began = self.blocked_since;
        let since = began.unwrap_or_else(|| self.begin_blocked());
        if began.is_none() && self.is_too_slow(since) {
            return Poll::Ready(self.cut());
        }
        let ends_at = self.stall_timeout.map(|limit| since + self.pauses.left_of(limit));
        loop {
            let look_at = *self.pauses.look_at.get_or_insert(since + self.look());
            ready!(self.timer.poll_passed(cx, ends_at.map_or(look_at, |end| end.min(look_at))));
            let now = Instant::now();
            let next = self.look_at_peer().filter(|_| ends_at.is_none_or(|end| now < end));
            let Some(next) = next else { return Poll::Ready(self.cut()) };
            self.pauses.look_at = Some(now + next);
        }
    }

    #[cold]
    fn cut(&self) -> io::Error {
        self.control.stalled();
        self.control.abort();
        io::ErrorKind::TimedOut.into()
    }

    fn look(&self) -> Duration {
        self.peer_timeout / LOOKS
    }

    /// When to look again; `None` when the peer is gone. Where the kernel says nothing of a peer, every one lives: pauses have
    /// their limit all the same.
    fn look_at_peer(&mut self) -> Option<Duration> {
        let Ok(peer) = acemux_tcp::peer(&self.stream) else { return Some(self.look()) };
        let left = if peer.owes_answer { self.peer_timeout.saturating_sub(peer.silent) } else { self.look() };
        if left.is_zero() {
            return None;
        }
        let within = self.look() + self.peer_timeout / ASKED_WITHIN;
        if peer.silent < within + self.look() {
            let put_off = peer.unsent + within;
            self.pauses.is_put_off = true;
            let _unchanged = set_user_timeout(&SockRef::from(&self.stream), Some(put_off));
        }
        Some(left.min(self.look()))
    }

    /// Looks once in a while at what the client took since it last began to keep us waiting.
    fn is_too_slow(&mut self, now: Instant) -> bool {
        let window = self.stall_timeout.map_or(RATE_WINDOW, |limit| limit.min(RATE_WINDOW));
        let pace = self.pace.get_or_insert(Pace::new(now));
        if now.duration_since(pace.since) < window {
            return false;
        }
        let is_too_slow = pace.is_too_slow(now);
        *pace = Pace::new(now);
        is_too_slow
    }

    fn begin_blocked(&mut self) -> Instant {
        let now = Instant::now();
        self.blocked_since = Some(now);
        self.control.blocked(now);
        now
    }

    /// Ready when nobody waits for the reply any more. Looks without taking: what the client sent is hyper's
    /// to read.
    fn poll_client_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.gone_at.is_none() {
            let mut byte = [0];
            match ready!(self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
                Ok(0) => self.gone_at = Some(Instant::now() + self.half_close_grace),
                // The next request. It hides an end behind it, which will show when that request is read.
                Ok(_) => return Poll::Pending,
                Err(error) => return Poll::Ready(error),
            }
        }
        let deadline = self.gone_at.unwrap_or_else(Instant::now);
        self.timer.poll_passed(cx, deadline).map(|()| io::ErrorKind::ConnectionAborted.into())
    }

    /// Throws away what the client still sends, if it does.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut waste);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    if self.throw_away(buffer.filled().len() as u64) > DRAIN_LIMIT {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        match &self.drain {
            Some(drain) => self.timer.poll_passed(cx, drain.deadline),
            None => Poll::Ready(()),
        }
    }

    fn throw_away(&mut self, bytes: u64) -> u64 {
        let begin = || Drain { deadline: Instant::now() + DRAIN_TIMEOUT, thrown_away: 0 };
        let drain = self.drain.get_or_insert_with(begin);
        drain.thrown_away += bytes;
        drain.thrown_away
    }
}

impl AsyncRead for ViewerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.unanswered |= buffer.filled().len() > before;
        read
    }
}

impl AsyncWrite for ViewerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// There is nothing to flush in a socket. hyper calls this whenever it has nothing to write, also while
    /// it waits for the application's reply: the one occasion to look whether the client is still there.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unanswered
            && let Poll::Ready(error) = self.poll_client_gone(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.poll_drain(cx).map(Ok)
    }
}

impl Drop for ViewerIo {
    /// A handler that panicked in the middle of a body must not look like one that came to an end.
    fn drop(&mut self) {
        if self.control.is_aborted() || std::thread::panicking() {
            // Fails only on a socket that is dead already.
            let _already_dead = self.stream.set_zero_linger();
        }
    }
}

/// One timer for changing deadlines. A later deadline does not touch the runtime's timer wheel: the old one
/// is left to fire and is set again then. A viewer whose socket is full a hundred times a second costs one
/// timer per timeout, not per write.
#[derive(Debug, Default)]
struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    fn poll_passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[test]
    fn only_who_keeps_us_waiting_is_slow() {
        let (since, minute) = (Instant::now(), Duration::from_mins(1));
        let pace = |waited, bytes| Pace { since, waited: Duration::from_secs(waited), bytes };
        let radio = 60 * 8_000;
        assert!(pace(59, 60).is_too_slow(since + minute), "a byte a second");
        assert!(!pace(1, radio).is_too_slow(since + minute), "it takes what there is");
        assert!(!pace(59, 60 * 20_000).is_too_slow(since + minute), "it is slow, and gets on");
    }

    #[test]
    fn pauses_add_up_until_the_player_has_gone_on() {
        let minutes = Duration::from_mins;
        let mut pauses = Pauses::default();
        pauses.end(minutes(4));
        pauses.took(64 * 1024);
        pauses.end(minutes(5));
        assert_eq!(pauses.lasted, minutes(9), "who takes a little in between has not gone on");
        pauses.took(512 * 1024);
        pauses.took(512 * 1024);
        assert_eq!(pauses.lasted, Duration::ZERO);
        pauses.end(minutes(3));
        assert_eq!((pauses.lasted, pauses.taken), (minutes(3), 0));
        assert_eq!(pauses.left_of(minutes(10)), minutes(7));
        assert_eq!(pauses.left_of(minutes(3)), PAUSE, "whoever has just gone on stops now and then");
        assert_eq!(pauses.left_of(Duration::from_secs(2)), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_timer_keeps_later_and_earlier_deadlines() {
        let mut timer = LazyTimer::default();
        let begin = Instant::now();
        for seconds in [60, 90, 80, 200] {
            let deadline = begin + Duration::from_secs(seconds);
            let poll = poll_fn(|cx| Poll::Ready(timer.poll_passed(cx, deadline))).await;
            assert_eq!(poll.is_ready(), Instant::now() >= deadline);
        }
        poll_fn(|cx| timer.poll_passed(cx, begin + Duration::from_secs(200))).await;
        assert_eq!(begin.elapsed().as_secs(), 200);
        poll_fn(|cx| timer.poll_passed(cx, begin + Duration::from_secs(100))).await;
        assert_eq!(begin.elapsed().as_secs(), 200, "a deadline that has passed is not waited for");
    }
}
