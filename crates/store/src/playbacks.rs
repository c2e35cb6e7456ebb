//! The journal of open playbacks: what a restart after a crash must still stop on the engines.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::column::At;
use crate::queue::Backlog;
use crate::store::{Store, StoreError};

/// A playback that is about to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPlayback {
    /// The engine: its container id, or host and port.
    pub engine: String,
    /// Where its API is reached.
    pub endpoint: String,
    /// What it plays.
    pub infohash: String,
    /// The URL that stops it, once the engine has given one. A token of the engine's stands in it, so it is sealed.
    pub command: Option<String>,
    /// When it was opened.
    pub opened_at: Timestamp,
}

/// A playback that was opened and not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPlayback {
    /// Its line of the journal.
    pub row: PlaybackRow,
    /// What is known of it.
    pub playback: NewPlayback,
}

/// A line of the journal. Never used twice, also over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaybackRow(pub(crate) i64);

/// A line to be written.
#[derive(Debug)]
pub(crate) enum Entry {
    Opened(PlaybackRow, NewPlayback),
    Closed(PlaybackRow),
}

impl Store {
    /// Writes down that a playback is open. Does not wait for the disk: the line is written at once, in order, and is
    /// there after a power loss; whoever must know awaits [`Store::flush`].
    pub fn playback_opened(&self, playback: NewPlayback) -> PlaybackRow {
        let context = playback.context();
        let command = playback.command.as_deref().and_then(|command| self.seal(command, &context));
        self.queue().opened(NewPlayback { command, ..playback })
    }

    /// Strikes the line out: the engine was told to stop, or is gone.
    pub fn playback_closed(&self, row: PlaybackRow) {
        self.queue().closed(row);
    }

    /// Every playback that was opened and not closed, oldest first. After a restart: those of the process before.
    pub async fn open_playbacks(&self) -> Result<Vec<OpenPlayback>, StoreError> {
        let sealed = self.ask(|worker| worker.read(select).map(|saved| overlay(saved, &worker.unsaved)));
        Ok(sealed.await?.into_iter().map(|open| self.unsealed(open)).collect())
    }

    fn unsealed(&self, mut open: OpenPlayback) -> OpenPlayback {
        let context = open.playback.context();
        let sealed = open.playback.command.take();
        open.playback.command = sealed.and_then(|sealed| self.unseal(&sealed, &context));
        open
    }
}

impl NewPlayback {
    /// A command belongs to the playback that it stops.
    fn context(&self) -> String {
        format!("{} {}", self.endpoint, self.infohash)
    }
}

impl PlaybackRow {
    /// The line of a playback that a closed store did not take.
    pub(crate) const NONE: Self = Self(0);
}

impl Entry {
    /// Whether this is the opening of the playback with that line.
    pub(crate) fn opens(&self, row: PlaybackRow) -> bool {
        matches!(self, Self::Opened(opened, _) if *opened == row)
    }

    pub(crate) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Opened(row, playback) => insert(connection, *row, playback),
            Self::Closed(row) => connection.execute("DELETE FROM playbacks WHERE id = ?1", [row.0]).map(drop),
        }
    }
}

fn insert(connection: &Connection, row: PlaybackRow, playback: &NewPlayback) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO playbacks (id, engine, endpoint, infohash, command, opened_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            row.0,
            playback.engine,
            playback.endpoint,
            playback.infohash,
            playback.command,
            At(playback.opened_at),
        ],
    )?;
    Ok(())
}

fn select(connection: &Connection) -> rusqlite::Result<Vec<OpenPlayback>> {
    let mut statement = connection.prepare("SELECT * FROM playbacks ORDER BY id")?;
    statement.query_map([], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<OpenPlayback> {
    let At(opened_at) = row.get("opened_at")?;
    let playback = NewPlayback {
        engine: row.get("engine")?,
        endpoint: row.get("endpoint")?,
        infohash: row.get("infohash")?,
        command: row.get("command")?,
        opened_at,
    };
    Ok(OpenPlayback { row: PlaybackRow(row.get("id")?), playback })
}

/// The journal with the lines that wait to be written.
fn overlay(mut saved: Vec<OpenPlayback>, unsaved: &Backlog) -> Vec<OpenPlayback> {
    for entry in unsaved.playbacks.iter() {
        match entry {
            Entry::Opened(row, playback) => {
                saved.push(OpenPlayback { row: *row, playback: playback.clone() });
            }
            Entry::Closed(row) => saved.retain(|open| open.row != *row),
        }
    }
    saved
}
