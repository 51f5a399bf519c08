//! The structure of a condition: the nesting of its loops, their operations, and the values it reads.

#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of the CEL crate are its own, and grow")]

use std::collections::BTreeSet;

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, operators};

/// The nesting depth of loops.
pub(super) fn loops(expression: &IdedExpr) -> usize {
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            let deepest = |parts: &[&IdedExpr]| parts.iter().map(|part| loops(part)).max().unwrap_or(0);
            deepest(&outer_parts(comprehension)).max(1 + deepest(&inner_parts(comprehension)))
        }
        _ => parts(expression).into_iter().map(loops).max().unwrap_or(0),
    }
}

pub(super) fn count_loops(expression: &IdedExpr) -> usize {
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            let parts = outer_parts(comprehension).into_iter().chain(inner_parts(comprehension));
            1 + parts.map(count_loops).sum::<usize>()
        }
        _ => parts(expression).into_iter().map(count_loops).sum(),
    }
}

/// Whether a loop concatenates texts or lists in each iteration. A loop's own accumulator does not count.
pub(super) fn concatenates_in_loop<'e>(expression: &'e IdedExpr, accumulators: &mut Vec<&'e str>) -> bool {
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            accumulators.push(&comprehension.accu_var);
            let concatenates =
                inner_parts(comprehension).into_iter().any(|part| concatenates_in_loop(part, accumulators));
            accumulators.pop();
            concatenates || outer_parts(comprehension).into_iter().any(|part| concatenates_in_loop(part, accumulators))
        }
        Expr::Call(call) if call.func_name == operators::ADD && !accumulators.is_empty() => {
            let appends = matches!(&call.args[..], [first, _] if matches!(&first.expr, Expr::Ident(name) if accumulators.contains(&name.as_str())));
            !appends || call.args.iter().any(|part| concatenates_in_loop(part, accumulators))
        }
        _ => parts(expression).into_iter().any(|part| concatenates_in_loop(part, accumulators)),
    }
}

/// Collects the names that an expression takes from outside.
pub(super) fn collect_variables<'e>(
    expression: &'e IdedExpr,
    bound: &mut Vec<&'e str>,
    variables: &mut BTreeSet<String>,
) {
    match &expression.expr {
        Expr::Ident(name) if !bound.contains(&name.as_str()) => drop(variables.insert(name.clone())),
        Expr::Comprehension(comprehension) => {
            outer_parts(comprehension).into_iter().for_each(|part| collect_variables(part, bound, variables));
            let outer_count = bound.len();
            bound.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
            bound.extend(comprehension.iter_var2.as_deref());
            inner_parts(comprehension).into_iter().for_each(|part| collect_variables(part, bound, variables));
            bound.truncate(outer_count);
        }
        _ => parts(expression).into_iter().for_each(|part| collect_variables(part, bound, variables)),
    }
}

/// The parts of a loop that do not see its variables.
pub(super) fn outer_parts(comprehension: &ComprehensionExpr) -> [&IdedExpr; 2] {
    [&comprehension.iter_range, &comprehension.accu_init]
}

/// The parts of a loop that see its variables.
fn inner_parts(comprehension: &ComprehensionExpr) -> [&IdedExpr; 3] {
    [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result]
}

/// The parts of an expression that is not a loop.
pub(super) fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| parts_of_entry(&entry.expr)).collect(),
        Expr::Struct(literal) => literal.entries.iter().flat_map(|entry| parts_of_entry(&entry.expr)).collect(),
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
