//! What one chunk costs at a thousand readers: the push that wakes them, and a thousand reads.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use acemux_media::chunk::{Chunk, StartPoint};
use acemux_media::starts::StartKind;
use acemux_relay::ring::{Cursor, Read, Ring, RingLimits};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Readers of one stream.
const READERS: usize = 1000;

fn chunk(media: u64) -> Chunk {
    let point = StartPoint::new(StartKind::RandomAccess, Bytes::new(), Bytes::new());
    Chunk {
        start: media.is_multiple_of(32).then(|| Arc::new(point)),
        ..Chunk::plain(Bytes::from(vec![0; 65_424]), Duration::from_millis(media * 65))
    }
}

fn read(cursor: &mut Cursor) -> Poll<Read> {
    cursor.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn fan_out(criterion: &mut Criterion) {
    let (mut producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(30), bytes: 32 << 20 });
    producer.push(chunk(0));
    let mut readers: Vec<Cursor> = (0..READERS).map(|_| ring.join(Duration::ZERO).1).collect();
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(READERS as u64));
    let mut media = 0;
    group.bench_function("one chunk to 1000 readers", |bencher| {
        bencher.iter(|| {
            media += 1;
            producer.push(chunk(media));
            for reader in &mut readers {
                while black_box(read(reader)).is_ready() {}
            }
        });
    });
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
