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
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use super::{Json, Stored, Value, ValueKind, Values};
use crate::ValueName;

/// The key of the object with bytes, each encoded as base64.
const BYTES: &str = "$bytes";

/// The key of the object with references into the store.
const STORED: &str = "$stored";

/// The maximum number of errors that [`InvalidValues`] lists: an object of a megabyte may have a hundred thousand.
const MAX_ERRORS: usize = 100;

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

/// Values from a guest or a client are invalid: lists the first 100 errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", errors.join("; "))]
pub struct InvalidValues {
    /// The errors, each with the name of its value. If there are more than 100, the last entry has the number of the others.
    pub errors: Vec<String>,
}

impl ValuesObject {
    /// Parses a text as [`Deserialize`] does, and keeps only the values whose names `keep` accepts. It is asked once for each name. The
    /// other values are skipped: they take no memory, and may have the same name.
    ///
    /// # Errors
    /// When the text is not one JSON object of this form.
    pub fn parse_some(text: &str, mut keep: impl FnMut(&str) -> bool) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let object = ObjectReader { keep: &mut keep }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(object)
    }

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

    /// Checks and returns the values.
    ///
    /// # Errors
    /// [`InvalidValues`] with the errors: an invalid or duplicate name, JSON with a duplicate key, invalid base64, a reference
    /// that is refused or damaged.
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
        let (mut values, mut errors, mut more) = (Values::new(), Vec::new(), 0_usize);
        for (raw_name, value) in json.chain(bytes).chain(stored) {
            let error = match (ValueName::new(raw_name), value) {
                (Ok(name), Ok(value)) => match values.insert(name, value) {
                    None => continue,
                    Some(_) => format!("{raw_name:?} is given twice, as JSON and under {BYTES} or {STORED}"),
                },
                (Ok(_), Err(error)) => format!("{raw_name:?}: {error}"),
                (Err(error), _) => error.to_string(),
            };
            if errors.len() < MAX_ERRORS {
                errors.push(error);
            } else {
                more += 1;
            }
        }
        if more > 0 {
            errors.push(format!("and {more} more errors"));
        }
        if errors.is_empty() { Ok(values) } else { Err(InvalidValues { errors }) }
    }

    /// The bytes of the names and values as they were written, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let json = self.json.iter().map(|(name, raw)| name.len() + raw.get().len());
        let bytes = self.bytes.iter().map(|(name, text)| name.len() + text.len());
        let stored = self.stored.iter().map(|(name, stored)| name.len() + stored.digest.len());
        json.chain(bytes).chain(stored).sum()
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
        ObjectReader { keep: &mut |_: &str| true }.deserialize(deserializer)
    }
}

/// Reads an object, and keeps the values whose names `keep` accepts.
struct ObjectReader<'k, Keep> {
    keep: &'k mut Keep,
}

impl<'de, Keep: FnMut(&str) -> bool> DeserializeSeed<'de> for ObjectReader<'_, Keep> {
    type Value = ValuesObject;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ValuesObject, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, Keep: FnMut(&str) -> bool> Visitor<'de> for ObjectReader<'_, Keep> {
    type Value = ValuesObject;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of values by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ValuesObject, A::Error> {
        let Self { keep } = self;
        let mut object = ValuesObject::default();
        let (mut has_bytes, mut has_stored) = (false, false);
        while let Some(name) = map.next_key::<String>()? {
            let is_duplicate = match name.as_str() {
                BYTES => std::mem::replace(&mut has_bytes, true),
                STORED => std::mem::replace(&mut has_stored, true),
                other if !keep(other) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                other => object.json.contains_key(other),
            };
            if is_duplicate {
                return Err(A::Error::custom(format!("{name:?} is given twice")));
            }
            match name.as_str() {
                BYTES => object.bytes = map.next_value_seed(MembersReader::new(keep))?,
                STORED => object.stored = map.next_value_seed(MembersReader::new(keep))?,
                _ => drop(object.json.insert(name, map.next_value()?)),
            }
        }
        Ok(object)
    }
}

/// Reads a JSON object without duplicate keys, and keeps the members whose names `keep` accepts.
struct MembersReader<'k, Keep, Member> {
    keep: &'k mut Keep,
    member: PhantomData<Member>,
}

impl<'k, Keep, Member> MembersReader<'k, Keep, Member> {
    fn new(keep: &'k mut Keep) -> Self {
        Self { keep, member: PhantomData }
    }
}

impl<'de, Keep, Member> DeserializeSeed<'de> for MembersReader<'_, Keep, Member>
where
    Keep: FnMut(&str) -> bool,
    Member: Deserialize<'de>,
{
    type Value = BTreeMap<String, Member>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, Keep, Member> Visitor<'de> for MembersReader<'_, Keep, Member>
where
    Keep: FnMut(&str) -> bool,
    Member: Deserialize<'de>,
{
    type Value = BTreeMap<String, Member>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if !(self.keep)(&name) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if members.contains_key(&name) {
                return Err(A::Error::custom(format!("{name:?} is given twice")));
            }
            members.insert(name, map.next_value()?);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests;
