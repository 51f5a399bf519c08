//! Passes the values of a call to the parameters of a function.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::{
    Failure,
    content::{Content, Value},
};

/// Values by name. Each is moved out once, so that large ones are not copied.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The noun for one of them in messages.
    noun: &'static str,
    values: BTreeMap<String, Content>,
}

impl Inputs {
    /// The inputs of a task or rollback.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = Value>) -> Self {
        Self { noun: "input", values: values.into_iter().map(|value| (value.name, value.content)).collect() }
    }

    /// What a task provided, for its rollback.
    #[must_use]
    pub fn provided(values: impl IntoIterator<Item = Value>) -> Self {
        Self { noun: "provided value", ..Self::new(values) }
    }

    /// A required value. `expected` is its type in the function's source.
    ///
    /// # Errors
    /// A permanent failure that names the value, the expected type and the actual value.
    pub fn required<T: DeserializeOwned + 'static>(&mut self, name: &str, expected: &str) -> Result<T, Failure> {
        match self.values.remove(name) {
            Some(content) => self.read(content, name, expected),
            None => Err(Failure::permanent(format!("the {} {name:?}, a {expected}, is missing", self.noun))),
        }
    }

    /// An optional value; JSON's `null` counts as missing.
    ///
    /// # Errors
    /// A permanent failure that names the value, the expected type and the actual value.
    pub fn optional<T: DeserializeOwned + 'static>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, Failure> {
        match self.values.remove(name) {
            None => Ok(None),
            Some(Content::Json(text)) if text.trim() == "null" => Ok(None),
            Some(content) => self.read(content, name, expected).map(Some),
        }
    }

    fn read<T: DeserializeOwned + 'static>(&self, content: Content, name: &str, expected: &str) -> Result<T, Failure> {
        content.read().map_err(|actual| {
            Failure::permanent(format!("the {} {name:?} should be a {expected} and is {actual}", self.noun))
        })
    }
}
