//! The cost of an evaluation, estimated from above before it happens, and the budget that the cost must fit into.
//!
//! Every operation of CEL takes time linear in the sizes of its operands, and loops do not nest. So the cost of one iteration
//! is linear in the size of its element, and an estimate for an element of weight 1, times the weight of the whole list,
//! bounds the cost of all iterations.

use std::collections::BTreeMap;

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

use super::complexity;
use crate::{Value, ValueName};

/// CEL compares, searches and copies this many bytes of a text in less time than one element of a list.
const BYTES_PER_UNIT: usize = 32;

/// The cost of parsing a condition, for each of its bytes.
pub(super) const PARSER_COST: u64 = 20;

/// What it costs to find out that a condition does not fit into a budget: its values are read for that.
const REFUSAL_COST: u64 = 10_000;

/// The fields of a path that CEL tries as one qualified name in the time of one unit.
const FIELDS_PER_UNIT: u64 = 16;

/// The budget of conditions that are evaluated together, for example those of all links into a node: about 100 ms of CPU time
/// in all. A condition is charged before its evaluation, by the sizes of its text and values and never by a clock. So the
/// same conditions over the same values always fit, or never.
#[derive(Debug)]
pub struct EvaluationBudget {
    remaining: u64,
    /// The number of conditions that did not fit.
    refused: u64,
}

impl Default for EvaluationBudget {
    fn default() -> Self {
        Self { remaining: Self::MAX_COST, refused: 0 }
    }
}

impl EvaluationBudget {
    /// The cost of conditions that the budget has room for. One unit is the visit of one node of an expression, or of one
    /// element of a value: about 0.1 µs.
    pub const MAX_COST: u64 = 1_000_000;

    /// What the evaluations so far have cost.
    #[must_use]
    pub fn spent(&self) -> u64 {
        (Self::MAX_COST - self.remaining).saturating_add(self.refused.saturating_mul(REFUSAL_COST))
    }

    /// Takes a cost from the budget.
    ///
    /// # Errors
    /// The reason, a fragment whose subject is the condition, if the budget is too small: then its room stays as it is.
    pub(super) fn charge(&mut self, cost: u64) -> Result<(), String> {
        match self.remaining.checked_sub(cost) {
            Some(remaining) => {
                self.remaining = remaining;
                Ok(())
            }
            None => {
                self.refused += 1;
                Err(format!(
                    "would take too long: it takes up to {cost} steps, and {} of the {} for all conditions of its target are \
                     left; let it read shorter lists, put fewer conditions on links to the target, or let a task decide",
                    self.remaining,
                    Self::MAX_COST
                ))
            }
        }
    }
}

/// The elements of a value at any depth, and a unit for each few bytes. It counts the separators of JSON, and therefore may
/// count too many, but never too few.
fn weight_of(value: &Value) -> u64 {
    let elements = match value {
        Value::Json(json) => json.as_str().bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{' | b':')).count(),
        Value::Bytes(_) | Value::Stored(_) => 0,
    };
    weight_of_text(value.size()) + elements as u64
}

fn weight_of_text(bytes: usize) -> u64 {
    1 + (bytes / BYTES_PER_UNIT) as u64
}

/// The cost of the evaluation of an expression over these values.
pub(super) fn estimate(expression: &IdedExpr, values: &BTreeMap<ValueName, &Value>) -> u64 {
    let weights: BTreeMap<&str, u64> = values.iter().map(|(name, value)| (name.as_str(), weight_of(value))).collect();
    let conversion: u64 = weights.values().sum();
    let estimate = Estimator { weights, bound: Vec::new() }.expression(expression);
    // CEL copies the result.
    conversion.saturating_add(estimate.cost).saturating_add(estimate.weight)
}

/// The estimate for an expression: the cost of its evaluation, and the weight of its result.
#[derive(Clone, Copy)]
struct Estimate {
    cost: u64,
    weight: u64,
}

impl Estimate {
    /// A result of one element, such as a number or a boolean.
    fn scalar(cost: u64) -> Self {
        Self { cost, weight: 1 }
    }
}

struct Estimator<'e> {
    /// The weights of the values that the expression reads.
    weights: BTreeMap<&'e str, u64>,
    /// The variables of the loop around the expression, and their weights.
    bound: Vec<(&'e str, u64)>,
}

impl<'e> Estimator<'e> {
    /// The parser bounds the nesting of expressions, and therefore this recursion.
    fn expression(&mut self, expression: &'e IdedExpr) -> Estimate {
        match &expression.expr {
            Expr::Literal(LiteralValue::String(text)) => {
                Estimate { cost: 1, weight: weight_of_text(text.inner().len()) }
            }
            Expr::Literal(LiteralValue::Bytes(bytes)) => {
                Estimate { cost: 1, weight: weight_of_text(bytes.inner().len()) }
            }
            Expr::Literal(_) | Expr::Unspecified => Estimate::scalar(1),
            Expr::Ident(name) => Estimate { cost: 1, weight: self.weight_of_variable(name) },
            Expr::Select(_) => self.path(expression),
            Expr::Call(call) => self.call(call, expression),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => {
                // The elements are copied.
                let (cost, weight) = self.sum(expression);
                Estimate { cost: cost.saturating_add(weight).saturating_add(1), weight: weight.saturating_add(1) }
            }
        }
    }

    fn weight_of_variable(&self, name: &str) -> u64 {
        let bound = self.bound.iter().rev().find(|(bound, _)| *bound == name).map(|(_, weight)| *weight);
        // A name with a dot before it is the same value. Without a value, the evaluation fails.
        bound.or_else(|| self.weights.get(name.trim_start_matches('.')).copied()).unwrap_or(1)
    }

    /// A chain of fields, `a.b.c`. CEL tries each beginning of the chain as a name.
    fn path(&mut self, expression: &'e IdedExpr) -> Estimate {
        let (mut base, mut fields) = (expression, 0_u64);
        while let Expr::Select(select) = &base.expr {
            base = &select.operand;
            fields += 1;
        }
        let operand = self.expression(base);
        let cost = operand.cost.saturating_add(fields + fields * fields / FIELDS_PER_UNIT);
        Estimate { cost, weight: operand.weight }
    }

    /// The sums of costs and of weights of the parts.
    fn sum(&mut self, expression: &'e IdedExpr) -> (u64, u64) {
        complexity::parts(expression).into_iter().fold((0, 0), |(cost, weight), part| {
            let estimate = self.expression(part);
            (estimate.cost.saturating_add(cost), estimate.weight.saturating_add(weight))
        })
    }

    fn call(&mut self, call: &'e CallExpr, expression: &'e IdedExpr) -> Estimate {
        match (call.func_name.as_str(), &call.args[..]) {
            (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => {
                let (one, other) = (self.expression(one), self.expression(other));
                let cost = one.cost.saturating_add(other.cost);
                Estimate::scalar(cost.saturating_add(one.weight.min(other.weight)).saturating_add(1))
            }
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let (condition, yes, no) = (self.expression(condition), self.expression(yes), self.expression(no));
                let cost = condition.cost.saturating_add(yes.cost).saturating_add(no.cost).saturating_add(1);
                Estimate { cost, weight: yes.weight.max(no.weight) }
            }
            (
                operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE,
                _,
            ) => Estimate::scalar(self.sum(expression).0.saturating_add(1)),
            (name, _) => {
                // Functions read their operands and may copy them, and so do their errors.
                let (cost, weight) = self.sum(expression);
                let cost = cost.saturating_add(weight).saturating_add(1);
                Estimate { cost, weight: if returns_scalar(name) { 1 } else { weight } }
            }
        }
    }

    fn comprehension(&mut self, comprehension: &'e ComprehensionExpr) -> Estimate {
        let [range, start] = complexity::outer_parts(comprehension).map(|part| self.expression(part));
        let outer_count = self.bound.len();
        self.bound.push((comprehension.iter_var.as_str(), 1));
        self.bound.extend(comprehension.iter_var2.as_deref().map(|name| (name, 1)));
        // CEL appends to the list of a loop in place: the elements before are not copied.
        self.bound.push((comprehension.accu_var.as_str(), 0));
        let condition = self.expression(&comprehension.loop_cond);
        let step = self.expression(&comprehension.loop_step);
        let result = self.expression(&comprehension.result);
        self.bound.truncate(outer_count);
        // The element is copied for each iteration.
        let iteration = condition.cost.saturating_add(step.cost).saturating_add(1);
        let cost = range.weight.saturating_mul(iteration).saturating_add(range.cost).saturating_add(start.cost);
        let weight = range.weight.saturating_mul(step.weight).saturating_add(start.weight);
        Estimate { cost: cost.saturating_add(result.cost), weight }
    }
}

/// Whether a function returns a number or a boolean, whatever the sizes of its operands.
fn returns_scalar(name: &str) -> bool {
    matches!(
        name,
        operators::IN
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | "bool"
            | "contains"
            | "double"
            | "endsWith"
            | "int"
            | "size"
            | "startsWith"
            | "uint"
    )
}
