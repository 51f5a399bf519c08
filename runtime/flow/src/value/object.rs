//! Values as one JSON object: the form in which programs in any language read and write them.
//!
//! A JSON value is stored under its name. Bytes and references into the store are not JSON: they are in objects of their
//! own, under the keys `$bytes` and `$stored`, which are not valid value names.
//!
//! ```json
//! {"celsius": 180, "$bytes": {"photo": "/wA="},
//!  "$stored": {"film": {"digest": "sha256:…", "size": 70000, "form": "bytes"}}}
//! ```
//!
//! The kind of a value is never read from the value itself, so no JSON from a guest becomes bytes or a reference.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use super::{Json, Stored, Value, ValueKind, Values};
use crate::ValueName;

/// The key of the object with bytes, each encoded as base64.
const BYTES: &str = "$bytes";

/// The key of the object with references into the store.
const STORED: &str = "$stored";

/// Values by name, in the form of one JSON object. [`ValuesObject::read`] checks the names and contents.
#[derive(Debug, Clone, Default)]
pub struct ValuesObject {
    json: BTreeMap<String, Box<RawValue>>,
    bytes: BTreeMap<String, String>,
    stored: BTreeMap<String, StoredObject>,
}

/// A reference into the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredObject {
    digest: String,
    size: u64,
    form: ValueKindName,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ValueKindName {
    Json,
    Bytes,
}

/// Whether an object may contain references into the store. A writer of references can read anything in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredReferences {
    /// An engine wrote the object.
    Accept,
    /// A guest or a client wrote the object.
    Reject,
}

/// Values from a guest or a client are invalid: lists every error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", errors.join("; "))]
pub struct InvalidValues {
    /// The errors, each with the name of its value.
    pub errors: Vec<String>,
}

impl ValuesObject {
    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.json.is_empty() && self.bytes.is_empty() && self.stored.is_empty()
    }

    /// The text of a JSON value; `None` where there is no such value, or it is bytes.
    #[must_use]
    pub fn json(&self, name: &str) -> Option<&str> {
        self.json.get(name).map(|raw| raw.get())
    }

    /// The bytes of a value; `None` where there is no such value, or it is JSON.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        BASE64.decode(self.bytes.get(name)?).ok()
    }

    /// Inserts a value under a name, and replaces an existing one.
    pub fn insert(&mut self, name: impl Into<String>, value: &Value) {
        let name = name.into();
        self.json.remove(&name);
        self.bytes.remove(&name);
        self.stored.remove(&name);
        match value {
            Value::Json(json) => {
                let raw = RawValue::from_string(json.as_str().into()).expect("it was checked to be JSON");
                self.json.insert(name, raw);
            }
            Value::Bytes(bytes) => drop(self.bytes.insert(name, BASE64.encode(bytes))),
            Value::Stored(Stored { digest, size, form }) => {
                let form = match form {
                    ValueKind::Json => ValueKindName::Json,
                    ValueKind::Bytes => ValueKindName::Bytes,
                };
                self.stored.insert(name, StoredObject { digest: digest.to_string(), size: *size, form });
            }
        }
    }

    /// Keeps only the values whose names `is_kept` accepts.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.json.retain(|name, _| keep(name));
        self.bytes.retain(|name, _| keep(name));
        self.stored.retain(|name, _| keep(name));
    }

    /// Checks and returns the values.
    ///
    /// # Errors
    /// [`InvalidValues`] with every error: an invalid or duplicate name, JSON with a duplicate key, invalid base64, a
    /// reference that is refused or damaged.
    pub fn read(&self, references: StoredReferences) -> Result<Values, InvalidValues> {
        let json = self.json.iter().map(|(name, raw)| {
            let json = Json::parse(raw.get()).map(Value::Json);
            (name, json.map_err(|error| error.to_string()))
        });
        let bytes = self.bytes.iter().map(|(name, text)| {
            let bytes = BASE64.decode(text).map(|bytes| Value::Bytes(bytes.into()));
            (name, bytes.map_err(|error| format!("not base64: {error}")))
        });
        let stored = self.stored.iter().map(|(name, stored)| (name, stored.read(references)));
        let (mut values, mut errors) = (Values::new(), Vec::new());
        for (raw_name, value) in json.chain(bytes).chain(stored) {
            match (ValueName::new(raw_name), value) {
                (Ok(name), Ok(value)) => {
                    if values.insert(name, value).is_some() {
                        errors.push(format!("{raw_name:?} is given twice, as JSON and under {BYTES} or {STORED}"));
                    }
                }
                (Ok(_), Err(error)) => errors.push(format!("{raw_name:?}: {error}")),
                (Err(error), _) => errors.push(error.to_string()),
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(InvalidValues { errors }) }
    }

    /// The object as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and checked JSON serialize")
    }
}

impl StoredObject {
    fn read(&self, references: StoredReferences) -> Result<Value, String> {
        match references {
            StoredReferences::Reject => {
                Err(format!("a reference into the store cannot be given: give the value itself, not {STORED}"))
            }
            StoredReferences::Accept => {
                let digest = self.digest.parse().map_err(|error: crate::invalid::InvalidDigest| error.to_string())?;
                let form = match self.form {
                    ValueKindName::Json => ValueKind::Json,
                    ValueKindName::Bytes => ValueKind::Bytes,
                };
                Ok(Value::Stored(Stored { digest, size: self.size, form }))
            }
        }
    }
}

impl From<&Values> for ValuesObject {
    fn from(values: &Values) -> Self {
        let mut object = Self::default();
        values.iter().for_each(|(name, value)| object.insert(name.as_str(), value));
        object
    }
}

impl Serialize for ValuesObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, json) in &self.json {
            map.serialize_entry(name, json)?;
        }
        if !self.bytes.is_empty() {
            map.serialize_entry(BYTES, &self.bytes)?;
        }
        if !self.stored.is_empty() {
            map.serialize_entry(STORED, &self.stored)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for ValuesObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = ValuesObject;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of values by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ValuesObject, A::Error> {
                let mut object = ValuesObject::default();
                let (mut has_bytes, mut has_stored) = (false, false);
                while let Some(name) = map.next_key::<String>()? {
                    let is_duplicate = match name.as_str() {
                        BYTES => std::mem::replace(&mut has_bytes, true),
                        STORED => std::mem::replace(&mut has_stored, true),
                        name => object.json.contains_key(name),
                    };
                    if is_duplicate {
                        return Err(A::Error::custom(format!("{name:?} is given twice")));
                    }
                    match name.as_str() {
                        BYTES => UniqueMap(object.bytes) = map.next_value()?,
                        STORED => UniqueMap(object.stored) = map.next_value()?,
                        _ => drop(object.json.insert(name, map.next_value()?)),
                    }
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A JSON object without duplicate keys.
struct UniqueMap<Member>(BTreeMap<String, Member>);

impl<'de, Member: Deserialize<'de>> Deserialize<'de> for UniqueMap<Member> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<Member>(PhantomData<Member>);
        impl<'de, Member: Deserialize<'de>> Visitor<'de> for Reader<Member> {
            type Value = UniqueMap<Member>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap<Member>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format!("{name:?} is given twice")));
                    }
                    members.insert(name, map.next_value()?);
                }
                Ok(UniqueMap(members))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

#[cfg(test)]
mod tests;
