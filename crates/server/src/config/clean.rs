//! What a value is of what was written: without blanks, quotes and comments, and spelt as we spell it.

use super::format::Secrecy;
use super::raw::Origin;
use super::setting::Item;
use super::value::without_comment;

/// The value itself, as we spell it, without blanks and quotes around it and a comment after it. Compose's `- NAME="value"`
/// and `docker run --env-file` leave the quotes in what they hand on; in a key they may be meant.
pub(super) fn cleaned<'a>(item: &dyn Item, text: &'a str) -> &'a str {
    let (kind, text) = (item.kind(), text.trim());
    let unquoted = |text: &'a str| in_quotes(text).map_or(text, str::trim);
    match (kind.secrecy(), kind.is_free()) {
        (Secrecy::HiddenOrInAFile, _) => text,
        (_, true) => unquoted(text),
        (_, false) => kind.spelled(unquoted(without_comment(unquoted(text)))),
    }
}

/// What stands in quotes that are around all of it.
fn in_quotes(text: &str) -> Option<&str> {
    let inner =
        |quote: char| text.strip_prefix(quote)?.strip_suffix(quote).filter(|inner| !inner.contains(quote));
    inner('"').or_else(|| inner('\''))
}

/// A warning when a key stands in quotes that no shell has taken away: whoever copies it from there sends it without them.
pub(super) fn quoted_key(item: &dyn Item, value: &str, origin: &Origin) -> Option<String> {
    let is_key = item.kind().secrecy() == Secrecy::HiddenOrInAFile && *origin == Origin::Environment;
    let is_quoted = is_key && in_quotes(value).is_some();
    is_quoted.then(|| format!("{} begins and ends with a quote, and both are part of it", item.name()))
}

#[cfg(test)]
mod tests {
    use super::super::raw::Written;
    use super::super::settings::fleet::ENGINE_VARIANT;
    use super::super::settings::service::{API_KEY, APP_PORT, DB_PATH, LOG_LEVEL};
    use super::super::settings::streams::STREAM_BUFFER_SIZE;
    use super::super::settings::viewers::MAX_VIEWERS;
    use super::super::settings::vpn::VPN_MODE;
    use super::*;

    #[test]
    fn quotes_that_no_shell_has_taken_away_are_no_part_of_a_value_but_of_a_key() {
        let read = |item: &'static dyn Item, text: &'static str| cleaned(item, text);
        for (text, value) in [
            ("\"8 * 1024 * 1024\"", "8 * 1024 * 1024"),
            ("'8 MiB'", "8 MiB"),
            (" \" 8 MiB \" ", "8 MiB"),
            ("\"8 MiB\"  # 8 MB", "8 MiB"),
            ("\"8 MiB # 8 MB\"", "8 MiB"),
            ("\"\"", ""),
            ("\"8 MiB", "\"8 MiB"),
            ("\"", "\""),
            ("\"8 MiB'", "\"8 MiB'"),
        ] {
            assert_eq!(read(&STREAM_BUFFER_SIZE, text), value, "{text}");
        }
        assert_eq!(read(&DB_PATH, "'/data/a b #1.db'"), "/data/a b #1.db");
        assert_eq!(read(&API_KEY, "\"hush\""), "\"hush\"");
        let written =
            Written::from_pairs([("API_KEY", "\"hush\""), ("MAX_VIEWERS", "\"7\""), ("APP_PORT", "''")]);
        assert_eq!(written.entry(&MAX_VIEWERS).unwrap().value, "7");
        assert!(written.entry(&APP_PORT).is_none(), "an empty value is as good as none");
        assert_eq!(written.notices, ["API_KEY begins and ends with a quote, and both are part of it"]);
    }

    #[test]
    fn words_are_understood_in_capitals_and_as_other_systems_have_them() {
        let read = |item: &'static dyn Item, text: &'static str| cleaned(item, text);
        for (text, word) in [("INFO", "info"), ("Warning", "warn"), ("CRITICAL", "error"), ("loud", "loud")] {
            assert_eq!(read(&LOG_LEVEL, text), word);
        }
        assert_eq!(read(&VPN_MODE, "Redundant"), "redundant");
        assert_eq!(read(&ENGINE_VARIANT, "aceserve-AMD64"), "AceServe-amd64");
    }
}
