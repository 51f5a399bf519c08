//! Values and failures in messages: the names are in the head, the contents in the body.

use std::io;

use flow::{Failure, Json, Value, ValueName, Values};
use serde::{Deserialize, Serialize};

use super::invalid;

/// A value without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::isolation) struct ValueHead {
    name: String,
    form: Form,
    /// The number of bytes in the body.
    size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Form {
    Json,
    Bytes,
}

/// A failure. The reader checks its kind and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::isolation) struct FailureHead {
    kind: String,
    message: String,
    details: Option<String>,
}

/// The heads of values; adds their contents to the body in the same order.
pub(in crate::isolation) fn value_heads<'a>(values: &'a Values, body: &mut Vec<&'a [u8]>) -> Vec<ValueHead> {
    let head = |(name, value): (&ValueName, &'a Value)| {
        let (form, content) = match value {
            Value::Json(json) => (Form::Json, json.as_str().as_bytes()),
            Value::Bytes(bytes) => (Form::Bytes, &**bytes),
            Value::Stored(_) => panic!("a worker fetches a value before it calls"),
        };
        body.push(content);
        ValueHead { name: name.to_string(), form, size: content.len() }
    };
    values.iter().map(head).collect()
}

/// The values with these heads, whose contents are next in the body.
///
/// # Errors
/// When the heads do not match the body, or a name or a content is invalid.
pub(in crate::isolation) fn read_values(heads: Vec<ValueHead>, body: &mut &[u8]) -> io::Result<Values> {
    let mut values = Values::new();
    for ValueHead { name, form, size } in heads {
        let name = ValueName::new(name).map_err(|_| invalid("a value without a valid name"))?;
        let (content, rest) = body.split_at_checked(size).ok_or_else(|| invalid("a value without its content"))?;
        *body = rest;
        let value = match form {
            Form::Bytes => Value::Bytes(content.into()),
            Form::Json => Value::Json(read_json(content)?),
        };
        if values.insert(name, value).is_some() {
            return Err(invalid("a value twice"));
        }
    }
    Ok(values)
}

fn read_json(text: &[u8]) -> io::Result<Json> {
    let text = std::str::from_utf8(text).map_err(|_| invalid("a text that is not UTF-8"))?;
    Json::parse(text).map_err(|_| invalid("a value that is not JSON"))
}

impl From<&Failure> for FailureHead {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: failure.kind.to_string(),
            message: failure.message.clone(),
            details: failure.details.as_ref().map(|details| details.as_str().to_owned()),
        }
    }
}

impl FailureHead {
    /// The failure, of whatever kind and size.
    ///
    /// # Errors
    /// When the kind is unknown, or the details are not JSON.
    pub(in crate::isolation) fn into_failure(self) -> io::Result<Failure> {
        let kind = self.kind.parse().map_err(|_| invalid("a failure of an unknown kind"))?;
        let details = self.details.map(|details| read_json(details.as_bytes())).transpose()?;
        Ok(Failure { kind, message: self.message, details })
    }
}
