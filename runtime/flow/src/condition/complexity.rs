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

/// The first operation in a loop that searches a value from outside the loop for each element.
pub(super) fn find_search_in_loop(expression: &IdedExpr) -> Option<String> {
    find_search(expression, &mut Vec::new())
}

/// `bound` holds the variables of the loop around the expression: outside a loop a search is cheap.
fn find_search<'e>(expression: &'e IdedExpr, bound: &mut Vec<&'e str>) -> Option<String> {
    match &expression.expr {
        Expr::Comprehension(comprehension) => {
            let outer = outer_parts(comprehension).into_iter().find_map(|part| find_search(part, bound));
            outer.or_else(|| {
                let outer_count = bound.len();
                bound.push(comprehension.iter_var.as_str());
                bound.extend(comprehension.iter_var2.as_deref());
                let inner = inner_parts(comprehension).into_iter().find_map(|part| find_search(part, bound));
                bound.truncate(outer_count);
                inner
            })
        }
        Expr::Call(call) if !bound.is_empty() => {
            let searched = match (call.func_name.as_str(), &call.target, &call.args[..]) {
                (operators::IN, None, [_, list]) => Some(list),
                ("contains" | "startsWith" | "endsWith", Some(text), _) => Some(&**text),
                _ => None,
            };
            match searched {
                Some(searched) if !is_of_loop(searched, bound) => Some(call.func_name.trim_matches('@').to_owned()),
                _ => parts(expression).into_iter().find_map(|part| find_search(part, bound)),
            }
        }
        _ => parts(expression).into_iter().find_map(|part| find_search(part, bound)),
    }
}

/// Whether a value is written in the condition, or comes from the variables of the loop.
fn is_of_loop(expression: &IdedExpr, bound: &[&str]) -> bool {
    match &expression.expr {
        Expr::Ident(name) => bound.contains(&name.as_str()),
        // The result of a loop may be longer than any element.
        Expr::Comprehension(_) => false,
        // The index chooses a part of the value.
        Expr::Call(call) if call.func_name == operators::INDEX => {
            call.args.first().is_some_and(|value| is_of_loop(value, bound))
        }
        _ => parts(expression).into_iter().all(|part| is_of_loop(part, bound)),
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
