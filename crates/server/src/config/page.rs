//! The settings as people read them: `config show`, `docs/settings.md` and `.env.example`, all from the one table.

use std::fmt::Write as _;

use super::raw::{Origin, Written};
use super::table::{Effect, Kind, SETTINGS, Setting};

/// Every setting with its value, where it comes from, and its default.
pub fn show(written: &Written) -> String {
    let mut page = String::new();
    for (_, setting) in SETTINGS.iter().filter(|(_, setting)| !matches!(setting.effect, Effect::Ignored(_))) {
        let (value, origin) = value_of(setting, written);
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        line(&mut page, format_args!("{:<38} {value:<28} {origin:<14} default {default}", setting.name));
    }
    page
}

fn value_of(setting: &Setting, written: &Written) -> (String, String) {
    match written.entry(setting.name) {
        Some(_) if setting.kind == Kind::Secret => ("***".into(), origin_of(setting, written)),
        Some(entry) => (entry.value.clone(), origin_of(setting, written)),
        None if setting.default.is_empty() => ("none".into(), Origin::Default.to_string()),
        None => (setting.default.into(), Origin::Default.to_string()),
    }
}

fn origin_of(setting: &Setting, written: &Written) -> String {
    written.entry(setting.name).map_or(Origin::Default, |entry| entry.origin.clone()).to_string()
}

/// The reference page.
pub fn settings_page() -> String {
    let mut page = String::from(
        "# Settings\n\n<!-- Generated from the table in crates/server/src/config/table.rs; a test compares it. -->\n\n\
         Each is an environment variable, a line of `.env`, or the same name in lower case in `acemux.toml`. Flags win \
         over the environment, the environment over `.env`, `.env` over `acemux.toml`. Durations: `30`, `30s`, `5m`; \
         sizes: `65536`, `64 KiB`; ranges: `19000-19999`. `acemux config check` finds every mistake at once, \
         `acemux config show` prints every value and where it comes from.\n",
    );
    let mut last = "";
    for (group, setting) in SETTINGS {
        if *group != last {
            line(&mut page, format_args!("\n## {group}\n\n| name | default | meaning |\n|---|---|---|"));
            last = group;
        }
        let default =
            if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        line(
            &mut page,
            format_args!("| `{}` | {default} | {}{} |", setting.name, setting.meaning, effect(setting)),
        );
    }
    page
}

fn effect(setting: &Setting) -> &'static str {
    match setting.effect {
        Effect::Now | Effect::Alias(_) | Effect::Ignored(_) => "",
        Effect::Provisioning => " *(checked now; takes effect with provisioned engines)*",
        Effect::Vpn => " *(checked now; takes effect with VPNs)*",
    }
}

/// The file to copy to `.env`: every setting that does something, with its default, commented out.
pub fn env_example() -> String {
    let mut page = String::from(
        "# Copy to .env and change what you need. Every line is commented out and shows the default.\n\
         # docs/settings.md explains all settings.\n",
    );
    let mut last = "";
    let shown = |setting: &Setting| !matches!(setting.effect, Effect::Ignored(_) | Effect::Alias(_));
    for (group, setting) in SETTINGS.iter().filter(|(_, setting)| shown(setting)) {
        if *group != last {
            line(&mut page, format_args!("\n# --- {group} ---"));
            last = group;
        }
        line(&mut page, format_args!("\n# {}\n#{}={}", setting.meaning, setting.name, setting.default));
    }
    page
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
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
        super::super::Config::from_pairs(pairs).unwrap();
    }

    #[test]
    fn secrets_are_not_shown() {
        let page = show(&Written::from_pairs([("API_KEY", "hush hush hush")]));
        assert!(page.contains("***") && !page.contains("hush"));
    }
}
