//! The names that providers give themselves, by gluetun's `VPN_SERVICE_PROVIDER`.

/// Those whose name is not their key with a capital letter.
const NAMES: [(&str, &str); 21] = [
    ("airvpn", "AirVPN"),
    ("expressvpn", "ExpressVPN"),
    ("fastestvpn", "FastestVPN"),
    ("hidemyass", "HideMyAss"),
    ("ipvanish", "IPVanish"),
    ("ivpn", "IVPN"),
    ("nordvpn", "NordVPN"),
    ("perfect privacy", "Perfect Privacy"),
    ("perfectprivacy", "Perfect Privacy"),
    ("pia", "Private Internet Access"),
    ("private internet access", "Private Internet Access"),
    ("privatevpn", "PrivateVPN"),
    ("protonvpn", "ProtonVPN"),
    ("purevpn", "PureVPN"),
    ("slickvpn", "SlickVPN"),
    ("torguard", "TorGuard"),
    ("vpnsecure", "VPNSecure.me"),
    ("vpnsecure.me", "VPNSecure.me"),
    ("vpn unlimited", "VPNUnlimited"),
    ("vpnunlimited", "VPNUnlimited"),
    ("wevpn", "WeVPN"),
];

/// The name of a provider; what is not known is written with capital letters.
pub(super) fn name(key: &str) -> Option<String> {
    let key = key.trim().to_ascii_lowercase();
    if key.is_empty() {
        return None;
    }
    let known = NAMES.iter().find(|(one, _)| *one == key).map(|(_, name)| (*name).to_owned());
    Some(known.unwrap_or_else(|| key.split(' ').map(capitalised).collect::<Vec<_>>().join(" ")))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_named_as_they_name_themselves() {
        for (key, expected) in [
            ("protonvpn", Some("ProtonVPN")),
            ("PIA", Some("Private Internet Access")),
            ("mullvad", Some("Mullvad")),
            ("custom", Some("Custom")),
            ("some new vpn", Some("Some New Vpn")),
            (" ", None),
        ] {
            assert_eq!(name(key).as_deref(), expected, "{key}");
        }
    }
}
