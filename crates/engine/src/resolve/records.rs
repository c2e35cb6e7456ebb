//! What is known of each hash.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Lesson;
use crate::content::{ContentId, Hash, Infohash};
use crate::family::Family;
use crate::start::StartBy;

/// Hashes remembered, content ids and infohashes; around 4 MiB. Public lists of channels have a few thousand entries.
const CAPACITY: usize = 20_000;

/// Content ids kept for one infohash.
const MOST_NAMES: usize = 8;

/// Who says which infohash a hash stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// An engine that looked it up.
    LookUp,
    /// A start that delivered.
    Start,
}

impl Witness {
    /// As the pages and the database say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LookUp => "look_up",
            Self::Start => "start",
        }
    }

    /// The one that is written so.
    pub fn named(name: &str) -> Option<Self> {
        [Self::LookUp, Self::Start].into_iter().find(|witness| witness.as_str() == name)
    }
}

/// What is known of one hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What it stands for, and who said so; itself when it is an infohash.
    pub infohash: Option<(Infohash, Witness)>,
    /// Of an infohash: the content ids that were found to lead to it, the last one last.
    pub content_ids: Vec<Hash>,
    /// By what the channel was started when it last played, by family.
    pub delivered: BTreeMap<Family, StartBy>,
}

/// All of them; the oldest ones go.
#[derive(Debug, Default)]
pub(super) struct Records {
    all: HashMap<Hash, Record>,
    /// The order in which they came.
    order: VecDeque<Hash>,
}

impl Records {
    pub(super) fn get(&self, hash: Hash) -> Option<&Record> {
        self.all.get(&hash)
    }

    pub(super) fn infohash(&self, hash: Hash) -> Option<Infohash> {
        self.get(hash)?.infohash.map(|(infohash, _)| infohash)
    }

    /// False when it was known.
    pub(super) fn learn(&mut self, lesson: &Lesson) -> bool {
        match lesson {
            Lesson::Is { hash, infohash, witness } => self.is(*hash, *infohash, *witness),
            Lesson::Delivers { channel, family, by } => {
                self.enter(*channel).delivered.insert(*family, *by) != Some(*by)
            }
            Lesson::Forgotten(hashes) => {
                self.order.retain(|hash| !hashes.contains(hash));
                hashes.iter().filter(|hash| self.all.remove(hash).is_some()).count() > 0
            }
        }
    }

    /// What a content id leads to is an infohash, whoever has said so.
    fn is(&mut self, hash: Hash, infohash: Infohash, witness: Witness) -> bool {
        let known = self.infohash(hash);
        if known == Some(infohash) {
            return false;
        }
        if let Some(before) = known.filter(|before| before.hash() != hash) {
            self.enter(before.hash()).content_ids.retain(|id| *id != hash);
        }
        self.enter(hash).infohash = Some((infohash, witness));
        if infohash.hash() != hash {
            let record = self.enter(infohash.hash());
            record.infohash = Some((infohash, witness));
            record.content_ids.push(hash);
            let surplus = record.content_ids.len().saturating_sub(MOST_NAMES);
            record.content_ids.drain(..surplus);
        }
        true
    }

    fn enter(&mut self, hash: Hash) -> &mut Record {
        if !self.all.contains_key(&hash) {
            self.order.push_back(hash);
            if self.order.len() > CAPACITY
                && let Some(oldest) = self.order.pop_front()
            {
                self.all.remove(&oldest);
            }
        }
        self.all.entry(hash).or_default()
    }

    /// Every hash of the channel that this one belongs to.
    pub(super) fn names_of(&self, hash: Hash) -> Vec<Hash> {
        let infohash = self.infohash(hash).map(Infohash::hash);
        let content_ids = infohash.and_then(|infohash| self.get(infohash)).map(|record| &record.content_ids);
        let mut names: Vec<Hash> =
            content_ids.into_iter().flatten().copied().chain(infohash).chain([hash]).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.all.contains_key(name));
        names
    }

    pub(super) fn names(&self, content: ContentId, family: Family) -> Vec<StartBy> {
        let (mut names, record) = match content {
            ContentId::Id(hash) => (names_of_a_value(hash, family), self.get(hash)),
            ContentId::Infohash(given) => {
                // It may have turned out to be a content id.
                let infohash = self.infohash(given.hash()).unwrap_or(given);
                let record = self.get(infohash.hash());
                (names_of_a_channel(infohash, record, family), record)
            }
        };
        if let Some(delivered) = record.and_then(|record| record.delivered.get(&family)) {
            names.retain(|name| name != delivered);
            names.insert(0, *delivered);
        }
        names.truncate(MOST_TRIED);
        names
    }
}

/// Names by which one start is tried on one engine.
const MOST_TRIED: usize = 2;

/// Nobody could say what it is.
fn names_of_a_value(hash: Hash, family: Family) -> Vec<StartBy> {
    let as_infohash = (!family.facts().runs_away_by_infohash).then(|| StartBy::Infohash(Infohash::new(hash)));
    [StartBy::ContentId(hash)].into_iter().chain(as_infohash).collect()
}

/// The closed engine loads an infohash without asking its directory first, and what it refuses by one name it refuses by
/// the other. The open one needs the content id. What was only given as an infohash may be a content id after all.
fn names_of_a_channel(infohash: Infohash, record: Option<&Record>, family: Family) -> Vec<StartBy> {
    let by_infohash = StartBy::Infohash(infohash);
    let content_id = record.and_then(|record| record.content_ids.last());
    match (content_id.map(|id| StartBy::ContentId(*id)), family) {
        (Some(_), Family::Acestream) => vec![by_infohash],
        (Some(by_id), _) if family.facts().runs_away_by_infohash => vec![by_id],
        (Some(by_id), _) => vec![by_id, by_infohash],
        (None, _) if record.is_some_and(|record| record.infohash.is_some()) => vec![by_infohash],
        (None, _) => vec![by_infohash, StartBy::ContentId(infohash.hash())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWARM: Infohash = Infohash::new(Hash::new([7; 20]));
    const ID: Hash = Hash::new([9; 20]);

    fn is(hash: Hash) -> Lesson {
        Lesson::Is { hash, infohash: SWARM, witness: Witness::LookUp }
    }

    fn by_id() -> StartBy {
        StartBy::ContentId(ID)
    }

    fn by_infohash() -> StartBy {
        StartBy::Infohash(SWARM)
    }

    #[test]
    fn a_content_id_and_its_infohash_are_one_channel() {
        let mut records = Records::default();
        assert!(records.learn(&is(ID)) && !records.learn(&is(ID)));
        assert_eq!([ID, SWARM.hash()].map(|hash| records.infohash(hash)), [Some(SWARM); 2]);
        for hash in [ID, SWARM.hash()] {
            assert_eq!(records.names_of(hash), [SWARM.hash(), ID]);
        }
        let names = records.names_of(ID);
        assert!(records.learn(&Lesson::Forgotten(names)));
        assert!(records.all.is_empty() && records.order.is_empty());
        assert!(records.names_of(ID).is_empty());
    }

    #[test]
    fn each_family_is_started_by_the_name_it_plays_by() {
        let mut records = Records::default();
        let channel = ContentId::Infohash(SWARM);
        let given = [by_infohash(), StartBy::ContentId(SWARM.hash())];
        for family in Family::ALL {
            assert_eq!(records.names(channel, family), given, "nothing is known: as it was given");
        }
        records.learn(&is(ID));
        assert_eq!(records.names(channel, Family::Acestream), [by_infohash()]);
        assert_eq!(records.names(channel, Family::Outpace), [by_id()]);
        assert_eq!(records.names(channel, Family::Unknown), [by_id(), by_infohash()]);
        let lesson = Lesson::Delivers { channel: SWARM.hash(), family: Family::Outpace, by: by_infohash() };
        assert!(records.learn(&lesson) && !records.learn(&lesson));
        assert_eq!(records.names(channel, Family::Outpace), [by_infohash(), by_id()]);
        assert_eq!(records.names(channel, Family::Unknown), [by_id(), by_infohash()]);
    }

    #[test]
    fn what_was_given_as_an_infohash_and_is_a_content_id_is_started_by_the_channels_names() {
        let mut records = Records::default();
        records.learn(&is(ID));
        let given = ContentId::Infohash(Infohash::new(ID));
        for family in Family::ALL {
            let of_the_channel = records.names(ContentId::Infohash(SWARM), family);
            assert_eq!(records.names(given, family), of_the_channel, "{family}");
        }
        let lesson = Lesson::Delivers { channel: SWARM.hash(), family: Family::Outpace, by: by_infohash() };
        records.learn(&lesson);
        assert_eq!(records.names(given, Family::Outpace), [by_infohash(), by_id()]);
    }

    #[test]
    fn a_value_that_nobody_can_place_is_a_content_id_first() {
        let records = Records::default();
        let value = ContentId::Id(ID);
        assert_eq!(records.names(value, Family::Outpace), [by_id()], "it would run away");
        for family in [Family::Acestream, Family::Unknown] {
            assert_eq!(records.names(value, family), [by_id(), StartBy::Infohash(Infohash::new(ID))]);
        }
    }

    #[test]
    fn a_content_id_that_leads_elsewhere_now_is_no_name_of_the_former_channel() {
        let (mut records, other) = (Records::default(), Infohash::new(Hash::new([8; 20])));
        records.learn(&is(ID));
        records.learn(&Lesson::Is { hash: ID, infohash: other, witness: Witness::Start });
        assert_eq!(records.names(ContentId::Infohash(SWARM), Family::Outpace), [by_infohash()]);
        assert_eq!(records.names(ContentId::Infohash(other), Family::Outpace), [by_id()]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut records = Records::default();
        for n in 0..=u32::try_from(CAPACITY).unwrap() {
            let mut bytes = [1; 20];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            let infohash = Infohash::new(Hash::new(bytes));
            records.learn(&Lesson::Is { hash: infohash.hash(), infohash, witness: Witness::LookUp });
        }
        assert_eq!((records.all.len(), records.order.len()), (CAPACITY, CAPACITY));
    }
}
