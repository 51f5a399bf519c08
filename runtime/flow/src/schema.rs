//! JSON schemas, with which modules describe their values: decides whether a value can fit a parameter.
//!
//! A subset is supported: the keywords that the guest SDK writes (those of `schemars` for the types of serde). Other
//! keywords are ignored, so a value is refused only where it surely does not fit.

mod budget;
mod check;
mod conflict;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use serde_json::Value as Tree;

pub(crate) use budget::{Budget, tree_bytes};
pub use check::SchemaMismatch;
pub(crate) use conflict::SchemaConflict;

use crate::{
    Json, Value,
    value_types::{ValueType, ValueTypes},
};

/// The maximum number of references followed in a row, so that a self-referencing schema ends.
const MAX_REFERENCES: usize = 32;

/// The maximum length of a reference, in bytes: `#/$defs/Name` with a long name. A longer one accepts every value.
const MAX_REFERENCE_BYTES: usize = 1_024;

/// The maximum number of parts between slashes in all references followed in a row.
const MAX_REFERENCE_PARTS: usize = 128;

/// The maximum nesting of alternatives; deeper ones accept every value.
const MAX_DEPTH: usize = 32;

/// The maximum number of alternatives that are inspected for the types of a schema: each may have alternatives of its own. Some
/// entries of an `enum`, and each name of a `type`, count as one.
const MAX_ALTERNATIVES: usize = 10_000;

/// The number of entries of an `enum` that count as one alternative: only their types are read.
const ENTRIES_PER_ALTERNATIVE: usize = 16;

/// A JSON schema, as far as waft supports it. Clones share it.
#[derive(Clone)]
pub struct Schema(Arc<Parsed>);

struct Parsed {
    tree: Tree,
    /// The possible types of its values, once somebody has asked.
    types: OnceLock<ValueTypes>,
    /// The schema of lists of its values, once somebody has asked.
    list: OnceLock<Schema>,
}

/// A value that is read once for all schemas that it is compared with.
#[derive(Debug)]
pub(crate) enum ReadValue {
    /// Its JSON.
    Tree(Tree),
    /// Bytes that are no text.
    Binary,
    /// It is in the store, too large, or cannot be read: every schema accepts it.
    Unknown,
}

/// A part of a schema, with the whole schema for resolving its references.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchemaView<'s> {
    root: &'s Tree,
    node: &'s Tree,
    /// The steps that are left to find types; `None` where somebody asks for the types of few parts.
    budget: Option<&'s Budget>,
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
        Self::of_tree(text.to_tree().unwrap_or(Tree::Bool(true)))
    }

    /// Reads a schema if enough steps are left for it.
    pub(crate) fn read(text: &Json, budget: &Budget) -> Option<Self> {
        budget.read(text).map(Self::of_tree)
    }

    fn of_tree(tree: Tree) -> Self {
        Self(Arc::new(Parsed { tree, types: OnceLock::new(), list: OnceLock::new() }))
    }

    /// The first reason why a value surely does not match this schema; `None` where it may match.
    ///
    /// Bytes count as their text where they are UTF-8, as guests read them. Values in the store are not checked.
    #[must_use]
    pub fn mismatch(&self, value: &Value) -> Option<SchemaMismatch> {
        let budget = Budget::new();
        self.mismatch_within(&ReadValue::new(value, &budget), &budget)
    }

    /// As [`Schema::mismatch`], in some milliseconds at most: a value that takes longer may match.
    #[must_use]
    pub fn quick_mismatch(&self, value: &Value) -> Option<SchemaMismatch> {
        let budget = Budget::of_notification();
        self.mismatch_within(&ReadValue::new(value, &budget), &budget)
    }

    /// As [`Schema::mismatch`], with the steps that are left for several checks.
    pub(crate) fn mismatch_within(&self, value: &ReadValue, budget: &Budget) -> Option<SchemaMismatch> {
        match value {
            ReadValue::Tree(tree) => check::find_mismatch(self.view(), tree, budget),
            ReadValue::Binary => Some(SchemaMismatch::of_bytes(self.types())),
            ReadValue::Unknown => None,
        }
    }

    /// The first reason why an element of a list surely does not match this schema, with the element's index.
    pub(crate) fn element_mismatch(&self, list: &ReadValue, budget: &Budget) -> Option<(usize, SchemaMismatch)> {
        let ReadValue::Tree(Tree::Array(elements)) = list else { return None };
        elements.iter().enumerate().find_map(|(index, element)| {
            let mismatch = check::find_mismatch(self.view(), element, budget)?;
            Some((index, mismatch))
        })
    }

    /// Why no value of this schema fits a parameter with another schema; `None` where one may fit. An optional parameter also takes
    /// `null`.
    pub(crate) fn conflict_with(&self, accepted: &Self, is_optional: bool, budget: &Budget) -> Option<SchemaConflict> {
        conflict::find_conflict(self, accepted, is_optional, budget)
    }

    /// The schema as JSON.
    pub(crate) fn to_json(&self) -> Json {
        Json::from(&self.0.tree)
    }

    pub(crate) fn view(&self) -> SchemaView<'_> {
        SchemaView { root: &self.0.tree, node: &self.0.tree, budget: None }
    }

    /// The possible types of a value that matches it.
    pub(crate) fn types(&self) -> ValueTypes {
        *self.0.types.get_or_init(|| self.view().types())
    }

    /// The schema of a list whose elements match this one.
    pub(crate) fn list_of(&self) -> Self {
        let list = || {
            // References refer to the elements' own schema, which is no longer the root.
            let has_references = self.0.tree.to_string().contains("\"$ref\"");
            let items = if has_references { Tree::Bool(true) } else { self.0.tree.clone() };
            Self::of_tree(serde_json::json!({"type": "array", "items": items}))
        };
        self.0.list.get_or_init(list).clone()
    }

    /// The schema of values of these types.
    pub(crate) fn of(kind: &str) -> Self {
        Self::of_tree(serde_json::json!({"type": kind}))
    }

    /// The schema of a failure, as failure listeners receive it.
    pub(crate) fn of_failure() -> Self {
        let text = || serde_json::json!({"type": "string"});
        Self::of_tree(serde_json::json!({
            "type": "object",
            "properties": {"task": text(), "kind": text(), "message": text(), "details": true},
            "required": ["task", "kind", "message"],
        }))
    }

    /// The schema of this value: its types, and those of its content. `None` where it is not known, or too few steps are left to
    /// read the value.
    pub(crate) fn of_value(value: &Value, budget: &Budget) -> Option<Self> {
        match value {
            Value::Json(json) => Some(Self::of_tree(shape(&budget.read(json)?, 0))),
            Value::Bytes(_) | Value::Stored(_) => None,
        }
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.0.tree == other.0.tree
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.tree, out)
    }
}

impl ReadValue {
    /// Reads a value if enough steps are left for it.
    pub(crate) fn new(value: &Value, budget: &Budget) -> Self {
        match value {
            Value::Json(json) => budget.read(json).map_or(Self::Unknown, Self::Tree),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if budget.spend_bytes(text.len()) => Self::Tree(Tree::from(text)),
                Ok(_) => Self::Unknown,
                Err(_) => Self::Binary,
            },
            Value::Stored(_) => Self::Unknown,
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

    /// The same view, of which each question about types takes its steps from a budget.
    pub(crate) fn charged_to(self, budget: &'s Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    fn keyword(self, name: &str) -> Option<&'s Tree> {
        self.node.get(name)
    }

    /// The referenced schema, if this one is only a reference.
    fn resolve_reference(self) -> Self {
        self.resolve_counted().0
    }

    /// The referenced schema, if this one is only a reference, and the number of steps that it took to find it.
    fn resolve_counted(mut self) -> (Self, usize) {
        let mut parts = 0;
        for references in 0..MAX_REFERENCES {
            let Some(pointer) = self.keyword("$ref").and_then(Tree::as_str) else { return (self, references + parts) };
            // An unresolvable reference accepts every value.
            self = self.at(self.target(pointer, &mut parts).unwrap_or(&Tree::Bool(true)));
        }
        (self.at(&Tree::Bool(true)), MAX_REFERENCES + parts)
    }

    /// The part of the schema that a JSON pointer names. It copies nothing, and adds the parts of the pointer to `parts`.
    fn target(self, pointer: &str, parts: &mut usize) -> Option<&'s Tree> {
        let pointer = pointer.strip_prefix('#').filter(|pointer| pointer.len() <= MAX_REFERENCE_BYTES)?;
        if pointer.is_empty() {
            return Some(self.root);
        }
        pointer.strip_prefix('/')?.split('/').try_fold(self.root, |node, part| {
            *parts += 1;
            if *parts > MAX_REFERENCE_PARTS {
                return None;
            }
            match node {
                Tree::Object(fields) if part.contains('~') => fields.get(&part.replace("~1", "/").replace("~0", "~")),
                Tree::Object(fields) => fields.get(part),
                Tree::Array(_) if part.starts_with('+') || part.len() > 1 && part.starts_with('0') => None,
                Tree::Array(elements) => elements.get(part.parse::<usize>().ok()?),
                Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::String(_) => None,
            }
        })
    }

    /// The possible types of a value that matches it.
    pub(crate) fn types(self) -> ValueTypes {
        match self.budget {
            Some(budget) => self.types_by(budget),
            None => self.types_within(MAX_DEPTH, &mut 0),
        }
    }

    /// The possible types, as far as steps are left to find them.
    pub(crate) fn types_by(self, budget: &Budget) -> ValueTypes {
        if budget.is_spent() {
            return ValueTypes::ANY;
        }
        let mut seen = 0;
        let types = self.types_within(MAX_DEPTH, &mut seen);
        budget.spend(seen);
        types
    }

    /// Whether it also allows null, as the schemas of OpenAPI 3.0 say it.
    fn is_nullable(self) -> bool {
        self.keyword("nullable") == Some(&Tree::Bool(true))
    }

    fn types_within(self, depth: usize, seen: &mut usize) -> ValueTypes {
        let (view, references) = self.resolve_counted();
        *seen += 1 + references;
        if depth == 0 || *seen > MAX_ALTERNATIVES || view.node == &Tree::Bool(true) {
            return ValueTypes::ANY;
        }
        let types = view.types_of_resolved(depth, seen);
        if view.is_nullable() { types.or(ValueTypes::of(ValueType::Null)) } else { types }
    }

    /// The types of a schema that is no reference.
    fn types_of_resolved(self, depth: usize, seen: &mut usize) -> ValueTypes {
        if self.node == &Tree::Bool(false) {
            return ValueTypes::NONE;
        }
        let mut types = match self.keyword("type") {
            Some(Tree::String(name)) => types_named(name),
            Some(Tree::Array(names)) if is_counted(names.len(), seen) => {
                union(names.iter().filter_map(Tree::as_str).map(types_named))
            }
            Some(_) | None => ValueTypes::ANY,
        };
        if let Some(only) = self.keyword("const") {
            types = types.and(type_of(only));
        }
        if let Some(Tree::Array(only)) = self.keyword("enum")
            && is_counted(only.len() / ENTRIES_PER_ALTERNATIVE, seen)
        {
            types = types.and(union(only.iter().map(type_of)));
        }
        for either in ["anyOf", "oneOf"] {
            if let Some(Tree::Array(alternatives)) = self.keyword(either) {
                let mut of_any = ValueTypes::NONE;
                for one in alternatives {
                    of_any = of_any.or(self.at(one).types_within(depth - 1, seen));
                    if *seen > MAX_ALTERNATIVES {
                        return types;
                    }
                }
                types = types.and(of_any);
            }
        }
        if let Some(Tree::Array(all)) = self.keyword("allOf") {
            for one in all {
                types = types.and(self.at(one).types_within(depth - 1, seen));
                if *seen > MAX_ALTERNATIVES {
                    break;
                }
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

/// Adds to the number of inspected alternatives; whether that is below the maximum.
fn is_counted(more: usize, seen: &mut usize) -> bool {
    *seen += more;
    *seen <= MAX_ALTERNATIVES
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
