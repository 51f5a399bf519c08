//! Compares two schemas: finds out whether a value that matches the one never matches the other.
//!
//! It answers yes only where that is certain: by the types, by the fields that an object always has, and by the values that a schema lists.
//! Whether every value of one schema matches another one is not decided.

use std::fmt;

use serde_json::Value as Tree;

use super::{
    Field, SchemaView,
    check::{Budget, excerpt, find_mismatch, listed},
};
use crate::value_types::{ValueType, ValueTypes};

/// The maximum nesting of compared fields.
const MAX_COMPARED_DEPTH: usize = 16;

/// Why no value of a provider fits a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SchemaConflict {
    /// The path in the value: `pan.size`, or empty for the whole.
    at: String,
    reason: ConflictReason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ConflictReason {
    Types {
        provided: ValueTypes,
        accepted: ValueTypes,
    },
    MissingField(String),
    UnknownField(String),
    /// The texts of the values that the provider lists.
    Values(String),
}

/// `"pan.size" is a text, and has to be a whole number`.
impl fmt::Display for SchemaConflict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            out.write_str("it")?
        } else {
            write!(out, "{:?} of it", self.at)?
        }
        match &self.reason {
            ConflictReason::Types { provided, accepted } => write!(out, " is {provided}, and has to be {accepted}"),
            ConflictReason::MissingField(name) => write!(out, " never has {name:?}, which it has to have"),
            ConflictReason::UnknownField(name) => write!(out, " always has {name:?}, which it may not have"),
            ConflictReason::Values(values) => write!(out, " is {values}, and none of them fits"),
        }
    }
}

/// Why no value of one schema matches another schema, apart from the types of the whole values; `None` where one may match.
pub(super) fn find_conflict(
    provided: SchemaView<'_>,
    accepted: SchemaView<'_>,
    is_optional: bool,
    budget: &Budget,
) -> Option<SchemaConflict> {
    let null = if is_optional { ValueTypes::of(ValueType::Null) } else { ValueTypes::NONE };
    compare(provided, accepted, null, budget, "", 0)
}

fn compare(
    provided: SchemaView<'_>,
    accepted: SchemaView<'_>,
    also_accepted: ValueTypes,
    budget: &Budget,
    at: &str,
    depth: usize,
) -> Option<SchemaConflict> {
    if depth > MAX_COMPARED_DEPTH || !budget.spend(1) {
        return None;
    }
    let (provided, accepted) = (provided.resolve_reference(), accepted.resolve_reference());
    let (provided_types, accepted_types) = (provided.types(), accepted.types().or(also_accepted));
    let common = provided_types.and(accepted_types);
    let conflict = |reason| Some(SchemaConflict { at: at.into(), reason });
    if common.is_empty() {
        return conflict(ConflictReason::Types { provided: provided_types, accepted: accepted_types });
    }
    if let Some(values) = listed_values(provided)
        && values.iter().all(|value| {
            let is_null = **value == Tree::Null && !also_accepted.is_empty();
            !is_null && find_mismatch(accepted, value, budget).is_some()
        })
    {
        return conflict(ConflictReason::Values(listed(values.into_iter().map(excerpt))));
    }
    // A value of another type may fit.
    if common == ValueTypes::of(ValueType::Object) {
        return compare_fields(provided, accepted, budget, at, depth);
    }
    None
}

fn compare_fields(
    provided: SchemaView<'_>,
    accepted: SchemaView<'_>,
    budget: &Budget,
    at: &str,
    depth: usize,
) -> Option<SchemaConflict> {
    let conflict = |reason| Some(SchemaConflict { at: at.into(), reason });
    for name in required(provided) {
        budget.spend(1);
        match (provided.field(name), accepted.field(name)) {
            (Field::Known(provided), Field::Known(accepted)) => {
                let at = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
                let found = compare(provided, accepted, ValueTypes::NONE, budget, &at, depth + 1);
                if found.is_some() {
                    return found;
                }
            }
            (_, Field::Absent) if is_closed(accepted) => return conflict(ConflictReason::UnknownField(name.into())),
            (Field::Known(_) | Field::Absent | Field::Unspecified, _) => {}
        }
    }
    let missing = required(accepted)
        .find(|name| is_closed(provided) && matches!(provided.field(name), Field::Absent) && budget.spend(1));
    missing.and_then(|name| conflict(ConflictReason::MissingField(name.into())))
}

/// The fields that each object of a schema has.
fn required(view: SchemaView<'_>) -> impl Iterator<Item = &str> {
    view.keyword("required").and_then(Tree::as_array).into_iter().flatten().filter_map(Tree::as_str)
}

/// Whether the objects of a schema have no other fields than those that it describes.
fn is_closed(view: SchemaView<'_>) -> bool {
    view.keyword("additionalProperties") == Some(&Tree::Bool(false))
}

/// All values of a schema, if it lists them: with `enum`, with `const`, or in its alternatives.
fn listed_values<'s>(view: SchemaView<'s>) -> Option<Vec<&'s Tree>> {
    if let Some(Tree::Array(values)) = view.keyword("enum") {
        return (!values.is_empty()).then(|| values.iter().collect());
    }
    if let Some(value) = view.keyword("const") {
        return Some(vec![value]);
    }
    let alternatives = ["oneOf", "anyOf"].into_iter().find_map(|keyword| view.keyword(keyword)?.as_array())?;
    let value_of = |alternative: &'s Tree| alternative.get("const");
    let values: Vec<&Tree> = alternatives.iter().filter_map(value_of).collect();
    (!values.is_empty() && values.len() == alternatives.len()).then_some(values)
}

#[cfg(test)]
mod tests {
    use crate::{Json, Schema, schema::Budget};

    #[track_caller]
    fn check(provided: &str, accepted: &str, expected: &str) {
        let schema = |text: &str| Schema::new(&Json::parse(text).unwrap());
        let conflict = schema(provided).conflict_with(&schema(accepted), false, &Budget::new());
        assert_eq!(
            conflict.map(|conflict| conflict.to_string()).unwrap_or_default(),
            expected,
            "{provided} {accepted}"
        );
    }

    const PAN: &str = r#"{"type": "object", "properties": {"size": {"type": "integer"}, "lid": {"type": "string"}},
        "required": ["size"], "additionalProperties": false}"#;

    #[test]
    fn values_that_never_fit_are_found() {
        check(r#"{"type": "integer"}"#, r#"{"type": "string"}"#, "it is a whole number, and has to be a text");
        let text = r#"{"type": "object", "properties": {"size": {"type": "string"}}}"#;
        check(PAN, text, "\"size\" of it is a whole number, and has to be a text");
        let nested = |pan: &str| {
            format!(r#"{{"type": ["object", "null"], "properties": {{"pan": {pan}}}, "required": ["pan"]}}"#)
        };
        let (outer, inner) = (nested(PAN), nested(text));
        check(&outer, &inner.replace(", \"null\"", ""), "\"pan.size\" of it is a whole number, and has to be a text");
        check(PAN, r#"{"type": "object", "required": ["depth"]}"#, "it never has \"depth\", which it has to have");
        let closed = r#"{"type": "object", "properties": {"lid": true}, "additionalProperties": false}"#;
        check(PAN, closed, "it always has \"size\", which it may not have");
        let colours = r#"{"oneOf": [{"const": "red"}, {"const": "blue"}]}"#;
        check(colours, r#"{"enum": ["green", "grey"]}"#, "it is \"red\" or \"blue\", and none of them fits");
        check(r#"{"const": 300}"#, r#"{"type": "integer", "maximum": 255}"#, "it is 300, and none of them fits");
    }

    #[test]
    fn values_that_may_fit_are_no_conflict() {
        for (provided, accepted) in [
            // It may be null, and null fits.
            (
                r#"{"type": ["object", "null"], "properties": {"a": {"type": "string"}}, "required": ["a"]}"#,
                r#"{"type": ["object", "null"], "properties": {"a": {"type": "integer"}}}"#,
            ),
            // The field may be missing.
            (PAN, r#"{"type": "object", "properties": {"lid": {"type": "integer"}}}"#),
            // An open object may have other fields.
            (r#"{"type": "object", "properties": {"a": true}}"#, r#"{"type": "object", "required": ["b"]}"#),
            (r#"{"type": "object", "required": ["b"]}"#, r#"{"type": "object", "properties": {"a": true}}"#),
            (r#"{"enum": ["red", "blue"]}"#, r#"{"enum": ["blue", "grey"]}"#),
            (r#"{"type": "string"}"#, r#"{"enum": ["blue"]}"#),
            (r#"{"type": "integer", "minimum": 5}"#, r#"{"type": "integer", "maximum": 4}"#),
            // An empty list fits.
            (r#"{"type": "array", "items": {"type": "string"}}"#, r#"{"type": "array", "items": {"type": "integer"}}"#),
            ("true", PAN),
            (PAN, "true"),
        ] {
            check(provided, accepted, "");
        }
    }

    #[test]
    fn an_optional_parameter_takes_null() {
        let schema = |text: &str| Schema::new(&Json::parse(text).unwrap());
        let (null, text) = (schema(r#"{"enum": [null, 1]}"#), schema(r#"{"type": "string"}"#));
        assert!(null.conflict_with(&text, true, &Budget::new()).is_none());
        assert!(null.conflict_with(&text, false, &Budget::new()).is_some());
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let endless =
            r##"{"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]}"##;
        check(endless, endless, "");
    }
}
