//! What a VPN tells of itself: where its traffic comes out, which port is forwarded, and what it keeps from us.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

/// Where a tunnel's traffic comes out, as far as it says. All unknown for a tunnel that is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// The address that others see.
    pub address: Option<IpAddr>,
    /// Where that is.
    pub country: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its city.
    pub city: Option<String>,
    /// Who runs it, such as `ProtonVPN`.
    pub provider: Option<String>,
    /// Since when the forwarded port is the one it is.
    pub forwarded_since: Option<Timestamp>,
    /// When it was last looked at.
    pub looked_at: Option<Timestamp>,
    /// What its operator must change for us to know or reach more, a line each.
    pub advice: Vec<String>,
}
