//! What kind of player a viewer uses, by what it calls itself.

use serde::{Deserialize, Serialize};

macro_rules! players {
    ($($player:ident $name:literal [$($mark:literal),*])+) => {
        /// A family of players.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Player {
            $(#[doc = concat!("`", $name, "`")] $player,)+
        }

        impl Player {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$player),+];

            /// As pages have it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$player => $name,)+ }
            }

            /// Parts of a `User-Agent`, in small letters, that tell it.
            const fn marks(self) -> &'static [&'static str] {
                match self { $(Self::$player => &[$($mark),*],)+ }
            }
        }
    };
}

// Programs before the libraries that they are made of, and browsers last: everybody claims to be one.
players! {
    Dashboard "dashboard" ["acemux dashboard"]
    Kodi "kodi" ["kodi", "xbmc"]
    Jellyfin "jellyfin" ["jellyfin"]
    Emby "emby" ["emby"]
    Plex "plex" ["plex"]
    Tivimate "tivimate" ["tivimate"]
    Dispatcharr "dispatcharr" ["dispatcharr"]
    Tvheadend "tvheadend" ["tvheadend"]
    Infuse "infuse" ["infuse"]
    Vlc "vlc" ["vlc"]
    Mpv "mpv" ["mpv"]
    Gstreamer "gstreamer" ["gstreamer"]
    Ffmpeg "ffmpeg" ["lavf", "ffmpeg", "ffplay"]
    Exoplayer "exoplayer" ["exoplayer", "media3"]
    Apple "apple" ["applecoremedia"]
    Okhttp "okhttp" ["okhttp"]
    Curl "curl" ["curl/", "wget/"]
    Firefox "firefox" ["firefox"]
    Edge "edge" ["edg/"]
    Chrome "chrome" ["chrome", "chromium"]
    Safari "safari" ["safari"]
    Other "other" []
}

impl Player {
    /// Of what calls itself so.
    pub fn of(user_agent: &str) -> Self {
        let agent = user_agent.to_ascii_lowercase();
        let is_told = |player: &&Self| player.marks().iter().any(|mark| agent.contains(mark));
        Self::ALL.iter().find(is_told).copied().unwrap_or(Self::Other)
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|player| player.as_str() == name)
    }

    /// All names, for people.
    pub(crate) fn words() -> String {
        let words: Vec<&str> = Self::ALL.iter().map(|player| player.as_str()).collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_are_told_by_what_they_call_themselves() {
        for (agent, player) in [
            ("VLC/3.0.20 LibVLC/3.0.20", "vlc"),
            ("acemux dashboard, Mozilla/5.0 (X11; Linux x86_64) Chrome/142.0 Safari/537.36", "dashboard"),
            ("Kodi/21.0 (Linux; Android 11; Chromecast) Android/11 Sys_CPU/armv8l", "kodi"),
            ("Lavf/60.16.100", "ffmpeg"),
            ("libmpv", "mpv"),
            ("TiviMate/5.0.4 (Android 12)", "tivimate"),
            ("Jellyfin-Server/10.9.1", "jellyfin"),
            ("PlexMediaServer/1.40", "plex"),
            ("AppleCoreMedia/1.0.0.21A329 (iPhone; U; CPU OS 17_0 like Mac OS X)", "apple"),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36",
                "chrome",
            ),
            ("Mozilla/5.0 (X11; Linux) AppleWebKit/537.36 Chrome/142.0 Safari/537.36 Edg/142.0", "edge"),
            ("Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/17.0 Safari/605.1.15", "safari"),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "firefox"),
            ("curl/8.9.0", "curl"),
            ("okhttp/4.12.0", "okhttp"),
            ("", "other"),
            ("<script>", "other"),
        ] {
            assert_eq!(Player::of(agent).as_str(), player, "{agent}");
        }
    }

    #[test]
    fn every_name_is_its_own_and_read_as_it_is_written() {
        for player in Player::ALL {
            assert_eq!(Player::named(player.as_str()), Some(*player));
            assert_eq!(serde_json::json!(player), player.as_str());
        }
    }
}
