//! Recordings: files on an engine, read in parts.

use std::sync::Arc;
use std::time::Duration;

use acemux_engine::{ByteRange as FileRange, Extent as FileExtent};
use acemux_relay::origin::{OpenError, SourceId};
use acemux_relay::output::recording::{ByteRange, Extent, Part, Recording};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::timeout;

use super::{Playing, open_error};

/// How long an engine may take to answer for a part of a recording: it fetches that part from the swarm first.
const FILE_HEAD: Duration = Duration::from_mins(1);

/// A recording on an engine. The playback lives as long as the session or a part that is being read.
pub(super) struct EngineRecording {
    pub(super) id: SourceId,
    pub(super) playing: Arc<Playing>,
}

impl Recording for EngineRecording {
    fn open(&self, range: Option<ByteRange>) -> BoxFuture<'static, Result<Part, OpenError>> {
        let (id, playing) = (self.id.clone(), Arc::clone(&self.playing));
        let opened = async move {
            let opened = timeout(FILE_HEAD, playing.get().file(range.map(range_in))).await;
            let file = match opened {
                Ok(file) => file.map_err(|error| open_error(&error, &id))?,
                Err(_late) => return Err(late(id)),
            };
            let (length, media_type) = (file.length, file.media_type);
            let extent = extent_of(file.extent);
            let bytes = stream::unfold((file.body, playing), move |(mut body, playing)| {
                let id = id.clone();
                async move {
                    let bytes = body.next().await?.map_err(|error| open_error(&error, &id));
                    Some((bytes, (body, playing)))
                }
            });
            Ok(Part { extent, length, media_type, media: bytes.boxed() })
        };
        opened.boxed()
    }
}

fn late(id: SourceId) -> OpenError {
    let detail = format!("the engine sent nothing of the recording in {} s", FILE_HEAD.as_secs());
    OpenError::Failed { detail, source_id: Some(id) }
}

fn range_in(range: ByteRange) -> FileRange {
    match range {
        ByteRange::From(first) => FileRange::From(first),
        ByteRange::Between(first, last) => FileRange::Between(first, last),
        ByteRange::Last(count) => FileRange::Last(count),
    }
}

fn extent_of(extent: FileExtent) -> Extent {
    match extent {
        FileExtent::Whole => Extent::Whole,
        FileExtent::Part { first, last, total } => Extent::Part { first, last, total },
        FileExtent::Beyond { total } => Extent::Beyond { total },
    }
}
