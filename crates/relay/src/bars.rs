//! Who has been thrown out of a stream and may not come straight back. Players reconnect at once: without this a viewer who
//! was thrown out is back before anybody has seen him go.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::StreamKey;
use crate::admission::AddressGroup;

/// For how long. Players give up after a few tries or wait longer than this.
pub const BAR: Duration = Duration::from_secs(5);

/// Who may not come until when. What is over is forgotten whenever somebody is added.
#[derive(Debug, Default)]
pub(crate) struct Bars(Mutex<HashMap<(StreamKey, AddressGroup), Instant>>);

impl Bars {
    /// This client stays out of this stream for [`BAR`].
    pub(crate) fn add(&self, key: &StreamKey, client: AddressGroup) {
        let now = Instant::now();
        let mut bars = self.0.lock();
        bars.retain(|_, until| *until > now);
        bars.insert((key.clone(), client), now + BAR);
    }

    /// Whether it must stay out of it.
    pub(crate) fn keep_out(&self, key: &StreamKey, client: AddressGroup) -> bool {
        let bars = self.0.lock();
        // Nobody is barred nearly always: then nothing is copied to look.
        !bars.is_empty() && bars.get(&(key.clone(), client)).is_some_and(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::time::advance;

    use super::*;

    fn client(address: &str) -> AddressGroup {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_thrown_out_stays_out_of_that_stream_for_a_while_and_nobody_else_does() {
        let (bars, one, other) = (Bars::default(), StreamKey::new("one"), StreamKey::new("other"));
        bars.add(&one, client("192.0.2.1"));
        assert!(bars.keep_out(&one, client("192.0.2.1")));
        assert!(!bars.keep_out(&other, client("192.0.2.1")), "another stream");
        assert!(!bars.keep_out(&one, client("192.0.2.2")), "somebody else");
        let nearly = BAR.saturating_sub(Duration::from_millis(1));
        advance(nearly).await;
        assert!(bars.keep_out(&one, client("192.0.2.1")));
        advance(Duration::from_millis(1)).await;
        assert!(!bars.keep_out(&one, client("192.0.2.1")), "it is over");
        bars.add(&other, client("2001:db8::1"));
        assert!(bars.keep_out(&other, client("2001:db8::2")), "a whole network is one client");
        assert_eq!(bars.0.lock().len(), 1, "what is over is forgotten");
    }
}
