//! Log lines to standard error, for people or for programs.
//!
//! Lines pass through a bounded queue to a thread of their own: a terminal or pipe that nobody reads must not hold up
//! a stream. What does not fit is dropped and counted. There are at most 200 lines a second (`logging/throttle.rs`), and
//! nothing in a line steers a terminal or begins another line, whoever wrote it (`plain`).

mod throttle;

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use acemux_engine::text;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, filter, fmt, reload};

use self::throttle::{Throttle, ThrottleLayer};
use crate::config::{Log, LogFormat};
use crate::record::audit;

/// Lines that may wait for a slow reader of standard error.
const QUEUE: usize = 1024;

/// Longest wait at the end for lines that are still queued.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long after the last line it is looked whether lines were left out: by then none is left out any more.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Lines dropped since the process began.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What is let through, once there is a log.
static FILTER: OnceLock<reload::Handle<filter::Targets, Registry>> = OnceLock::new();

/// How many lines did not fit into the queue.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Sends every later log line to standard error. To be called once; a second call changes nothing.
///
/// Keep what it returns to the end of the process, or the last lines may be lost.
pub fn init(log: Log) -> Flush {
    let (levels, handle) = reload::Layer::new(levels(log.level));
    let throttle = Arc::<Throttle>::default();
    let colours = log.format == LogFormat::Text && io::stderr().is_terminal() && !no_color();
    let lines = Lines::spawn(Arc::clone(&throttle), colours);
    let flush = Flush { queue: lines.queue.clone(), throttle: Arc::clone(&throttle) };
    let registry = Registry::default().with(levels).with(ThrottleLayer(throttle));
    let installed = match log.format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_ansi(colours).with_target(false).with_writer(lines)).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(lines)).try_init()
        }
    };
    if installed.is_err() {
        tracing::debug!("logging was set up before");
    } else {
        // The first one stays: there is one log in a process.
        let _first = FILTER.set(handle);
    }
    flush
}

/// Lets lines of this level through from now on. Without a log of ours, as in tests, nothing happens.
pub fn set_level(level: Level) {
    if let Some(handle) = FILTER.get()
        && let Err(error) = handle.reload(levels(level))
    {
        tracing::warn!(%error, "LOG_LEVEL cannot be changed");
    }
}

/// The audit and the line about lines that were left out are there whatever else is.
fn levels(level: Level) -> filter::Targets {
    filter::Targets::new()
        .with_default(Level::WARN)
        .with_target("acemux", level)
        .with_target(audit::TARGET, Level::INFO)
        .with_target(throttle::TARGET, Level::WARN)
}

/// <https://no-color.org>: any value but an empty one.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Waits, when dropped, until the lines queued so far are written; a second at most, for nobody may be reading.
#[derive(Debug)]
pub struct Flush {
    queue: SyncSender<Message>,
    throttle: Arc<Throttle>,
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        self.throttle.report(true);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
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
struct Lines {
    queue: SyncSender<Message>,
    /// Whether the formatter's own sequences for colours are in the lines.
    has_colours: bool,
}

/// One event's text; it is queued whole when the formatter is done with it.
struct Line {
    text: Vec<u8>,
    queue: SyncSender<Message>,
    has_colours: bool,
}

impl Lines {
    fn spawn(throttle: Arc<Throttle>, has_colours: bool) -> Self {
        let (queue, messages) = sync_channel(QUEUE);
        // Detached on purpose: it ends when the last sender goes, which is the end of the process.
        let _writer = thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&messages, &throttle, &mut io::stderr()));
        Self { queue, has_colours }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::with_capacity(256), queue: self.queue.clone(), has_colours: self.has_colours }
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
        let line = plain(std::mem::take(&mut self.text), self.has_colours);
        if self.queue.try_send(Message::Line(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The last net before whoever reads the log: one line of characters that are what they look like. What comes from outside
/// is cleaned where it comes in; an error's own words are not ours, either.
fn plain(line: Vec<u8>, has_colours: bool) -> Vec<u8> {
    let is_ours = |byte: u8| matches!(byte, b' '..=b'~') || (has_colours && byte == ESCAPE as u8);
    let body = line.strip_suffix(b"\n").unwrap_or(&line);
    if body.iter().copied().all(is_ours) {
        return line;
    }
    let shown = |c: char| match c {
        ESCAPE if has_colours => Some(c),
        _ if c.is_control() || text::is_line_end(c) => Some(' '),
        _ => (!text::is_invisible(c)).then_some(c),
    };
    let body: String = String::from_utf8_lossy(body).chars().filter_map(shown).collect();
    (body + "\n").into_bytes()
}

const ESCAPE: char = '\u{1b}';

/// Writes until the last sender is gone, and between the lines what was left out.
fn write_all(messages: &Receiver<Message>, throttle: &Throttle, to: &mut impl Write) {
    let mut reported = 0;
    while let Ok(message) = next(messages, throttle) {
        // Nobody is left to tell when standard error itself fails, or when whoever waited for a flush is gone.
        let _written = match message {
            Message::Line(line) => to.write_all(&line),
            Message::Flush(done) => done.try_send(()).map_err(io::Error::other),
        };
        throttle.report(false);
        let dropped = dropped_lines();
        if dropped > reported {
            let _written = writeln!(to, "{} log lines were dropped", dropped - reported);
            reported = dropped;
        }
    }
}

/// Lines are left out only while others are written, so after a second without any there is no more to report.
fn next(messages: &Receiver<Message>, throttle: &Throttle) -> Result<Message, RecvError> {
    match messages.recv_timeout(REPORT_EVERY) {
        Ok(message) => Ok(message),
        Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        Err(RecvTimeoutError::Timeout) => {
            throttle.report(false);
            messages.recv()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(queue: SyncSender<Message>) -> Lines {
        Lines { queue, has_colours: false }
    }

    #[test]
    fn nothing_in_a_line_steers_a_terminal_or_begins_another_line() {
        let shown = |text: &str, has_colours| {
            String::from_utf8(plain(format!("{text}\n").into_bytes(), has_colours)).unwrap()
        };
        assert_eq!(shown("a b=\"c\" ü", false), "a b=\"c\" ü\n");
        assert_eq!(shown("a\nINFO b\r\u{85}c\u{2028}d", false), "a INFO b  c d\n");
        assert_eq!(shown("a\u{202e}b\u{200b}c\u{2066}d\u{61c}", false), "abcd\n");
        assert_eq!(shown("\u{1b}[2Ja\u{9b}2J\u{7}", false), " [2Ja 2J \n");
        assert_eq!(shown("\u{1b}[32mINFO\u{1b}[0m a\u{9b}", true), "\u{1b}[32mINFO\u{1b}[0m a \n");
        assert_eq!(plain(b"\xff\xfe\n".to_vec(), false), "\u{fffd}\u{fffd}\n".as_bytes());
    }

    fn log(lines: &Lines, text: &str) {
        lines.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn dropping_the_guard_waits_for_the_lines_before_it() {
        let (queue, messages) = sync_channel(QUEUE);
        let lines = lines(queue);
        log(&lines, "one\n");
        log(&lines, "two\n");
        let guard = Flush { queue: lines.queue.clone(), throttle: Arc::default() };
        drop(lines);
        let writer = thread::spawn(move || {
            let mut out = Vec::new();
            write_all(&messages, &Throttle::default(), &mut out);
            out
        });
        drop(guard);
        assert_eq!(writer.join().unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_reader_that_stopped_costs_lines_and_no_time() {
        let (queue, messages) = sync_channel(1);
        let lines = lines(queue);
        let before = dropped_lines();
        for text in ["kept\n", "lost\n", "lost\n"] {
            log(&lines, text);
        }
        assert_eq!(dropped_lines() - before, 2);
        drop(Flush { queue: lines.queue.clone(), throttle: Arc::default() });
        drop(lines);
        let mut out = Vec::new();
        write_all(&messages, &Throttle::default(), &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("kept\n") && out.contains("log lines were dropped"), "{out}");
    }
}
