//! What a manifest says of a stream (RFC 8216 §4.3.4.2), as far as the stream has shown it.

use std::sync::Arc;

use acemux_media::clock::Bitrate;
use acemux_media::format::Format;

use super::Token;

/// Bit rate that is named for a stream whose own is not known yet, bit/s. There is nothing to choose from, so it only has to
/// be there.
const USUAL_RATE: u64 = 7_500_000;

/// Bit rates are rounded up to this, bit/s: nobody needs to know them better.
const RATE_STEP: u64 = 100_000;

/// What a new viewer of this kind is told.
#[derive(Debug)]
pub struct Joined {
    /// Its name from now on.
    pub token: Token,
    /// How fast the stream is at its fastest, as far as that is known.
    pub peak: Option<Bitrate>,
    /// What it is.
    pub format: Arc<Format>,
}

impl Joined {
    /// The attributes of `EXT-X-STREAM-INF`.
    pub fn attributes(&self) -> String {
        let picture = self.format.picture();
        let codecs = self.format.codecs().map(|codecs| format!("CODECS=\"{}\"", codecs.join(",")));
        let size = picture.map(|picture| format!("RESOLUTION={}x{}", picture.width, picture.height));
        let rate = picture.and_then(|picture| picture.fps()).map(|fps| format!("FRAME-RATE={fps:.3}"));
        let all = [Some(format!("BANDWIDTH={}", self.bandwidth())), codecs, size, rate];
        all.into_iter().flatten().collect::<Vec<_>>().join(",")
    }

    fn bandwidth(&self) -> u64 {
        let peak = self.peak.map_or(USUAL_RATE, Bitrate::get).max(1);
        peak.div_ceil(RATE_STEP).saturating_mul(RATE_STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_up_and_what_is_not_known_is_not_said() {
        for (peak, said) in [
            (None, 7_500_000),
            (Some(0), 100_000),
            (Some(100_000), 100_000),
            (Some(26_162_081), 26_200_000),
            (Some(u64::MAX), u64::MAX),
        ] {
            let joined =
                Joined { token: Token::random(), peak: peak.map(Bitrate::new), format: Arc::default() };
            assert_eq!(joined.attributes(), format!("BANDWIDTH={said}"));
        }
    }
}
