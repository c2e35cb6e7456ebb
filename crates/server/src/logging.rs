//! Log lines to standard error, for people or for programs.
//!
//! Lines pass through a bounded queue to a thread of their own: a terminal or pipe that nobody reads must not hold up
//! a stream. What does not fit is dropped and counted.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, filter, fmt};

use crate::config::{Log, LogFormat};

/// Lines that may wait for a slow reader of standard error.
const QUEUE: usize = 1024;

/// Longest wait at the end for lines that are still queued.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines dropped since the process began.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines did not fit into the queue.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Sends every later log line to standard error. To be called once; a second call changes nothing.
///
/// Keep what it returns to the end of the process, or the last lines may be lost.
pub fn init(log: Log) -> Flush {
    let levels = filter::Targets::new().with_default(tracing::Level::WARN).with_target("acemux", log.level);
    let lines = Lines::spawn();
    let flush = Flush(lines.0.clone());
    let registry = Registry::default().with(levels);
    let installed = match log.format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && !no_color();
            registry.with(fmt::layer().with_ansi(colours).with_target(false).with_writer(lines)).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(lines)).try_init()
        }
    };
    if installed.is_err() {
        tracing::debug!("logging was set up before");
    }
    flush
}

/// <https://no-color.org>: any value but an empty one.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Waits, when dropped, until the lines queued so far are written; a second at most, for nobody may be reading.
#[derive(Debug)]
pub struct Flush(SyncSender<Message>);

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            // Too late or never: the process ends either way.
            let _in_time = written.recv_timeout(LAST_LINES);
        }
    }
}

/// What the writing thread is told.
#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Tell when all earlier lines are written.
    Flush(SyncSender<()>),
}

#[derive(Clone)]
struct Lines(SyncSender<Message>);

/// One event's text; it is queued whole when the formatter is done with it.
struct Line {
    text: Vec<u8>,
    queue: SyncSender<Message>,
}

impl Lines {
    fn spawn() -> Self {
        let (queue, messages) = sync_channel(QUEUE);
        // Detached on purpose: it ends when the last sender goes, which is the end of the process.
        let _writer =
            thread::Builder::new().name("log".into()).spawn(move || write_all(&messages, &mut io::stderr()));
        Self(queue)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::with_capacity(256), queue: self.0.clone() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.queue.try_send(Message::Line(std::mem::take(&mut self.text))).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(messages: &Receiver<Message>, to: &mut impl Write) {
    let mut reported = 0;
    for message in messages {
        // Nobody is left to tell when standard error itself fails, or when whoever waited for a flush is gone.
        let _written = match message {
            Message::Line(line) => to.write_all(&line),
            Message::Flush(done) => done.try_send(()).map_err(io::Error::other),
        };
        let dropped = dropped_lines();
        if dropped > reported {
            let _written = writeln!(to, "{} log lines were dropped", dropped - reported);
            reported = dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &Lines, text: &str) {
        lines.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn dropping_the_guard_waits_for_the_lines_before_it() {
        let (queue, messages) = sync_channel(QUEUE);
        let lines = Lines(queue);
        log(&lines, "one\n");
        log(&lines, "two\n");
        let guard = Flush(lines.0.clone());
        drop(lines);
        let writer = thread::spawn(move || {
            let mut out = Vec::new();
            write_all(&messages, &mut out);
            out
        });
        drop(guard);
        assert_eq!(writer.join().unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_reader_that_stopped_costs_lines_and_no_time() {
        let (queue, messages) = sync_channel(1);
        let lines = Lines(queue);
        let before = dropped_lines();
        for text in ["kept\n", "lost\n", "lost\n"] {
            log(&lines, text);
        }
        assert_eq!(dropped_lines() - before, 2);
        drop(Flush(lines.0.clone()));
        drop(lines);
        let mut out = Vec::new();
        write_all(&messages, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("kept\n") && out.contains("log lines were dropped"), "{out}");
    }
}
