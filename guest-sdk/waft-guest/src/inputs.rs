//! The values a call was given, on their way into a function's parameters.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::{
    Failure,
    content::{Content, Value},
};

/// Values by name. Each is taken once: a large one is not copied.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// What messages call one of them.
    noun: &'static str,
    values: BTreeMap<String, Content>,
}

impl Inputs {
    /// What a task or rollback was given.
    #[must_use]
    pub fn given(values: impl IntoIterator<Item = Value>) -> Self {
        Self { noun: "input", values: values.into_iter().map(|value| (value.name, value.content)).collect() }
    }

    /// What a task provided, for the rollback that looks at it.
    #[must_use]
    pub fn provided(values: impl IntoIterator<Item = Value>) -> Self {
        Self { noun: "provided value", ..Self::given(values) }
    }

    /// A value that must be there. `expected` is its type as the function writes it.
    ///
    /// # Errors
    /// A permanent failure that names the value, the type expected and what came.
    pub fn required<T: DeserializeOwned + 'static>(&mut self, name: &str, expected: &str) -> Result<T, Failure> {
        match self.values.remove(name) {
            Some(content) => self.read(content, name, expected),
            None => Err(Failure::permanent(format!("the {} {name:?}, a {expected}, is missing", self.noun))),
        }
    }

    /// A value that may be missing; JSON's `null` counts as missing.
    ///
    /// # Errors
    /// A permanent failure that names the value, the type expected and what came.
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
        content.read().map_err(|came| {
            Failure::permanent(format!("the {} {name:?} should be a {expected} and is {came}", self.noun))
        })
    }
}
