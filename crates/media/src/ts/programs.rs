//! Which programme is watched.
//!
//! The PAT is a list of candidates, and many a one in it is a remnant of the multiplex that the channel was cut from. The
//! first candidate whose PMT and whose picture (of radio the sound) have come is ours, and stays ours while it does: whatever
//! else is listed, in whatever order, under whatever number, changes nothing for who watches. Only when it is withdrawn, or
//! silent for long while another one plays, another one is taken.
#![warn(clippy::indexing_slicing)]

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::packet::{Packet, Pid};
use super::psi::{
    CHECKSUM, Listed, PROGRAM_ASSOCIATION, PROGRAM_MAP, Program, applies, number, place, program, programs,
};
use super::roles::Roles;
use super::section::{Sections, crc32, packets_of};
use super::trust::{Judgement, Trust};
use crate::clock::Moment;

/// Most candidates that are looked at: all that one section can list.
const MOST_CANDIDATES: usize = 253;
/// Most sections of a PAT that are kept.
const MOST_SECTIONS: usize = 4;
/// So long another programme may play while ours does not.
const SILENCE: Duration = Duration::from_secs(5);
/// So many packets of others in that time, or the source itself was silent.
const PACKETS_WITHOUT: u32 = 8;
/// So long ours may be missing in the list while another programme plays: its PMT may only have moved.
const UNLISTED: Duration = Duration::from_secs(1);
/// After so long without a picture any stream of a candidate will do, and any candidate where a certain one is wanted.
const PATIENCE: Duration = Duration::from_secs(2);

/// The tables as far as they have been seen, and what follows from them.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pat: List,
    /// In the order of the PAT.
    candidates: Vec<Candidate>,
    /// The streams that carry the candidates' PMTs.
    maps: Vec<(Pid, Sections)>,
    ours: Option<Ours>,
    /// What was watched before another source came: it is the same broadcast.
    wanted: Option<Listed>,
    roles: Roles,
    /// When the first list came.
    since: Option<Moment>,
    wrong_checksums: u64,
}

/// The PAT: what it said last, and how far it is believed.
#[derive(Clone, Debug, Default)]
struct List {
    sections: Sections,
    /// By their numbers, with a right checksum, whatever they came with. Most lists have one.
    known: [Vec<u8>; MOST_SECTIONS],
    trust: Trust,
}

#[derive(Clone, Debug)]
struct Candidate {
    listed: Listed,
    /// The section of the PAT that lists it.
    section: usize,
    /// What its PMT says, and the PMT.
    map: Option<(Program, Vec<u8>)>,
    trust: Trust,
    /// A PMT with its very number has come. Before that one with another number has to do, if nobody else is listed there.
    is_exact: bool,
}

/// The choice.
#[derive(Clone, Debug)]
struct Ours {
    program: Program,
    section: Vec<u8>,
    /// The last PAT that listed it.
    list: Vec<u8>,
    /// One of its streams has come.
    has_come: bool,
    /// What came of others since one of its streams last did.
    without: Option<Without>,
    /// Since when the PAT does not list it.
    unlisted: Option<Moment>,
}

/// Packets of other programmes.
#[derive(Clone, Copy, Debug)]
struct Without {
    since: Moment,
    packets: u32,
}

/// What the tables wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A PAT that lists anything.
    List,
    /// The PMT of the programme with this number, the first one that is listed.
    Map(u16),
    /// Any packet of the streams of the programme with this number.
    Streams(u16),
}

impl Tables {
    /// For another source of the same broadcast: nothing is known of it but which programme was watched.
    pub fn of_another_source(&self) -> Self {
        let ours = self.ours.as_ref().map(|ours| ours.program.listed());
        Self { wanted: ours.or(self.wanted), ..Self::default() }
    }

    /// Takes one packet; true when it has changed what the programme is.
    #[inline]
    pub fn take(&mut self, packet: Packet<'_>, now: Moment) -> bool {
        let role = self.roles.of(packet.pid());
        role != Roles::NOTHING && self.take_known(packet, role, now)
    }

    /// The programme, once it is chosen.
    pub fn program(&self) -> Option<&Program> {
        self.ours.as_ref().map(|ours| &ours.program)
    }

    /// The last PAT that listed the programme and its last PMT, in packets of their own.
    pub fn raw(&self) -> (Vec<u8>, Vec<u8>) {
        let Some(Ours { program, section, list, .. }) = &self.ours else { return Default::default() };
        (packets_of(Pid::PAT, list), packets_of(program.pmt, section))
    }

    /// Tables that came with a wrong checksum.
    pub fn wrong_checksums(&self) -> u64 {
        self.wrong_checksums
    }

    /// Whether some have come, and none that is believed lists a programme that is there.
    #[inline]
    pub fn are_doubted(&self) -> bool {
        self.ours.is_none() && self.wrong_checksums > 0
    }

    /// What has to come before there is a programme; `None` when there is one whose streams have come.
    pub fn missing(&self) -> Option<Missing> {
        if let Some(ours) = &self.ours {
            return (!ours.has_come).then_some(Missing::Streams(ours.program.number));
        }
        let Some(first) = self.candidates.first() else { return Some(Missing::List) };
        let mapped = self.candidates.iter().find(|candidate| candidate.map.is_some());
        Some(mapped.map_or(Missing::Map(first.listed.number), |known| Missing::Streams(known.listed.number)))
    }

    fn take_known(&mut self, packet: Packet<'_>, role: u8, now: Moment) -> bool {
        if role & Roles::TABLE != 0 {
            return self.take_table(packet, now);
        }
        if role & Roles::OURS != 0 && packet.has_payload() {
            self.ours_comes();
        }
        role & Roles::RIVAL != 0 && packet.has_payload() && self.take_rival(packet, now)
    }

    fn ours_comes(&mut self) {
        if let Some(ours) = &mut self.ours {
            (ours.has_come, ours.without) = (true, None);
        }
        // Nobody asks how long ago that was where there is no other to turn to.
        if self.candidates.len() < 2 {
            self.roles.remove(Roles::OURS);
        }
    }

    fn take_table(&mut self, packet: Packet<'_>, now: Moment) -> bool {
        let mut changed = false;
        if packet.pid() == Pid::PAT {
            let mut sections = std::mem::take(&mut self.pat.sections);
            sections.take(packet, |section| changed |= self.list(section, now));
            self.pat.sections = sections;
        } else if let Some(at) = self.maps.iter().position(|(pid, _)| *pid == packet.pid()) {
            let Some((pid, mut sections)) =
                self.maps.get_mut(at).map(|(pid, map)| (*pid, std::mem::take(map)))
            else {
                return false;
            };
            sections.take(packet, |section| changed |= self.map(pid, section, now));
            if let Some((_, map)) = self.maps.get_mut(at) {
                *map = sections;
            }
        }
        changed
    }

    /// A PAT says which candidates there are. What is known of those that stay is kept.
    fn list(&mut self, section: &[u8], now: Moment) -> bool {
        if section.first() != Some(&PROGRAM_ASSOCIATION) || !applies(section) {
            return false;
        }
        let judgement = self.pat.trust.judge(section, now);
        self.wrong_checksums += u64::from(judgement != Judgement::Right);
        let (at, last) = place(section);
        let Some(known) = self.pat.known.get_mut(usize::from(at)) else { return false };
        if judgement == Judgement::Damaged || is_alike(section, known) {
            return false;
        }
        self.since.get_or_insert(now);
        mended(section, known);
        self.pat.known.iter_mut().skip(usize::from(last) + 1).for_each(Vec::clear);
        self.read_lists();
        self.read_maps();
        if let Some(ours) = &mut self.ours {
            let listed = ours.program.listed();
            if let Some(candidate) = self.candidates.iter().find(|candidate| candidate.listed == listed) {
                ours.is_listed_in(self.pat.section(candidate));
            } else {
                ours.unlisted.get_or_insert(now);
            }
        }
        self.roles_change();
        self.choose_the_only_one()
    }

    /// Every programme that is listed, once.
    fn read_lists(&mut self) {
        let known = std::mem::take(&mut self.candidates).into_iter();
        let mut known: HashMap<_, _> = known.map(|candidate| (candidate.listed, candidate)).collect();
        let mut read = HashSet::new();
        let lists = self.pat.known.iter().enumerate();
        let listed = lists.flat_map(|(at, section)| programs(section).map(move |listed| (at, listed)));
        for (section, listed) in listed.filter(|(_, listed)| read.insert(*listed)).take(MOST_CANDIDATES) {
            let candidate = known.remove(&listed).unwrap_or_else(|| Candidate::new(listed));
            self.candidates.push(Candidate { section, ..candidate });
        }
    }

    /// Every stream that a PMT may come in, once.
    fn read_maps(&mut self) {
        let mut known: HashMap<_, _> = std::mem::take(&mut self.maps).into_iter().collect();
        let mut read = HashSet::new();
        for pid in self.candidates.iter().map(|candidate| candidate.listed.pmt) {
            if read.insert(pid) {
                self.maps.push((pid, known.remove(&pid).unwrap_or_default()));
            }
        }
    }

    /// A PMT came in the stream `pid`.
    fn map(&mut self, pid: Pid, section: &[u8], now: Moment) -> bool {
        if section.first() != Some(&PROGRAM_MAP) || !applies(section) {
            return false;
        }
        let Some(candidate) = self.meant(pid, section).and_then(|at| self.candidates.get_mut(at)) else {
            return false;
        };
        let judgement = candidate.trust.judge(section, now);
        self.wrong_checksums += u64::from(judgement != Judgement::Right);
        let is_known = candidate.map.as_ref().is_some_and(|(_, known)| is_alike(section, known));
        if judgement == Judgement::Damaged || is_known {
            return false;
        }
        // One without streams says nothing that anybody could watch.
        let Some(program) = program(candidate.listed, section).filter(|program| !program.streams.is_empty())
        else {
            return false;
        };
        candidate.is_exact = number(section) == Some(candidate.listed.number);
        let mut kept = Vec::new();
        mended(section, &mut kept);
        candidate.map = Some((program.clone(), kept.clone()));
        let list = self.pat.section(candidate).to_vec();
        let changed = self.is_ours(&program) && self.becomes(program, kept, &list);
        self.roles_change();
        self.choose_the_only_one() || changed
    }

    /// The candidate that a PMT is of. One with a number that nobody has there is meant for the only one that is listed
    /// there, until that one's own comes.
    fn meant(&self, pid: Pid, section: &[u8]) -> Option<usize> {
        let number = number(section)?;
        let mut there =
            self.candidates.iter().enumerate().filter(|(_, candidate)| candidate.listed.pmt == pid);
        if let Some((at, _)) = there.clone().find(|(_, candidate)| candidate.listed.number == number) {
            return Some(at);
        }
        let (at, only) = there.next().filter(|(_, candidate)| !candidate.is_exact)?;
        let is_elsewhere_too = there.next().is_some();
        (!is_elsewhere_too && only.listed.pmt == pid).then_some(at)
    }

    /// Whether this is ours, as it is now: the same entry, or the one that has taken its place.
    fn is_ours(&self, program: &Program) -> bool {
        let Some(ours) = &self.ours else { return false };
        let (known, listed) = (&ours.program, program.listed());
        if known.listed() == listed {
            return true;
        }
        let same_stream = known.leading().is_some_and(|leading| program.carries(leading.pid));
        ours.unlisted.is_some() && (known.number == listed.number || known.pmt == listed.pmt || same_stream)
    }

    /// Ours is this now. True when it is another than before.
    fn becomes(&mut self, program: Program, section: Vec<u8>, list: &[u8]) -> bool {
        let Some(ours) = &mut self.ours else { return false };
        let changed = ours.program != program;
        (ours.program, ours.section) = (program, section);
        ours.is_listed_in(list);
        changed
    }

    /// Where nothing else is listed there is nothing to wait for.
    fn choose_the_only_one(&mut self) -> bool {
        let is_only = matches!(&self.candidates[..], [only] if only.map.is_some());
        is_only && self.ours.is_none() && self.choose(0, false)
    }

    /// A packet of a candidate that is not ours.
    fn take_rival(&mut self, packet: Packet<'_>, now: Moment) -> bool {
        if self.ours.as_mut().is_some_and(|ours| ours.is_good(now)) {
            return false;
        }
        let has_waited = self.since.is_some_and(|since| now.since(since) >= PATIENCE);
        let is_wanted = |listed: Listed| self.wanted.is_none_or(|wanted| wanted == listed);
        let wanted_is_listed = self.candidates.iter().any(|candidate| is_wanted(candidate.listed));
        let plays = |candidate: &Candidate| {
            let leads = candidate.leads(packet) && !packet.hides_its_unit();
            let is_in_turn = is_wanted(candidate.listed) || !wanted_is_listed;
            (leads && is_in_turn) || (has_waited && candidate.carries(packet.pid()))
        };
        let ours = self.ours.as_ref().map(|ours| ours.program.listed());
        let best =
            self.candidates.iter().position(|candidate| ours != Some(candidate.listed) && plays(candidate));
        best.is_some_and(|at| self.choose(at, true))
    }

    fn choose(&mut self, at: usize, has_come: bool) -> bool {
        let Some(candidate) = self.candidates.get(at) else { return false };
        let Some((program, section)) = candidate.map.clone() else { return false };
        let list = self.pat.section(candidate).to_vec();
        self.ours = Some(Ours { program, section, list, has_come, without: None, unlisted: None });
        self.roles_change();
        true
    }

    fn roles_change(&mut self) {
        self.roles.clear();
        for (pid, _) in &self.maps {
            self.roles.add(*pid, Roles::TABLE);
        }
        let ours = self.ours.as_ref();
        for pid in ours.into_iter().flat_map(|ours| ours.program.played()) {
            self.roles.add(pid, Roles::OURS);
        }
        let is_ours = |listed: Listed| ours.is_some_and(|ours| ours.program.listed() == listed);
        for candidate in self.candidates.iter().filter(|candidate| !is_ours(candidate.listed)) {
            for pid in candidate.map.iter().flat_map(|(program, _)| program.played()) {
                self.roles.add(pid, Roles::RIVAL);
            }
        }
    }
}

impl List {
    /// The one that lists it.
    fn section(&self, candidate: &Candidate) -> &[u8] {
        self.known.get(candidate.section).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Ours {
    fn is_listed_in(&mut self, list: &[u8]) {
        self.list.clear();
        self.list.extend_from_slice(list);
        self.unlisted = None;
    }

    /// A packet of another one has come. Whether ours is listed and comes all the same.
    fn is_good(&mut self, now: Moment) -> bool {
        let without = self.without.get_or_insert(Without { since: now, packets: 0 });
        without.packets = without.packets.saturating_add(1);
        let is_silent = without.packets > PACKETS_WITHOUT && now.since(without.since) >= SILENCE;
        let is_withdrawn = self.unlisted.is_some_and(|since| now.since(since) >= UNLISTED);
        self.has_come && !is_silent && !is_withdrawn
    }
}

impl Candidate {
    fn new(listed: Listed) -> Self {
        Self { listed, section: 0, map: None, trust: Trust::default(), is_exact: false }
    }

    fn carries(&self, pid: Pid) -> bool {
        self.map.as_ref().is_some_and(|(program, _)| program.carries(pid))
    }

    /// Whether the packet is of its picture, or in radio of its sound.
    fn leads(&self, packet: Packet<'_>) -> bool {
        let leading = self.map.as_ref().and_then(|(program, _)| program.leading());
        leading.is_some_and(|leading| leading.pid == packet.pid())
    }
}

/// Whether both say the same, whatever their checksums.
fn is_alike(one: &[u8], other: &[u8]) -> bool {
    let content = |section: &[u8]| section.len().saturating_sub(CHECKSUM);
    one.get(..content(one)) == other.get(..content(other)) && !other.is_empty()
}

/// The section with a right checksum: who is given it checks it.
fn mended(section: &[u8], into: &mut Vec<u8>) {
    let content = section.get(..section.len().saturating_sub(CHECKSUM)).unwrap_or_default();
    into.clear();
    into.extend_from_slice(content);
    into.extend_from_slice(&crc32(content).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::PACKET_LEN;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ONE: (u16, u16) = (1, 0x30);
    const TWO: (u16, u16) = (2, 0x40);

    /// A receiver that is given tables and streams, ten of either a second.
    #[derive(Default)]
    struct Receiver {
        tables: Tables,
        now: Moment,
        changes: usize,
    }

    impl Receiver {
        fn takes(&mut self, bytes: &[u8]) {
            self.now.arrival += SECOND / 10;
            for packet in bytes.chunks(PACKET_LEN) {
                self.changes += usize::from(self.tables.take(Packet::parse(packet).unwrap(), self.now));
            }
        }

        fn lists(&mut self, programs: &[(u16, u16)]) {
            self.takes(&packets_of(Pid::PAT, &pat(programs)));
        }

        fn maps(&mut self, pid: u16, section: &[u8]) {
            self.takes(&packets_of(Pid::new(pid), section));
        }

        fn gets(&mut self, pid: u16, times: usize) {
            for _ in 0..times {
                self.takes(&packets_of(Pid::new(pid), &[]));
            }
        }

        /// The picture of the programme that is watched.
        fn watched(&self) -> Option<u16> {
            self.tables.program().and_then(Program::leading).map(|stream| stream.pid.get())
        }
    }

    fn section(id: u8, number: u16, flags: u8, body: &[u8]) -> Vec<u8> {
        section_of(id, number, flags, (0, 0), body)
    }

    /// With its place in the table, and the last one's.
    fn section_of(id: u8, number: u16, flags: u8, place: (u8, u8), body: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(9 + body.len()).unwrap().to_be_bytes();
        let [number_high, number_low] = number.to_be_bytes();
        let head = [id, 0xb0 | high, low, number_high, number_low, flags, place.0, place.1];
        let mut section = [&head, body].concat();
        section.extend_from_slice(&crc32(&section).to_be_bytes());
        section
    }

    fn pat(programs: &[(u16, u16)]) -> Vec<u8> {
        pat_of((0, 0), programs)
    }

    fn pat_of(place: (u8, u8), programs: &[(u16, u16)]) -> Vec<u8> {
        let entry = |(number, pid): &(u16, u16)| {
            let [high, low] = pid.to_be_bytes();
            let [number_high, number_low] = number.to_be_bytes();
            [number_high, number_low, 0xe0 | high, low]
        };
        section_of(0, 7, 0xc1, place, &programs.iter().flat_map(entry).collect::<Vec<_>>())
    }

    /// A PMT of one picture, with so many bytes of descriptors.
    fn pmt(number: u16, video: u16, descriptors: u8) -> Vec<u8> {
        let [high, low] = video.to_be_bytes();
        let mut body = vec![0xe0 | high, low, 0xf0, descriptors];
        body.resize(4 + usize::from(descriptors), 0);
        body.extend_from_slice(&[0x1b, 0xe0 | high, low, 0xf0, 0]);
        section(2, number, 0xc1, &body)
    }

    fn damaged(section: &[u8]) -> Vec<u8> {
        let mut damaged = section.to_vec();
        *damaged.last_mut().unwrap() ^= 0xff;
        damaged
    }

    /// Watching programme one, with two beside it.
    fn watching() -> Receiver {
        let mut receiver = Receiver::default();
        receiver.lists(&[ONE, TWO]);
        receiver.maps(0x30, &pmt(1, 0x101, 0));
        receiver.gets(0x101, 1);
        assert_eq!(receiver.watched(), Some(0x101));
        receiver
    }

    #[test]
    fn the_only_programme_is_watched_as_soon_as_it_is_known_and_its_tables_are_passed_on() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.tables.missing(), Some(Missing::List));
        receiver.lists(&[ONE]);
        assert_eq!(receiver.tables.missing(), Some(Missing::Map(1)));
        let long = pmt(1, 0x101, 200);
        receiver.maps(0x30, &long);
        assert_eq!((receiver.watched(), receiver.tables.missing()), (Some(0x101), Some(Missing::Streams(1))));
        assert_eq!(receiver.tables.raw().1, packets_of(Pid::new(0x30), &long));
        receiver.gets(0x101, 1);
        assert_eq!(receiver.tables.missing(), None);
    }

    #[test]
    fn of_several_the_first_one_that_is_really_there_is_watched() {
        let dead: [fn(&mut Receiver); 3] = [
            |_absent| {},
            |empty| empty.maps(0x30, &section(2, 1, 0xc1, &[0xff, 0xff, 0xf0, 0])),
            |silent| silent.maps(0x30, &pmt(1, 0x101, 0)),
        ];
        for make in dead {
            for listed in [[ONE, TWO], [TWO, ONE]] {
                let mut receiver = Receiver::default();
                receiver.lists(&listed);
                make(&mut receiver);
                receiver.maps(0x40, &pmt(2, 0x102, 0));
                assert_eq!(receiver.watched(), None);
                receiver.gets(0x102, 1);
                assert_eq!(receiver.watched(), Some(0x102));
            }
        }
    }

    #[test]
    fn a_scrambled_programme_is_not_preferred() {
        let mut receiver = Receiver::default();
        receiver.lists(&[ONE, TWO]);
        receiver.maps(0x30, &pmt(1, 0x101, 0));
        receiver.maps(0x40, &pmt(2, 0x102, 0));
        let mut scrambled = packets_of(Pid::new(0x101), &[]);
        scrambled[3] |= 0x80;
        receiver.takes(&scrambled);
        assert_eq!(receiver.watched(), None);
        receiver.gets(0x102, 1);
        assert_eq!(receiver.watched(), Some(0x102));
    }

    #[test]
    fn two_maps_may_share_their_packets() {
        let both = [pmt(2, 0x102, 0), pmt(1, 0x101, 0)].concat();
        let mut receiver = Receiver::default();
        receiver.lists(&[ONE, (2, 0x30)]);
        receiver.maps(0x30, &both);
        receiver.gets(0x102, 1);
        assert_eq!(receiver.watched(), Some(0x102));
        receiver.gets(0x101, 20);
        receiver.maps(0x30, &both);
        assert_eq!((receiver.watched(), receiver.changes), (Some(0x102), 1));
        let mut receiver = Receiver::default();
        receiver.lists(&[ONE]);
        receiver.maps(0x30, &both);
        assert_eq!(receiver.watched(), Some(0x101), "the other one is not listed");
    }

    #[test]
    fn what_else_is_listed_in_whatever_order_and_number_changes_nothing() {
        for listed in [vec![TWO, ONE], vec![(9, 0x90), ONE], vec![ONE], vec![ONE, TWO, (3, 0x50)]] {
            let mut receiver = watching();
            receiver.lists(&listed);
            receiver.maps(0x40, &pmt(2, 0x102, 0));
            receiver.gets(0x102, 1);
            receiver.gets(0x101, 1);
            assert_eq!((receiver.watched(), receiver.changes), (Some(0x101), 1), "{listed:?}");
        }
    }

    #[test]
    fn a_list_in_several_sections_is_read_as_one() {
        let dead: Vec<(u16, u16)> = (10..40).map(|number| (number, 0x400 + number)).collect();
        for (first, second) in [(&dead[..], &[TWO][..]), (&[TWO], &dead)] {
            let sections = [pat_of((0, 1), first), pat_of((1, 1), second)];
            let mut receiver = Receiver::default();
            for _ in 0..30 {
                for section in &sections {
                    receiver.takes(&packets_of(Pid::PAT, section));
                }
                receiver.maps(0x40, &pmt(2, 0x102, 0));
                receiver.gets(0x102, 1);
            }
            assert_eq!((receiver.watched(), receiver.changes), (Some(0x102), 1));
            let listing = &sections[usize::from(first.len() > 1)];
            assert_eq!(receiver.tables.raw().0, packets_of(Pid::PAT, listing));
            // It becomes shorter: what stood in the second section is listed no more.
            receiver.lists(first);
            assert_eq!(receiver.tables.candidates.len(), first.len());
        }
    }

    #[test]
    fn whoever_counts_sections_in_his_own_way_is_understood() {
        for place in [(1, 1), (0, 1), (1, 0), (3, 3)] {
            let mut receiver = Receiver::default();
            receiver.takes(&packets_of(Pid::PAT, &pat_of(place, &[ONE])));
            let usual = pmt(1, 0x101, 0);
            let map = section_of(2, 1, 0xc1, place, &usual[8..usual.len() - CHECKSUM]);
            receiver.maps(0x30, &map);
            assert_eq!(receiver.watched(), Some(0x101), "{place:?}");
        }
    }

    #[test]
    fn the_last_of_as_many_programmes_as_a_list_can_have_is_found() {
        let mut listed: Vec<(u16, u16)> = (10..262).map(|number| (number, 0x400 + number)).collect();
        listed.push(TWO);
        let mut receiver = Receiver::default();
        receiver.lists(&listed);
        receiver.maps(0x40, &pmt(2, 0x102, 0));
        receiver.gets(0x102, 1);
        assert_eq!(receiver.watched(), Some(0x102));
    }

    #[test]
    fn a_programme_keeps_its_viewers_when_its_number_or_the_place_of_its_map_changes() {
        // The list, and where the map comes with which number.
        for (listed, pid, number) in [
            ([(1, 0x31), TWO], 0x31, 1),
            ([(5, 0x30), TWO], 0x30, 5),
            ([(5, 0x30), TWO], 0x30, 1),
            ([(1, 0x20), (5, 0x30)], 0x30, 1),
            ([(7, 0x70), TWO], 0x70, 7),
        ] {
            let mut receiver = watching();
            receiver.lists(&listed);
            for _ in 0..100 {
                receiver.gets(0x101, 1);
                receiver.maps(pid, &pmt(number, 0x101, 0));
                receiver.maps(0x40, &pmt(2, 0x102, 0));
                receiver.gets(0x102, 1);
            }
            assert_eq!(receiver.watched(), Some(0x101), "{listed:?}");
            assert!(receiver.tables.ours.as_ref().is_some_and(|ours| ours.unlisted.is_none()), "{listed:?}");
        }
    }

    #[test]
    fn one_that_is_withdrawn_or_silent_gives_way_to_another_that_plays() {
        let mut receiver = watching();
        receiver.lists(&[TWO]);
        assert_eq!(receiver.watched(), Some(0x101), "until the other one plays");
        receiver.maps(0x40, &pmt(2, 0x102, 0));
        receiver.gets(0x102, 15);
        assert_eq!(receiver.watched(), Some(0x102));

        let mut receiver = watching();
        receiver.maps(0x40, &pmt(2, 0x102, 0));
        receiver.now.arrival += 100 * SECOND;
        receiver.gets(0x102, 40);
        assert_eq!(receiver.watched(), Some(0x101), "the source itself was silent");
        receiver.gets(0x102, 15);
        assert_eq!(receiver.watched(), Some(0x102));
    }

    #[test]
    fn another_source_of_the_broadcast_is_watched_for_the_same_programme() {
        let mut receiver = watching();
        receiver.tables = receiver.tables.of_another_source();
        receiver.lists(&[TWO, ONE]);
        receiver.maps(0x40, &pmt(2, 0x102, 0));
        receiver.gets(0x102, 5);
        assert_eq!(receiver.watched(), None);
        receiver.maps(0x30, &pmt(1, 0x101, 0));
        receiver.gets(0x101, 1);
        assert_eq!(receiver.watched(), Some(0x101));

        receiver.tables = receiver.tables.of_another_source();
        receiver.lists(&[TWO, ONE]);
        receiver.maps(0x40, &pmt(2, 0x102, 0));
        receiver.gets(0x102, 25);
        assert_eq!(receiver.watched(), Some(0x102), "rather than nothing");
    }

    #[test]
    fn tables_that_are_damaged_only_announced_or_endless_change_nothing() {
        let mut receiver = watching();
        let announced = section(2, 1, 0xc0, &[0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 2, 0xf0, 0]);
        let mut hit = pmt(1, 0x103, 0);
        hit[10] ^= 1;
        for section in [&hit[..], &announced, &section(2, 1, 0xc1, &[0; 3000])] {
            receiver.maps(0x30, section);
        }
        assert_eq!((receiver.watched(), receiver.changes), (Some(0x101), 1));
    }

    #[test]
    fn checksums_that_are_always_wrong_are_believed_after_a_while_counted_and_passed_on_mended() {
        for (bad_pat, bad_pmt) in [(true, false), (false, true), (true, true)] {
            let (list, map) = (pat(&[ONE]), pmt(1, 0x101, 0));
            let sent =
                |section: &[u8], is_bad: bool| if is_bad { damaged(section) } else { section.to_vec() };
            let mut receiver = Receiver::default();
            let mut came_after = 0;
            while receiver.watched().is_none() {
                receiver.takes(&packets_of(Pid::PAT, &sent(&list, bad_pat)));
                receiver.maps(0x30, &sent(&map, bad_pmt));
                came_after += 1;
                assert!(came_after < 30);
            }
            assert!(came_after > 10, "not at once");
            assert!(receiver.tables.wrong_checksums() >= 10);
            assert_eq!(
                receiver.tables.raw(),
                (packets_of(Pid::PAT, &list), packets_of(Pid::new(0x30), &map))
            );
        }
    }

    #[test]
    fn damage_that_is_never_the_same_is_never_believed() {
        let mut receiver = Receiver::default();
        receiver.lists(&[ONE]);
        for wrong in 0..200 {
            let mut map = pmt(1, 0x101, 0);
            map[14] ^= wrong | 1;
            receiver.maps(0x30, &map);
        }
        assert_eq!(receiver.watched(), None);
    }

    #[test]
    fn lengths_that_lie_cost_what_is_behind_them() {
        let body = [0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 1, 0xf0, 0, 0x0f, 0xe1, 2, 0xff, 0xff, 0x0a];
        let mut receiver = Receiver::default();
        receiver.lists(&[ONE]);
        receiver.maps(0x30, &section(2, 1, 0xc1, &body));
        let streams = receiver.tables.program().unwrap().streams.iter().map(|stream| stream.pid.get());
        assert_eq!(streams.collect::<Vec<_>>(), [0x101, 0x102]);
    }

    proptest! {
        /// Whatever is listed beside it, and in whatever order all that comes.
        #[test]
        fn the_one_programme_that_is_there_is_found(
            listed in prop::collection::vec((1..20_u16, 0x20..0x40_u16), 0..12),
            at in 0..12_usize,
            order in Just((0..60_usize).collect::<Vec<_>>()).prop_shuffle(),
            silent in prop::collection::vec((1..20_u16, 0x20..0x40_u16, 0x300..0x310_u16), 0..8),
        ) {
            let mut listed = listed;
            listed.retain(|(number, _)| *number != 10);
            listed.insert(at.min(listed.len()), (10, 0x50));
            let mut receiver = Receiver::default();
            receiver.lists(&listed);
            for step in order {
                match silent.get(step % 10).filter(|_| step % 10 < 8) {
                    Some((number, pid, video)) if *number != 10 => receiver.maps(*pid, &pmt(*number, *video, 0)),
                    _ if step % 2 == 0 => receiver.maps(0x50, &pmt(10, 0x101, 0)),
                    _ => receiver.gets(0x101, 1),
                }
            }
            receiver.maps(0x50, &pmt(10, 0x101, 0));
            receiver.gets(0x101, 1);
            prop_assert_eq!(receiver.watched(), Some(0x101));
        }

        #[test]
        fn arbitrary_sections_do_no_harm(
            sections in prop::collection::vec((0..4_usize, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()), 0..60),
        ) {
            let mut receiver = watching();
            for (pid, body, is_map) in sections {
                let pid = [0, 0x30, 0x40, 0x101][pid];
                receiver.maps(pid, &section(if is_map { 2 } else { 0 }, 1, 0xc1, &body));
                receiver.maps(pid, &body);
            }
            prop_assert!(receiver.tables.candidates.len() <= MOST_CANDIDATES);
        }
    }
}
