//! What pages show, told as it changes: a picture of everything, then once a second what is different.
//!
//! One task looks, for all listeners together, and only while there are any. Each listener has a place in one bounded
//! broadcast: who does not read falls behind, is cut, and begins with a new picture. What is kept for listeners that
//! come back is bounded as well. Lines of the log are kept also while nobody listens: a picture stands for all patches
//! that were missed, but for no line.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use acemux_relay::admission::AddressGroup;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);
/// News that are kept, for who is slow and for who comes back.
const KEPT: usize = 64;
/// Lines of the log that are kept for who comes back: many times what half a minute brings, and some 200 KB.
const LINES_KEPT: usize = 512;
/// Most listeners, and of one address. Each costs a connection and a few kilobytes.
const MOST: usize = 512;
const MOST_OF_ONE: usize = 16;

/// The entities of one kind by id, with their fields.
pub type Entities = BTreeMap<String, Map<String, Value>>;

/// Everything that pages show, at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Picture {
    /// Streams by their labels.
    pub streams: Entities,
    /// Engines by their ids.
    pub engines: Entities,
    /// VPNs by the names of their containers.
    pub vpns: Entities,
    /// Sums.
    pub totals: Map<String, Value>,
}

/// What is different: fields that are new or another, and null for an entity that is gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Patch {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    streams: BTreeMap<String, Option<Map<String, Value>>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    engines: BTreeMap<String, Option<Map<String, Value>>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    vpns: BTreeMap<String, Option<Map<String, Value>>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    totals: Map<String, Value>,
}

impl Patch {
    /// What makes `now` of `before`.
    pub fn between(before: &Picture, now: &Picture) -> Self {
        Self {
            streams: changes(&before.streams, &now.streams),
            engines: changes(&before.engines, &now.engines),
            vpns: changes(&before.vpns, &now.vpns),
            totals: fields(&before.totals, &now.totals),
        }
    }
}

fn changes(before: &Entities, now: &Entities) -> BTreeMap<String, Option<Map<String, Value>>> {
    let gone = before.keys().filter(|id| !now.contains_key(*id)).map(|id| (id.clone(), None));
    let none = Map::new();
    let changed = now.iter().filter_map(|(id, entity)| {
        let before = before.get(id);
        let changed = fields(before.unwrap_or(&none), entity);
        (before.is_none() || !changed.is_empty()).then(|| (id.clone(), Some(changed)))
    });
    gone.chain(changed).collect()
}

/// Fields of `now` that are not the same in `before`. Entities of one kind have the same fields always, so none is gone.
fn fields(before: &Map<String, Value>, now: &Map<String, Value>) -> Map<String, Value> {
    let changed = now.iter().filter(|(name, value)| before.get(*name) != Some(value));
    changed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Of what kind a piece of news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything: what was known before does not count any more.
    Snapshot,
    /// A [`Patch`].
    Patch,
    /// An entry of the history.
    Log,
}

impl Kind {
    /// As the event's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Patch => "patch",
            Self::Log => "log",
        }
    }
}

/// One piece of news. Clones share its text.
#[derive(Clone, Debug)]
pub struct News {
    /// Of what kind.
    pub kind: Kind,
    /// What a listener says when it comes back.
    pub id: String,
    /// JSON.
    pub data: Arc<str>,
    number: u64,
}

/// The source of news. One for the process.
pub struct Live {
    look: Box<dyn Fn() -> Picture + Send + Sync>,
    /// Tells numbers of this run from those of another.
    run: u32,
    state: Mutex<State>,
    news: broadcast::Sender<News>,
    wanted: Notify,
    seats: Arc<Mutex<Seats>>,
}

/// Strangers who listen.
#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    by_client: HashMap<AddressGroup, usize>,
}

/// One of them. Dropping it gives it back.
#[derive(Debug)]
struct Seat {
    client: AddressGroup,
    seats: Arc<Mutex<Seats>>,
}

impl Seat {
    fn take(seats: &Arc<Mutex<Seats>>, client: AddressGroup) -> Result<Self, Crowded> {
        let mut all = seats.lock();
        let of_one = all.by_client.get(&client).copied().unwrap_or_default();
        if all.taken >= MOST || of_one >= MOST_OF_ONE {
            return Err(Crowded);
        }
        all.taken += 1;
        all.by_client.insert(client, of_one + 1);
        Ok(Self { client, seats: Arc::clone(seats) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.seats.lock();
        all.taken -= 1;
        if let Some(of_one) = all.by_client.get_mut(&self.client) {
            *of_one -= 1;
            if *of_one == 0 {
                all.by_client.remove(&self.client);
            }
        }
    }
}

#[derive(Default)]
struct State {
    /// The number of the news that came last.
    number: u64,
    /// What listeners know; `None` while there are none.
    picture: Option<Picture>,
    recent: VecDeque<News>,
    /// Lines of the log alone, whether or not somebody listened.
    lines: VecDeque<News>,
}

/// As many listen as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

impl Live {
    /// Nobody listens yet. `look` is asked once a second while somebody does, and must not wait for anything.
    pub fn new(look: impl Fn() -> Picture + Send + Sync + 'static) -> Self {
        Self {
            look: Box::new(look),
            run: rand::random(),
            state: Mutex::default(),
            news: broadcast::channel(KEPT).0,
            wanted: Notify::new(),
            seats: Arc::default(),
        }
    }

    /// From now on. `known` is the id of the last news that the listener has, from an earlier connection: when all that
    /// came after it is still there it is told that, and otherwise the lines that it has missed, and then a snapshot.
    ///
    /// Limits are for strangers: `client` is none for an operator.
    pub fn listen(&self, known: Option<&str>, client: Option<AddressGroup>) -> Result<Listener, Crowded> {
        let seat = client.map(|client| Seat::take(&self.seats, client)).transpose()?;
        let mut state = self.state.lock();
        let since = known.and_then(|id| self.number_of(id));
        let missed = since.and_then(|since| state.since(since));
        let first = missed.unwrap_or_else(|| {
            let lines = since.map(|since| state.lines_since(since)).unwrap_or_default();
            lines.into_iter().chain([self.snapshot(&mut state)]).collect()
        });
        let listener = Listener { first, news: self.news.subscribe(), _seat: seat };
        self.wanted.notify_one();
        Ok(listener)
    }

    /// Tells all listeners of something that has happened, and those who come back soon.
    pub fn log(&self, entry: &impl Serialize) {
        let mut state = self.state.lock();
        state.number += 1;
        let line = self.news(state.number, Kind::Log, entry);
        keep(&mut state.lines, LINES_KEPT, line.clone());
        if state.picture.is_some() {
            self.tell(&mut state, line);
        }
    }

    /// Looks once a second while somebody listens, until the stop.
    pub async fn run(&self, stop: CancellationToken) {
        let looking = async {
            loop {
                self.wanted.notified().await;
                self.while_anybody_listens().await;
            }
        };
        stop.run_until_cancelled(looking).await;
    }

    async fn while_anybody_listens(&self) {
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        // After a laptop's sleep one look is enough.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = (self.look)();
            let mut state = self.state.lock();
            if self.news.receiver_count() == 0 {
                *state = State {
                    number: state.number,
                    lines: std::mem::take(&mut state.lines),
                    ..State::default()
                };
                return;
            }
            let patch = Patch::between(state.picture.as_ref().unwrap_or(&Picture::default()), &now);
            state.picture = Some(now);
            state.number += 1;
            // Also when nothing is different: listeners see that somebody looks.
            let patch = self.news(state.number, Kind::Patch, &patch);
            self.tell(&mut state, patch);
        }
    }

    fn tell(&self, state: &mut State, news: News) {
        keep(&mut state.recent, KEPT, news.clone());
        // Who listens is told; that there is nobody is no error.
        let _listeners = self.news.send(news);
    }

    /// What all listeners know by now, so that the next patch fits for all of them.
    fn snapshot(&self, state: &mut State) -> News {
        let number = state.number;
        let picture = state.picture.get_or_insert_with(|| (self.look)());
        self.news(number, Kind::Snapshot, picture)
    }

    fn news(&self, number: u64, kind: Kind, data: &impl Serialize) -> News {
        let data = serde_json::to_string(data).expect("news have text keys only").into();
        News { kind, id: format!("{:08x}-{number}", self.run), data, number }
    }

    fn number_of(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        let is_this = u32::from_str_radix(run, 16).is_ok_and(|run| run == self.run);
        number.parse().ok().filter(|_| is_this)
    }
}

/// The oldest of more than so many gives way.
fn keep(kept: &mut VecDeque<News>, most: usize, news: News) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(news);
}

impl State {
    /// The lines after the news of this number, as far as they are kept.
    fn lines_since(&self, number: u64) -> Vec<News> {
        self.lines.iter().filter(|line| line.number > number).cloned().collect()
    }

    /// What came after the news of this number; `None` when some of it is not kept any more.
    fn since(&self, number: u64) -> Option<VecDeque<News>> {
        self.picture.as_ref()?;
        let has_all = number == self.number
            || self.recent.front().is_some_and(|oldest| oldest.number <= number + 1 && number < self.number);
        has_all.then(|| self.recent.iter().filter(|news| news.number > number).cloned().collect())
    }
}

/// Somebody who is told. Dropping it ends that.
pub struct Listener {
    first: VecDeque<News>,
    news: broadcast::Receiver<News>,
    _seat: Option<Seat>,
}

impl Listener {
    /// The next piece of news; `None` when it is too slow for them, and is to begin anew.
    pub async fn next(&mut self) -> Option<News> {
        if let Some(news) = self.first.pop_front() {
            return Some(news);
        }
        self.news.recv().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use std::net::{IpAddr, Ipv4Addr};

    use serde_json::json;
    use tokio::task::JoinSet;
    use tokio::time::advance;

    use super::*;

    fn entity(fields: &Value) -> Map<String, Value> {
        fields.as_object().unwrap().clone()
    }

    fn picture(viewers: u64) -> Picture {
        let stream = entity(&json!({ "viewers": viewers, "state": "live" }));
        Picture {
            streams: BTreeMap::from([("a".to_owned(), stream)]),
            totals: entity(&json!({ "viewers": viewers })),
            ..Picture::default()
        }
    }

    /// Each look sees one viewer more, if `grows`.
    fn live(grows: bool) -> (Arc<Live>, Arc<AtomicU64>) {
        let looks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&looks);
        let live = Live::new(move || {
            let look = counted.fetch_add(1, Ordering::Relaxed);
            picture(if grows { look } else { 0 })
        });
        (Arc::new(live), looks)
    }

    /// Ends when it is dropped.
    fn running(live: &Arc<Live>) -> JoinSet<()> {
        let (live, mut tasks) = (Arc::clone(live), JoinSet::new());
        tasks.spawn(async move { live.run(CancellationToken::new()).await });
        tasks
    }

    async fn told(listener: &mut Listener) -> (&'static str, Value) {
        let news = listener.next().await.expect("it is not behind");
        (news.kind.as_str(), serde_json::from_str(&news.data).unwrap())
    }

    #[test]
    fn a_patch_has_what_is_new_what_is_another_and_what_is_gone_and_nothing_else() {
        let mut now = picture(2);
        now.streams.insert("b".to_owned(), entity(&json!({ "viewers": 1 })));
        let patch = |before: &Picture, now: &Picture| json!(Patch::between(before, now));
        assert_eq!(
            patch(&picture(1), &now),
            json!({ "streams": { "a": { "viewers": 2 }, "b": { "viewers": 1 } }, "totals": { "viewers": 2 } })
        );
        assert_eq!(patch(&now, &picture(2)), json!({ "streams": { "b": null } }), "what is gone is null");
        assert_eq!(patch(&now, &now), json!({}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_comes_first_then_a_patch_a_second_that_fits_to_it() {
        let (live, _) = live(true);
        let _running = running(&live);
        let mut listener = live.listen(None, None).unwrap();
        assert_eq!(told(&mut listener).await, ("snapshot", json!(picture(0))));
        let began = Instant::now();
        assert_eq!(told(&mut listener).await.1["totals"]["viewers"], 1);
        assert_eq!(told(&mut listener).await.1["streams"]["a"], json!({ "viewers": 2 }));
        assert_eq!(began.elapsed(), TICK * 2);
        let mut second = live.listen(None, None).unwrap();
        assert_eq!(told(&mut second).await, ("snapshot", json!(picture(2))), "what the first knows");
        assert_eq!(told(&mut second).await, told(&mut listener).await);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_while_nobody_listens() {
        let (live, looks) = live(false);
        let _running = running(&live);
        advance(TICK * 10).await;
        live.log(&json!("nobody hears it"));
        assert_eq!(looks.load(Ordering::Relaxed), 0);
        let mut listener = live.listen(None, None).unwrap();
        assert_eq!(told(&mut listener).await.0, "snapshot");
        assert_eq!(told(&mut listener).await, ("patch", json!({})), "and who listens sees that it beats");
        drop(listener);
        tokio::time::sleep(TICK * 2).await;
        let after = looks.load(Ordering::Relaxed);
        tokio::time::sleep(TICK * 10).await;
        assert_eq!(looks.load(Ordering::Relaxed), after);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_in_time_gets_what_it_missed_and_who_does_not_a_snapshot() {
        let (live, _) = live(true);
        let _running = running(&live);
        let (mut stays, mut leaves) = (live.listen(None, None).unwrap(), live.listen(None, None).unwrap());
        let last = leaves.next().await.unwrap().id;
        drop(leaves);
        live.log(&json!({ "message": "a" }));
        stays.next().await.unwrap();
        stays.next().await.unwrap();
        let patch = stays.next().await.unwrap();
        let mut back = live.listen(Some(&last), None).unwrap();
        assert_eq!(told(&mut back).await, ("log", json!({ "message": "a" })));
        assert_eq!(back.next().await.unwrap().id, patch.id);
        let mut current = live.listen(Some(&patch.id), None).unwrap();
        assert_eq!(told(&mut current).await.0, "patch", "nothing was missed");
        for unknown in
            ["", "x", "00000000-1", &format!("{:08x}-999", live.run), &format!("{:08x}-", live.run)]
        {
            assert_eq!(told(&mut live.listen(Some(unknown), None).unwrap()).await.0, "snapshot", "{unknown}");
        }
        for n in 0..LINES_KEPT {
            live.log(&json!(n));
        }
        let mut late = live.listen(Some(&last), None).unwrap();
        assert_eq!(told(&mut late).await, ("log", json!(0)), "the line before it is gone");
        for n in 1..LINES_KEPT {
            assert_eq!(told(&mut late).await, ("log", json!(n)));
        }
        assert_eq!(told(&mut late).await.0, "snapshot", "patches are gone");
    }

    /// The only page of a browser that was asleep, or of a telephone that changed its network.
    #[tokio::test(start_paused = true)]
    async fn the_only_page_that_comes_back_after_a_while_has_missed_no_line() {
        let (live, looks) = live(true);
        let _running = running(&live);
        for away in [2, 30, 600] {
            let mut page = live.listen(None, None).unwrap();
            let known = page.next().await.unwrap().id;
            live.log(&json!("seen"));
            let known_line = page.next().await.unwrap().id;
            drop(page);
            live.log(&json!({ "away": away, "n": 1 }));
            tokio::time::sleep(TICK * away).await;
            let before = looks.load(Ordering::Relaxed);
            live.log(&json!({ "away": away, "n": 2 }));
            let mut back = live.listen(Some(&known_line), None).unwrap();
            assert_eq!(told(&mut back).await, ("log", json!({ "away": away, "n": 1 })));
            let second = back.next().await.unwrap();
            assert_eq!(
                (&*second.data, second.kind),
                (&*json!({ "away": away, "n": 2 }).to_string(), Kind::Log)
            );
            let picture = back.next().await.unwrap();
            assert_eq!(
                (picture.kind, picture.number),
                (Kind::Snapshot, second.number),
                "in the order of ids"
            );
            assert_eq!(looks.load(Ordering::Relaxed), before + 1, "nobody looked meanwhile");
            let mut earlier = live.listen(Some(&known), None).unwrap();
            assert_eq!(told(&mut earlier).await, ("log", json!("seen")));
        }
        let mut new = live.listen(None, None).unwrap();
        assert_eq!(told(&mut new).await.0, "snapshot", "who is new is told no old lines");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut_and_costs_the_others_nothing() {
        let (live, _) = live(false);
        let _running = running(&live);
        let (mut slow, mut quick) = (live.listen(None, None).unwrap(), live.listen(None, None).unwrap());
        for n in 0..=KEPT {
            live.log(&json!(n));
            while quick.next().await.unwrap().kind != Kind::Log {}
        }
        assert_eq!(slow.next().await.unwrap().kind, Kind::Snapshot);
        assert!(slow.next().await.is_none(), "what it missed is gone");
        assert_eq!(told(&mut quick).await.0, "patch");
    }

    #[test]
    fn no_more_listen_than_may() {
        let (live, _) = live(false);
        let client = |n: usize| Some(IpAddr::V4(Ipv4Addr::from(u32::try_from(n).unwrap())).into());
        let mut of_one: Vec<_> = (0..MOST_OF_ONE).map(|_| live.listen(None, client(0)).unwrap()).collect();
        assert_eq!(live.listen(None, client(0)).err(), Some(Crowded), "one address");
        of_one.pop();
        of_one.push(live.listen(None, client(0)).expect("a seat was given back"));
        let mut all: Vec<_> = (MOST_OF_ONE..MOST).map(|n| live.listen(None, client(n)).unwrap()).collect();
        assert_eq!(live.listen(None, client(MOST)).err(), Some(Crowded), "all together");
        assert!(live.listen(None, None).is_ok(), "an operator is not kept out");
        all.pop();
        assert!(live.listen(None, client(MOST)).is_ok());
    }
}
