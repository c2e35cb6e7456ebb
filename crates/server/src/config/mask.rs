//! Values as they may be shown: without the credentials that URLs in them carry. Where a value is printed it goes through
//! here, also in the line that refuses it. What would begin a line of its own, or steer a terminal, is not printed either.

use acemux_engine::text::steers;

/// Stands for what is not shown.
const MASK: &str = "***";

/// What is part of the names of query parameters that hold credentials.
const TELLING: [&str; 9] = ["token", "key", "pass", "pwd", "secret", "auth", "sign", "cred", "sid"];

/// `http://user:pass@host/?token=x` as `http://***@host/?token=***`. What cannot be told from credentials is hidden, too.
pub(super) fn masked(text: &str) -> String {
    without_secrets(&without_userinfo(text, "***@")).replace(steers, "\u{fffd}")
}

/// A URL without user and password, which mean nothing to those that we call.
pub(super) fn without_credentials(url: &str) -> String {
    without_userinfo(url, "")
}

/// Up to the last `@`, because people write passwords with slashes and `@` in them.
fn without_userinfo(text: &str, instead: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (scheme, after) = rest.split_at(at + "://".len());
        let (url, next) = after.split_at(end_of_url(after));
        shown.push_str(scheme);
        match url.rsplit_once('@') {
            Some((_, host)) => shown.extend([instead, host]),
            None => shown.push_str(url),
        }
        rest = next;
    }
    let bare: Vec<String> = rest.split(',').map(|part| bare_userinfo(part, instead)).collect();
    shown + &bare.join(",")
}

/// Where the next URL's scheme begins, or the end.
fn end_of_url(text: &str) -> usize {
    let Some(next) = text.find("://") else { return text.len() };
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.get(..next).and_then(|before| before.rfind(|c| !is_scheme(c))).map_or(0, |at| at + 1)
}

/// `user:pass@host` without a scheme; an image's digest looks much the same.
fn bare_userinfo(part: &str, instead: &str) -> String {
    match part.rsplit_once('@') {
        Some((user, host)) if user.contains(':') && !host.starts_with("sha") => {
            let blank = part.len() - part.trim_start().len();
            format!("{}{instead}{host}", " ".repeat(blank))
        }
        _ => part.to_owned(),
    }
}

/// Values of parameters, in a query or a fragment, whose names tell that they are secret.
fn without_secrets(text: &str) -> String {
    let mut shown = String::new();
    let mut is_parameter = false;
    let ends = |c: char| matches!(c, '?' | '&' | ';' | '#') || c.is_whitespace();
    for part in text.split_inclusive(ends) {
        let end = part.len() - part.chars().next_back().filter(|c| ends(*c)).map_or(0, char::len_utf8);
        let (pair, separator) = part.split_at(end);
        match pair.split_once('=') {
            Some((name, _)) if is_parameter && is_telling(name) => shown.extend([name, "=", MASK]),
            _ => shown.push_str(pair),
        }
        shown.push_str(separator);
        is_parameter = !separator.is_empty() && !separator.contains(char::is_whitespace);
    }
    shown
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_hidden_and_the_rest_is_shown() {
        for (text, shown) in [
            ("tcp://user:hush@docker:2375", "tcp://***@docker:2375"),
            ("http://hush@host/path", "http://***@host/path"),
            ("http://user:hu/sh@host/path", "http://***@host/path"),
            ("http://user:hu@sh@host", "http://***@host"),
            ("http://u:hush@a:1,http://v:hush@b:2", "http://***@a:1,http://***@b:2"),
            ("user:hush@engine:6878, b:1", "***@engine:6878, b:1"),
            ("http://a/?token=hush&id=1", "http://a/?token=***&id=1"),
            ("http://a/?id=1&api_key=hush#access_token=hush", "http://a/?id=1&api_key=***#access_token=***"),
            ("http://a/?X-Amz-Signature=hush;Password=hush", "http://a/?X-Amz-Signature=***;Password=***"),
            ("http://u:hush@a/?apikey=hush", "http://***@a/?apikey=***"),
        ] {
            assert_eq!(masked(text), shown);
            assert!(!masked(text).contains("hush"));
        }
    }

    #[test]
    fn values_without_credentials_are_shown_as_they_are() {
        let digest = format!("ghcr.io/a/b:1@sha256:{}", "0".repeat(64));
        for text in [
            "",
            "unix:///var/run/docker.sock",
            "tcp://127.0.0.1:2375",
            "127.0.0.1:6878,[::1]:6878",
            "orchestrator.managed=acestream",
            "token=value",
            "./data/acemux.db",
            "64 KiB",
            digest.as_str(),
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn nothing_of_a_value_steers_a_terminal_or_makes_a_line_of_its_own() {
        assert_eq!(masked("a\nb\u{1b}[31m\u{202e}c"), "a\u{fffd}b\u{fffd}[31m\u{fffd}c");
    }

    #[test]
    fn an_address_is_called_without_credentials() {
        assert_eq!(without_credentials("tcp://user:hush@docker:2375"), "tcp://docker:2375");
        assert_eq!(without_credentials("unix:///run/docker.sock"), "unix:///run/docker.sock");
    }
}
