//! The possible types of a value: what a schema, a literal or an expression states about it before it exists.

use std::fmt;

/// One type of a value. JSON numbers are three types, since conditions compute with each in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ValueType {
    /// JSON's `null`.
    Null,
    /// True or false.
    Bool,
    /// A whole number that fits `i64`.
    Int,
    /// A whole number above `i64::MAX` that fits `u64`.
    UInt,
    /// Any other number.
    Double,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// A list.
    List,
    /// A JSON object.
    Object,
    /// A type that only expressions have, such as the type of a type.
    Other,
}

impl ValueType {
    pub(crate) const ALL: [Self; 10] = [
        Self::Null,
        Self::Bool,
        Self::Int,
        Self::UInt,
        Self::Double,
        Self::Text,
        Self::Bytes,
        Self::List,
        Self::Object,
        Self::Other,
    ];

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The name of the type in messages.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Int | Self::UInt => "a whole number",
            Self::Double => "a number",
            Self::Text => "a text",
            Self::Bytes => "bytes",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Other => "something else",
        }
    }
}

/// A set of possible types of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValueTypes(u16);

impl ValueTypes {
    pub(crate) const NONE: Self = Self(0);
    /// Nothing is known: any type of task values.
    pub(crate) const ANY: Self = Self((1 << ValueType::Other as u16) - 1);
    pub(crate) const INTEGER: Self = Self(ValueType::Int.bit() | ValueType::UInt.bit());
    pub(crate) const NUMBER: Self = Self(Self::INTEGER.0 | ValueType::Double.bit());

    pub(crate) const fn of(value: ValueType) -> Self {
        Self(value.bit())
    }

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn has(self, value: ValueType) -> bool {
        self.0 & value.bit() != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = ValueType> {
        ValueType::ALL.into_iter().filter(move |value| self.has(*value))
    }

    /// These types, with all number types where there is one: the types of values that may equal a value of these types.
    pub(crate) const fn equals(self) -> Self {
        if self.and(Self::NUMBER).is_empty() { self } else { self.or(Self::NUMBER) }
    }
}

/// `a text or a list`; all numbers together are `a number`.
impl fmt::Display for ValueTypes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return out.write_str("anything");
        }
        let has_double = self.has(ValueType::Double);
        let is_listed = |value: &ValueType| !(has_double && Self::INTEGER.has(*value));
        let mut nouns: Vec<&str> = self.iter().filter(is_listed).map(ValueType::describe).collect();
        nouns.dedup();
        out.write_str(&nouns.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_listed_once() {
        let null = ValueTypes::of(ValueType::Null);
        assert_eq!(ValueTypes::INTEGER.to_string(), "a whole number");
        assert_eq!(ValueTypes::NUMBER.or(null).to_string(), "null or a number");
        assert_eq!(ValueTypes::ANY.to_string(), "anything");
        assert_eq!(ValueTypes::INTEGER.equals(), ValueTypes::NUMBER);
    }
}
