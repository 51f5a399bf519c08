//! Conditions: expressions in CEL, the Common Expression Language, over the values of a run.
//!
//! An expression can neither call out nor run on for long: it has no functions but CEL's own, its loops do not nest, and
//! what it reads is no larger than what stands in records.

#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of the CEL crate are its own, and grow")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use cel::{
    Context,
    common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators},
    objects::Key,
    parser::Parser,
};

use crate::{Size, Value, ValueName};

/// The longest text of a condition, in bytes.
const LONGEST: usize = 1_000;

/// How deep a condition may nest: parsing and evaluating recurse as deep.
const DEEPEST: u16 = 24;

/// How many loops a condition may have.
const MOST_LOOPS: usize = 2;

/// The largest value, in bytes of JSON, that a condition with a loop reads: a loop may search a list for each element of
/// another.
const LARGEST_LOOPED: usize = 4 << 10;

/// A condition: a CEL expression that comes to true or false.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Condition(Arc<str>);

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCondition {
    /// It is too long.
    #[error("it has {length} bytes: {LONGEST} are the most; let a task decide and provide what it decided")]
    TooLong {
        /// How long it is.
        length: usize,
    },
    /// It does not parse.
    #[error("it is not CEL, {reason}: write it like `pan.size > 30 && colour in [\"red\", \"blue\"]`")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// It surely comes to something else than true or false.
    #[error("it comes to {what}, and not to true or false: compare it with something")]
    NotBoolean {
        /// What it comes to.
        what: &'static str,
    },
    /// Its loops could take all memory, or long.
    #[error("its loops do too much: at most {MOST_LOOPS} of them, and no `+` in one: let a task decide")]
    Laborious,
    /// A loop stands in a loop.
    #[error("a loop (all, exists, map, filter) stands in a loop, which could take for ever: let a task decide")]
    NestedLoop,
}

/// Why a condition came to neither true nor false.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("condition `{condition}` {reason}")]
pub struct Undecided {
    condition: Condition,
    reason: String,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`InvalidCondition`] for what does not parse, could take long, or surely is no yes or no.
    pub fn new(text: &str) -> Result<Self, InvalidCondition> {
        if text.len() > LONGEST {
            return Err(InvalidCondition::TooLong { length: text.len() });
        }
        let expression = parse(text)?;
        if loops(&expression) > 1 {
            return Err(InvalidCondition::NestedLoop);
        }
        if joins_in_loop(&expression, &mut Vec::new()) || count_loops(&expression) > MOST_LOOPS {
            return Err(InvalidCondition::Laborious);
        }
        match surely(&expression) {
            Some(what) => Err(InvalidCondition::NotBoolean { what }),
            None => Ok(Self(text.into())),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of the values it reads, each once, in their order.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<String> {
        let mut reads = BTreeSet::new();
        if let Ok(expression) = parse(&self.0) {
            note_reads(&expression, &mut Vec::new(), &mut reads);
        }
        reads
    }

    /// What it comes to over these values; those it does not read may be left out.
    ///
    /// # Errors
    /// [`Undecided`] when a value is missing, too large or of the wrong type, or it comes to no yes or no.
    pub fn evaluate(&self, values: &BTreeMap<ValueName, &Value>) -> Result<bool, Undecided> {
        let undecided = |reason: String| Undecided { condition: self.clone(), reason };
        let expression = parse(&self.0).map_err(|error| undecided(error.to_string()))?;
        let mut context = Context::default();
        let has_loops = loops(&expression) > 0;
        for (name, value) in values {
            if has_loops && value.size() > LARGEST_LOOPED {
                let limit = Size(LARGEST_LOOPED as u64);
                return Err(undecided(format!("has a loop, and reads {name:?}, which is larger than {limit:#}")));
            }
            let value = of_value(value).map_err(|reason| undecided(format!("reads {name:?}, which is {reason}")))?;
            context.add_variable_from_value(name.as_str(), value);
        }
        match context.resolve(&expression) {
            Ok(cel::Value::Bool(answer)) => Ok(answer),
            Ok(other) => Err(undecided(format!("came to {}, and not to true or false", type_name(&other)))),
            Err(error) => Err(undecided(format!("cannot be decided: {}", in_our_words(&error)))),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", &*self.0)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn parse(text: &str) -> Result<IdedExpr, InvalidCondition> {
    Parser::new().max_recursion_depth(DEEPEST).parse(text).map_err(|errors| {
        let first = errors.errors.first();
        let reason = first.map_or_else(|| errors.to_string(), |error| error.msg.clone());
        // All that could have stood there helps nobody.
        let reason = reason.lines().next().unwrap_or_default().split(" expecting ").next().unwrap_or_default();
        InvalidCondition::Syntax { reason: reason.trim_start_matches("Syntax error: ").to_owned() }
    })
}

/// How deep loops nest.
fn loops(expression: &IdedExpr) -> usize {
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            let body = [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result];
            let over = [&comprehension.iter_range, &comprehension.accu_init];
            let deepest = |parts: &[&IdedExpr]| parts.iter().map(|part| loops(part)).max().unwrap_or(0);
            deepest(&over).max(1 + deepest(&body))
        }
        _ => parts(expression).into_iter().map(loops).max().unwrap_or(0),
    }
}

fn count_loops(expression: &IdedExpr) -> usize {
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            let parts = [
                &comprehension.iter_range,
                &comprehension.accu_init,
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ];
            1 + parts.into_iter().map(count_loops).sum::<usize>()
        }
        _ => parts(expression).into_iter().map(count_loops).sum(),
    }
}

/// Whether a loop joins texts or lists, each time anew. What a loop gathers itself is no such join.
fn joins_in_loop<'e>(expression: &'e IdedExpr, gathered: &mut Vec<&'e str>) -> bool {
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            gathered.push(&comprehension.accu_var);
            let body = [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result];
            let joins = body.into_iter().any(|part| joins_in_loop(part, gathered));
            gathered.pop();
            joins
                || [&comprehension.iter_range, &comprehension.accu_init]
                    .into_iter()
                    .any(|part| joins_in_loop(part, gathered))
        }
        Expr::Call(call) if call.func_name == operators::ADD && !gathered.is_empty() => {
            let gathers = matches!(&call.args[..], [first, _] if matches!(&first.expr, Expr::Ident(name) if gathered.contains(&name.as_str())));
            !gathers || call.args.iter().any(|part| joins_in_loop(part, gathered))
        }
        _ => parts(expression).into_iter().any(|part| joins_in_loop(part, gathered)),
    }
}

/// Notes the names that an expression takes from outside.
fn note_reads<'e>(expression: &'e IdedExpr, own: &mut Vec<&'e str>, reads: &mut BTreeSet<String>) {
    match &expression.expr {
        Expr::Ident(name) if !own.contains(&name.as_str()) => drop(reads.insert(name.clone())),
        Expr::Comprehension(comprehension) => {
            note_reads(&comprehension.iter_range, own, reads);
            note_reads(&comprehension.accu_init, own, reads);
            let before = own.len();
            own.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
            own.extend(comprehension.iter_var2.as_deref());
            for part in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
                note_reads(part, own, reads);
            }
            own.truncate(before);
        }
        _ => parts(expression).into_iter().for_each(|part| note_reads(part, own, reads)),
    }
}

/// What an expression that is no loop is made of.
fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| parts_of_entry(&entry.expr)).collect(),
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| parts_of_entry(&entry.expr)).collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Comprehension(_) | Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn parts_of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// What an expression surely comes to, where that is no yes or no.
fn surely(expression: &IdedExpr) -> Option<&'static str> {
    match &expression.expr {
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => None,
            LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Some("a number"),
            LiteralValue::String(_) => Some("a text"),
            LiteralValue::Bytes(_) => Some("bytes"),
            LiteralValue::Null => Some("null"),
        },
        Expr::List(_) => Some("a list"),
        Expr::Map(_) | Expr::Struct(_) => Some("an object"),
        Expr::Call(call) => match call.func_name.as_str() {
            operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO => {
                Some("a number or a text")
            }
            operators::NEGATE | "size" | "int" | "uint" | "double" => Some("a number"),
            "string" => Some("a text"),
            operators::CONDITIONAL => call.args.iter().skip(1).find_map(surely),
            _ => None,
        },
        Expr::Unspecified | Expr::Comprehension(_) | Expr::Ident(_) | Expr::Select(_) => None,
    }
}

/// The value in CEL's types. The error is what it is instead, for people.
fn of_value(value: &Value) -> Result<cel::Value, String> {
    match value {
        Value::Json(json) => Ok(of_json(&json.to_tree())),
        Value::Bytes(bytes) => Ok(cel::Value::Bytes(Arc::new(bytes.to_vec()))),
        Value::Stored(stored) => Err(format!("too large to be read ({:#})", Size(stored.size))),
    }
}

/// Whole numbers are `int` where they fit, so that they compare and add with those an author writes.
fn of_json(tree: &serde_json::Value) -> cel::Value {
    match tree {
        serde_json::Value::Null => cel::Value::Null,
        serde_json::Value::Bool(bool) => cel::Value::Bool(*bool),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => cel::Value::Int(int),
            (None, Some(uint)) => cel::Value::UInt(uint),
            (None, None) => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(elements) => cel::Value::List(Arc::new(elements.iter().map(of_json).collect())),
        serde_json::Value::Object(fields) => {
            let field = |(name, value): (&String, &serde_json::Value)| (Key::from(name.clone()), of_json(value));
            cel::Value::Map(cel::objects::Map { map: Arc::new(fields.iter().map(field).collect()) })
        }
    }
}

fn type_name(value: &cel::Value) -> &'static str {
    match value.type_of() {
        cel::objects::ValueType::Int | cel::objects::ValueType::UInt | cel::objects::ValueType::Float => "a number",
        cel::objects::ValueType::String => "a text",
        cel::objects::ValueType::List => "a list",
        cel::objects::ValueType::Map | cel::objects::ValueType::Struct => "an object",
        cel::objects::ValueType::Null => "null",
        cel::objects::ValueType::Bytes => "bytes",
        cel::objects::ValueType::Bool
        | cel::objects::ValueType::Function
        | cel::objects::ValueType::Duration
        | cel::objects::ValueType::Timestamp
        | cel::objects::ValueType::Opaque => "something else",
    }
}

/// What went wrong, without the values: they may be long.
fn in_our_words(error: &cel::ExecutionError) -> String {
    match error {
        cel::ExecutionError::NoSuchKey(key) => format!("there is no {key:?}"),
        cel::ExecutionError::UndeclaredReference(name) => format!("there is no {name:?}"),
        cel::ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        cel::ExecutionError::ValuesNotComparable(one, other) => {
            format!("{} cannot be compared to {}", type_name(one), type_name(other))
        }
        cel::ExecutionError::UnsupportedBinaryOperator(operator, one, other) => {
            format!("{operator} does not take {} and {}", type_name(one), type_name(other))
        }
        cel::ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".into(),
        cel::ExecutionError::DivisionByZero(_) | cel::ExecutionError::RemainderByZero(_) => "it divides by zero".into(),
        cel::ExecutionError::Overflow(..) => "a number is too large".into(),
        cel::ExecutionError::UnexpectedType { got, want } => format!("{want} was expected, and it is {got}"),
        _ => "its values are not of the types that it takes".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(text: &str, values: &[(&str, &str)]) -> Result<bool, String> {
        let condition = Condition::new(text).map_err(|error| error.to_string())?;
        let values: BTreeMap<ValueName, Value> = values
            .iter()
            .map(|(name, json)| (name.parse().unwrap(), Value::Json(crate::Json::parse(*json).unwrap())))
            .collect();
        let borrowed = values.iter().map(|(name, value)| (name.clone(), value)).collect();
        condition.evaluate(&borrowed).map_err(|error| error.to_string())
    }

    #[test]
    fn a_condition_compares_what_json_holds() {
        let pan = ("pan", r#"{"size": 32, "colour": "red", "price": 9.5, "lids": [1, 2]}"#);
        for (text, answer) in [
            ("pan.size > 30", true),
            ("pan.size + 1 == 33", true),
            ("pan.price < 10.0", true),
            ("pan.colour in ['red', 'blue'] && !(pan.size < 30)", true),
            ("size(pan.lids) == 3", false),
            ("pan.lids.exists(lid, lid > 1)", true),
            ("size(pan.lids.filter(lid, lid > 1)) == 1", true),
            ("pan.lids.map(lid, lid * 2) == [2, 4]", true),
            ("has(pan.handle) && pan.handle", false),
            ("pan['size'] == 32", true),
            ("true", true),
        ] {
            assert_eq!(decide(text, &[pan]), Ok(answer), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_decided_says_why() {
        let pan = ("pan", r#"{"size": "large"}"#);
        for (text, why) in [
            ("pan.size > 30", "condition `pan.size > 30` cannot be decided: "),
            ("pan.weight > 30", "there is no \"weight\""),
            ("lid.size > 30", "there is no \"lid\""),
            ("pan.size", "came to a text, and not to true or false"),
        ] {
            let error = decide(text, &[pan]).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
        let stored = Value::Stored(crate::Stored {
            digest: crate::Digest::from_bytes([1; 32]),
            size: 70_000,
            form: crate::Form::Json,
        });
        let condition = Condition::new("pan.size > 30").unwrap();
        let error = condition.evaluate(&BTreeMap::from([("pan".parse().unwrap(), &stored)])).unwrap_err().to_string();
        assert!(error.contains("reads \"pan\", which is too large to be read"), "{error}");
    }

    #[test]
    fn what_is_no_condition_is_refused_before_it_is_asked() {
        for (text, why) in [
            ("pan.size >", "it is not CEL, "),
            ("", "it is not CEL, "),
            ("3", "it comes to a number"),
            ("pan.size + 1", "it comes to a number or a text"),
            ("'yes'", "it comes to a text"),
            ("pan ? 1 : 2", "it comes to a number"),
            ("[1]", "it comes to a list"),
            ("a.all(x, a.all(y, x == y))", "a loop (all, exists, map, filter) stands in a loop"),
            ("size(a.map(x, a.filter(y, x == y))) > 1", "a loop"),
            ("size(a.map(x, a + a)) > 1", "its loops do too much"),
            ("a.exists(x, x in a) && a.exists(x, x > 1) && a.exists(x, x > 2)", "its loops do too much"),
        ] {
            let error = decide(text, &[]).expect_err(text);
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_condition_made_to_break_the_parser_is_refused() {
        let deep = ["(".repeat(400) + "true" + &")".repeat(400), "[".repeat(450), "-".repeat(999)];
        for text in deep.iter().chain(&["a".repeat(1_001)]) {
            assert!(Condition::new(text).is_err(), "{} bytes", text.len());
        }
        for text in [
            "a".to_owned() + &" + 1".repeat(240) + " > 0",
            "a".to_owned() + &".b".repeat(450) + " == 1",
            "!".repeat(999) + "a",
        ] {
            // Whatever becomes of it, nothing is torn down.
            let _ = decide(&text, &[("a", "1")]);
        }
        let chained = "a ? true : ".repeat(80) + "false";
        let _ = decide(&chained, &[("a", "true")]);
    }

    #[test]
    fn a_condition_says_what_it_reads() {
        let condition = Condition::new("pan.lids.all(lid, lid > least) && pan.size > 3").unwrap();
        assert_eq!(condition.reads(), ["least".to_owned(), "pan".to_owned()].into());
    }
}
