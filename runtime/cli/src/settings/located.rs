//! Tables of a settings file that are read key by key, so that all errors are reported at once, each with its place.

use std::{collections::BTreeMap, fmt, sync::Arc};

use flow::Lines;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::IgnoredAny};
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

/// The text of a settings file, and its name for messages.
pub(super) struct FileText<'t> {
    name: Arc<str>,
    lines: Lines<'t>,
}

/// A place in a settings file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: Arc<str>,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The column in characters, from 1.
    pub(crate) column: usize,
}

/// A table of a settings file, and where its parts are.
#[derive(Debug, Clone, Default)]
pub(super) struct TableWithPlaces<T> {
    pub(super) table: T,
    pub(super) places: Places,
    /// The keys that the table cannot have, and the values of the wrong type.
    pub(super) errors: Vec<String>,
}

/// Where a table, its values and the elements of its lists are.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) table: Place,
    values: BTreeMap<String, (Place, Vec<Place>)>,
}

impl<'t> FileText<'t> {
    pub(super) fn new(name: &str, text: &'t str) -> Self {
        Self { name: name.into(), lines: Lines::of(text) }
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        let (line, column) = self.lines.line_and_column(offset);
        Place { file: self.name.clone(), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column } = self;
        write!(out, "{file}, line {line}, column {column}")
    }
}

impl Places {
    /// Where the value of a key is, or the table if it has none.
    pub(super) fn value(&self, key: &str) -> &Place {
        self.values.get(key).map_or(&self.table, |(value, _)| value)
    }

    /// Where an element of a list is.
    pub(super) fn element(&self, key: &str, index: usize) -> &Place {
        let elements = self.values.get(key).map(|(_, elements)| elements);
        elements.and_then(|elements| elements.get(index)).unwrap_or_else(|| self.value(key))
    }
}

impl<T: DeserializeOwned + Default> TableWithPlaces<T> {
    /// Reads a table. `start` is where its header or name is; an error in one key leaves the other keys as they are.
    pub(super) fn read(toml: &Spanned<DeValue<'_>>, start: usize, file: &FileText<'_>) -> Self {
        let mut places = Places { table: file.place(start), values: BTreeMap::new() };
        let Some(written) = toml.get_ref().as_table() else {
            let error = format!("{}: a table is expected here, not {}", places.table, toml.get_ref().type_str());
            return Self { table: T::default(), places, errors: vec![error] };
        };
        let (mut valid, mut errors) = (DeTable::new(), Vec::new());
        for (key, value) in written {
            let elements = value.get_ref().as_array().into_iter().flatten();
            let elements = elements.map(|element| file.place(element.span().start)).collect();
            places.values.insert(key.get_ref().to_string(), (file.place(value.span().start), elements));
            let alone = DeTable::from_iter([(key.clone(), value.clone())]);
            match deserialize::<T>(alone, toml) {
                Ok(_) => drop(valid.insert(key.clone(), value.clone())),
                Err(error) => {
                    let at = error.span().map_or(key.span().start, |span| span.start);
                    errors.push(format!("{}: {}", file.place(at), error.message()));
                }
            }
        }
        let table = deserialize(valid, toml).unwrap_or_else(|error| {
            errors.push(format!("{}: {}", places.table, error.message()));
            T::default()
        });
        Self { table, places, errors }
    }
}

fn deserialize<T: DeserializeOwned>(table: DeTable<'_>, of: &Spanned<DeValue<'_>>) -> Result<T, toml::de::Error> {
    T::deserialize(ValueDeserializer::from(Spanned::new(of.span(), DeValue::Table(table))))
}

/// Accepts any value for a table that is read from the text of its file afterwards.
pub(super) fn read_later<'de, D: Deserializer<'de>, T: Default>(toml: D) -> Result<T, D::Error> {
    IgnoredAny::deserialize(toml).map(|_| T::default())
}
