//! Values between a function's own types and the contract: JSON text or bytes.

use std::any::{Any, TypeId};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Bytes, Failure};

/// What a value holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One JSON value, as text.
    Json(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A value with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What a task provides under a name.
///
/// # Errors
/// A permanent failure when its type cannot be written as JSON.
pub fn value<T: Serialize + 'static>(name: &str, provided: T) -> Result<Value, Failure> {
    let content = match into_bytes(provided) {
        Ok(bytes) => Content::Bytes(bytes),
        Err(provided) => Content::Json(serde_json::to_string(&provided).map_err(|error| {
            Failure::permanent(format!("the provided value {name:?} cannot be written as JSON: {error}"))
        })?),
    };
    Ok(Value { name: name.into(), content })
}

/// Whether values of this type are sent as bytes.
pub(crate) fn is_bytes<T: 'static>() -> bool {
    [TypeId::of::<Vec<u8>>(), TypeId::of::<Bytes>()].contains(&TypeId::of::<T>())
}

impl Content {
    /// Reads the content as a type. A text is converted to its UTF-8 bytes, and UTF-8 bytes to their text.
    ///
    /// # Errors
    /// Describes the content and why it is not of that type.
    pub(crate) fn read<T: DeserializeOwned + 'static>(self) -> Result<T, String> {
        match self {
            Self::Json(text) if is_bytes::<T>() && text.trim_start().starts_with('"') => {
                let text: String = serde_json::from_str(&text).map_err(|error| unreadable(&text, &error))?;
                Ok(from_bytes(text.into_bytes()))
            }
            Self::Json(text) => serde_json::from_str(&text).map_err(|error| unreadable(&text, &error)),
            Self::Bytes(bytes) if is_bytes::<T>() => Ok(from_bytes(bytes)),
            Self::Bytes(bytes) => {
                let text = String::from_utf8(bytes)
                    .map_err(|error| format!("{} bytes that are not UTF-8", error.as_bytes().len()))?;
                let text = match cast::<String, T>(text) {
                    Ok(read) => return Ok(read),
                    Err(text) => text,
                };
                let excerpt_of_text = format!("the text {}", excerpt(&format!("{text:?}")));
                T::deserialize(serde_json::Value::String(text)).map_err(|error| format!("{excerpt_of_text}: {error}"))
            }
        }
    }
}

fn unreadable(text: &str, error: &serde_json::Error) -> String {
    format!("{}: {error}", excerpt(text))
}

/// The start of a text, for a message.
fn excerpt(text: &str) -> String {
    const MAX_LENGTH: usize = 80;
    match text.char_indices().nth(MAX_LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn into_bytes<T: 'static>(value: T) -> Result<Vec<u8>, T> {
    cast::<T, Vec<u8>>(value).or_else(|value| cast::<T, Bytes>(value).map(Bytes::into_vec))
}

fn from_bytes<T: 'static>(bytes: Vec<u8>) -> T {
    cast::<Vec<u8>, T>(bytes)
        .or_else(|bytes| cast::<Bytes, T>(bytes.into()))
        .unwrap_or_else(|_| unreachable!("called only for the types of is_bytes"))
}

/// The value itself, if both types are the same.
fn cast<From: 'static, To: 'static>(value: From) -> Result<To, From> {
    let mut slot = Some(value);
    let same = (&mut slot as &mut dyn Any).downcast_mut::<Option<To>>().and_then(Option::take);
    match (same, slot) {
        (Some(same), _) => Ok(same),
        (None, slot) => Err(slot.expect("the value was not moved out")),
    }
}
