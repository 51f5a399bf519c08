//! Checks a JSON value against a schema.

use std::fmt;

use serde_json::{Map, Number, Value as Tree};

use super::{Budget, MAX_DEPTH, SchemaView, type_of};
use crate::value_types::ValueTypes;

/// The maximum number of alternatives or fields that a message lists.
const MAX_LISTED: usize = 12;

/// The maximum length of a value's text in a message, in characters.
const MAX_QUOTED_CHARS: usize = 40;

/// The maximum length of a field's name in a message, in characters.
pub(super) const MAX_NAME_CHARS: usize = 200;

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
    let mut check = Check { budget, alternatives: 0 };
    let problem = check.problem(schema, value)?;
    Some(check.explain(schema, value, problem))
}

/// Whether a value surely does not match a schema, without an explanation.
pub(super) fn has_mismatch(schema: SchemaView<'_>, value: &Tree, budget: &Budget) -> bool {
    Check { budget, alternatives: 0 }.problem(schema, value).is_some()
}

/// Why a value does not match a schema. It copies nothing, since most problems are those of alternatives that nobody reports.
enum Problem<'c> {
    Forbidden,
    WrongType,
    /// It is none of these.
    Unlisted(&'c [Tree]),
    /// It does not match this schema, which it has to match too.
    Also(&'c Tree),
    /// It matches none of these schemas.
    NoneOf(&'c [Tree]),
    Lacks(&'c str),
    /// It has a field beside those that it may have.
    Unexpected(&'c str, Option<&'c Map<String, Tree>>),
    Length {
        length: u64,
        unit: &'static str,
        bound: Bound<u64>,
    },
    OutOfRange(&'c Number, Bound<f64>),
    /// A field or an element does not match its schema.
    Part(Part<'c>, &'c Tree, &'c Tree),
}

/// A violated bound.
enum Bound<N> {
    AtLeast(N),
    AtMost(N),
    MoreThan(N),
    LessThan(N),
}

/// A part of a value.
#[derive(Clone, Copy)]
enum Part<'c> {
    Field(&'c str),
    Element(usize),
}

struct Check<'b> {
    /// Each inspected part of the value costs a step for each alternative, and so does each inspected part of the schema; what is
    /// compared or counted costs steps by its bytes.
    budget: &'b Budget,
    /// The nesting depth of alternatives around the current part.
    alternatives: usize,
}

impl Check<'_> {
    /// Checks a value. JSON nests no deeper than its parser allows, and a schema is JSON: this bounds the recursion.
    fn problem<'c>(&mut self, schema: SchemaView<'c>, value: &'c Tree) -> Option<Problem<'c>> {
        let (schema, references) = schema.resolve_counted();
        if !self.budget.spend(1 + references) || matches!(value, Tree::Null) && schema.is_nullable() {
            return None;
        }
        match schema.node {
            Tree::Bool(true) => return None,
            Tree::Bool(false) => return Some(Problem::Forbidden),
            Tree::Null | Tree::Number(_) | Tree::String(_) | Tree::Array(_) | Tree::Object(_) => {}
        }
        self.of_type(schema, value)
            .or_else(|| self.check_enum(schema, value))
            .or_else(|| self.within_alternatives(schema, value))
            .or_else(|| match value {
                Tree::Object(fields) => self.fields(schema, fields),
                Tree::Array(elements) => self.elements(schema, elements),
                Tree::String(text) => self.text_length(schema, text),
                Tree::Number(number) => in_range(schema, number).map(|bound| Problem::OutOfRange(number, bound)),
                Tree::Null | Tree::Bool(_) => None,
            })
    }

    /// Bounds the nesting of alternatives: a schema may be an alternative of itself.
    fn within_alternatives<'c>(&mut self, schema: SchemaView<'c>, value: &'c Tree) -> Option<Problem<'c>> {
        if self.alternatives >= MAX_DEPTH {
            return None;
        }
        self.alternatives += 1;
        let problem = self.alternatives(schema, value);
        self.alternatives -= 1;
        problem
    }

    fn alternatives<'c>(&mut self, schema: SchemaView<'c>, value: &'c Tree) -> Option<Problem<'c>> {
        if let Some(Tree::Array(all)) = schema.keyword("allOf")
            && let Some(failing) = all.iter().find(|one| self.problem(schema.at(one), value).is_some())
        {
            return Some(Problem::Also(failing));
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(Tree::Array(alternatives)) = schema.keyword(keyword) else { continue };
            let mut fits = |one: &'c Tree| self.problem(schema.at(one), value).is_none();
            if !alternatives.is_empty() && !alternatives.iter().any(&mut fits) {
                return Some(Problem::NoneOf(alternatives));
            }
        }
        None
    }

    fn fields<'c>(&mut self, schema: SchemaView<'c>, fields: &'c Map<String, Tree>) -> Option<Problem<'c>> {
        let required = schema.keyword("required").and_then(Tree::as_array).map_or(&[][..], Vec::as_slice);
        for name in required.iter().filter_map(Tree::as_str) {
            if !self.budget.spend_bytes(name.len()) {
                return None;
            }
            if !fields.contains_key(name) {
                return Some(Problem::Lacks(name));
            }
        }
        let properties = schema.keyword("properties").and_then(Tree::as_object);
        let others = schema.keyword("additionalProperties").filter(|_| schema.keyword("patternProperties").is_none());
        for (name, value) in fields {
            if !self.budget.spend_bytes(name.len()) {
                return None;
            }
            let field = match (properties.and_then(|properties| properties.get(name)), others) {
                (Some(field), _) => field,
                (None, Some(Tree::Bool(false))) => return Some(Problem::Unexpected(name, properties)),
                (None, Some(others)) => others,
                (None, None) => continue,
            };
            if self.problem(schema.at(field), value).is_some() {
                return Some(Problem::Part(Part::Field(name), field, value));
            }
        }
        None
    }

    fn elements<'c>(&mut self, schema: SchemaView<'c>, elements: &'c [Tree]) -> Option<Problem<'c>> {
        let first = schema.keyword("prefixItems").and_then(Tree::as_array).map_or(&[][..], Vec::as_slice);
        let items = schema.keyword("items");
        check_length(schema, ["minItems", "maxItems"], "elements", || elements.len()).or_else(|| {
            elements.iter().enumerate().find_map(|(index, element)| {
                let item = first.get(index).or(items)?;
                let problem = self.problem(schema.at(item), element);
                problem.map(|_| Problem::Part(Part::Element(index), item, element))
            })
        })
    }

    fn text_length<'c>(&self, schema: SchemaView<'c>, text: &str) -> Option<Problem<'c>> {
        let count = || if self.budget.spend_bytes(text.len()) { Some(text.chars().count()) } else { None };
        let is_bounded = ["minLength", "maxLength"].iter().any(|bound| schema.keyword(bound).is_some());
        let length = is_bounded.then(count).flatten()?;
        check_length(schema, ["minLength", "maxLength"], "characters", || length)
    }

    fn of_type<'c>(&self, schema: SchemaView<'c>, value: &Tree) -> Option<Problem<'c>> {
        // Only its own keyword: alternatives are checked one by one.
        let types = match schema.keyword("type")? {
            Tree::String(name) => super::types_named(name),
            Tree::Array(names) if self.budget.spend(names.len()) => {
                super::union(names.iter().filter_map(Tree::as_str).map(super::types_named))
            }
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Array(_) | Tree::Object(_) => return None,
        };
        types.and(type_of(value)).is_empty().then_some(Problem::WrongType)
    }

    /// `enum` and `const`.
    fn check_enum<'c>(&self, schema: SchemaView<'c>, value: &Tree) -> Option<Problem<'c>> {
        let values = match (schema.keyword("enum"), schema.keyword("const")) {
            (Some(Tree::Array(allowed)), _) => allowed.as_slice(),
            (_, Some(only)) => std::slice::from_ref(only),
            (_, None) => return None,
        };
        if !self.budget.spend(values.len()) || values.iter().any(|allowed| self.are_equal(allowed, value)) {
            return None;
        }
        Some(Problem::Unlisted(values))
    }

    /// Whether two values are equal, with numbers by what they mean; also once no step is left to compare them.
    fn are_equal(&self, one: &Tree, other: &Tree) -> bool {
        match (one, other) {
            (Tree::Null, Tree::Null) => true,
            (Tree::Bool(one), Tree::Bool(other)) => one == other,
            (Tree::Number(one), Tree::Number(other)) => {
                one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
            }
            (Tree::String(one), Tree::String(other)) => {
                one.len() == other.len() && (!self.budget.spend_bytes(one.len()) || one == other)
            }
            (Tree::Array(one), Tree::Array(other)) => {
                let mut pairs = one.iter().zip(other);
                one.len() == other.len()
                    && pairs.all(|(one, other)| !self.budget.spend(1) || self.are_equal(one, other))
            }
            (Tree::Object(one), Tree::Object(other)) => {
                let is_field_equal = |(name, value): (&String, &Tree)| {
                    !self.budget.spend_bytes(name.len())
                        || other.get(name).is_some_and(|other| self.are_equal(value, other))
                };
                one.len() == other.len() && one.iter().all(is_field_equal)
            }
            (Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::String(_) | Tree::Array(_) | Tree::Object(_), _) => {
                false
            }
        }
    }

    /// The text about a problem: it follows the problem into the part of the value that it is about.
    fn explain<'c>(
        &mut self,
        mut schema: SchemaView<'c>,
        mut value: &'c Tree,
        mut problem: Problem<'c>,
    ) -> SchemaMismatch {
        let mut at = String::new();
        loop {
            let reason = match problem {
                Problem::Also(failing) => {
                    self.alternatives += 1;
                    schema = schema.at(failing);
                    None
                }
                // The alternatives of the value's type explain the problem best.
                Problem::NoneOf(alternatives) => {
                    let views = alternatives.iter().map(|one| schema.at(one));
                    let mut matching = views.filter(|view| !view.types_by(self.budget).and(type_of(value)).is_empty());
                    match (matching.next(), matching.next()) {
                        (Some(only), None) => {
                            self.alternatives += 1;
                            schema = only;
                            None
                        }
                        (Some(_), Some(_)) => Some("fits none of the forms that it may have".to_owned()),
                        (None, _) => Some(wrong_type(schema, value)),
                    }
                }
                Problem::Part(part, of_part, in_part) => {
                    part.append_to(&mut at);
                    (schema, value) = (schema.at(of_part), in_part);
                    None
                }
                Problem::Forbidden => Some("must not be there".to_owned()),
                Problem::WrongType => Some(wrong_type(schema, value)),
                Problem::Unlisted(values) => {
                    let allowed = listed(values.iter().map(excerpt));
                    Some(format!("is {}, and has to be {allowed}", excerpt(value)))
                }
                Problem::Lacks(name) => Some(format!("lacks {}", quoted(name))),
                Problem::Unexpected(name, known) => {
                    let known = listed(known.into_iter().flat_map(Map::keys).map(|name| quoted(name)));
                    Some(format!("has {}, and may only have {known}", quoted(name)))
                }
                Problem::Length { length, unit, bound } => {
                    Some(format!("has {length} {unit}, and has to have {bound}"))
                }
                Problem::OutOfRange(number, bound) => Some(format!("is {number}, and has to be {bound}")),
            };
            if let Some(reason) = reason {
                return SchemaMismatch::new(&at, reason);
            }
            // It was found before: only the steps may have come to their end.
            match self.problem(schema, value) {
                Some(found) => problem = found,
                None => return SchemaMismatch::new(&at, "does not match its schema"),
            }
        }
    }
}

impl Part<'_> {
    /// Appends it to the path of the value around it.
    fn append_to(self, at: &mut String) {
        match self {
            Self::Field(name) if name.contains(['.', '[', ' ']) => at.push_str(&format!("[{}]", quoted(name))),
            Self::Field(name) => at.push_str(&format!(".{}", shortened(name, MAX_NAME_CHARS))),
            Self::Element(index) => at.push_str(&format!("[{index}]")),
        }
    }
}

impl<N: fmt::Display> fmt::Display for Bound<N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(out, "at least {bound}"),
            Self::AtMost(bound) => write!(out, "at most {bound}"),
            Self::MoreThan(bound) => write!(out, "more than {bound}"),
            Self::LessThan(bound) => write!(out, "less than {bound}"),
        }
    }
}

fn wrong_type(schema: SchemaView<'_>, value: &Tree) -> String {
    let types = schema.types();
    match types.and(type_of(value)).is_empty() {
        true => format!("is {}, and has to be {types}", type_name(value)),
        // Too many alternatives to find all their types.
        false => "fits none of the forms that it may have".to_owned(),
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
        // A text is cut before it is written, since it may be large.
        Tree::String(text) => {
            let start: String = text.chars().take(MAX_QUOTED_CHARS).collect();
            shortened(&Tree::from(start).to_string(), MAX_QUOTED_CHARS)
        }
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => shortened(&value.to_string(), MAX_QUOTED_CHARS),
    }
}

/// The beginning of a text, with a mark where it is cut.
pub(super) fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A name in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("{:?}", shortened(name, MAX_NAME_CHARS))
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

/// The bounds of a length, `minLength` and `maxLength`, or `minItems` and `maxItems`.
fn check_length<'c>(
    schema: SchemaView<'c>,
    [min, max]: [&str; 2],
    unit: &'static str,
    length: impl FnOnce() -> usize,
) -> Option<Problem<'c>> {
    let bound = |name: &str| schema.keyword(name).and_then(Tree::as_u64);
    let (min, max) = (bound(min), bound(max));
    let length = length() as u64;
    let bound = match (min, max) {
        (Some(min), _) if length < min => Bound::AtLeast(min),
        (_, Some(max)) if length > max => Bound::AtMost(max),
        (_, _) => return None,
    };
    Some(Problem::Length { length, unit, bound })
}

/// The bound that a number violates: one of its own, or of the range of an integer `format`.
fn in_range(schema: SchemaView<'_>, number: &Number) -> Option<Bound<f64>> {
    let value = number.as_f64()?;
    let bound = |name: &str| schema.keyword(name).and_then(Tree::as_f64);
    let format_range = schema.keyword("format").and_then(Tree::as_str).and_then(integers);
    let (min, max) = (format_range.map(|range| range.0), format_range.map(|range| range.1));
    let at_least = |min: Option<f64>| min.filter(|min| value < *min).map(Bound::AtLeast);
    let at_most = |max: Option<f64>| max.filter(|max| value > *max).map(Bound::AtMost);
    at_least(bound("minimum"))
        .or_else(|| at_most(bound("maximum")))
        .or_else(|| bound("exclusiveMinimum").filter(|min| value <= *min).map(Bound::MoreThan))
        .or_else(|| bound("exclusiveMaximum").filter(|max| value >= *max).map(Bound::LessThan))
        .or_else(|| at_least(min))
        .or_else(|| at_most(max))
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
