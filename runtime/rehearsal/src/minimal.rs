//! A small value that matches a JSON schema: it stands for the result of a task in a rehearsal.
//!
//! The search has a bound, in what it looks at and in the size of what it finds: a schema may refer to itself. A schema states a value itself with `enum`, `const`, `default` or `examples`, in this order of preference. Otherwise the value
//! is the least one of its first type: 0, an empty text, a list of as few elements as allowed, an object with its required
//! fields. [`flow::Schema`] has the last word: a value that it refuses is not used.

use std::collections::BTreeMap;

use flow::{Json, Schema, Value};
use serde_json::{Map, Number, Value as Tree};

/// The maximum nesting of a value: a schema may require itself.
const MAX_DEPTH: usize = 24;

/// The maximum number of schemas that are visited for one value: each may have several that refer to it.
const MAX_VISITS: usize = 10_000;

/// The maximum size of a value in bytes, and of all that is tried for it.
const MAX_BYTES: usize = 16 << 10;

/// About the size of a value beside its text, in bytes.
const BYTES_PER_VALUE: usize = 8;

/// The maximum length of a reference, in bytes.
const MAX_REFERENCE_BYTES: usize = 1_024;

/// The maximum number of names in a `type`, of which there are seven.
const MAX_TYPES: usize = 16;

/// The maximum number of schemas for which a value is sought: each takes some milliseconds at most.
const MAX_SCHEMAS: usize = 10_000;

/// The maximum length of a list or a text that a schema may want.
const MAX_LENGTH: u64 = 1_000;

/// The number of elements of a list that a task is called for, where its schema allows this number.
const LIST_LENGTH: u64 = 2;

/// The values that were found for schemas. Tasks share the text of a schema, whose address tells it from others.
#[derive(Default)]
pub(crate) struct MinimalValues(BTreeMap<(*const u8, Shape), Option<Json>>);

/// What is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Any,
    /// A list, with two elements if the schema allows that.
    List,
}

impl MinimalValues {
    /// A small value that matches a schema; `None` if none is found.
    pub(crate) fn value(&mut self, schema: &Json) -> Option<Json> {
        self.find(schema, Shape::Any)
    }

    /// A list that matches a schema, with two elements if the schema allows that; `None` if none is found.
    pub(crate) fn list(&mut self, schema: &Json) -> Option<Json> {
        self.find(schema, Shape::List)
    }

    fn find(&mut self, schema: &Json, shape: Shape) -> Option<Json> {
        let key = (schema.as_str().as_ptr(), shape);
        if let Some(found) = self.0.get(&key) {
            return found.clone();
        }
        if self.0.len() >= MAX_SCHEMAS {
            return None;
        }
        let found = find(schema, shape);
        self.0.insert(key, found.clone());
        found
    }
}

fn find(schema: &Json, shape: Shape) -> Option<Json> {
    let tree = schema.to_tree().ok()?;
    let mut finder = Finder {
        root: &tree,
        node: &tree,
        visits: 0,
        bytes_left: MAX_BYTES,
        lists_have_elements: shape == Shape::List,
    };
    let value = finder.value(0).filter(|value| shape == Shape::Any || value.is_array())?;
    Schema::new(schema).quick_mismatch(&Value::json(&value)).is_none().then(|| Json::from(&value))
}

/// The search for a value of a schema.
struct Finder<'s> {
    root: &'s Tree,
    node: &'s Tree,
    visits: usize,
    /// The size that values may still have.
    bytes_left: usize,
    /// Whether the outermost list gets elements that it need not have.
    lists_have_elements: bool,
}

impl<'s> Finder<'s> {
    /// Takes some of the size that values may have; `None` if there is not as much.
    fn spend(&mut self, bytes: usize) -> Option<()> {
        self.bytes_left = self.bytes_left.checked_sub(bytes)?;
        Some(())
    }

    /// The value of another schema in the same document.
    fn value_of(&mut self, node: &'s Tree, depth: usize) -> Option<Tree> {
        let before = std::mem::replace(&mut self.node, node);
        let value = self.value(depth);
        self.node = before;
        value
    }

    fn value(&mut self, depth: usize) -> Option<Tree> {
        self.visits += 1;
        if depth > MAX_DEPTH || self.visits > MAX_VISITS {
            return None;
        }
        self.spend(BYTES_PER_VALUE)?;
        let schema = match self.node {
            Tree::Bool(false) => return None,
            Tree::Object(schema) => schema,
            Tree::Bool(true) | Tree::Null | Tree::Number(_) | Tree::String(_) | Tree::Array(_) => {
                return Some(Tree::Null);
            }
        };
        if let Some(stated) = stated(schema)
            && !(self.lists_have_elements && stated.as_array().is_some_and(Vec::is_empty))
        {
            self.bytes_left = left_after(stated, self.bytes_left)?;
            return Some(stated.clone());
        }
        if let Some(pointer) = schema.get("$ref").and_then(Tree::as_str) {
            let pointer = pointer.strip_prefix('#').filter(|pointer| pointer.len() <= MAX_REFERENCE_BYTES)?;
            let target = self.root.pointer(pointer)?;
            return self.value_of(target, depth + 1);
        }
        for either in ["anyOf", "oneOf"] {
            if let Some(Tree::Array(alternatives)) = schema.get(either) {
                return self.first_alternative(schema, alternatives, depth);
            }
        }
        if let Some(Tree::Array(all)) = schema.get("allOf") {
            return self.all_of(schema, all, depth);
        }
        self.typed(schema, depth)
    }

    /// The value of the first alternative that has one. Fields of the schema itself are added.
    fn first_alternative(
        &mut self,
        schema: &'s Map<String, Tree>,
        alternatives: &'s [Tree],
        depth: usize,
    ) -> Option<Tree> {
        let needs_list = self.lists_have_elements;
        for alternative in alternatives {
            self.lists_have_elements = needs_list;
            let value = self.value_of(alternative, depth + 1);
            if let Some(value) = value.filter(|value| !needs_list || value.is_array()) {
                return self.with_own_fields(schema, value, depth);
            }
        }
        None
    }

    /// The value that all schemas describe together: their fields, or the value of the first that states more than nothing.
    fn all_of(&mut self, schema: &'s Map<String, Tree>, all: &'s [Tree], depth: usize) -> Option<Tree> {
        let mut fields = Map::new();
        let mut first = Tree::Null;
        for one in all {
            match self.value_of(one, depth + 1)? {
                Tree::Object(more) => fields.extend(more),
                Tree::Null => {}
                value @ (Tree::Bool(_) | Tree::Number(_) | Tree::String(_) | Tree::Array(_)) => first = value,
            }
        }
        let value = if fields.is_empty() { first } else { Tree::Object(fields) };
        self.with_own_fields(schema, value, depth)
    }

    fn with_own_fields(&mut self, schema: &'s Map<String, Tree>, value: Tree, depth: usize) -> Option<Tree> {
        let Tree::Object(mut fields) = value else { return Some(value) };
        fields.extend(self.fields(schema, depth)?);
        Some(Tree::Object(fields))
    }

    fn typed(&mut self, schema: &'s Map<String, Tree>, depth: usize) -> Option<Tree> {
        let names: Vec<&str> = match schema.get("type") {
            Some(Tree::String(name)) => vec![name],
            Some(Tree::Array(names)) => names.iter().take(MAX_TYPES).filter_map(Tree::as_str).collect(),
            Some(_) | None => vec![implied_type(schema)],
        };
        let has_list = self.lists_have_elements && names.contains(&"array");
        let name = if has_list { "array" } else { names.first().copied()? };
        match name {
            "boolean" => Some(Tree::Bool(false)),
            "integer" => least_integer(schema).map(Tree::from),
            "number" => least_number(schema),
            "string" => {
                let text = text(schema)?;
                self.spend(text.len())?;
                Some(Tree::from(text))
            }
            "array" => self.list(schema, depth),
            "object" => self.fields(schema, depth).map(Tree::Object),
            _ => Some(Tree::Null),
        }
    }

    /// The required fields of an object.
    fn fields(&mut self, schema: &'s Map<String, Tree>, depth: usize) -> Option<Map<String, Tree>> {
        let required = schema.get("required").and_then(Tree::as_array).map_or(&[][..], Vec::as_slice);
        let properties = schema.get("properties").and_then(Tree::as_object);
        let mut fields = Map::new();
        for name in required.iter().filter_map(Tree::as_str) {
            self.spend(BYTES_PER_VALUE + name.len())?;
            let value = match properties.and_then(|properties| properties.get(name)) {
                Some(field) => {
                    let wanted = std::mem::take(&mut self.lists_have_elements);
                    let value = self.value_of(field, depth + 1);
                    self.lists_have_elements = wanted;
                    value?
                }
                None => Tree::Null,
            };
            fields.insert(name.into(), value);
        }
        Some(fields)
    }

    fn list(&mut self, schema: &'s Map<String, Tree>, depth: usize) -> Option<Tree> {
        let bound = |name: &str| schema.get(name).and_then(Tree::as_u64);
        let (min, max) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(u64::MAX));
        let wanted = if std::mem::take(&mut self.lists_have_elements) { LIST_LENGTH } else { 0 };
        let length = usize::try_from(wanted.min(max).max(min)).ok().filter(|length| *length as u64 <= MAX_LENGTH)?;
        let first = schema.get("prefixItems").and_then(Tree::as_array).map_or(&[][..], Vec::as_slice);
        let items = schema.get("items");
        let mut elements = Vec::new();
        for index in 0..length {
            self.spend(BYTES_PER_VALUE)?;
            elements.push(match first.get(index).or(items) {
                Some(item) => self.value_of(item, depth + 1)?,
                None => Tree::Null,
            });
        }
        Some(Tree::Array(elements))
    }
}

/// The value that a schema states itself.
fn stated(schema: &Map<String, Tree>) -> Option<&Tree> {
    let first = |name: &str| schema.get(name)?.as_array()?.first();
    let by_keyword = [first("enum"), schema.get("const"), schema.get("default"), first("examples")];
    by_keyword.into_iter().flatten().next()
}

/// What is left of some bytes after a value has taken its size of them; `None` if it is larger.
fn left_after(value: &Tree, left: usize) -> Option<usize> {
    match value {
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => left.checked_sub(BYTES_PER_VALUE),
        Tree::String(text) => left.checked_sub(BYTES_PER_VALUE + text.len()),
        Tree::Array(elements) => {
            let left = left.checked_sub(BYTES_PER_VALUE)?;
            elements.iter().try_fold(left, |left, element| left_after(element, left))
        }
        Tree::Object(fields) => {
            let left = left.checked_sub(BYTES_PER_VALUE)?;
            fields.iter().try_fold(left, |left, (name, value)| left_after(value, left.checked_sub(name.len())?))
        }
    }
}

/// The type that the keywords of a schema without `type` are about.
fn implied_type(schema: &Map<String, Tree>) -> &'static str {
    let has = |names: &[&str]| names.iter().any(|name| schema.contains_key(*name));
    if has(&["properties", "required"]) {
        "object"
    } else if has(&["items", "prefixItems", "minItems"]) {
        "array"
    } else if has(&["minLength", "pattern"]) {
        "string"
    } else if has(&["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"]) {
        "number"
    } else {
        "null"
    }
}

/// The whole number within the bounds that is nearest to 0.
fn least_integer(schema: &Map<String, Tree>) -> Option<i64> {
    let bound = |name: &str| schema.get(name).and_then(Tree::as_f64);
    let above = |name: &str| bound(name).map(|min| min.floor() + 1.0);
    let below = |name: &str| bound(name).map(|max| max.ceil() - 1.0);
    let min =
        [bound("minimum").map(f64::ceil), above("exclusiveMinimum")].into_iter().flatten().fold(f64::MIN, f64::max);
    let max =
        [bound("maximum").map(f64::floor), below("exclusiveMaximum")].into_iter().flatten().fold(f64::MAX, f64::min);
    let step = bound("multipleOf").filter(|step| *step > 0.0).unwrap_or(1.0);
    let nearest = 0.0_f64.max(min).min(max);
    let value = if nearest >= 0.0 { (nearest / step).ceil() * step } else { (nearest / step).floor() * step };
    // Beyond this a double does not represent each whole number.
    let is_exact = value.abs() <= 9_007_199_254_740_992.0 && value.fract() == 0.0 && min <= max;
    is_exact.then_some(value as i64)
}

/// The number within the bounds that is nearest to 0.
fn least_number(schema: &Map<String, Tree>) -> Option<Tree> {
    if let Some(whole) = least_integer(schema) {
        return Some(whole.into());
    }
    // No whole number is within the bounds: the middle of them is.
    let bound = |name: &str| schema.get(name).and_then(Tree::as_f64);
    let min = bound("minimum").or(bound("exclusiveMinimum"))?;
    let max = bound("maximum").or(bound("exclusiveMaximum"))?;
    Number::from_f64(f64::midpoint(min, max)).map(Tree::Number)
}

fn text(schema: &Map<String, Tree>) -> Option<String> {
    match schema.get("format").and_then(Tree::as_str) {
        Some("date-time") => return Some("1970-01-01T00:00:00Z".into()),
        Some("date") => return Some("1970-01-01".into()),
        Some("uuid") => return Some("00000000-0000-0000-0000-000000000000".into()),
        Some(_) | None => {}
    }
    let min = schema.get("minLength").and_then(Tree::as_u64).unwrap_or(0);
    (min <= MAX_LENGTH).then(|| "x".repeat(usize::try_from(min).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    #[track_caller]
    fn check(schema: &str, expected: Option<&str>) {
        let found = MinimalValues::default().value(&json(schema));
        assert_eq!(found.as_ref().map(Json::as_str), expected, "{schema}");
    }

    #[test]
    fn a_value_that_the_schema_states_comes_first() {
        check(r#"{"enum": ["b", "a"], "default": "a"}"#, Some(r#""b""#));
        check(r#"{"const": 7, "default": 8}"#, Some("7"));
        check(r#"{"type": "integer", "default": 5, "examples": [6]}"#, Some("5"));
        check(r#"{"type": "integer", "examples": [6]}"#, Some("6"));
    }

    #[test]
    fn the_least_value_of_a_type_honours_its_bounds() {
        for (schema, expected) in [
            (r#"{"type": "boolean"}"#, "false"),
            (r#"{"type": "null"}"#, "null"),
            (r#"{"type": "string"}"#, r#""""#),
            (r#"{"type": "string", "minLength": 3}"#, r#""xxx""#),
            (r#"{"type": "string", "format": "date-time"}"#, r#""1970-01-01T00:00:00Z""#),
            (r#"{"type": "integer"}"#, "0"),
            (r#"{"type": "integer", "minimum": 3}"#, "3"),
            (r#"{"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5}"#, "5"),
            (r#"{"type": "integer", "maximum": -2}"#, "-2"),
            (r#"{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}"#, "0.5"),
            (r#"{"type": ["string", "null"]}"#, r#""""#),
            (r#"{"minItems": 2, "items": {"type": "boolean"}}"#, "[false,false]"),
            (r#"{"prefixItems": [{"type": "string"}], "minItems": 2}"#, r#"["",null]"#),
            ("{}", "null"),
            ("true", "null"),
        ] {
            check(schema, Some(expected));
        }
    }

    #[test]
    fn an_object_has_its_required_fields() {
        check(
            r##"{"type": "object", "required": ["size", "shape"], "properties": {
                "size": {"$ref": "#/$defs/Size"}, "shape": {"oneOf": [{"const": "round"}, {"const": "square"}]}, "colour": {"type": "string"}
            }, "$defs": {"Size": {"type": "integer", "minimum": 1}}}"##,
            Some(r#"{"shape":"round","size":1}"#),
        );
        check(
            r#"{"allOf": [{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}},
                {"type": "object", "required": ["b"]}], "required": ["c"]}"#,
            Some(r#"{"a":0,"b":null,"c":null}"#),
        );
        check(
            r#"{"required": ["kind"], "properties": {"kind": {"const": "x"}},
                "anyOf": [{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}]}"#,
            Some(r#"{"kind":"x","n":0}"#),
        );
    }

    #[test]
    fn a_schema_without_a_small_value_has_none() {
        check("false", None);
        check(r#"{"type": "integer", "minimum": 5, "maximum": 4}"#, None);
        check(r#"{"type": "array", "minItems": 1000000}"#, None);
        check(r#"{"type": "array", "minItems": 18446744073709551615}"#, None);
        check(r##"{"$ref": "#/nowhere"}"##, None);
        check(r##"{"$ref": "#"}"##, None);
        check(r##"{"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}"##, None);
        // Each level has two of the next one.
        check(
            r##"{"type": "object", "required": ["a", "b"], "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}"##,
            None,
        );
    }

    #[test]
    fn a_list_for_calls_has_two_elements_where_it_may() {
        let list = |schema: &str| MinimalValues::default().list(&json(schema)).map(|list| list.as_str().to_owned());
        let integers = r#""type": "array", "items": {"type": "integer"}"#;
        assert_eq!(list(&format!("{{{integers}}}")).unwrap(), "[0,0]");
        assert_eq!(list(&format!("{{{integers}, \"maxItems\": 1}}")).unwrap(), "[0]");
        assert_eq!(list(&format!("{{{integers}, \"minItems\": 3}}")).unwrap(), "[0,0,0]");
        assert_eq!(list(&format!("{{{integers}, \"default\": []}}")).unwrap(), "[0,0]");
        assert_eq!(list(r#"{"type": ["null", "array"]}"#).unwrap(), "[null,null]");
        let nested = r#"{"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}"#;
        assert_eq!(list(nested).unwrap(), "[[],[]]", "only the list itself needs elements");
        assert_eq!(list(r#"{"type": "integer"}"#), None);
        assert_eq!(list("true"), None);
    }

    #[test]
    fn a_value_that_takes_much_memory_is_not_found() {
        let large = "x".repeat(1 << 20);
        check(&format!("{{\"const\": \"{large}\"}}"), None);
        check(&format!("{{\"type\": \"object\", \"required\": [\"{large}\"]}}"), None);
        // A small text many times, and lists of lists of nothing.
        let small = "x".repeat(900);
        check(&format!("{{\"minItems\": 1000, \"items\": {{\"default\": \"{small}\"}}}}"), None);
        check(r#"{"minItems": 1000, "items": {"minItems": 1000}}"#, None);
        check(&format!("{{\"$ref\": \"#/{large}\"}}"), None);
    }

    #[test]
    fn a_schema_is_searched_once_for_all_tasks() {
        let (schema, mut values) = (json(r#"{"minimum": 3}"#), MinimalValues::default());
        assert_eq!(values.value(&schema), values.value(&schema.clone()));
        assert_eq!((values.list(&schema), values.0.len()), (None, 2));
    }
}
