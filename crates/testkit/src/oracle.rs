//! Compares what everybody remembers: the program, the engines' ledger, the viewers and the kernel.
//!
//! The invariants are those of the reliability dossier:
//!
//! | | what is checked |
//! |---|---|
//! | I1 | never two sessions of a channel on one engine; on two engines only for a hand-over of at most 15 s |
//! | I2 | at rest every engine session that was opened is closed, in the engines' book and in the program's own |
//! | I4 | a viewer has no foreign, damaged or unaligned packet and no jump that was not announced |
//! | I5 | a page answers within a second at any moment |
//! | I7 | slots, viewers, waiters and histories stay within their limits |
//! | I8 | at rest nobody waits for an engine |
//! | I9 | at rest no session, slot, viewer, task, descriptor or thread is left |
//!
//! I3 (nobody is cut) is a matter of the single test, which asks [`Oracle::left`]. I6 (foreign containers) has no meaning
//! without Docker.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use acemux_sim::ledger::{CloseReason, SessionRecord};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use crate::app::{TestApp, within};
use crate::http::get;
use crate::viewer::StrictViewer;

/// Longest time that a channel may be open on two engines.
const HAND_OVER_MS: u64 = 15_000;
/// Longest time for a page. The promise is 200 ms; the rest is what a busy test machine may add.
const PAGE: Duration = Duration::from_secs(1);
/// `STREAM_BUFFER_SIZE` unless a test sets more, which none does.
const LARGEST_RING: usize = 32 * 1024 * 1024;
/// How often [`Oracle::during`] looks.
const PERIOD: Duration = Duration::from_millis(100);
/// How often the baseline is looked at, and at most how many times again.
const LOOKS: usize = 10;
/// Longest wait for rest: what lingers for a while (probes, idle threads of the pool for 10 s) is no leak.
const REST: Duration = Duration::from_secs(20);

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Tasks of the runtime of the test that asks.
    pub tasks: usize,
}

impl Usage {
    /// At this moment.
    pub fn now() -> Self {
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            tasks: Handle::current().metrics().num_alive_tasks(),
        }
    }

    fn least(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.min(other.descriptors),
            threads: self.threads.min(other.threads),
            tasks: self.tasks.min(other.tasks),
        }
    }
}

async fn least_of_a_few_looks() -> Usage {
    let mut least = Usage::now();
    for _ in 0..LOOKS {
        sleep(Duration::from_millis(10)).await;
        least = least.least(Usage::now());
    }
    least
}

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Looks at a running program and knows what must hold.
pub struct Oracle<'a> {
    app: &'a TestApp,
    before: Usage,
    alone: bool,
}

impl<'a> Oracle<'a> {
    /// Looks at `app`, which has no viewers yet: what is in use now is what must be left at the end. Descriptors and
    /// threads belong to the whole process and are not compared.
    pub async fn of(app: &'a TestApp) -> Self {
        // The first page makes what is made once. A program that has just begun has not begun all of its tasks, and
        // probes come and go: the least of a few looks counts, as soon as the next few say the same.
        assert_eq!(get(app.address(), "/livez").await.status, 200);
        let mut before = least_of_a_few_looks().await;
        for _ in 0..LOOKS {
            let earlier = std::mem::replace(&mut before, least_of_a_few_looks().await);
            if earlier.tasks == before.tasks {
                break;
            }
        }
        Self { app, before, alone: false }
    }

    /// The same for a test that has its process for itself (see [`has_own_process`]): descriptors and threads count.
    pub async fn alone_with(app: &'a TestApp) -> Self {
        Self { alone: true, ..Self::of(app).await }
    }

    /// What does not hold at this moment, one sentence each.
    pub fn violations(&self) -> Vec<String> {
        [self.doubled(), self.beyond_limits()].concat()
    }

    /// Fails unless everything holds that must hold at any moment.
    #[track_caller]
    pub fn check_now(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// Fails unless a page answers in time.
    pub async fn check_pages(&self) {
        let asked = Instant::now();
        let reply = within(PAGE, "a page", get(self.app.address(), "/proxy/status")).await;
        assert_eq!(reply.status, 200, "after {:?}", asked.elapsed());
    }

    /// Runs `work` and checks all the while. The work must have its own end.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(PERIOD, &mut work).await {
                Ok(done) => return done,
                Err(_not_yet) => {
                    self.check_now();
                    self.check_pages().await;
                }
            }
        }
    }

    /// Fails unless the viewer got nothing but its own channel, whole and with every jump announced.
    #[track_caller]
    pub fn check_viewer(&self, viewer: &StrictViewer) {
        viewer.assert_only_announced_jumps();
    }

    /// Waits until nothing is left of anything, and says what is when that never comes.
    pub async fn at_rest(&self) {
        let deadline = Instant::now() + REST;
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "this is left: {left:#?}");
            sleep(Duration::from_millis(10)).await;
        }
        self.check_now();
    }

    /// How many viewers have left for this reason, by the metrics page.
    pub async fn left(&self, reason: &str) -> u64 {
        let mut page = get(self.app.address(), "/metrics").await;
        let page = String::from_utf8_lossy(&page.body().await.0).into_owned();
        let line = format!("acemux_proxy_viewers_left_total{{reason=\"{reason}\"}} ");
        let value = page.lines().find_map(|found| found.strip_prefix(line.as_str()));
        value.map_or(0, |count| count.parse().expect("a metric is a number"))
    }

    /// I1, over all that the ledger remembers.
    fn doubled(&self) -> Vec<String> {
        let ledger = self.app.ledger.snapshot();
        let mut channels: BTreeMap<&str, Vec<&SessionRecord>> = BTreeMap::new();
        for session in &ledger.sessions {
            channels.entry(&session.infohash).or_default().push(session);
        }
        // The engine ends the older one of two itself, so that they never overlap there.
        let superseded = ledger
            .sessions
            .iter()
            .filter(|session| session.closed.is_some_and(|closed| closed.why == CloseReason::Superseded));
        let superseded = superseded.map(|session| {
            let other = ledger
                .sessions
                .iter()
                .find(|other| other.infohash == session.infohash && other.id > session.id);
            format!("twice on {}: {session:?}, and then {other:?}", session.engine)
        });
        channels.values().flat_map(|sessions| doubled_sessions(sessions)).chain(superseded).collect()
    }

    /// I7.
    fn beyond_limits(&self) -> Vec<String> {
        let mut found = Vec::new();
        for member in self.app.app.engines.all().iter() {
            if member.used() > member.slots {
                found.push(format!("{} of {} slots in use", member.used(), member.slots));
            }
        }
        let relay = &self.app.app.relay;
        if relay.waiting() > relay.viewers() {
            found.push(format!("{} wait and only {} are counted", relay.waiting(), relay.viewers()));
        }
        for session in relay.sessions() {
            if session.ring.bytes > LARGEST_RING {
                found.push(format!("a history of {} bytes", session.ring.bytes));
            }
        }
        found
    }

    /// I2, I8 and I9.
    fn leftovers(&self) -> Vec<String> {
        let (program, usage) = (&self.app.app, Usage::now());
        let (counts, members) = (self.app.ledger.counts(), program.engines.all());
        let books = members.iter().map(|member| member.engine.session_counts());
        let unsettled: u64 =
            books.map(|book| book.opened.saturating_sub(book.closed + book.stop_failed)).sum();
        let used: usize = members.iter().map(|member| member.used()).sum();
        let own = |now: usize, before: usize| if self.alone { now.saturating_sub(before) } else { 0 };
        let left = [
            ("sessions in the relay", program.relay.sessions().len()),
            ("viewers", program.relay.viewers()),
            ("waiting requests", program.relay.waiting()),
            ("requests that wait for an engine", program.engines.waiting()),
            ("slots", used),
            ("sessions on engines", usize::try_from(counts.open).unwrap_or(usize::MAX)),
            (
                "sessions opened and not closed",
                usize::try_from(counts.opened - counts.closed).unwrap_or(usize::MAX),
            ),
            ("sessions the program has not settled", usize::try_from(unsettled).unwrap_or(usize::MAX)),
            ("tasks", usage.tasks.saturating_sub(self.before.tasks)),
            ("descriptors", own(usage.descriptors, self.before.descriptors)),
            ("threads", own(usage.threads, self.before.threads)),
        ];
        let left = left.into_iter().filter(|(_, count)| *count > 0);
        left.map(|(what, count)| format!("{count} {what}")).collect()
    }
}

/// What I1 forbids among the sessions of one channel.
fn doubled_sessions(sessions: &[&SessionRecord]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, first) in sessions.iter().enumerate() {
        let at_once = sessions.iter().filter(|other| is_open_at(other, first.opened_ms)).count();
        if at_once > 2 {
            found.push(format!("{} {at_once} times at once", first.infohash));
        }
        for second in &sessions[index + 1..] {
            let together = overlap(first, second);
            let allowed = if first.engine == second.engine { 0 } else { HAND_OVER_MS };
            if together > allowed {
                let mut line = String::new();
                let _infallible = write!(line, "{} twice for {together} ms: ", first.infohash);
                let _infallible = write!(line, "on {} and {}", first.engine, second.engine);
                found.push(line);
            }
        }
    }
    found
}

fn is_open_at(session: &SessionRecord, at_ms: u64) -> bool {
    session.opened_ms <= at_ms && session.closed.is_none_or(|closed| closed.at_ms > at_ms)
}

/// For how many milliseconds both were open.
fn overlap(first: &SessionRecord, second: &SessionRecord) -> u64 {
    let now = u64::try_from(acemux_sim::swarm::now().as_millis()).unwrap_or(u64::MAX);
    let end = |session: &SessionRecord| session.closed.map_or(now, |closed| closed.at_ms);
    end(first).min(end(second)).saturating_sub(first.opened_ms.max(second.opened_ms))
}

/// Set for the process that has one test for itself.
const ALONE: &str = "ACEMUX_TEST_ALONE";

/// True when this process runs nothing but the test `name` (with its module): then descriptors and threads can be
/// compared. False when the test has just been run in a process of its own, with success; a failure panics here.
pub async fn has_own_process(name: &str, limit: Duration) -> bool {
    let nextest = std::env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test");
    if nextest || std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("the test runs from a file");
    let mut command = Command::new(program);
    command.args([name, "--exact", "--nocapture"]).env(ALONE, "1").stdin(Stdio::null()).kill_on_drop(true);
    let output = within(limit, name, command.output()).await.expect("the test binary can be run again");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Setup;
    use acemux_sim::{Fault, Target};

    const ID: &str = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_healthy_viewing_violates_nothing_and_leaves_nothing() {
        let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "100ms").start().await;
        let oracle = Oracle::of(&app).await;
        let mut viewer = StrictViewer::open(app.address(), ID).await;
        oracle.during(viewer.watch(Duration::from_millis(400))).await;
        oracle.check_viewer(&viewer);
        assert!(!oracle.leftovers().is_empty(), "a running stream is not rest");
        drop(viewer);
        oracle.at_rest().await;
        assert_eq!((oracle.left("left").await, oracle.left("stalled").await), (1, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_channel_that_is_open_twice_on_one_engine_is_seen() {
        let app = Setup::new().start().await;
        let oracle = Oracle::of(&app).await;
        app.engine().set_fault(Target::All, Fault::NoSupersede);
        for pid in ["1", "2"] {
            let path = format!("/ace/getstream?format=json&id={ID}&pid={pid}");
            assert_eq!(get(app.engine().addr(), &path).await.status, 200);
        }
        sleep(Duration::from_millis(20)).await;
        let violations = oracle.violations();
        assert!(violations.iter().any(|line| line.contains("twice")), "{violations:?}");
        assert!(oracle.leftovers().iter().any(|line| line == "2 sessions on engines"));
    }
}
