//! Compares two schemas: finds out whether a value that matches the one never matches the other.
//!
//! It answers yes only where that is certain: by the types, by the fields that an object always has, and by the values that a schema lists.
//! Whether every value of one schema matches another one is not decided. All its work takes steps from a budget; once they are spent, it
//! finds no conflict.

use std::fmt;

use serde_json::Value as Tree;

use super::{
    Budget, Field, Schema, SchemaView,
    check::{MAX_NAME_CHARS, excerpt, has_mismatch, listed, quoted, shortened},
};
use crate::value_types::{ValueType, ValueTypes};

/// The maximum nesting of compared fields.
const MAX_COMPARED_DEPTH: usize = 16;

/// The steps of the comparison of two parts, beside those for what it finds in them: it looks about ten keywords up.
const STEPS_PER_PART: usize = 2;

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
    /// The name of a field, in quotes.
    MissingField(String),
    /// The name of a field, in quotes.
    UnknownField(String),
    /// The texts of the values that the provider lists.
    Values(String),
}

/// `"pan.size" of it is a text, and has to be a whole number`.
impl fmt::Display for SchemaConflict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            out.write_str("it")?;
        } else {
            write!(out, "{:?} of it", self.at)?;
        }
        match &self.reason {
            ConflictReason::Types { provided, accepted } if accepted.is_empty() => {
                write!(out, " is {provided}, and must not be there")
            }
            ConflictReason::Types { provided, accepted } => write!(out, " is {provided}, and has to be {accepted}"),
            ConflictReason::MissingField(name) => write!(out, " never has {name}, which it has to have"),
            ConflictReason::UnknownField(name) => write!(out, " always has {name}, which it may not have"),
            ConflictReason::Values(values) => write!(out, " is {values}, and none of them fits"),
        }
    }
}

/// Why no value of one schema matches another schema; `None` where one may match. An optional parameter also takes `null`.
pub(super) fn find_conflict(
    provided: &Schema,
    accepted: &Schema,
    is_optional: bool,
    budget: &Budget,
) -> Option<SchemaConflict> {
    let also_accepted = if is_optional { ValueTypes::of(ValueType::Null) } else { ValueTypes::NONE };
    // The types of whole schemas are known.
    let types = (provided.types(), accepted.types().or(also_accepted));
    let mut comparison = Comparison { budget, path: Vec::new() };
    let reason = comparison.compare(provided.view(), accepted.view(), types)?;
    let names: Vec<String> = comparison.path.iter().map(|name| shortened(name, MAX_NAME_CHARS)).collect();
    Some(SchemaConflict { at: names.join("."), reason })
}

/// The comparison of two schemas.
struct Comparison<'s> {
    budget: &'s Budget,
    /// The names of the fields around the compared parts, and of the part with the conflict.
    path: Vec<&'s str>,
}

impl<'s> Comparison<'s> {
    /// Compares two parts, with the types of their values. `null` among the accepted types is accepted whatever the schema says.
    fn compare(
        &mut self,
        provided: SchemaView<'s>,
        accepted: SchemaView<'s>,
        (provided_types, accepted_types): (ValueTypes, ValueTypes),
    ) -> Option<ConflictReason> {
        let (provided, provided_references) = provided.resolve_counted();
        let (accepted, accepted_references) = accepted.resolve_counted();
        let steps = STEPS_PER_PART + provided_references + accepted_references;
        // Where no value is provided at all, none is wrong.
        if self.path.len() > MAX_COMPARED_DEPTH || !self.budget.spend(steps) || provided_types.is_empty() {
            return None;
        }
        let common = provided_types.and(accepted_types);
        if common.is_empty() {
            return Some(ConflictReason::Types { provided: provided_types, accepted: accepted_types });
        }
        let accepts_null = accepted_types.has(ValueType::Null);
        let never_fits = |value: &Tree| {
            let is_accepted_null = matches!(value, Tree::Null) && accepts_null;
            !is_accepted_null && has_mismatch(accepted, value, self.budget)
        };
        if let Some(values) = ListedValues::of(provided, self.budget)
            && values.iter().all(never_fits)
        {
            return Some(ConflictReason::Values(listed(values.iter().map(excerpt))));
        }
        // A value of another type may fit.
        if common == ValueTypes::of(ValueType::Object) {
            return self.compare_fields(provided, accepted);
        }
        None
    }

    fn compare_fields(&mut self, provided: SchemaView<'s>, accepted: SchemaView<'s>) -> Option<ConflictReason> {
        for name in required(provided) {
            if !self.budget.spend_bytes(name.len()) {
                return None;
            }
            match (provided.field(name), accepted.field(name)) {
                (Field::Known(provided), Field::Known(accepted)) => {
                    let types = (provided.types_by(self.budget), accepted.types_by(self.budget));
                    self.path.push(name);
                    let found = self.compare(provided, accepted, types);
                    if found.is_some() {
                        return found;
                    }
                    self.path.pop();
                }
                (_, Field::Absent) if is_closed(accepted) => return Some(ConflictReason::UnknownField(quoted(name))),
                (Field::Known(_) | Field::Absent | Field::Unspecified, _) => {}
            }
        }
        if !is_closed(provided) {
            return None;
        }
        for name in required(accepted) {
            if !self.budget.spend_bytes(name.len()) {
                return None;
            }
            if matches!(provided.field(name), Field::Absent) {
                return Some(ConflictReason::MissingField(quoted(name)));
            }
        }
        None
    }
}

/// The fields that each object of a schema has.
fn required(view: SchemaView<'_>) -> impl Iterator<Item = &str> {
    view.keyword("required").and_then(Tree::as_array).into_iter().flatten().filter_map(Tree::as_str)
}

/// Whether the objects of a schema have no other fields than those that it describes.
fn is_closed(view: SchemaView<'_>) -> bool {
    view.keyword("additionalProperties") == Some(&Tree::Bool(false))
}

/// The values of a schema that lists all of them: with `enum`, with `const`, or with `const` in each of its alternatives.
#[derive(Clone, Copy)]
struct ListedValues<'s> {
    entries: &'s [Tree],
    /// Whether the entries are alternatives, and not the values themselves.
    are_alternatives: bool,
}

impl<'s> ListedValues<'s> {
    fn of(view: SchemaView<'s>, budget: &Budget) -> Option<Self> {
        if view.is_nullable() {
            return None;
        }
        if let Some(Tree::Array(entries)) = view.keyword("enum") {
            return (!entries.is_empty()).then_some(Self { entries, are_alternatives: false });
        }
        if let Some(only) = view.keyword("const") {
            return Some(Self { entries: std::slice::from_ref(only), are_alternatives: false });
        }
        let entries = ["oneOf", "anyOf"].into_iter().find_map(|keyword| view.keyword(keyword)?.as_array())?;
        // What stands beside a reference is ignored.
        let is_constant = |one: &Tree| {
            let is_other = one.get("$ref").is_some() || one.get("nullable").is_some();
            budget.spend(1) && one.get("const").is_some() && !is_other
        };
        (!entries.is_empty() && entries.iter().all(is_constant)).then_some(Self { entries, are_alternatives: true })
    }

    fn iter(self) -> impl Iterator<Item = &'s Tree> {
        let value = move |entry: &'s Tree| if self.are_alternatives { entry.get("const") } else { Some(entry) };
        self.entries.iter().filter_map(value)
    }
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
        let forbidden = r#"{"type": "object", "properties": {"size": false}}"#;
        check(PAN, forbidden, "\"size\" of it is a whole number, and must not be there");
        let referring = r##"{"type": "object", "required": ["pan"], "properties": {"pan": {"$ref": "#/$defs/Pan"}},
            "$defs": {"Pan": {"type": "object", "required": ["size"], "properties": {"size": {"const": 3}}}}}"##;
        check(referring, &inner, "\"pan.size\" of it is a number, and has to be a text");
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
            // A whole number is a number, and may be written with a decimal point.
            (r#"{"type": "number"}"#, r#"{"type": "integer"}"#),
            (r#"{"type": "integer"}"#, r#"{"type": "number", "format": "double"}"#),
            (r#"{"const": 3}"#, r#"{"enum": [3.0]}"#),
            // Unknown formats and keywords restrict nothing.
            (r#"{"const": "x"}"#, r#"{"type": "string", "format": "date", "pattern": "^y$", "not": {"const": "x"}}"#),
            (r#"{"enum": ["red"], "nullable": true}"#, r#"{"type": ["null", "integer"]}"#),
            (r#"{"type": "string", "nullable": true}"#, r#"{"type": "null"}"#),
            (r#"{"type": "null"}"#, r#"{"type": "string", "nullable": true}"#),
            (r#"{"const": null}"#, r#"{"enum": ["red"], "nullable": true}"#),
            // One of the alternatives fits, or is no constant.
            (r#"{"anyOf": [{"type": "null"}, {"type": "string"}]}"#, r#"{"type": "string"}"#),
            (r#"{"oneOf": [{"const": "red"}, {"type": "integer"}]}"#, r#"{"enum": ["blue", 1]}"#),
            (r##"{"oneOf": [{"const": "red", "$ref": "#/$defs/a"}], "$defs": {"a": true}}"##, r#"{"enum": ["blue"]}"#),
            (r#"{"enum": ["red", "blue"]}"#, r#"{"oneOf": [{"const": "blue"}, {"type": "null"}]}"#),
            (r#"{"enum": ["red"]}"#, r#"{"anyOf": [{"$ref": "elsewhere"}]}"#),
            // The fields of a nested schema are not known here.
            (
                r#"{"type": "object", "required": ["a"]}"#,
                r#"{"type": "object", "properties": {}, "additionalProperties": false, "anyOf": [{"properties": {"a": true}}]}"#,
            ),
            (
                r#"{"type": "object", "properties": {}, "allOf": [{"properties": {"a": true}}], "additionalProperties": false}"#,
                r#"{"type": "object", "required": ["a"]}"#,
            ),
            (
                r#"{"type": "object", "properties": {"b": true}, "patternProperties": {"^a": true}, "additionalProperties": false}"#,
                r#"{"type": "object", "required": ["a"]}"#,
            ),
            // Other fields may be of any name.
            (
                r#"{"type": "object", "required": ["a"]}"#,
                r#"{"type": "object", "properties": {"b": true}, "additionalProperties": {"type": "integer"}}"#,
            ),
            // Both may be something else than an object.
            (
                r#"{"properties": {"a": {"type": "string"}}, "required": ["a"]}"#,
                r#"{"properties": {"a": {"type": "integer"}}, "required": ["a"]}"#,
            ),
            // Nothing is ever provided.
            ("false", "false"),
            (
                r#"{"type": "object", "properties": {"a": false}, "required": ["a"]}"#,
                r#"{"type": "object", "properties": {"a": {"type": "string"}}}"#,
            ),
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

    /// The conflict of two schemas, and the steps that finding it takes.
    fn conflict_and_steps(provided: &str, accepted: &str) -> (Option<String>, usize) {
        let schema = |text: &str| Schema::new(&Json::parse(text).unwrap());
        let budget = Budget::new();
        let before = budget.left();
        let conflict = schema(provided).conflict_with(&schema(accepted), false, &budget);
        (conflict.map(|conflict| conflict.to_string()), before - budget.left())
    }

    #[test]
    fn the_work_of_a_comparison_is_bounded() {
        // Each level has two of the next one, and each of them has many alternatives.
        let alternatives = vec!["{}"; 2_000].join(",");
        let endless = format!(
            r##"{{"type": "object", "properties": {{"a": {{"$ref": "#"}}, "b": {{"$ref": "#"}}}}, "required": ["a", "b"],
                "anyOf": [{alternatives}]}}"##
        );
        let (conflict, steps) = conflict_and_steps(&endless, &endless);
        assert_eq!(conflict, None);
        assert!(steps >= 990_000, "{steps}");
        // Values that do not fit, and names of fields, cost as many steps as there are, and by their bytes.
        let numbers: Vec<String> = (0..50_000).map(|number| number.to_string()).collect();
        let listed = format!("{{\"enum\": [{}]}}", numbers.join(","));
        let (conflict, steps) = conflict_and_steps(&listed, r#"{"type": "number", "minimum": 60000}"#);
        assert!(conflict.is_some());
        assert!(steps >= 50_000, "{steps}");
        let names: Vec<String> = (0..100).map(|number| format!("\"{}{number}\"", "n".repeat(64_000))).collect();
        let fields = format!("{{\"type\": \"object\", \"required\": [{}]}}", names.join(","));
        let (conflict, steps) = conflict_and_steps(&fields, PAN);
        assert_eq!(conflict.as_deref().map(|conflict| conflict.len() < 300), Some(true), "long names are cut");
        assert!(steps >= 1_000, "{steps}");
        let (conflict, steps) = conflict_and_steps(&fields, r#"{"type": "object"}"#);
        assert_eq!(conflict, None);
        assert!(steps >= 100_000, "{steps}");
    }

    #[test]
    fn nothing_conflicts_once_the_steps_are_spent() {
        let schema = |text: &str| Schema::new(&Json::parse(text).unwrap());
        let budget = Budget::new();
        budget.spend(usize::MAX);
        let (number, text) = (schema(r#"{"const": 1}"#), schema(r#"{"enum": [2]}"#));
        assert!(number.conflict_with(&text, false, &budget).is_none());
    }
}
