//! Who may watch, and for how long.

use std::time::Duration;

use super::super::format::{Counts, Durations, Parsed, Sizes};
use super::super::setting::{Optional, Setting, settings};
use crate::http::client::TrustedProxies;

const NETWORKS: Parsed<TrustedProxies> = Parsed::new("addresses and networks: 10.0.0.0/8,192.168.1.2");

/// Below it throughput suffers, above it a hundred stalled viewers pin gigabytes.
const SEND_BUFFERS: Sizes = Sizes::within(4 << 10, 16 << 20);

settings! { "Viewers":
    /// Most viewers; lowered at start when the descriptor limit is too small.
    MAX_VIEWERS: Setting<usize> = new(&Counts::from(1), || 5000).at_once();

    /// Most viewers from one address. All addresses of one IPv6 /64 are one.
    MAX_VIEWERS_PER_IP: Setting<usize> = new(&Counts::from(1), || 256).at_once();

    /// How long a paused viewer is kept, whose socket takes nothing while its peer still answers; 0 means for ever. Paused
    /// viewers give way when places, connections, memory or engines run short, the longest pause first. A peer that answers
    /// nothing is cut after a minute.
    VIEWER_STALL_TIMEOUT: Setting<Duration> =
        new(&Durations::from_ms(500).or_never(), || Duration::from_mins(10)).at_once();

    /// How long an HLS viewer keeps its seat without asking for a playlist or a segment. It takes one again when it comes
    /// back.
    HLS_VIEWER_TIMEOUT: Setting<Duration> = new(&Durations::from_ms(1_000), || Duration::from_secs(30)).at_once();

    /// Kernel send buffer per viewer.
    VIEWER_SNDBUF: Setting<usize> = new(&SEND_BUFFERS, || 256 << 10).at_once();

    /// Proxies whose X-Forwarded-For counts as the client's address. Never a network that strangers are in.
    TRUSTED_PROXIES: Optional<TrustedProxies> = new(&NETWORKS);
}
