//! Conditions: expressions in CEL, the Common Expression Language, over the values of a run.
//!
//! An expression can neither call out nor run for long: it has no functions but CEL's own, its loops do not nest, the values
//! it reads fit into records, and its evaluation must fit into a budget.

mod convert;
mod complexity;
mod cost;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use cel::{Context, common::ast::IdedExpr, parser::Parser};

pub use self::cost::EvaluationBudget;
use self::types::{Checker, ENVIRONMENT};
pub(crate) use self::types::{Finding, StaticType};
use crate::{Size, Value, ValueName, value_types::ValueType};

/// The maximum length of a condition, in bytes.
const MAX_LEN: usize = 1_000;

/// The maximum nesting depth of a condition: parsing and evaluation recurse this deep.
const MAX_DEPTH: u16 = 24;

/// The maximum number of loops in a condition.
const MAX_LOOPS: usize = 2;

/// The largest value, in bytes of JSON, that a condition with a loop reads: a loop may search a list for each element of
/// another.
const MAX_LOOP_INPUT_BYTES: usize = 4 << 10;

/// A condition: a CEL expression that evaluates to true or false.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Condition(Arc<str>);

/// Why a text is not a valid condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCondition {
    /// The text is too long.
    #[error("it has {length} bytes: {MAX_LEN} are the most; let a task decide and provide what it decided")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The text does not parse.
    #[error("it is not CEL, {reason}: write it like `pan.size > 30 && colour in [\"red\", \"blue\"]`")]
    Syntax {
        /// The parser's message.
        reason: String,
    },
    /// It surely evaluates to something other than true or false.
    #[error("it yields {what}, and not true or false: compare it with something")]
    NotBoolean {
        /// Its result.
        what: String,
    },
    /// CEL would refuse it at every evaluation.
    #[error("it {what}: {hint}")]
    AlwaysFails {
        /// The refused operation.
        what: String,
        /// The correct form.
        hint: String,
    },
    /// Its loops could use all memory, or take too long.
    #[error("its loops do too much: at most {MAX_LOOPS} of them, and no `+` in one: let a task decide")]
    TooExpensive,
    /// It contains a nested loop.
    #[error("loops (all, exists, map, filter) must not be nested: let a task decide")]
    NestedLoop,
    /// A loop searches another value for each element, which is a nested loop too.
    #[error(
        "a loop must not search another value for each of its elements, as `{operation}` does: search its own element, or \
         a list or text written in the condition; else let a task decide"
    )]
    SearchInLoop {
        /// The operation.
        operation: String,
    },
}

/// Why a condition evaluated to neither true nor false.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("condition `{condition}` {reason}")]
pub struct EvaluationError {
    condition: Condition,
    reason: String,
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// [`InvalidCondition`] for a text that does not parse, could take too long, calls a function unknown to CEL, or surely
    /// yields no boolean.
    pub fn new(text: &str) -> Result<Self, InvalidCondition> {
        let expression = parse_bounded(text)?;
        if let Some(operation) = complexity::find_search_in_loop(&expression) {
            return Err(InvalidCondition::SearchInLoop { operation });
        }
        let mut checker = Checker::new([]);
        let types = checker.check(&expression).types;
        if let Some(Finding { message, hint, .. }) = checker.findings.into_iter().find(|finding| finding.is_error) {
            return Err(InvalidCondition::AlwaysFails { what: message, hint });
        }
        if !types.has(ValueType::Bool) && !types.has(ValueType::Other) {
            return Err(InvalidCondition::NotBoolean { what: types.to_string() });
        }
        Ok(Self(text.into()))
    }

    /// A condition from a record. It was parsed before it was recorded, and parsing it costs the more, the more conditions a
    /// flow has; so only its evaluation parses it again, and fails if newer rules refuse it.
    ///
    /// # Errors
    /// [`InvalidCondition`] for a text that is too long.
    pub fn from_record(text: &str) -> Result<Self, InvalidCondition> {
        if text.len() > MAX_LEN {
            return Err(InvalidCondition::TooLong { length: text.len() });
        }
        Ok(Self(text.into()))
    }

    /// Checks the condition against the known types of the values that it reads.
    pub(crate) fn check<'s>(&self, reads: impl IntoIterator<Item = (String, StaticType<'s>)>) -> Vec<Finding> {
        let Ok(expression) = parse(&self.0) else { return Vec::new() };
        let mut checker = Checker::new(reads);
        checker.check(&expression);
        checker.findings
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of the values it reads, each once, in their order of names.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        if let Ok(expression) = parse(&self.0) {
            complexity::collect_variables(&expression, &mut Vec::new(), &mut names);
        }
        names
    }

    /// Evaluates one condition by itself, as [`Condition::evaluate_within`] does with a budget of its own.
    ///
    /// # Errors
    /// As [`Condition::evaluate_within`].
    pub fn evaluate(&self, values: &BTreeMap<ValueName, &Value>) -> Result<bool, EvaluationError> {
        self.evaluate_within(values, &mut EvaluationBudget::default())
    }

    /// Evaluates the condition over these values; values that it does not read may be omitted. Its cost is taken from the
    /// budget first.
    ///
    /// # Errors
    /// [`EvaluationError`] when a value is missing, too large or of the wrong type, when the budget is too small, or the
    /// result is not a boolean.
    pub fn evaluate_within(
        &self,
        values: &BTreeMap<ValueName, &Value>,
        budget: &mut EvaluationBudget,
    ) -> Result<bool, EvaluationError> {
        let failed = |reason: String| EvaluationError { condition: self.clone(), reason };
        budget.charge(cost::PARSER_COST * self.0.len() as u64).map_err(failed)?;
        let expression = parse_bounded(&self.0).map_err(|error| failed(format!("cannot be decided: {error}")))?;
        if complexity::loops(&expression) > 0
            && let Some((name, _)) = values.iter().find(|(_, value)| value.size() > MAX_LOOP_INPUT_BYTES)
        {
            let limit = Size(MAX_LOOP_INPUT_BYTES as u64);
            return Err(failed(format!("has a loop, and reads {name:?}, which is larger than {limit:#}")));
        }
        budget.charge(cost::estimate(&expression, values)).map_err(failed)?;
        let mut context = Context::with_env(ENVIRONMENT.clone());
        for (name, value) in values {
            let value =
                convert::of_value(value).map_err(|reason| failed(format!("reads {name:?}, which is {reason}")))?;
            context.add_variable_from_value(name.as_str(), value);
        }
        match context.resolve(&expression) {
            Ok(cel::Value::Bool(result)) => Ok(result),
            Ok(other) => Err(failed(format!("yielded {}, and not true or false", convert::type_name(&other)))),
            Err(error) => Err(failed(format!("cannot be decided: {}", convert::error_message(&error)))),
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

/// Parses an expression that is cheap to parse and evaluate.
fn parse_bounded(text: &str) -> Result<IdedExpr, InvalidCondition> {
    if text.len() > MAX_LEN {
        return Err(InvalidCondition::TooLong { length: text.len() });
    }
    let expression = parse(text)?;
    if complexity::loops(&expression) > 1 {
        return Err(InvalidCondition::NestedLoop);
    }
    if complexity::concatenates_in_loop(&expression, &mut Vec::new())
        || complexity::count_loops(&expression) > MAX_LOOPS
    {
        return Err(InvalidCondition::TooExpensive);
    }
    Ok(expression)
}

fn parse(text: &str) -> Result<IdedExpr, InvalidCondition> {
    Parser::new().max_recursion_depth(MAX_DEPTH).parse(text).map_err(|errors| {
        let first = errors.errors.first();
        let reason = first.map_or_else(|| errors.to_string(), |error| error.msg.clone());
        // The parser's list of expected tokens is too long to help.
        let reason = reason.lines().next().unwrap_or_default().split(" expecting ").next().unwrap_or_default();
        InvalidCondition::Syntax { reason: reason.trim_start_matches("Syntax error: ").to_owned() }
    })
}

#[cfg(test)]
mod tests;
