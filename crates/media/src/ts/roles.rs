//! What the packets of each stream are for, so that most of them are known with one look to be of no interest.

use super::packet::Pid;

/// By stream.
#[derive(Clone, Debug)]
pub(super) struct Roles {
    of: Box<[u8; Pid::COUNT]>,
    /// Which are not [`Roles::NOTHING`].
    known: Vec<Pid>,
}

impl Default for Roles {
    fn default() -> Self {
        let mut roles = Self { of: Box::new([Self::NOTHING; Pid::COUNT]), known: Vec::new() };
        roles.add(Pid::PAT, Self::TABLE);
        roles
    }
}

impl Roles {
    /// It tells nothing about programmes.
    pub(super) const NOTHING: u8 = 0;
    /// It carries tables.
    pub(super) const TABLE: u8 = 1;
    /// It is one of our programme's streams, and counts as its life.
    pub(super) const OURS: u8 = 2;
    /// It is one of another programme's.
    pub(super) const RIVAL: u8 = 4;

    #[inline]
    pub(super) fn of(&self, pid: Pid) -> u8 {
        self.of.get(pid.index()).copied().unwrap_or(Self::NOTHING)
    }

    /// Forgets all roles but that of the PAT.
    pub(super) fn clear(&mut self) {
        for pid in self.known.drain(..) {
            if let Some(role) = self.of.get_mut(pid.index()) {
                *role = Self::NOTHING;
            }
        }
        self.add(Pid::PAT, Self::TABLE);
    }

    pub(super) fn add(&mut self, pid: Pid, role: u8) {
        if let Some(known) = self.of.get_mut(pid.index()) {
            *known |= role;
            self.known.push(pid);
        }
    }

    pub(super) fn remove(&mut self, role: u8) {
        for pid in &self.known {
            if let Some(known) = self.of.get_mut(pid.index()) {
                *known &= !role;
            }
        }
    }
}
