//! Which channel a query string asks for. Owns the rules of `/ace/getstream` and its siblings, and is strict.
//!
//! Exactly one selector: `id`, `content_id` (its other name) or `infohash`. Selectors that would make an engine fetch
//! a URL of the client's choice are refused. `pid`, `sid` and everything unknown is ignored and goes nowhere: requests
//! to engines are built from typed values only. Error messages never repeat the input.
//!
//! Two things that lists do to addresses are undone, and only where the query says nothing as it stands: headers for a
//! player behind a bar (`…|User-Agent=VLC`, as Kodi's lists have them), and one level of percent-encoding too much.

use std::borrow::Cow;

use crate::content::{ContentId, hex_digit};

/// A query parameter that says what to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `id`
    Id,
    /// `content_id`, which means the same as `id`
    ContentId,
    /// `infohash`
    Infohash,
    /// A parameter that names a source outside the AceStream network: `url`, `magnet`, `torrent_url`, `direct_url`,
    /// `raw_data`
    Foreign,
}

/// Why a query does not name one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// No selector, or one without a value.
    #[error("no channel given: use id=, content_id= or infohash= with 40 hexadecimal digits")]
    Missing,
    /// The value is not a channel's name.
    #[error("not a channel id: 40 hexadecimal digits are expected")]
    Invalid,
    /// More than one selector.
    #[error("more than one channel selector given: use exactly one of id=, content_id= and infohash=")]
    Ambiguous,
    /// One selector, several times.
    #[error("the channel selector is given more than once")]
    Duplicate,
    /// Broken percent-encoding, or bytes that are not UTF-8.
    #[error("the query is not valid percent-encoded UTF-8")]
    BadEncoding,
    /// A selector that only an operator may allow.
    #[error("this kind of channel selector is not enabled here")]
    Disabled,
}

impl SelectorError {
    /// The stable code of the error in answers.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_id",
            Self::Invalid => "invalid_id",
            Self::Ambiguous => "ambiguous_id",
            Self::Duplicate => "duplicate_param",
            Self::BadEncoding => "bad_encoding",
            Self::Disabled => "selector_disabled",
        }
    }
}

impl Selector {
    /// The channel that a raw query string (without its `?`) asks for.
    ///
    /// Encoding is judged where it matters: in the selector's value, and in names when no selector was found, because
    /// an unreadable name may have been meant as one.
    pub fn from_query(raw: Option<&str>) -> Result<ContentId, SelectorError> {
        let raw = raw.unwrap_or_default();
        Self::strictly(raw).or_else(|error| Self::mended(raw).ok_or(error))
    }

    /// The same when a list has done something to it.
    fn mended(raw: &str) -> Option<ContentId> {
        let cut = before_headers(raw);
        let decoded = || percent_decode(cut);
        Self::strictly(cut).ok().or_else(|| Self::strictly(before_headers(&decoded()?)).ok())
    }

    fn strictly(raw: &str) -> Result<ContentId, SelectorError> {
        let mut unreadable = false;
        let mut given = Vec::new();
        for (name, value) in raw.split('&').map(split_pair) {
            match percent_decode(name) {
                Some(name) => given.extend(Self::named(&name).map(|selector| (selector, value))),
                None => unreadable = true,
            }
        }
        match *given {
            [] if unreadable => Err(SelectorError::BadEncoding),
            [] => Err(SelectorError::Missing),
            [(selector, value)] => selector.content(value),
            [(first, _), ref others @ ..] => Err(first.conflict(others)),
        }
    }

    /// The selector of this (decoded) name. Names are case-sensitive, as engines have them.
    fn named(name: &str) -> Option<Self> {
        match name {
            "id" => Some(Self::Id),
            "content_id" => Some(Self::ContentId),
            "infohash" => Some(Self::Infohash),
            "url" | "magnet" | "torrent_url" | "direct_url" | "raw_data" => Some(Self::Foreign),
            _ => None,
        }
    }

    /// The channel that this selector's raw value names.
    fn content(self, raw: &str) -> Result<ContentId, SelectorError> {
        if self == Self::Foreign {
            return Err(SelectorError::Disabled);
        }
        let value = percent_decode(raw).ok_or(SelectorError::BadEncoding)?;
        if value.bytes().all(|byte| byte == b' ') {
            return Err(SelectorError::Missing);
        }
        match self {
            Self::Infohash => value.parse().map(ContentId::Infohash),
            _ => ContentId::from_any_form(&value),
        }
        .map_err(|_| SelectorError::Invalid)
    }

    /// What is wrong with this selector beside `others`.
    fn conflict(self, others: &[(Self, &str)]) -> SelectorError {
        if others.iter().any(|(other, _)| *other != self) {
            SelectorError::Ambiguous
        } else if self == Self::Foreign {
            SelectorError::Disabled
        } else {
            SelectorError::Duplicate
        }
    }
}

/// What stands before headers for a player: `|Name=value&Name=value`, the bar encoded or not. Without these all of it.
pub fn before_headers(text: &str) -> &str {
    let bars = ["|", "%7C", "%7c"];
    let bar = bars.into_iter().filter_map(|bar| Some((text.find(bar)?, bar.len()))).min();
    let Some((at, length)) = bar else { return text };
    let (before, behind) = text.split_at(at);
    let name = behind.get(length..).unwrap_or_default().split(['=', '%']).next().unwrap_or_default();
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let has_value = behind.contains('=') || behind.contains("%3D") || behind.contains("%3d");
    if is_name && has_value { before } else { text }
}

/// Name and value of one parameter; a parameter without `=` has an empty value.
fn split_pair(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

/// Decodes `%xx`. Unlike HTML forms, a `+` is a plus. `None` when an escape is broken or the bytes are not UTF-8.
fn percent_decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";

    fn parse(query: &str) -> Result<ContentId, SelectorError> {
        Selector::from_query(Some(query))
    }

    fn id() -> ContentId {
        ContentId::Id(HEX.parse().unwrap())
    }

    #[test]
    fn each_selector_names_its_channel_in_any_case() {
        assert_eq!(parse(&format!("id={HEX}")), Ok(id()));
        assert_eq!(parse(&format!("content_id={}", HEX.to_uppercase())), Ok(id()));
        assert_eq!(parse(&format!("infohash={HEX}")), Ok(ContentId::Infohash(HEX.parse().unwrap())));
    }

    #[test]
    fn pasted_links_are_accepted_plain_and_encoded() {
        for link in ["acestream://", "ACESTREAM://", "acestream%3A%2F%2F", "acestream%3a//", "%61cestream://"]
        {
            assert_eq!(parse(&format!("id={link}{HEX}")), Ok(id()), "{link}");
            assert_eq!(parse(&format!("content_id={link}{HEX}")), Ok(id()), "{link}");
        }
        assert_eq!(parse(&format!("infohash=acestream://{HEX}")), Err(SelectorError::Invalid));
    }

    #[test]
    fn a_link_with_an_encoded_query_of_its_own_is_one_value() {
        let infohash = ContentId::Infohash(HEX.parse().unwrap());
        assert_eq!(parse(&format!("id=acestream%3A%3Finfohash%3D{HEX}")), Ok(infohash));
        assert_eq!(parse(&format!("id=acestream:?infohash={HEX}")), Ok(infohash));
    }

    #[test]
    fn no_value_is_a_missing_id() {
        assert_eq!(Selector::from_query(None), Err(SelectorError::Missing));
        for query in ["", "&", "id", "id=", "id=%20%20", "infohash=", "pid=1&format=json", "ID=x", "=x"] {
            assert_eq!(parse(query), Err(SelectorError::Missing), "{query}");
        }
    }

    #[test]
    fn other_spellings_are_invalid_not_repaired() {
        let upper_but_one = &HEX[1..];
        for value in [
            upper_but_one.to_owned(),
            format!("{HEX}1"),
            format!("%20{HEX}"),
            format!("{HEX}%20"),
            format!("{HEX}+"),
            format!("+{HEX}"),
            "+".to_owned(),
            format!("%22{HEX}%22"),
            format!("{{{HEX}}}"),
            format!("{HEX}?"),
            format!("{HEX}%00"),
            format!("{HEX}%0d%0aSTOP"),
            "%00".to_owned(),
            "a%0d%0aSTOP".to_owned(),
            "%09".to_owned(),
            format!("%252561{upper_but_one}"),
            format!("{HEX}|"),
            format!("{HEX}|VLC"),
            format!("{HEX}|User Agent=VLC"),
            format!("{HEX}x|User-Agent=VLC"),
            format!("{HEX}/"),
            format!("acestream://{HEX}//"),
            format!("acestream://{HEX}/x"),
            format!("/{HEX}"),
            "../../etc/passwd".to_owned(),
            "..%2f..".to_owned(),
            ";ls".to_owned(),
            "'\"><script>".to_owned(),
            HEX.replace('0', "%EF%BC%90"),
            HEX.replace('a', "\u{430}"),
            format!("%E2%80%AE{HEX}"),
            "0".repeat(10_000),
        ] {
            assert_eq!(parse(&format!("id={value}")), Err(SelectorError::Invalid), "{value}");
        }
    }

    #[test]
    fn what_lists_do_to_addresses_is_undone() {
        let infohash = ContentId::Infohash(HEX.parse().unwrap());
        for value in [
            format!("{HEX}|User-Agent=VLC"),
            format!("{HEX}|User-Agent=VLC%20media&Referer=http://x/?id=1"),
            format!("{HEX}%7CUser-Agent=VLC"),
            format!("{HEX}%7cuser-agent%3DVLC"),
            format!("{HEX}%257CUser-Agent%253DVLC"),
            format!("acestream://{HEX}|User-Agent=VLC"),
            format!("acestream://{HEX}/"),
            format!("acestream%3A%2F%2F{HEX}%2F"),
            format!("acestream%253A%252F%252F{HEX}"),
            HEX.replace('0', "%2530"),
        ] {
            assert_eq!(parse(&format!("id={value}")), Ok(id()), "{value}");
            assert_eq!(parse(&format!("content_id={value}&pid=1")), Ok(id()), "{value}");
        }
        for query in [format!("id%3D{HEX}"), format!("id%3D{HEX}%26pid%3D1"), format!("pid=1&id%3D{HEX}")] {
            assert_eq!(parse(&query), Ok(id()), "{query}");
        }
        assert_eq!(parse(&format!("infohash%3D{HEX}|User-Agent=x")), Ok(infohash));
        // Two of them remain two.
        assert_eq!(parse(&format!("id%3D{HEX}%26url%3Dx")), Err(SelectorError::Missing));
        assert_eq!(parse(&format!("id={HEX}%26infohash%3D{HEX}")), Err(SelectorError::Invalid));
    }

    #[test]
    fn broken_encoding_is_told_apart() {
        for value in ["%zz", "%", "%4", "%ff", "%c3%28", "%+1", "%-1"] {
            assert_eq!(parse(&format!("id={value}")), Err(SelectorError::BadEncoding), "{value}");
            assert_eq!(parse(value), Err(SelectorError::BadEncoding), "{value} as a name");
        }
    }

    #[test]
    fn encoding_of_other_parameters_does_not_matter() {
        assert_eq!(parse(&format!("id={HEX}&x=%zz")), Ok(id()));
        assert_eq!(parse(&format!("%zz=1&id={HEX}")), Ok(id()));
    }

    #[test]
    fn an_encoded_name_is_still_that_name() {
        assert_eq!(parse(&format!("%69d={HEX}")), Ok(id()));
        assert_eq!(parse(&format!("%69d={HEX}&id={HEX}")), Err(SelectorError::Duplicate));
    }

    #[test]
    fn two_selectors_are_ambiguous_even_when_they_agree_or_one_is_empty() {
        for query in [
            format!("id={HEX}&infohash={HEX}"),
            format!("id={HEX}&content_id={HEX}"),
            format!("id=&infohash={HEX}"),
            format!("id={HEX}&id={HEX}&infohash={HEX}"),
            format!("id={HEX}&url=http://example.org/"),
            format!("magnet=x&infohash={HEX}"),
            "id=x&direct_url=y".to_owned(),
        ] {
            assert_eq!(parse(&query), Err(SelectorError::Ambiguous), "{query}");
        }
    }

    #[test]
    fn the_same_selector_twice_is_a_duplicate() {
        assert_eq!(parse(&format!("id={HEX}&id={HEX}")), Err(SelectorError::Duplicate));
        assert_eq!(parse(&format!("infohash={HEX}&infohash=x")), Err(SelectorError::Duplicate));
        assert_eq!(parse("id=%zz&id="), Err(SelectorError::Duplicate));
    }

    #[test]
    fn selectors_of_foreign_sources_are_disabled() {
        for query in
            ["url=http://x/", "magnet=", "torrent_url=%zz", "direct_url=x", "raw_data=x", "url=a&magnet=b"]
        {
            assert_eq!(parse(query), Err(SelectorError::Disabled), "{query}");
        }
    }

    #[test]
    fn unknown_parameters_are_ignored_even_twice() {
        let query = format!("pid=1&pid=2&sid=x&mode=a&cas=%zz&transcode_audio=1&format=json&&id={HEX}&=");
        assert_eq!(parse(&query), Ok(id()));
    }

    proptest! {
        #[test]
        fn no_query_panics_and_no_message_repeats_it(query in "\\PC{0,80}") {
            if let Err(error) = parse(&query) {
                prop_assert!(query.len() < 12 || !error.to_string().contains(&query));
            }
        }

        #[test]
        fn any_percent_encoding_of_an_id_is_that_id(bytes: [u8; 20], escaped in proptest::collection::vec(any::<bool>(), 40)) {
            let hash = crate::Hash::new(bytes);
            let text = hash.to_string();
            let value: String = text
                .bytes()
                .zip(escaped)
                .map(|(byte, escape)| if escape { format!("%{byte:02X}") } else { char::from(byte).to_string() })
                .collect();
            prop_assert_eq!(parse(&format!("id={value}")), Ok(ContentId::Id(hash)));
        }
    }
}
