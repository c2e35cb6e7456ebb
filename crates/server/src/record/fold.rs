//! How often the same is written down when many ask for streams: the first of a kind in full, the rest as a number.
//!
//! Of each category and each client (an address group) the first [`MOST_OF_A_CLIENT`] of ten seconds are kept; the others
//! are counted, and "and 412 more" says so when the ten seconds are over. What is remembered is bounded, however many
//! clients there are: those that find no room are counted together.

use std::collections::HashMap;
use std::time::Duration;

use acemux_relay::admission::AddressGroup;
use tokio::time::Instant;

/// How long is counted before it is said how many there were.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// Kept of one client, of one category, in a window: more than one household brings about by switching channels.
const MOST_OF_A_CLIENT: usize = 20;

/// Kept of all clients, of one category, in a window.
const MOST_OF_A_CATEGORY: usize = 100;

/// Clients that are counted by themselves, in each category.
const MOST_CLIENTS: usize = 64;

/// The categories' windows.
#[derive(Debug, Default)]
pub(crate) struct Fold(HashMap<&'static str, Window>);

#[derive(Debug)]
struct Window {
    began: Instant,
    kept: usize,
    clients: HashMap<AddressGroup, Count>,
    /// Of clients beyond [`MOST_CLIENTS`].
    others: Count,
}

#[derive(Debug, Default)]
struct Count {
    kept: usize,
    more: u64,
    last: String,
}

/// What was not written down by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folded {
    /// The events' category.
    pub(crate) category: &'static str,
    /// Whose they were; `None`: of many.
    pub(crate) client: Option<AddressGroup>,
    /// How many.
    pub(crate) more: u64,
    /// What the last one said.
    pub(crate) last: String,
}

impl Fold {
    /// Whether one more is to be written down. What it says is remembered when it is not.
    pub(crate) fn admit(
        &mut self,
        category: &'static str,
        client: AddressGroup,
        now: Instant,
        says: impl FnOnce() -> String,
    ) -> bool {
        let window = self.0.entry(category).or_insert_with(|| Window::new(now));
        let has_room = window.kept < MOST_OF_A_CATEGORY;
        let count = window.count_of(client);
        if has_room && count.kept < MOST_OF_A_CLIENT {
            count.kept += 1;
            window.kept += 1;
            return true;
        }
        count.more += 1;
        count.last = says();
        false
    }

    /// What was counted in windows that are over, or in all of them.
    pub(crate) fn take(&mut self, now: Instant, is_last: bool) -> Vec<Folded> {
        let is_over =
            |_: &&'static str, window: &mut Window| is_last || now.duration_since(window.began) >= WINDOW;
        let over = self.0.extract_if(is_over);
        over.flat_map(|(category, window)| window.folded(category)).collect()
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { began: now, kept: 0, clients: HashMap::new(), others: Count::default() }
    }

    fn count_of(&mut self, client: AddressGroup) -> &mut Count {
        if self.clients.len() < MOST_CLIENTS || self.clients.contains_key(&client) {
            self.clients.entry(client).or_default()
        } else {
            &mut self.others
        }
    }

    fn folded(self, category: &'static str) -> impl Iterator<Item = Folded> {
        let clients = self.clients.into_iter().map(|(client, count)| (Some(client), count));
        let counts = clients.chain([(None, self.others)]).filter(|(_, count)| count.more > 0);
        counts.map(move |(client, Count { more, last, .. })| Folded { category, client, more, last })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(number: usize) -> AddressGroup {
        std::net::IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap())).into()
    }

    fn admit(fold: &mut Fold, category: &'static str, number: usize, times: usize) -> usize {
        let mut admit = || fold.admit(category, client(number), Instant::now(), || "why".to_owned());
        (0..times).filter(|_| admit()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_are_kept_and_the_rest_is_a_number_when_the_time_is_over() {
        let mut fold = Fold::default();
        assert_eq!(admit(&mut fold, "failed", 1, MOST_OF_A_CLIENT + 412), MOST_OF_A_CLIENT);
        assert_eq!(admit(&mut fold, "ended", 1, 3), 3, "another category");
        assert_eq!(admit(&mut fold, "failed", 2, 5), 5, "another client");
        tokio::time::advance(WINDOW.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(fold.take(Instant::now(), false), []);
        tokio::time::advance(Duration::from_millis(1)).await;
        let folded =
            Folded { category: "failed", client: Some(client(1)), more: 412, last: "why".to_owned() };
        assert_eq!(fold.take(Instant::now(), false), [folded]);
        assert_eq!(admit(&mut fold, "failed", 1, 1), 1, "and it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_clients_there_are_little_is_kept_and_remembered_and_all_is_counted() {
        const CLIENTS: usize = 10_000;
        let mut fold = Fold::default();
        let kept: usize = (0..CLIENTS).map(|number| admit(&mut fold, "failed", number, 3)).sum();
        assert!(kept <= MOST_OF_A_CATEGORY, "{kept}");
        let folded = fold.take(Instant::now(), true);
        assert!(folded.len() <= MOST_CLIENTS + 1, "{}", folded.len());
        let more: u64 = folded.iter().map(|folded| folded.more).sum();
        assert_eq!(usize::try_from(more).unwrap() + kept, CLIENTS * 3);
        assert!(fold.0.is_empty(), "nothing is remembered of what was said");
    }
}
