//! How streams are kept, and when a channel counts as looping.

use std::time::Duration;

use acemux_relay::budget::LEAST_RING;

use super::super::format::{Counts, Durations, Flag, Sizes};
use super::super::setting::{Optional, Setting, settings};
use super::super::value::show_size;

/// Most bytes of one chunk: beyond it sends cost no less per byte. More is accepted, because the deployment guide has it.
pub(in crate::config) const LARGEST_CHUNK: usize = 64 * 1024;
/// Fewest bytes of one chunk: seven packets, one UDP-sized unit; smaller ones cost more than they carry.
const SMALLEST_CHUNK: usize = 1316;

settings! { "Streams":
    /// Longest wait for the first decodable data of a stream, all attempts together.
    EMPTY_STREAM_TIMEOUT: Setting<Duration> = new(&Durations::from_ms(500), || Duration::from_secs(30)).at_once();

    /// How long a stream stays warm without viewers; it gives its slot up at once when another stream needs it.
    STREAM_IDLE_TIMEOUT: Setting<Duration> = new(&Durations::ANY, || Duration::from_mins(5)).at_once();

    /// History per stream in media time; with STREAM_BUFFER_SIZE the smaller one counts.
    STREAM_BUFFER_SECONDS: Setting<Duration> = new(&Durations::from_ms(2_000), || Duration::from_secs(30));

    /// History per stream in bytes. The default grows with a stream's bit rate to hold 20 s of it, within STREAM_MEMORY; a
    /// value that was chosen is obeyed.
    STREAM_BUFFER_SIZE: Setting<usize> = new(&Sizes::from(1 << 20), || 32 << 20);

    /// All streams' history together; 25 % of the cgroup's or machine's memory, at least 64 MiB. When short, every
    /// history shrinks evenly, down to 4 MiB each.
    STREAM_MEMORY: Optional<usize> = new(&Sizes::from(LEAST_RING))
        .meant(|config| Some(show_size(config.streams.memory)));

    /// Largest chunk; more than 64 KiB means 64 KiB. A chunk is never held back longer than 60 ms.
    COPY_CHUNK_SIZE: Setting<usize> = new(&Sizes::within(SMALLEST_CHUNK, 1 << 20), || 64 << 10);

    /// How far behind live a joining player starts.
    JOIN_BURST: Setting<Duration> = new(&Durations::ANY, || Duration::from_secs(5)).at_once();

    /// How long viewers are held while a live stream is silent or its engine is replaced.
    HOLD_TIMEOUT: Setting<Duration> = new(&Durations::from_ms(1_000), || Duration::from_secs(30)).at_once();

    /// Silence of a start, or of the attempt to heal a gap, before a second engine with room is tried beside the first;
    /// 6 s at most when the start call itself is not answered.
    HEDGE_AFTER: Setting<Duration> = new(&Durations::from_ms(1_000), || Duration::from_secs(12)).at_once();

    /// Silence of a watched stream before another engine is tried.
    STALL_TIMEOUT: Setting<Duration> = new(&Durations::from_ms(500), || Duration::from_secs(5)).at_once();

    /// Whether channels are ended and blocked whose newest piece is older than the threshold: their swarm plays the end
    /// again and again.
    STREAM_LOOP_DETECTION_ENABLED: Setting<bool> = new(&Flag, || false).at_once();

    /// How old the newest piece of a broadcast may be.
    STREAM_LOOP_DETECTION_THRESHOLD_S: Setting<Duration> = new(&Durations::from_ms(60_000), || Duration::from_hours(1))
        .at_once();

    /// Between two looks at the age of what is broadcast.
    STREAM_LOOP_CHECK_INTERVAL_S: Setting<Duration> = new(&Durations::from_ms(5_000), || Duration::from_secs(10))
        .at_once();

    /// How many minutes a looping channel stays blocked; 0 is until it is cleared; a restart clears nothing.
    STREAM_LOOP_RETENTION_MINUTES: Setting<usize> = new(&Counts::from(0), || 0).at_once();
}
