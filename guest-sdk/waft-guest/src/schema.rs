//! The JSON schema of a type, if it has one.
//!
//! A macro cannot know whether a type implements `JsonSchema`, but method lookup can: `(&Schema::<T>::of()).of_parameter()`
//! finds [`HasSchema`] first if `T` implements it, and otherwise [`NoSchema`], which needs one more reference.
//!
//! What a task takes and what it returns may differ: serde can leave out a field when it writes, or write it in another form.

use std::marker::PhantomData;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};

use crate::content;

/// Looks up the schema of a type.
#[derive(Debug)]
pub struct Schema<T>(PhantomData<T>);

impl<T> Schema<T> {
    /// The lookup for the type.
    #[must_use]
    pub const fn of() -> Self {
        Self(PhantomData)
    }
}

/// The answer for types with a schema. Bytes have none, since they are no JSON.
pub trait HasSchema {
    /// The schema of the values that can be read as the type, as JSON text.
    fn of_parameter(&self) -> Option<String>;
    /// The schema of the values that the type is written as, as JSON text.
    fn of_provided(&self) -> Option<String>;
}

impl<T: JsonSchema + 'static> HasSchema for Schema<T> {
    fn of_parameter(&self) -> Option<String> {
        text::<T>(SchemaSettings::draft2020_12().for_deserialize())
    }

    fn of_provided(&self) -> Option<String> {
        text::<T>(SchemaSettings::draft2020_12().for_serialize())
    }
}

fn text<T: JsonSchema + 'static>(settings: SchemaSettings) -> Option<String> {
    if content::is_bytes::<T>() {
        return None;
    }
    let settings = settings.with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    Some(schema.as_value().to_string())
}

/// The answer for all other types.
pub trait NoSchema {
    /// Nothing.
    fn of_parameter(&self) -> Option<String>;
    /// Nothing.
    fn of_provided(&self) -> Option<String>;
}

impl<T> NoSchema for &Schema<T> {
    fn of_parameter(&self) -> Option<String> {
        None
    }

    fn of_provided(&self) -> Option<String> {
        None
    }
}
