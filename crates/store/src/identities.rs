//! Which infohash an id stands for, and by which name a channel has played: remembered, so that the first viewer after a
//! restart does not wait for an engine to find out again.

use rusqlite::{Connection, params};

use crate::column;
use crate::store::{Store, StoreError};

/// Rows that are remembered in each of the two tables; the least recently used ones go.
const MOST: usize = 10_000;

/// An id, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A content id or an infohash, 40 hex digits.
    pub id: String,
    /// The infohash, 40 hex digits; the same when the id is one.
    pub infohash: String,
    /// Who said so.
    pub witness: String,
}

/// By which name engines of a family have played a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The infohash, or the id that was given while that is not known.
    pub channel: String,
    /// The engines' family.
    pub family: String,
    /// What the name is.
    pub form: Form,
    /// The name, 40 hex digits.
    pub hash: String,
}

/// What kind of name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A content id.
    ContentId,
    /// An infohash.
    Infohash,
}

impl Form {
    const ALL: [(Self, &str); 2] = [(Self::ContentId, "content_id"), (Self::Infohash, "infohash")];

    /// As it is written, here and on pages.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(form, _)| *form == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(form, _)| *form)
    }
}

impl Store {
    /// All ids that are remembered, least recently used first: the order in which a cache of limited size is filled.
    pub async fn identities(&self) -> Result<Vec<Identity>, StoreError> {
        self.ask(|worker| worker.read(select)).await
    }

    /// By what channels have played, least recently used first.
    pub async fn deliveries(&self) -> Result<Vec<Delivery>, StoreError> {
        self.ask(|worker| worker.read(select_deliveries)).await
    }

    /// Remembers an id, or that it was used again. Written later; never waits, never fails.
    pub fn remember(&self, identity: Identity) {
        self.queue().note(Box::new(move |connection| {
            upsert(connection, &identity)?;
            forget_oldest(connection, MOST)
        }));
    }

    /// Remembers by what a channel has played. Written later; never waits, never fails.
    pub fn remember_delivery(&self, delivery: Delivery) {
        self.queue().note(Box::new(move |connection| {
            upsert_delivery(connection, &delivery)?;
            forget_oldest(connection, MOST)
        }));
    }

    /// Forgets these ids. Written later; never waits, never fails.
    pub fn forget(&self, ids: Vec<String>) {
        self.queue().note(Box::new(move |connection| ids.iter().try_for_each(|id| delete(connection, id))));
    }
}

fn select(connection: &Connection) -> rusqlite::Result<Vec<Identity>> {
    let mut statement = connection.prepare("SELECT id, infohash, witness FROM identities ORDER BY used")?;
    let rows = statement
        .query_map([], |row| Ok(Identity { id: row.get(0)?, infohash: row.get(1)?, witness: row.get(2)? }))?;
    rows.collect()
}

fn select_deliveries(connection: &Connection) -> rusqlite::Result<Vec<Delivery>> {
    let mut statement =
        connection.prepare("SELECT channel, family, form, hash FROM deliveries ORDER BY used")?;
    let rows = statement.query_map([], |row| {
        let form: String = row.get(2)?;
        let (channel, family, hash) = (row.get(0)?, row.get(1)?, row.get(3)?);
        Ok(Form::named(&form).map(|form| Delivery { channel, family, form, hash }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// `used` is a counter, not a time: unique, and right even when the clock is set back.
fn upsert(connection: &Connection, identity: &Identity) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO identities (id, infohash, witness, used)
         VALUES (?1, ?2, ?3, (SELECT coalesce(max(used), 0) + 1 FROM identities))
         ON CONFLICT (id) DO UPDATE
         SET infohash = excluded.infohash, witness = excluded.witness, used = excluded.used",
        params![identity.id, identity.infohash, identity.witness],
    )?;
    Ok(())
}

fn upsert_delivery(connection: &Connection, delivery: &Delivery) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO deliveries (channel, family, form, hash, used)
         VALUES (?1, ?2, ?3, ?4, (SELECT coalesce(max(used), 0) + 1 FROM deliveries))
         ON CONFLICT (channel, family) DO UPDATE
         SET form = excluded.form, hash = excluded.hash, used = excluded.used",
        params![delivery.channel, delivery.family, delivery.form.as_str(), delivery.hash],
    )?;
    Ok(())
}

fn delete(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM identities WHERE id = ?1 OR infohash = ?1", params![id])?;
    connection.execute("DELETE FROM deliveries WHERE channel = ?1 OR hash = ?1", params![id])?;
    Ok(())
}

fn forget_oldest(connection: &Connection, most: usize) -> rusqlite::Result<()> {
    for table in ["identities", "deliveries"] {
        connection.execute(
            &format!(
                "DELETE FROM {table}
                 WHERE used <= (SELECT used FROM {table} ORDER BY used DESC LIMIT 1 OFFSET ?1)"
            ),
            [column::whole(most)],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open;

    fn identity(id: &str) -> Identity {
        Identity { id: id.to_owned(), infohash: "hash".to_owned(), witness: "start".to_owned() }
    }

    fn delivery(channel: &str) -> Delivery {
        let (channel, family) = (channel.to_owned(), "outpace".to_owned());
        Delivery { channel, family, form: Form::ContentId, hash: "id".to_owned() }
    }

    #[test]
    fn the_least_recently_used_are_forgotten() {
        let connection = open::memory().unwrap();
        for id in ["a", "b", "c", "a"] {
            upsert(&connection, &identity(id)).unwrap();
            upsert_delivery(&connection, &delivery(id)).unwrap();
        }
        forget_oldest(&connection, 2).unwrap();
        let ids: Vec<String> = select(&connection).unwrap().into_iter().map(|row| row.id).collect();
        assert_eq!(ids, ["c", "a"]);
        assert_eq!(select_deliveries(&connection).unwrap(), ["c", "a"].map(delivery));
    }

    #[test]
    fn a_channel_is_forgotten_by_any_of_its_names() {
        for name in ["a", "hash"] {
            let connection = open::memory().unwrap();
            upsert(&connection, &identity("a")).unwrap();
            upsert_delivery(&connection, &delivery("hash")).unwrap();
            upsert_delivery(&connection, &delivery("other")).unwrap();
            delete(&connection, name).unwrap();
            assert!(select(&connection).unwrap().is_empty(), "{name}");
        }
    }
}
