//! How fast a stream is cut into chunks: once per stream, whatever the number of viewers.

use std::hint::black_box;
use std::time::Duration;

use acemux_media::chunk::{ChunkLimits, Chunker};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn chunker(criterion: &mut Criterion) {
    let clip = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/clips/h264.ts"))
        .expect("the clip is here");
    let limits = ChunkLimits { max_bytes: 65_536, max_hold: Duration::from_millis(60) };
    let mut group = criterion.benchmark_group("chunker");
    group.throughput(Throughput::Bytes(clip.len() as u64));
    group.bench_function("h264 clip in reads of 16 KiB", |bencher| {
        bencher.iter(|| {
            let (mut chunker, mut chunks, mut now) = (Chunker::new(limits), Vec::new(), Duration::ZERO);
            for read in clip.chunks(16 * 1024) {
                now += Duration::from_millis(10);
                chunker.push(black_box(read), now, &mut chunks);
                black_box(chunks.drain(..).count());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, chunker);
criterion_main!(benches);
