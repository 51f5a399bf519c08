//! Checks a JSON value against a schema.

use std::{cell::Cell, fmt};

use serde_json::Value as Tree;

use super::{MAX_DEPTH, SchemaView, type_of};
use crate::value_types::ValueTypes;

/// The maximum number of steps of a check, or of all checks of a flow; beyond it the rest is accepted. A schema may have alternatives
/// of alternatives. A million steps take less than a second.
const MAX_STEPS: usize = 1_000_000;

/// The steps that are left for one or more checks.
#[derive(Debug)]
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(Cell::new(MAX_STEPS))
    }

    /// Takes some steps. Returns whether there were any.
    pub(super) fn spend(&self, steps: usize) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(steps));
        left > 0
    }
}

/// The maximum number of alternatives or fields that a message lists.
const MAX_LISTED: usize = 12;

/// The maximum length of a value's text in a message, in characters.
const MAX_QUOTED_CHARS: usize = 40;

/// Why a value does not match a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaMismatch {
    /// The path in the value: `[2].size`, or empty for the whole.
    at: String,
    /// The problem there.
    problem: String,
}

impl SchemaMismatch {
    fn new(at: &str, problem: impl Into<String>) -> Self {
        Self { at: at.into(), problem: problem.into() }
    }

    pub(super) fn of_bytes(expected: ValueTypes) -> Self {
        Self::new("", format!("is bytes, and has to be {expected}"))
    }
}

/// `it is a text, and has to be a list`; `[2].size is null, and has to be a whole number`.
impl fmt::Display for SchemaMismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.strip_prefix('.').unwrap_or(&self.at);
        write!(out, "{} {}", if at.is_empty() { "it" } else { at }, self.problem)
    }
}

/// The first reason why a value surely does not match a schema.
pub(super) fn find_mismatch(schema: SchemaView<'_>, value: &Tree, budget: &Budget) -> Option<SchemaMismatch> {
    Check { budget, alternatives: 0 }.value(schema, value, "")
}

struct Check<'b> {
    /// Each inspected part of the value costs a step for each alternative, and so does each inspected part of the schema.
    budget: &'b Budget,
    /// The nesting depth of alternatives around the current part.
    alternatives: usize,
}

impl Check<'_> {
    /// Checks a value. JSON nests no deeper than its parser allows, and a schema is JSON: this bounds the recursion.
    fn value(&mut self, schema: SchemaView<'_>, value: &Tree, at: &str) -> Option<SchemaMismatch> {
        if !self.budget.spend(1) {
            return None;
        }
        let schema = schema.resolve_reference();
        match schema.node {
            Tree::Bool(true) => return None,
            Tree::Bool(false) => return Some(SchemaMismatch::new(at, "must not be there")),
            Tree::Null | Tree::Number(_) | Tree::String(_) | Tree::Array(_) | Tree::Object(_) => {}
        }
        self.of_type(schema, value, at)
            .or_else(|| self.check_enum(schema, value, at))
            .or_else(|| self.within_alternatives(schema, value, at))
            .or_else(|| match value {
                Tree::Object(fields) => self.fields(schema, fields, at),
                Tree::Array(elements) => self.elements(schema, elements, at),
                Tree::String(text) => check_length(schema, "Length", "characters", text.chars().count(), at),
                Tree::Number(number) => in_range(schema, number, at),
                Tree::Null | Tree::Bool(_) => None,
            })
    }

    /// Bounds the nesting of alternatives: a schema may be an alternative of itself.
    fn within_alternatives(&mut self, schema: SchemaView<'_>, value: &Tree, at: &str) -> Option<SchemaMismatch> {
        if self.alternatives >= MAX_DEPTH {
            return None;
        }
        self.alternatives += 1;
        let mismatch = self.alternatives(schema, value, at);
        self.alternatives -= 1;
        mismatch
    }

    fn alternatives(&mut self, schema: SchemaView<'_>, value: &Tree, at: &str) -> Option<SchemaMismatch> {
        if let Some(Tree::Array(all)) = schema.keyword("allOf") {
            let mismatch = all.iter().find_map(|alternative| self.value(schema.at(alternative), value, at));
            if mismatch.is_some() {
                return mismatch;
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(Tree::Array(alternatives)) = schema.keyword(keyword) else { continue };
            let mut mismatches = Vec::new();
            for alternative in alternatives {
                match self.value(schema.at(alternative), value, at) {
                    Some(mismatch) => mismatches.push((schema.at(alternative), mismatch)),
                    None => break,
                }
            }
            if mismatches.len() < alternatives.len() || mismatches.is_empty() {
                continue;
            }
            // The alternatives of the value's type explain the problem best.
            let has_type_of_value = |view: &SchemaView<'_>| !self.types(*view).and(type_of(value)).is_empty();
            let mut matching =
                mismatches.iter().filter(|(view, _)| has_type_of_value(view)).map(|(_, mismatch)| mismatch);
            return match (matching.next(), matching.next()) {
                (Some(only), None) => Some(only.clone()),
                (Some(_), Some(_)) => Some(SchemaMismatch::new(at, "fits none of the forms that it may have")),
                (None, _) => Some(self.wrong_type(schema, value, at)),
            };
        }
        None
    }

    fn fields(
        &mut self,
        schema: SchemaView<'_>,
        fields: &serde_json::Map<String, Tree>,
        at: &str,
    ) -> Option<SchemaMismatch> {
        let required = schema.keyword("required").and_then(Tree::as_array).map_or(&[][..], Vec::as_slice);
        self.budget.spend(required.len());
        let missing = required.iter().filter_map(Tree::as_str).find(|name| !fields.contains_key(*name));
        if let Some(name) = missing {
            return Some(SchemaMismatch::new(at, format!("lacks {name:?}")));
        }
        let properties = schema.keyword("properties").and_then(Tree::as_object);
        let others = schema.keyword("additionalProperties").filter(|_| schema.keyword("patternProperties").is_none());
        for (name, value) in fields {
            let path =
                || if name.contains(['.', '[', ' ']) { format!("{at}[{name:?}]") } else { format!("{at}.{name}") };
            let mismatch = match (properties.and_then(|properties| properties.get(name)), others) {
                (Some(field), _) => self.value(schema.at(field), value, &path()),
                (None, Some(Tree::Bool(false))) => {
                    let names = listed(
                        properties.into_iter().flat_map(|properties| properties.keys()).map(|name| format!("{name:?}")),
                    );
                    Some(SchemaMismatch::new(at, format!("has {name:?}, and may only have {names}")))
                }
                (None, Some(others)) => self.value(schema.at(others), value, &path()),
                (None, None) => None,
            };
            if mismatch.is_some() {
                return mismatch;
            }
        }
        None
    }

    fn elements(&mut self, schema: SchemaView<'_>, elements: &[Tree], at: &str) -> Option<SchemaMismatch> {
        let first = schema.keyword("prefixItems").and_then(Tree::as_array).map_or(&[][..], Vec::as_slice);
        let items = schema.keyword("items");
        check_length(schema, "Items", "elements", elements.len(), at).or_else(|| {
            elements.iter().enumerate().find_map(|(index, element)| {
                let item = first.get(index).or(items)?;
                self.value(schema.at(item), element, &format!("{at}[{index}]"))
            })
        })
    }

    fn of_type(&self, schema: SchemaView<'_>, value: &Tree, at: &str) -> Option<SchemaMismatch> {
        // Only its own keyword: alternatives are checked one by one.
        let types = match schema.keyword("type")? {
            Tree::String(name) => super::types_named(name),
            Tree::Array(names) => super::union(names.iter().filter_map(Tree::as_str).map(super::types_named)),
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Object(_) => return None,
        };
        types.and(type_of(value)).is_empty().then(|| self.wrong_type(schema, value, at))
    }

    fn wrong_type(&self, schema: SchemaView<'_>, value: &Tree, at: &str) -> SchemaMismatch {
        SchemaMismatch::new(at, format!("is {}, and has to be {}", type_name(value), self.types(schema)))
    }

    /// `enum` and `const`.
    fn check_enum(&self, schema: SchemaView<'_>, value: &Tree, at: &str) -> Option<SchemaMismatch> {
        let values = match (schema.keyword("enum"), schema.keyword("const")) {
            (Some(Tree::Array(allowed)), _) => allowed.as_slice(),
            (_, Some(only)) => std::slice::from_ref(only),
            (_, None) => return None,
        };
        self.budget.spend(values.len());
        let equals = |other: &Tree| other == value || (other.as_f64().is_some() && other.as_f64() == value.as_f64());
        let allowed = || listed(values.iter().map(excerpt));
        (!values.iter().any(equals))
            .then(|| SchemaMismatch::new(at, format!("is {}, and has to be {}", excerpt(value), allowed())))
    }

    /// The possible types of a value that matches a schema.
    fn types(&self, schema: SchemaView<'_>) -> ValueTypes {
        let mut seen = 0;
        let types = schema.types_within(MAX_DEPTH, &mut seen);
        self.budget.spend(seen);
        types
    }
}

fn type_name(value: &Tree) -> &'static str {
    match value {
        Tree::Null => "null",
        Tree::Bool(_) => "true or false",
        Tree::Number(number) if number.is_f64() => "a number",
        Tree::Number(_) => "a whole number",
        Tree::String(_) => "a text",
        Tree::Array(_) => "a list",
        Tree::Object(_) => "an object",
    }
}

pub(super) fn excerpt(value: &Tree) -> String {
    match value {
        Tree::Array(_) => "a list".into(),
        Tree::Object(_) => "an object".into(),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::String(_) => {
            let text = value.to_string();
            let shortened: String = text.chars().take(MAX_QUOTED_CHARS).collect();
            if shortened.len() < text.len() { format!("{shortened}…") } else { text }
        }
    }
}

pub(super) fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.take(MAX_LISTED + 1).collect();
    if names.len() > MAX_LISTED {
        names[MAX_LISTED] = "others".into();
    }
    match names.split_last() {
        None => "nothing".into(),
        Some((only, [])) => only.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
    }
}

/// `minLength` and `maxLength`, or `minItems` and `maxItems`.
fn check_length(schema: SchemaView<'_>, suffix: &str, unit: &str, length: usize, at: &str) -> Option<SchemaMismatch> {
    let bound = |prefix: &str| schema.keyword(&format!("{prefix}{suffix}")).and_then(Tree::as_u64);
    let (min, max) = (bound("min"), bound("max"));
    let length = length as u64;
    let expected = match (min, max) {
        (Some(min), _) if length < min => format!("at least {min}"),
        (_, Some(max)) if length > max => format!("at most {max}"),
        (_, _) => return None,
    };
    Some(SchemaMismatch::new(at, format!("has {length} {unit}, and has to have {expected}")))
}

/// Checks the bounds of a number, and the range of an integer `format`.
fn in_range(schema: SchemaView<'_>, number: &serde_json::Number, at: &str) -> Option<SchemaMismatch> {
    let value = number.as_f64()?;
    let bound = |name: &str| schema.keyword(name).and_then(Tree::as_f64);
    let format_range = schema.keyword("format").and_then(Tree::as_str).and_then(integers);
    let (min, max) = (format_range.map(|range| range.0), format_range.map(|range| range.1));
    let expected = if let Some(min) = bound("minimum").filter(|min| value < *min) {
        format!("at least {min}")
    } else if let Some(max) = bound("maximum").filter(|max| value > *max) {
        format!("at most {max}")
    } else if let Some(min) = bound("exclusiveMinimum").filter(|min| value <= *min) {
        format!("more than {min}")
    } else if let Some(max) = bound("exclusiveMaximum").filter(|max| value >= *max) {
        format!("less than {max}")
    } else if let Some(min) = min.filter(|min| value < *min) {
        format!("at least {min}")
    } else if let Some(max) = max.filter(|max| value > *max) {
        format!("at most {max}")
    } else {
        return None;
    };
    Some(SchemaMismatch::new(at, format!("is {number}, and has to be {expected}")))
}

/// The range of an integer format. 64-bit formats are excluded: a double does not represent their bounds exactly.
fn integers(format: &str) -> Option<(f64, f64)> {
    match format {
        "int8" => Some((f64::from(i8::MIN), f64::from(i8::MAX))),
        "int16" => Some((f64::from(i16::MIN), f64::from(i16::MAX))),
        "int32" => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        "uint8" => Some((0.0, f64::from(u8::MAX))),
        "uint16" => Some((0.0, f64::from(u16::MAX))),
        "uint32" => Some((0.0, f64::from(u32::MAX))),
        _ => None,
    }
}
