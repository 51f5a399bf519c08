//! Values: the inputs and outputs of tasks.

mod elements;
mod keys;
mod object;
mod tree;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use object::{InvalidValues, StoredReferences, ValuesObject};

use crate::{Digest, ValueName};

/// The maximum size of a value in messages and records, in bytes; a larger value goes to the store by digest.
pub const MAX_INLINE_BYTES: usize = 64 << 10;

/// The maximum size of all inline values of one message, in bytes; beyond it the largest values go to the store. With a log
/// and a failure a message then stays below 1 MiB.
pub const MAX_INLINE_TOTAL_BYTES: usize = 768 << 10;

/// One value: JSON text, kept as written so that every digit survives, or bytes; or a reference into the store.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A JSON text that parses.
    Json(Json),
    /// Bytes that only guests interpret.
    Bytes(Arc<[u8]>),
    /// A value over [`MAX_INLINE_BYTES`], in the store.
    Stored(Stored),
}

/// A reference to a value in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The digest of its bytes; for JSON, of its text.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The kind of its content.
    pub form: ValueKind,
}

/// The kind of a value's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A JSON text.
    Json,
    /// Any bytes.
    Bytes,
}

/// Values by name.
pub type Values = BTreeMap<ValueName, Value>;

/// A valid JSON text of one value, without duplicate keys in an object.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

/// Why a text is not a JSON value.
#[derive(Debug, thiserror::Error)]
pub enum InvalidJson {
    /// The text is not JSON.
    #[error("not a JSON value: {0}")]
    Syntax(#[from] serde_json::Error),
    /// The text is JSON, but readers may interpret it differently.
    #[error("JSON with the key {key:?} twice in one object: leave one of the two out")]
    DuplicateKey {
        /// The key.
        key: String,
    },
}

impl Json {
    /// Checks that the text is one JSON value.
    ///
    /// # Errors
    /// [`InvalidJson`] with line and column, or with the duplicate key.
    pub fn parse(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, InvalidJson> {
        Self::check(text.as_ref())?;
        Ok(Self(text.into()))
    }

    /// Checks a text as [`Json::parse`] does, without storing it.
    ///
    /// # Errors
    /// As [`Json::parse`].
    pub fn check(text: &str) -> Result<(), InvalidJson> {
        serde_json::from_str::<serde::de::IgnoredAny>(text)?;
        match keys::find_duplicate_key(text) {
            Some(key) => Err(InvalidJson::DuplicateKey { key }),
            None => Ok(()),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as a tree.
    ///
    /// # Errors
    /// [`InvalidJson`] where a tree cannot represent the text: numbers beyond `f64`, and nesting over 127 deep. The result
    /// is never a different value.
    pub fn to_tree(&self) -> Result<serde_json::Value, InvalidJson> {
        Ok(tree::read(&self.0)?)
    }
}

impl From<&serde_json::Value> for Json {
    fn from(tree: &serde_json::Value) -> Self {
        Self(tree.to_string().into())
    }
}

impl Value {
    /// A JSON value from a tree.
    #[must_use]
    pub fn json(tree: &serde_json::Value) -> Self {
        Self::Json(Json::from(tree))
    }

    /// The size of the value in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Json(json) => json.0.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Stored(stored) => usize::try_from(stored.size).unwrap_or(usize::MAX),
        }
    }

    /// The bytes that the value takes in a message or a record, approximately. Of a value in the store, only the reference is written.
    #[must_use]
    pub fn written_size(&self) -> usize {
        if self.digest().is_some() { size_of::<Stored>() } else { self.size() }
    }

    /// Whether the value is bytes, inline or in the store.
    #[must_use]
    pub fn is_bytes(&self) -> bool {
        match self {
            Self::Json(_) => false,
            Self::Bytes(_) => true,
            Self::Stored(stored) => stored.form == ValueKind::Bytes,
        }
    }

    /// The digest of a value in the store; `None` for an inline value.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Json(_) | Self::Bytes(_) => None,
            Self::Stored(stored) => Some(stored.digest),
        }
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

/// Conversions from common Rust types to JSON values. Bytes are not included: they need an explicit [`Value::Bytes`].
macro_rules! values_from {
    ($($type:ty),+) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::json(&serde_json::Value::from(value))
            }
        })+
    };
}

values_from!(serde_json::Value, bool, i32, i64, u32, u64, &str, String);

impl fmt::Debug for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(json) => out.write_str(&json.0),
            Self::Bytes(bytes) => write!(out, "{} bytes", bytes.len()),
            Self::Stored(stored) => write!(out, "{} bytes of {}", stored.size, stored.digest.short()),
        }
    }
}
