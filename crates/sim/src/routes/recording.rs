//! A recording on the media URL: a file with a length, read whole or by ranges, one range to a request.
//!
//! It suffers the faults of pace and of the end, and those that come before the head. What is about an endless body
//! (`framing`, `gzip`, `wrong_content`, `loop`, `stagnate`, `null_flood`) passes it by: its length is declared.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::media::{self, pump};
use crate::body::Body;
use crate::channel::Channel;
use crate::core::Core;
use crate::fault::{Fault, Framing};
use crate::feed::RangeFeed;
use crate::session::{Reader, Session};
use crate::wire::{Connection, Ending, Reply, Request, finish_head, head_lines};

/// A player that seeks closes one connection and opens the next at once: for so long the new reader waits for the old one
/// to be gone before it counts as the second.
pub(super) const HANDOVER: Duration = Duration::from_millis(200);

/// What a request wants of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// All of it: no `Range`, or one that is not understood (several ranges in one are not).
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing that there is.
    Nothing,
}

impl Wanted {
    /// Reads `bytes=a-b`, `bytes=a-` and `bytes=-n` of a file of `length` bytes.
    fn of(header: Option<&str>, length: u64) -> Self {
        let Some((first, last)) = header.and_then(|text| text.strip_prefix("bytes=")?.split_once('-')) else {
            return Self::Whole;
        };
        let part = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
            (Some(first), None) if last.is_empty() => first..length,
            (None, Some(count)) if first.is_empty() => length.saturating_sub(count)..length,
            _ => return Self::Whole,
        };
        if part.is_empty() { Self::Nothing } else { Self::Part(part) }
    }
}

/// Digits alone; more than fit are as good as the greatest number.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Serves the file of `length` bytes to its reader. HEAD has no range.
pub(super) async fn serve(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    reader: &Reader,
    length: u64,
) -> Ending {
    let header = request.header("range").filter(|_| !request.is_head());
    let (status, range) = match Wanted::of(header, length) {
        Wanted::Whole => (200, 0..length),
        Wanted::Part(range) => (206, range),
        Wanted::Nothing => return connection.send(request, not_satisfiable(length)).await,
    };
    let stays = if request.keep_alive { Ending::KeepAlive } else { Ending::Close };
    let mut head = head_lines("HTTP/1.1", status, connection.manners());
    head.extend(file_headers(&reader.session.channel, &range, stays));
    if status == 206 {
        head.push(format!("Content-Range: bytes {}-{}/{length}", range.start, range.end - 1));
    }
    if connection.write(&finish_head(&head)).await.is_err() {
        return Ending::Close;
    }
    if request.is_head() {
        return stays;
    }
    match send(core, connection, &reader.session, range).await {
        Ok(Ending::KeepAlive) => stays,
        Ok(ending) => ending,
        // The client left.
        Err(_) => Ending::Close,
    }
}

fn not_satisfiable(length: u64) -> Reply {
    Reply::text(416, "Requested Range Not Satisfiable").with("Content-Range", format!("bytes */{length}"))
}

fn file_headers(channel: &Channel, range: &Range<u64>, stays: Ending) -> [String; 6] {
    let millis = channel.length().unwrap_or_default() * 8_000 / channel.bitrate();
    [
        "Content-Type: video/mp2t".to_owned(),
        "Access-Control-Allow-Origin: *".to_owned(),
        "Accept-Ranges: bytes".to_owned(),
        format!("Content-Length: {}", range.end - range.start),
        format!("X-Content-Duration: {}.{:03}", millis / 1_000, millis % 1_000),
        format!("Connection: {}", if stays == Ending::KeepAlive { "keep-alive" } else { "close" }),
    ]
}

/// Sends the bytes `range`; `KeepAlive` when all of them were sent.
async fn send(
    core: &Core,
    connection: &mut Connection,
    session: &Session,
    range: Range<u64>,
) -> io::Result<Ending> {
    let faults = core.session_faults(session);
    if faults.has(&Fault::Empty200) || !media::first_byte(connection, &faults).await {
        return Ok(Ending::Close);
    }
    let mut body = Body::new(Framing::Close, false, faults.has(&Fault::Dribble));
    let mut feed = RangeFeed::new(range);
    pump(core, connection, session, &mut body, |age, faults, out| {
        feed.step(&session.channel, age, faults, out)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        let part = |start: u64, end: u64| Wanted::Part(start..end);
        for (header, wanted) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=10-19", part(10, 20)),
            ("bytes=90-", part(90, 100)),
            ("bytes=90-1000", part(90, 100)),
            ("bytes=0-99999999999999999999", part(0, 100)),
            ("bytes=-1", part(99, 100)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=99999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("seconds=1-2", Wanted::Whole),
            ("nonsense", Wanted::Whole),
        ] {
            assert_eq!(Wanted::of(Some(header), 100), wanted, "{header}");
        }
        assert_eq!(Wanted::of(None, 100), Wanted::Whole);
    }
}
