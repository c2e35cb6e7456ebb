//! The settings as people read them: `config show`, `docs/settings.md` and `.env.example`, all from the one list.

use std::fmt::Write as _;

use serde::Serialize;

use super::listing::value_of;
use super::raw::Written;
use super::setting::{Applies, Item};
use super::settings::ignored::{self, IGNORED, Ignored};
use super::settings::service::API_KEY;
use super::settings::{GROUPS, all};

/// One line of `config show`.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// A secret's is masked.
    value: Option<String>,
    origin: String,
    default: Option<String>,
}

/// Every setting with its value, where it comes from, and its default.
pub fn show(written: &Written) -> String {
    let mut page = String::new();
    for Row { name, value, origin, default } in rows(written) {
        let (value, default) = (value.as_deref().unwrap_or("none"), default.as_deref().unwrap_or("none"));
        line(&mut page, format_args!("{name:<38} {value:<28} {origin:<14} default {default}"));
    }
    page
}

/// The same for programs: an array of objects.
pub fn show_json(written: &Written) -> String {
    let rows: Vec<Row> = rows(written).collect();
    serde_json::to_string_pretty(&rows).expect("rows are plain text")
}

fn rows(written: &Written) -> impl Iterator<Item = Row> {
    let config = super::resolve::meaning(written);
    all().map(move |item| {
        let default = item.default();
        let (value, origin) = value_of(item, written, &config);
        Row { name: item.name(), value, origin: origin.to_string(), default }
    })
}

/// The reference page.
pub fn settings_page() -> String {
    let mut page = String::from(
        "# Settings\n\n<!-- Generated from crates/server/src/config/settings/; a test compares it. -->\n\n\
         Each is an environment variable, a line of `.env`, or the same name in lower case in `acemux.toml`. Flags win \
         over the environment, the environment over `.env`, `.env` over what is changed through pages, and that over \
         `acemux.toml`; an empty value is as good as none. Durations: `30`, `30s`, `5m`; \
         sizes: `65536`, `64 KiB`; numbers of all kinds may be products: `8 * 1024 * 1024`; ranges: `19000-19999`; words in any case. What follows ` #` is a comment, except in \
         texts and keys outside of `.env`. Quotes around a value are no part of it; in `acemux.toml` what is not a bare number, \
         true or false has to stand in them: `stream_buffer_size = \"8 * 1024 * 1024\"`. `acemux config check` finds every mistake at once, \
         `acemux config show` prints every value and where it comes from.\n\n\
         `GET /api/v1/settings` lists them while the service runs, `PATCH` changes them ([operation](operation.md#settings)): \
         at once where that is said here, after a restart where nothing is said. What the environment, `.env` or a flag \
         sets is fixed, and so are secrets and what is said to be set only where the service is started.\n",
    );
    let heading = |page: &mut String, title: &str| {
        line(page, format_args!("\n## {title}\n\n| name | default | meaning |\n|---|---|---|"));
    };
    for group in GROUPS {
        heading(&mut page, group.title);
        for item in group.items {
            let default = item.default().map(|default| format!("`{default}`")).unwrap_or_default();
            line(
                &mut page,
                format_args!("| `{}` | {default} | {}{} |", item.name(), meaning(*item), when(*item)),
            );
        }
    }
    heading(&mut page, ignored::TITLE);
    for Ignored { name, why } in IGNORED {
        line(&mut page, format_args!("| `{name}` |  | {why} |"));
    }
    page
}

fn when(item: &dyn Item) -> &'static str {
    match item.about().applies {
        _ if item.about().alias_of.is_none() && item.about().outside.is_some() => {
            " Only where the service is started."
        }
        Applies::AtOnce => " A change applies at once.",
        Applies::FromTheNextStart => "",
    }
}

fn meaning(item: &dyn Item) -> String {
    let limit = item.kind().limit().map(|limit| format!(" ({limit})")).unwrap_or_default();
    format!("{}{limit}.", item.about().words.trim_end_matches('.'))
}

/// A key that everybody knows ([`super::resolve`] takes it for none).
const EXAMPLE_KEY: &str = "your-secure-key";

/// What the compose files take beside settings.
const OF_COMPOSE: &str = "
# --- The compose files alone ---

# Image of the service; with a version behind the colon it is updated only when you say so.
#SERVICE_IMAGE=ghcr.io/acemux/acemux:latest

# User of the service, and the group that may use Docker's socket (docs/deployment.md).
#SERVICE_USER=0:0
#DOCKER_GID=0

# Docker's socket on this machine; /run/user/1000/docker.sock and the like where Docker runs without root.
#DOCKER_SOCKET=/var/run/docker.sock

# Image of the filter before Docker's socket (docker-compose.socket-proxy.yml).
#SOCKET_PROXY_IMAGE=haproxy:2.8-alpine

# Image of gluetun.
#GLUETUN_IMAGE=qmcgaw/gluetun:v3

# gluetun's own settings (docs/vpn.md); those of the second VPN end in _2.
#VPN_SERVICE_PROVIDER=protonvpn
#VPN_TYPE=wireguard
#WIREGUARD_PRIVATE_KEY=
#WIREGUARD_ADDRESSES=
#OPENVPN_USER=
#OPENVPN_PASSWORD=
#SERVER_COUNTRIES=
#VPN_PORT_FORWARDING=on
";

/// The file to copy to `.env`: every setting that does something, with its default, commented out.
pub fn env_example() -> String {
    let mut page = String::from(
        "# Copy to .env and change what you need. What is commented out shows the default.\n\
         # docs/settings.md explains all settings.\n",
    );
    for group in GROUPS {
        line(&mut page, format_args!("\n# --- {} ---", group.title));
        for item in group.items.iter().filter(|item| item.about().alias_of.is_none()) {
            example(&mut page, *item);
        }
    }
    page + OF_COMPOSE
}

fn example(page: &mut String, item: &dyn Item) {
    let (name, meaning) = (item.name(), meaning(item));
    if name == API_KEY.name() {
        // The compose files require one; this one counts as none until it is changed.
        line(
            page,
            format_args!(
                "\n# {meaning}\n# This one counts as none, because everybody knows it: one is made instead.\n{name}={EXAMPLE_KEY}"
            ),
        );
    } else {
        // Shells read the file too, and end a value at a blank.
        let default = item.default().unwrap_or_default().replace(' ', "");
        line(page, format_args!("\n# {meaning}\n#{name}={default}"));
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    /// The committed file equals what the table says; `UPDATE_DOCS=1` writes it instead.
    fn committed(path: &str, generated: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, generated).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == generated, "{} is not what the table says: run with UPDATE_DOCS=1", path.display());
    }

    #[test]
    fn the_reference_page_is_what_the_table_says() {
        committed("docs/settings.md", &settings_page());
    }

    #[test]
    fn the_example_is_what_the_table_says_and_every_line_of_it_parses() {
        let example = env_example();
        committed(".env.example", &example);
        let lines = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
        let pairs: Vec<_> = lines.filter(|(name, _)| !name.contains(' ')).collect();
        assert!(pairs.len() > 50);
        Config::from_pairs(pairs).unwrap();
    }

    #[test]
    fn secrets_are_not_shown() {
        let written = Written::from_pairs([("API_KEY", "hush-hush-hush")]);
        for page in [show(&written), show_json(&written)] {
            assert!(page.contains("***") && !page.contains("hush"));
        }
    }

    #[test]
    fn credentials_in_urls_are_not_shown() {
        for (name, value) in [
            ("DOCKER_HOST", "tcp://user:hush@docker:2375"),
            ("DOCKER_HOST", "tcp://docker:2375?token=hush"),
            ("DB_PATH", "http://host/?api_key=hush"),
            // One that is refused is shown all the same.
            ("ENGINES", "http://user:hush@engine:6878"),
        ] {
            let written = Written::from_pairs([(name, value)]);
            for page in [show(&written), show_json(&written)] {
                assert!(page.contains("***") && !page.contains("hush"), "{name}={value}");
            }
        }
    }

    #[test]
    fn what_is_computed_is_shown_with_its_value() {
        let pairs = [("ACEXY_HOST", "engine"), ("MAX_VIEWERS", "10"), ("MAX_REPLICAS", "1")];
        let rows: Vec<Row> = rows(&Written::from_pairs(pairs)).collect();
        let value = |name| rows.iter().find(|row| row.name == name).and_then(|row| row.value.as_deref());
        assert_eq!(value("ENGINES"), Some("engine:6878"));
        assert_eq!(value("MAX_CONNECTIONS"), Some("266"));
        assert_eq!(value("MIN_REPLICAS"), Some("1"));
        assert!(value("STREAM_MEMORY").is_some());
        assert_eq!(value("API_KEY"), None);
    }

    #[test]
    fn programs_get_every_setting_with_value_origin_and_default() {
        let page = show_json(&Written::from_pairs([("APP_PORT", "8001")]));
        let rows: Vec<serde_json::Value> = serde_json::from_str(&page).unwrap();
        let port = serde_json::json!({
            "name": "APP_PORT", "value": "8001", "origin": "environment", "default": "8000",
        });
        assert!(rows.contains(&port));
    }
}
