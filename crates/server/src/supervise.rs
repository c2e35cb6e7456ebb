//! Watches the tasks that live as long as the service, and knows what the end of each one means.
//!
//! ```text
//!  Essential ─ ended ─► the service stops, with one sentence and exit code 70: whoever runs it starts it anew
//!  Renewable ─ ended ─► an outage that /readyz tells of; started again after a pause ─ in vain for too long ─► the same
//!  errand    ─ ended ─► nothing; a panic is logged
//! ```
//!
//! A panic is an end like any other. Refuses to know what a task does.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A task whose state cannot be made again here. Engines and their streams outlive a restart of the service, so that is
/// what mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Essential {
    /// Who creates and removes engines.
    Fleet,
}

/// A task that can begin again from nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Renewable {
    /// Takes connections.
    Listener,
    /// Asks engines whether they answer.
    Probes,
    /// Looks for channels that loop.
    Loops,
    /// Tells streams to leave engines.
    Evacuation,
    /// Looks at VPNs. Meanwhile what was last seen of them counts.
    Tunnels,
    /// Looks for another service with our instance id.
    Claim,
    /// Says how many events were folded.
    Recorder,
    /// Tells pages what changes.
    Live,
    /// Has the parts follow settings that are changed.
    Settings,
}

impl Essential {
    fn name(self) -> &'static str {
        match self {
            Self::Fleet => "the fleet's task",
        }
    }
}

impl Renewable {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Listener,
        Self::Probes,
        Self::Loops,
        Self::Evacuation,
        Self::Tunnels,
        Self::Claim,
        Self::Recorder,
        Self::Live,
        Self::Settings,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Listener => "the listener",
            Self::Probes => "the probe of the engines",
            Self::Loops => "the search for loops",
            Self::Evacuation => "the watch over streams' engines",
            Self::Tunnels => "the watch over VPNs",
            Self::Claim => "the look-out for a second service",
            Self::Recorder => "the count of folded events",
            Self::Live => "the source of live events",
            Self::Settings => "the watch over changed settings",
        }
    }

    fn patience(self) -> Patience {
        match self {
            // Who is refused does not come back for long, and a port that somebody else has taken is not given back.
            Self::Listener => Patience {
                pauses: (Duration::from_millis(100), Duration::from_millis(100)),
                most: Some(Duration::from_secs(5)),
                proves_itself_in: Duration::ZERO,
            },
            // Streams play on without it.
            Self::Probes
            | Self::Loops
            | Self::Evacuation
            | Self::Tunnels
            | Self::Claim
            | Self::Recorder
            | Self::Live
            | Self::Settings => Patience {
                pauses: (Duration::from_millis(100), Duration::from_secs(30)),
                most: None,
                proves_itself_in: STEADY,
            },
        }
    }
}

/// After so long without an end a task works again: its next end is a new trouble.
const STEADY: Duration = Duration::from_secs(5);

/// How a task is started again.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Before the first new start, and before any: doubled from the one to the other.
    pauses: (Duration, Duration),
    /// How long it may fail before the service stops; `None`: for ever.
    most: Option<Duration>,
    /// How long a new start must last for the outage to be over.
    proves_itself_in: Duration,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned.
    Returned,
    /// It could not go on.
    Failed(String),
    /// It panicked.
    Panicked(String),
}

impl From<()> for End {
    fn from((): ()) -> Self {
        Self::Returned
    }
}

impl From<io::Result<()>> for End {
    fn from(result: io::Result<()>) -> Self {
        result.map_or_else(|error| Self::Failed(error.to_string()), Self::from)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned => f.write_str("ended by itself"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Panicked(why) => write!(f, "panicked: {why}"),
        }
    }
}

/// Why the service stops although nobody told it to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} {end}")]
pub struct Failure {
    part: &'static str,
    end: End,
}

/// What does not run at this moment. Empty as long as all is well.
#[derive(Debug, Default)]
pub struct Outages(Mutex<BTreeMap<Renewable, End>>);

impl Outages {
    /// One line about one of them.
    pub fn first(&self) -> Option<String> {
        let outages = self.0.lock();
        outages
            .first_key_value()
            .map(|(part, end)| format!("{} {end}; it is being started again", part.name()))
    }

    fn begins(&self, part: Renewable, end: End) {
        self.0.lock().insert(part, end);
    }

    /// False when there was none.
    fn is_over(&self, part: Renewable) -> bool {
        self.0.lock().remove(&part).is_some()
    }
}

/// Owns the tasks. Dropped, it ends them.
pub struct Supervisor {
    tasks: JoinSet<Result<(), Failure>>,
    outages: Arc<Outages>,
    stop: CancellationToken,
}

impl Supervisor {
    /// A supervisor without tasks. They are expected to end after `stop`, which it cancels when the service cannot go on.
    pub fn new(outages: Arc<Outages>, stop: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), outages, stop }
    }

    /// Runs a task that the service cannot do without.
    pub fn run<F>(&mut self, part: Essential, task: F)
    where
        F: Future<Output: Into<End>> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let end = fenced(task).await;
            if stop.is_cancelled() {
                note_late(part.name(), &end);
                return Ok(());
            }
            Err(Failure { part: part.name(), end })
        });
    }

    /// Runs a task, and runs it again whenever it ends.
    pub fn keep<F>(&mut self, part: Renewable, start: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output: Into<End>> + Send + 'static,
    {
        let keeper = Keeper { part, outages: Arc::clone(&self.outages), stop: self.stop.clone() };
        self.tasks.spawn(keeper.keep(start));
    }

    /// Runs a task that ends by itself.
    pub fn errand<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(async move {
            note_late(name, &fenced(task).await);
            Ok(())
        });
    }

    /// Returns when the service is to stop: without an error when it was told to, else with what it cannot do without.
    pub async fn watch(&mut self) -> Result<(), Failure> {
        loop {
            let ended = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                Some(ended) = self.tasks.join_next() => ended,
            };
            if let Err(failure) = judge(ended) {
                tracing::error!("{failure}. The service stops, so that it can be started anew");
                self.stop.cancel();
                return Err(failure);
            }
        }
    }

    /// Returns when every task has ended, after the stop.
    pub async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(failure) = judge(ended) {
                tracing::error!("{failure}");
            }
        }
    }
}

fn judge(ended: Result<Result<(), Failure>, JoinError>) -> Result<(), Failure> {
    ended.unwrap_or_else(|error| {
        Err(Failure { part: "a supervisor's own task", end: End::Failed(error.to_string()) })
    })
}

/// What happens after the stop, or to an errand, changes nothing any more; a panic is a bug all the same.
fn note_late(name: &str, end: &End) {
    if let End::Panicked(_) = end {
        tracing::error!("{name} {end}");
    }
}

/// One renewable task.
struct Keeper {
    part: Renewable,
    outages: Arc<Outages>,
    stop: CancellationToken,
}

impl Keeper {
    async fn keep<F>(self, mut start: impl FnMut() -> F) -> Result<(), Failure>
    where
        F: Future<Output: Into<End>>,
    {
        let (name, patience) = (self.part.name(), self.part.patience());
        let mut trouble = Trouble::default();
        loop {
            let began = Instant::now();
            // The start itself within the fence: it may panic too.
            let end = self.run(async { start().await.into() }).await;
            if self.stop.is_cancelled() {
                note_late(name, &end);
                return Ok(());
            }
            self.outages.begins(self.part, end.clone());
            let Some(pause) = trouble.pause_after(began, patience) else {
                return Err(Failure { part: name, end });
            };
            tracing::error!(pause_ms = pause.as_millis(), "{name} {end}; it is started again");
            if self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Runs it once. The outage is over when it has proved itself.
    async fn run(&self, task: impl Future<Output = End>) -> End {
        let mut task = pin!(fenced(task));
        let proof = self.part.patience().proves_itself_in;
        if let Ok(end) = timeout(proof, &mut task).await {
            return end;
        }
        if self.outages.is_over(self.part) {
            tracing::info!("{} works again", self.part.name());
        }
        task.await
    }
}

/// Ends of one task that follow each other.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    pause: Duration,
}

impl Trouble {
    /// How long to wait before the next start of a task that began then and has just ended. `None`: no longer.
    fn pause_after(&mut self, began: Instant, patience: Patience) -> Option<Duration> {
        let now = Instant::now();
        if now.duration_since(began) >= STEADY {
            *self = Self::default();
        }
        let since = *self.since.get_or_insert(now);
        if patience.most.is_some_and(|most| now.duration_since(since) >= most) {
            return None;
        }
        let (shortest, longest) = patience.pauses;
        self.pause = (self.pause * 2).clamp(shortest, longest);
        Some(self.pause)
    }
}

/// The task's end, whatever it is. What it has shared is behind locks that a panic does not poison, and what it owned is
/// gone.
async fn fenced<F: Future<Output: Into<End>>>(task: F) -> End {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(end) => end.into(),
        Err(panic) => End::Panicked(reason_of(panic.as_ref()).to_owned()),
    }
}

/// What was said in a panic.
pub(crate) fn reason_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::advance;

    use super::*;

    struct Setup {
        supervisor: Supervisor,
        outages: Arc<Outages>,
        stop: CancellationToken,
    }

    fn setup() -> Setup {
        let (outages, stop) = (Arc::<Outages>::default(), CancellationToken::new());
        Setup { supervisor: Supervisor::new(Arc::clone(&outages), stop.clone()), outages, stop }
    }

    /// How a test's task ends.
    #[derive(Clone, Copy, Debug)]
    enum Way {
        Return,
        Fail,
        Panic,
        PanicAtOnce,
    }

    const WAYS: [Way; 4] = [Way::Return, Way::Fail, Way::Panic, Way::PanicAtOnce];

    fn ending(way: Way) -> impl Future<Output = End> {
        assert!(!matches!(way, Way::PanicAtOnce), "boom");
        async move {
            tokio::task::yield_now().await;
            match way {
                Way::Return => End::Returned,
                Way::Fail => Err(io::Error::other("boom")).into(),
                Way::Panic | Way::PanicAtOnce => panic!("boom"),
            }
        }
    }

    /// A task that ends that way so many times and then runs until the stop.
    fn mended_after(
        times: usize,
        way: Way,
        stop: CancellationToken,
    ) -> (Arc<AtomicUsize>, impl FnMut() -> futures_util::future::BoxFuture<'static, End>) {
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        let start = move || {
            if counted.fetch_add(1, Ordering::SeqCst) < times {
                return ending(way).boxed();
            }
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                End::Returned
            }
            .boxed()
        };
        (starts, start)
    }

    /// Lets the supervisor do what it would do in this time.
    async fn watch_for(supervisor: &mut Supervisor, time: Duration) -> Option<Result<(), Failure>> {
        timeout(time, supervisor.watch()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewable_task_is_started_again_however_it_ends_and_the_outage_is_told_meanwhile() {
        for part in Renewable::ALL {
            for way in WAYS {
                let Setup { mut supervisor, outages, stop } = setup();
                let (starts, start) = mended_after(2, way, stop.clone());
                supervisor.keep(part, start);
                assert_eq!(watch_for(&mut supervisor, Duration::from_millis(50)).await, None);
                assert_eq!(starts.load(Ordering::SeqCst), 1, "{part:?} {way:?}: it pauses");
                let told = outages.first().expect("an outage");
                assert!(told.starts_with(part.name()), "{told}");
                assert!(matches!(way, Way::Return) || told.contains("boom"), "{told}");
                assert_eq!(watch_for(&mut supervisor, STEADY * 2).await, None);
                assert_eq!((starts.load(Ordering::SeqCst), outages.first()), (3, None), "{part:?} {way:?}");
                stop.cancel();
                assert_eq!(supervisor.watch().await, Ok(()));
                supervisor.ended().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_essential_task_stops_the_service_however_it_ends() {
        for way in [Way::Return, Way::Fail, Way::Panic] {
            let Setup { mut supervisor, stop, .. } = setup();
            supervisor.run(Essential::Fleet, ending(way));
            let failure = supervisor.watch().await.expect_err("it cannot go on");
            assert!(stop.is_cancelled());
            assert!(failure.to_string().starts_with("the fleet's task "), "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_cannot_be_opened_for_five_seconds_stops_the_service() {
        let Setup { mut supervisor, outages, stop } = setup();
        supervisor.keep(Renewable::Listener, || async { io::Result::Err(io::ErrorKind::AddrInUse.into()) });
        let began = Instant::now();
        let failure = supervisor.watch().await.expect_err("it gives up");
        assert!((5.0..5.2).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
        assert_eq!(failure.to_string(), "the listener failed: address in use");
        assert!(stop.is_cancelled() && outages.first().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_breaks_as_soon_as_it_is_there_counts_as_one_that_cannot_be_opened() {
        let Setup { mut supervisor, .. } = setup();
        supervisor.keep(Renewable::Listener, || async {
            sleep(Duration::from_millis(300)).await;
            End::Failed("it broke".to_owned())
        });
        let began = Instant::now();
        assert!(supervisor.watch().await.is_err());
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_breaks_now_and_then_is_opened_again_for_ever() {
        let Setup { mut supervisor, outages, .. } = setup();
        supervisor.keep(Renewable::Listener, || sleep(STEADY));
        assert_eq!(watch_for(&mut supervisor, Duration::from_mins(10)).await, None);
        assert_eq!(outages.first(), None, "it is there nearly all of the time");
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_works_again_is_tried_ever_more_rarely_and_stops_nothing() {
        let Setup { mut supervisor, outages, stop } = setup();
        let (starts, start) = mended_after(usize::MAX, Way::Panic, stop);
        supervisor.keep(Renewable::Probes, start);
        assert_eq!(watch_for(&mut supervisor, Duration::from_hours(1)).await, None);
        // 0.1 + 0.2 + … + 25.6 s, then one in 30 s.
        let starts = starts.load(Ordering::SeqCst);
        assert!((120..130).contains(&starts), "{starts}");
        assert!(outages.first().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_stop_nothing_is_started_again_and_nothing_fails() {
        let Setup { mut supervisor, stop, .. } = setup();
        let starts = Arc::new(AtomicUsize::new(0));
        let (counted, until) = (Arc::clone(&starts), stop.clone());
        supervisor.keep(Renewable::Loops, move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let until = until.clone();
            async move {
                until.cancelled().await;
                assert!(!until.is_cancelled(), "while it ends");
            }
        });
        supervisor.run(Essential::Fleet, stop.clone().cancelled_owned());
        supervisor.errand("an errand", async { panic!("on its way") });
        assert_eq!(watch_for(&mut supervisor, Duration::from_secs(1)).await, None);
        stop.cancel();
        assert_eq!(supervisor.watch().await, Ok(()));
        supervisor.ended().await;
        assert_eq!(starts.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_pause() {
        let Setup { mut supervisor, stop, .. } = setup();
        let (_, start) = mended_after(usize::MAX, Way::Fail, stop.clone());
        supervisor.keep(Renewable::Evacuation, start);
        assert_eq!(watch_for(&mut supervisor, Duration::from_mins(2)).await, None);
        advance(Duration::from_secs(1)).await;
        stop.cancel();
        let began = Instant::now();
        supervisor.ended().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
