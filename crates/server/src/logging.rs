//! Log lines to standard error, for people or for programs.
//!
//! Lines pass through a bounded queue to a thread of their own: a terminal or pipe that nobody reads must not hold up
//! a stream. What does not fit is dropped and counted.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, filter, fmt};

use crate::config::{Log, LogFormat};

/// Lines that may wait for a slow reader of standard error.
const QUEUE: usize = 1024;

/// Lines dropped since the process began.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines did not fit into the queue.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Sends every later log line to standard error. To be called once; a second call changes nothing.
pub fn init(log: Log) {
    let levels = filter::Targets::new().with_default(tracing::Level::WARN).with_target("acemux", log.level);
    let lines = Lines::spawn();
    let registry = Registry::default().with(levels);
    let installed = match log.format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal();
            registry.with(fmt::layer().with_ansi(colours).with_target(false).with_writer(lines)).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(lines)).try_init()
        }
    };
    if installed.is_err() {
        tracing::debug!("logging was set up before");
    }
}

#[derive(Clone)]
struct Lines(SyncSender<Vec<u8>>);

/// One event's text; it is queued whole when the formatter is done with it.
struct Line {
    text: Vec<u8>,
    queue: SyncSender<Vec<u8>>,
}

impl Lines {
    fn spawn() -> Self {
        let (queue, lines) = sync_channel(QUEUE);
        // Detached on purpose: it ends when the last sender goes, which is the end of the process.
        let _writer = thread::Builder::new().name("log".into()).spawn(move || write_all(&lines));
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
        if self.queue.try_send(std::mem::take(&mut self.text)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(lines: &Receiver<Vec<u8>>) {
    let mut reported = 0;
    for line in lines {
        // Nobody is left to tell when standard error itself fails.
        let _written = io::stderr().write_all(&line);
        let dropped = dropped_lines();
        if dropped > reported {
            let _written = writeln!(io::stderr(), "{} log lines were dropped", dropped - reported);
            reported = dropped;
        }
    }
}
