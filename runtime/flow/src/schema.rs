//! JSON schemas, with which modules describe their values: decides whether a value can fit a parameter.
//!
//! A subset is supported: the keywords that the guest SDK writes (those of `schemars` for the types of serde). Other
//! keywords are ignored, so a value is refused only where it surely does not fit.

mod check;
mod conflict;

use serde_json::Value as Tree;

pub(crate) use check::Budget;
pub use check::SchemaMismatch;
pub(crate) use conflict::SchemaConflict;

use crate::{
    Json, Value,
    value_types::{ValueType, ValueTypes},
};

/// The maximum number of references followed in a row, so that a self-referencing schema ends.
const MAX_REFERENCES: usize = 32;

/// The maximum nesting of alternatives; deeper ones accept every value.
const MAX_DEPTH: usize = 32;

/// The maximum number of alternatives that are inspected for the types of a schema: each may have alternatives of its own.
const MAX_ALTERNATIVES: usize = 10_000;

/// A JSON schema, as far as waft supports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema(Tree);

/// A part of a schema, with the whole schema for resolving its references.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchemaView<'s> {
    root: &'s Tree,
    node: &'s Tree,
}

/// A schema's description of a field of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field<'s> {
    /// The field has this schema.
    Known(SchemaView<'s>),
    /// The object has only other fields.
    Absent,
    /// The schema does not restrict the field.
    Unspecified,
}

impl Schema {
    /// Reads a schema. A schema that nests too deeply accepts every value.
    #[must_use]
    pub fn new(text: &Json) -> Self {
        Self(text.to_tree().unwrap_or(Tree::Bool(true)))
    }

    /// The first reason why a value surely does not match this schema; `None` where it may match.
    ///
    /// Bytes count as their text where they are UTF-8, as guests read them. Values in the store are not checked.
    #[must_use]
    pub fn mismatch(&self, value: &Value) -> Option<SchemaMismatch> {
        self.mismatch_within(value, &Budget::new())
    }

    /// As [`Schema::mismatch`], with the steps that are left for several checks.
    pub(crate) fn mismatch_within(&self, value: &Value, budget: &Budget) -> Option<SchemaMismatch> {
        match value {
            Value::Json(json) => check::find_mismatch(self.view(), &json.to_tree().ok()?, budget),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => check::find_mismatch(self.view(), &Tree::from(text), budget),
                Err(_) => Some(SchemaMismatch::of_bytes(self.view().types())),
            },
            Value::Stored(_) => None,
        }
    }

    /// The first reason why an element of a list surely does not match this schema, with the element's index.
    pub(crate) fn element_mismatch(&self, list: &Json, budget: &Budget) -> Option<(usize, SchemaMismatch)> {
        let elements = list.elements()?;
        elements.into_iter().enumerate().find_map(|(index, element)| {
            let mismatch = self.mismatch_within(&Value::Json(element), budget)?;
            Some((index, mismatch))
        })
    }

    /// Why no value of this schema fits a parameter with another schema; `None` where one may fit. An optional parameter also takes
    /// `null`.
    pub(crate) fn conflict_with(&self, accepted: &Self, is_optional: bool, budget: &Budget) -> Option<SchemaConflict> {
        conflict::find_conflict(self.view(), accepted.view(), is_optional, budget)
    }

    /// The schema as JSON.
    pub(crate) fn to_json(&self) -> Json {
        Json::from(&self.0)
    }

    pub(crate) fn view(&self) -> SchemaView<'_> {
        SchemaView { root: &self.0, node: &self.0 }
    }

    /// The schema of a list whose elements match this one.
    pub(crate) fn list_of(self) -> Self {
        // References refer to the elements' own schema, which is no longer the root.
        let has_references = self.0.to_string().contains("\"$ref\"");
        let items = if has_references { Tree::Bool(true) } else { self.0 };
        Self(serde_json::json!({"type": "array", "items": items}))
    }

    /// The schema of values of these types.
    pub(crate) fn of(kind: &str) -> Self {
        Self(serde_json::json!({"type": kind}))
    }

    /// The schema of a failure, as failure listeners receive it.
    pub(crate) fn of_failure() -> Self {
        let text = || serde_json::json!({"type": "string"});
        Self(serde_json::json!({
            "type": "object",
            "properties": {"task": text(), "kind": text(), "message": text(), "details": true},
            "required": ["task", "kind", "message"],
        }))
    }

    /// The schema of this value: its types, and those of its content.
    pub(crate) fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::Json(json) => Some(Self(shape(&json.to_tree().ok()?, 0))),
            Value::Bytes(_) | Value::Stored(_) => None,
        }
    }
}

/// The schema of an existing value: exact for objects; for lists it states only that they are lists.
fn shape(value: &Tree, depth: usize) -> Tree {
    let schema_of = |kind: &str| serde_json::json!({"type": kind});
    match value {
        Tree::Null => schema_of("null"),
        Tree::Bool(_) => schema_of("boolean"),
        Tree::Number(number) if number.is_f64() => schema_of("number"),
        Tree::Number(_) => schema_of("integer"),
        Tree::String(_) => schema_of("string"),
        Tree::Array(_) => schema_of("array"),
        Tree::Object(_) if depth >= MAX_DEPTH => schema_of("object"),
        Tree::Object(fields) => {
            let fields: serde_json::Map<String, Tree> =
                fields.iter().map(|(name, value)| (name.clone(), shape(value, depth + 1))).collect();
            serde_json::json!({"type": "object", "properties": fields})
        }
    }
}

impl<'s> SchemaView<'s> {
    fn at(self, node: &'s Tree) -> Self {
        Self { node, ..self }
    }

    fn keyword(self, name: &str) -> Option<&'s Tree> {
        self.node.get(name)
    }

    /// The referenced schema, if this one is only a reference.
    fn resolve_reference(mut self) -> Self {
        for _ in 0..MAX_REFERENCES {
            let Some(pointer) = self.keyword("$ref").and_then(Tree::as_str) else { return self };
            let target = pointer.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            // An unresolvable reference accepts every value.
            self = self.at(target.unwrap_or(&Tree::Bool(true)));
        }
        self.at(&Tree::Bool(true))
    }

    /// The possible types of a value that matches it.
    pub(crate) fn types(self) -> ValueTypes {
        self.types_within(MAX_DEPTH, &mut 0)
    }

    fn types_within(self, depth: usize, seen: &mut usize) -> ValueTypes {
        let view = self.resolve_reference();
        *seen += 1;
        if depth == 0 || *seen > MAX_ALTERNATIVES || view.node == &Tree::Bool(true) {
            return ValueTypes::ANY;
        }
        if view.node == &Tree::Bool(false) {
            return ValueTypes::NONE;
        }
        let mut types = match view.keyword("type") {
            Some(Tree::String(name)) => types_named(name),
            Some(Tree::Array(names)) => union(names.iter().filter_map(Tree::as_str).map(types_named)),
            Some(_) | None => ValueTypes::ANY,
        };
        if let Some(only) = view.keyword("const") {
            types = types.and(type_of(only));
        }
        if let Some(Tree::Array(only)) = view.keyword("enum") {
            types = types.and(union(only.iter().map(type_of)));
        }
        for either in ["anyOf", "oneOf"] {
            if let Some(Tree::Array(alternatives)) = view.keyword(either) {
                types = types.and(union(alternatives.iter().map(|one| view.at(one).types_within(depth - 1, seen))));
            }
        }
        if let Some(Tree::Array(all)) = view.keyword("allOf") {
            for one in all {
                types = types.and(view.at(one).types_within(depth - 1, seen));
            }
        }
        types
    }

    /// Its description of a field of the object.
    pub(crate) fn field(self, name: &str) -> Field<'s> {
        let view = self.resolve_reference();
        let has_more = ["patternProperties", "anyOf", "oneOf", "allOf", "$ref"];
        let Some(Tree::Object(fields)) = view.keyword("properties") else { return Field::Unspecified };
        match (fields.get(name), view.keyword("additionalProperties")) {
            (Some(field), _) => Field::Known(view.at(field)),
            (None, None | Some(Tree::Bool(false))) if has_more.iter().all(|key| view.keyword(key).is_none()) => {
                Field::Absent
            }
            (None, _) => Field::Unspecified,
        }
    }

    /// The names of the fields that it describes.
    pub(crate) fn field_names(self) -> impl Iterator<Item = &'s str> {
        let fields = self.resolve_reference().keyword("properties").and_then(Tree::as_object);
        fields.into_iter().flat_map(|fields| fields.keys().map(String::as_str))
    }

    /// Its description of each element of the list.
    pub(crate) fn element(self) -> Option<Self> {
        let view = self.resolve_reference();
        let items = view.keyword("items").filter(|_| view.keyword("prefixItems").is_none())?;
        (items.is_object() || items.is_boolean()).then(|| view.at(items))
    }
}

fn union(types: impl Iterator<Item = ValueTypes>) -> ValueTypes {
    types.fold(ValueTypes::NONE, ValueTypes::or)
}

/// The types that a schema's `type` names; an unknown name allows all types.
fn types_named(name: &str) -> ValueTypes {
    match name {
        "null" => ValueTypes::of(ValueType::Null),
        "boolean" => ValueTypes::of(ValueType::Bool),
        "integer" => ValueTypes::INTEGER,
        "number" => ValueTypes::NUMBER,
        "string" => ValueTypes::of(ValueType::Text),
        "array" => ValueTypes::of(ValueType::List),
        "object" => ValueTypes::of(ValueType::Object),
        _ => ValueTypes::ANY,
    }
}

/// The possible types of this value.
fn type_of(value: &Tree) -> ValueTypes {
    match value {
        Tree::Null => ValueTypes::of(ValueType::Null),
        Tree::Bool(_) => ValueTypes::of(ValueType::Bool),
        // A whole number may be written with a decimal point.
        Tree::Number(number) if number.as_f64().is_some_and(|number| number.fract() != 0.0) => {
            ValueTypes::of(ValueType::Double)
        }
        Tree::Number(_) => ValueTypes::NUMBER,
        Tree::String(_) => ValueTypes::of(ValueType::Text),
        Tree::Array(_) => ValueTypes::of(ValueType::List),
        Tree::Object(_) => ValueTypes::of(ValueType::Object),
    }
}

#[cfg(test)]
mod tests;
