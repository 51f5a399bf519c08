//! The JSON schema of a type, if it has one.
//!
//! A macro cannot know whether a type implements `JsonSchema`, but method lookup can: `(&Schema::<T>::of()).text()`
//! finds [`HasSchema`] first if `T` implements it, and otherwise [`NoSchema`], which needs one more reference.

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

/// The answer for types with a schema.
pub trait HasSchema {
    /// The schema as JSON text; none for bytes, which are no JSON.
    fn text(&self) -> Option<String>;
}

impl<T: JsonSchema + 'static> HasSchema for Schema<T> {
    fn text(&self) -> Option<String> {
        if content::is_bytes::<T>() {
            return None;
        }
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.meta_schema = None;
            settings.inline_subschemas = true;
        });
        let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
        Some(schema.as_value().to_string())
    }
}

/// The answer for all other types.
pub trait NoSchema {
    /// Nothing.
    fn text(&self) -> Option<String>;
}

impl<T> NoSchema for &Schema<T> {
    fn text(&self) -> Option<String> {
        None
    }
}
