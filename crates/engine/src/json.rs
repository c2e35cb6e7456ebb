//! Engines' JSON, read tolerantly and within limits.
//!
//! Scalars come as strings from one engine and as numbers from the next, errors as text or as an object, results as an
//! object or as the word `ok`. The types here accept all of that and keep nothing they do not know: a reply is parsed
//! straight into its fields, so a hostile one costs no more memory than its own bytes. However deep it is nested, it costs
//! no stack either: what no type here asks for is skipped by a loop of `serde_json`'s, and the rest is a few levels deep.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{EngineError, clean};

/// What every call is wrapped in: `response` under `/ace/`, `result` under `/server/api` and `/webui/api`.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Envelope<T> {
    #[serde(default, alias = "result")]
    response: Payload<T>,
    #[serde(default)]
    error: Payload<Failure>,
}

/// The error of API versions 2 and 3; older ones send bare text.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: Scalar,
}

/// Parses a reply and unwraps its envelope. An error in it is [`EngineError::Refused`].
pub(crate) fn open<T: DeserializeOwned>(body: &[u8]) -> Result<Payload<T>, EngineError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let envelope = serde_json::from_slice::<Payload<Envelope<T>>>(body).ok().and_then(Payload::object);
    let envelope = envelope.ok_or_else(|| EngineError::bad_reply("not the JSON of an engine"))?;
    match envelope.error.message() {
        Some(message) => Err(EngineError::Refused { message: clean(message.as_bytes()) }),
        None => Ok(envelope.response),
    }
}

/// An object where one is expected, a word in its place, or neither.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Payload<T> {
    Object(T),
    Text(String),
    #[default]
    Nothing,
}

impl<T> Payload<T> {
    /// The object.
    pub(crate) fn object(self) -> Option<T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Text(_) | Self::Nothing => None,
        }
    }
}

impl Payload<Failure> {
    /// What went wrong, if anything.
    fn message(self) -> Option<String> {
        match self {
            Self::Object(failure) => Some(failure.message.0.unwrap_or_else(|| "unknown error".to_owned())),
            Self::Text(text) => Some(text).filter(|text| !text.is_empty()),
            Self::Nothing => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Payload<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PayloadVisitor(PhantomData))
    }
}

struct PayloadVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PayloadVisitor<T> {
    type Value = Payload<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, text or null")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Payload<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Payload::Object)
    }

    fn visit_str<E>(self, text: &str) -> Result<Payload<T>, E> {
        Ok(Payload::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Payload<T>, A::Error> {
        drain(seq).map(|()| Payload::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Payload<T>, E> {
        Ok(Payload::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Payload<T>, E> {
        Ok(Payload::Nothing)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Payload<T>, E> {
        Ok(Payload::Nothing)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Payload<T>, E> {
        Ok(Payload::Nothing)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Payload<T>, E> {
        Ok(Payload::Nothing)
    }
}

/// A string or a number, kept as text; anything else reads as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scalar(Option<String>);

impl Scalar {
    /// The text, unless absent or empty.
    pub(crate) fn text(&self) -> Option<&str> {
        self.0.as_deref().filter(|text| !text.is_empty())
    }

    /// The text as a name to show and compare: cleaned, not too long.
    pub(crate) fn label(&self) -> Option<String> {
        self.text().map(|text| clean(text.as_bytes()))
    }

    /// Parsed from its text; absent when it does not parse.
    pub(crate) fn parse<T: std::str::FromStr>(&self) -> Option<T> {
        self.text()?.trim().parse().ok()
    }

    /// A count or size. Fractions are cut off; what is negative, not a number or above 2^53 is absent: no engine means
    /// it.
    pub(crate) fn count(&self) -> Option<u64> {
        const MAX: f64 = 9_007_199_254_740_992.0;
        let number: f64 = self.parse()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
        (0.0..=MAX).contains(&number).then_some(number as u64)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(Some(text.to_owned())))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar(Some(u8::from(flag).to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(Some(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(Some(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(Some(number.to_string())))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Scalar, A::Error> {
        drain(seq).map(|()| Scalar(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }
}

/// Reads an array to its end and keeps nothing.
fn drain<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Sample {
        n: Scalar,
    }

    fn sample(json: &str) -> Result<Payload<Sample>, EngineError> {
        open(json.as_bytes())
    }

    fn count(json: &str) -> Option<u64> {
        sample(&format!("{{\"response\":{{\"n\":{json}}}}}")).unwrap().object().unwrap().n.count()
    }

    #[test]
    fn numbers_may_be_strings_and_nonsense_is_absent() {
        for (json, number) in
            [("7", 7), ("\"7\"", 7), ("7.9", 7), ("\"7.9\"", 7), ("\" 7 \"", 7), ("true", 1), ("-0.0", 0)]
        {
            assert_eq!(count(json), Some(number), "{json}");
        }
        for json in
            ["-1", "9223372036854775808", "1e300", "\"\"", "\"x\"", "\"NaN\"", "null", "[[1]]", "{\"n\":1}"]
        {
            assert_eq!(count(json), None, "{json}");
        }
    }

    #[test]
    fn both_envelopes_and_a_bom_are_understood() {
        for json in [
            r#"{"response":{"n":1},"error":null}"#,
            r#"{"result":{"n":1}}"#,
            "\u{feff}{\"result\":{\"n\":1},\"error\":\"\"}",
        ] {
            assert_eq!(sample(json).unwrap().object().unwrap().n.count(), Some(1), "{json}");
        }
        assert_eq!(sample(r#"{"response":"ok","error":null}"#).unwrap(), Payload::Text("ok".to_owned()));
        for json in ["{}", r#"{"response":null}"#, r#"{"response":[1,[2]]}"#, r#"{"response":5}"#] {
            assert_eq!(sample(json).unwrap(), Payload::Nothing, "{json}");
        }
    }

    #[test]
    fn errors_as_text_and_as_object_are_refusals() {
        for json in
            [r#"{"response":null,"error":"no\u0000 way"}"#, r#"{"error":{"message":"no way","code":0}}"#]
        {
            let error = sample(json).unwrap_err();
            assert!(matches!(&error, EngineError::Refused { message } if message == "no way"), "{error}");
        }
    }

    #[test]
    fn what_is_not_an_engines_json_is_a_bad_reply() {
        let texts =
            ["", "{", "[]", "<html>", r#"{"response":{"n":1}"#, r#"{"error":null,"error":null}"#, "\"x\""];
        for json in texts {
            assert!(matches!(sample(json), Err(EngineError::BadReply { .. })), "{json:.40}");
        }
        assert!(open::<Sample>(b"{\"response\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_reply_that_is_nested_without_end_is_read_like_a_shallow_one() {
        const LEVELS: usize = 1_000_000;
        let arrays = format!("{}{}", "[".repeat(LEVELS), "]".repeat(LEVELS));
        let objects = format!("{}1{}", "{\"a\":".repeat(LEVELS), "}".repeat(LEVELS));
        for deep in [&arrays, &objects] {
            assert_eq!(count(deep), None);
            let beside = format!("{{\"x\":{deep},\"response\":{{\"x\":{deep},\"n\":1}}}}");
            assert_eq!(sample(&beside).unwrap().object().unwrap().n.count(), Some(1));
            assert!(matches!(sample(&deep[..LEVELS]), Err(EngineError::BadReply { .. })));
        }
        assert!(matches!(sample(&arrays), Err(EngineError::BadReply { .. })));
        assert_eq!(sample(&format!("{{\"response\":{arrays}}}")).unwrap(), Payload::Nothing);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = open::<Sample>(&bytes);
        }
    }
}
