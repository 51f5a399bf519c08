//! Converts values to CEL.

#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of the CEL crate are its own, and grow")]

use std::{fmt, sync::Arc};

use cel::objects::{Key, Map, ValueType as CelType};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::{Size, Value};

/// The value in CEL's types. The error describes the value's actual form, for people.
pub(super) fn of_value(value: &Value) -> Result<cel::Value, String> {
    match value {
        Value::Json(json) => match serde_json::from_str::<CelValue>(json.as_str()) {
            Ok(CelValue(value)) => Ok(value),
            Err(error) => Err(format!("JSON that a condition cannot read: {error}")),
        },
        Value::Bytes(bytes) => Ok(cel::Value::Bytes(Arc::new(bytes.to_vec()))),
        Value::Stored(stored) => Err(format!("too large to be read ({:#})", Size(stored.size))),
    }
}

/// A JSON value in CEL's types. Whole numbers are `int` where they fit, so that they compare and add with an author's
/// literals. Unrepresentable values are errors and never become other values: numbers beyond a double, and values that nest
/// deeper than the parser allows. [`crate::Json`] has already refused duplicate keys.
struct CelValue(cel::Value);

impl<'de> Deserialize<'de> for CelValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CelVisitor).map(Self)
    }
}

struct CelVisitor;

impl<'de> Visitor<'de> for CelVisitor {
    type Value = cel::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<cel::Value, E> {
        Ok(cel::Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<cel::Value, E> {
        Ok(cel::Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<cel::Value, E> {
        Ok(cel::Value::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<cel::Value, E> {
        Ok(i64::try_from(value).map_or(cel::Value::UInt(value), cel::Value::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<cel::Value, E> {
        Ok(cel::Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<cel::Value, E> {
        Ok(cel::Value::String(Arc::new(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<cel::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(CelValue(element)) = list.next_element()? {
            elements.push(element);
        }
        Ok(cel::Value::List(Arc::new(elements)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<cel::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, CelValue(value))) = object.next_entry::<String, CelValue>()? {
            fields.push((Key::from(name), value));
        }
        Ok(cel::Value::Map(Map { map: Arc::new(fields.into_iter().collect()) }))
    }
}

/// The type of a value, for people.
pub(super) fn type_name(value: &cel::Value) -> &'static str {
    match value.type_of() {
        CelType::Int | CelType::UInt | CelType::Float => "a number",
        CelType::String => "a text",
        CelType::List => "a list",
        CelType::Map | CelType::Struct => "an object",
        CelType::Null => "null",
        CelType::Bytes => "bytes",
        CelType::Bool | CelType::Function | CelType::Duration | CelType::Timestamp | CelType::Opaque => {
            "something else"
        }
    }
}

/// The error message, without the values: they may be long.
pub(super) fn error_message(error: &cel::ExecutionError) -> String {
    match error {
        cel::ExecutionError::NoSuchKey(key) => format!("there is no {key:?}"),
        cel::ExecutionError::UndeclaredReference(name) => format!("there is no {name:?}"),
        cel::ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        cel::ExecutionError::ValuesNotComparable(one, other) => {
            format!("{} cannot be compared to {}", type_name(one), type_name(other))
        }
        cel::ExecutionError::UnsupportedBinaryOperator(operator, one, other) => {
            format!("{operator} does not take {} and {}", type_name(one), type_name(other))
        }
        cel::ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".into(),
        cel::ExecutionError::DivisionByZero(_) | cel::ExecutionError::RemainderByZero(_) => "it divides by zero".into(),
        cel::ExecutionError::Overflow(..) => "a number is too large".into(),
        cel::ExecutionError::UnexpectedType { got, want } => format!("{want} was expected, and it is {got}"),
        _ => "its values are not of the types that it takes".into(),
    }
}
