//! JSON as engines write it: the closed one as Python's `json.dumps`, with `", "` and `": "` (health checks in the field
//! search for `"error": null`, with the space), the open one without any space. Both write `error` first.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// Where an engine puts spaces in its JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// Behind every comma and colon.
    Python,
    /// Nowhere.
    None,
}

impl Spacing {
    /// `value` as text.
    pub(crate) fn dumps(self, value: &Value) -> Vec<u8> {
        match self {
            Self::Python => dumps(value),
            Self::None => value.to_string().into_bytes(),
        }
    }
}

/// `value` in Python's spacing.
pub(crate) fn dumps(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing a `Value` into memory has no way to fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut out, Python));
    out
}

/// Every number below `value` as a string.
pub(crate) fn numbers_as_strings(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::String(number.to_string()),
        Value::Array(items) => items.iter_mut().for_each(numbers_as_strings),
        Value::Object(fields) => fields.values_mut().for_each(numbers_as_strings),
        _ => {}
    }
}

/// Takes every second field out of the innermost envelope (`response` or `result`).
pub(crate) fn drop_fields(value: &mut Value) {
    for key in ["response", "result"] {
        if let Some(Value::Object(fields)) = value.get_mut(key) {
            *fields = std::mem::take(fields).into_iter().step_by(2).collect();
        }
    }
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spacing_is_pythons() {
        let value = json!({"error": null, "result": {"list": [1, 2], "text": "a:b,c"}});
        assert_eq!(dumps(&value), br#"{"error": null, "result": {"list": [1, 2], "text": "a:b,c"}}"#);
        assert_eq!(Spacing::Python.dumps(&value), dumps(&value));
        assert_eq!(Spacing::None.dumps(&value), br#"{"error":null,"result":{"list":[1,2],"text":"a:b,c"}}"#);
    }

    #[test]
    fn numbers_become_strings_and_fields_go() {
        let mut value = json!({"response": {"a": 1, "b": [2], "c": "x"}, "error": null});
        numbers_as_strings(&mut value);
        assert_eq!(value["response"], json!({"a": "1", "b": ["2"], "c": "x"}));
        drop_fields(&mut value);
        assert_eq!(value["response"], json!({"a": "1", "c": "x"}));
    }
}
