//! Type checks of a condition before its evaluation: unknown functions, arguments of the wrong type, impossible comparisons,
//! and some that always have the same result.
//!
//! The argument types of functions and operators are not listed here: the checker calls CEL itself with one value of each
//! possible type. If CEL refuses all of them, it would refuse the evaluation too.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cel::{
    Context, Env, ExecutionError,
    common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators},
};

use super::complexity;
use crate::{
    schema::{Field, SchemaView},
    suggest,
    value_types::{ValueType, ValueTypes},
};

/// The functions and loops that a condition may call, and the syntax of each.
pub(super) const FUNCTIONS: [(&str, &str); 17] = [
    ("all", "list.all(x, condition)"),
    ("bool", "bool(text)"),
    ("bytes", "bytes(text)"),
    ("contains", "text.contains(part)"),
    ("double", "double(number or text)"),
    ("dyn", "dyn(value)"),
    ("endsWith", "text.endsWith(end)"),
    ("exists", "list.exists(x, condition)"),
    ("exists_one", "list.exists_one(x, condition)"),
    ("filter", "list.filter(x, condition)"),
    ("has", "has(value.field)"),
    ("int", "int(number or text)"),
    ("map", "list.map(x, expression)"),
    ("size", "size(text, list or object)"),
    ("startsWith", "text.startsWith(beginning)"),
    ("string", "string(value)"),
    ("uint", "uint(number or text)"),
];

/// CEL's standard environment, created once.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A problem of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether it can never be decided, or probably does not mean what was intended.
    pub(crate) is_error: bool,
    /// The problem: a fragment whose subject is the condition.
    pub(crate) message: String,
    /// A hint how to fix it.
    pub(crate) hint: String,
}

/// The known type of a value before it exists.
#[derive(Clone, Copy)]
pub(crate) struct StaticType<'s> {
    pub(crate) types: ValueTypes,
    pub(crate) schema: Option<SchemaView<'s>>,
}

impl<'s> StaticType<'s> {
    const ANY: Self = Self { types: ValueTypes::ANY, schema: None };

    const fn of(types: ValueTypes) -> Self {
        Self { types, schema: None }
    }

    pub(crate) fn of_schema(schema: SchemaView<'s>) -> Self {
        Self { types: schema.types(), schema: Some(schema) }
    }
}

/// The result of a trial call of CEL with values of certain types.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProbeResult {
    /// A value of these types, or an error that other values may not cause.
    Returns(ValueTypes),
    /// No such function exists.
    Unknown,
    /// It takes other types, or another number of arguments.
    Rejects,
}

/// Walks an expression, and determines the types and problems of its parts.
pub(super) struct Checker<'s> {
    names: Vec<(String, StaticType<'s>)>,
    pub(super) findings: Vec<Finding>,
}

impl<'s> Checker<'s> {
    /// Creates a checker with the known types of the values from outside.
    pub(super) fn new(names: impl IntoIterator<Item = (String, StaticType<'s>)>) -> Self {
        Self { names: names.into_iter().collect(), findings: Vec::new() }
    }

    fn error(&mut self, message: String, hint: impl Into<String>) {
        self.findings.push(Finding { is_error: true, message, hint: hint.into() });
    }

    fn warn(&mut self, message: String, hint: impl Into<String>) {
        self.findings.push(Finding { is_error: false, message, hint: hint.into() });
    }

    /// The type of an expression. The parser bounds its nesting, and therefore this recursion.
    pub(super) fn check(&mut self, expression: &IdedExpr) -> StaticType<'s> {
        match &expression.expr {
            Expr::Literal(literal) => StaticType::of(ValueTypes::of(of_literal(literal))),
            Expr::Ident(name) => {
                let known = self.names.iter().rev().find(|(known, _)| known == name);
                known.map_or(StaticType::ANY, |(_, known)| *known)
            }
            Expr::Select(select) => {
                let operand = self.check(&select.operand);
                let selected = self.select(operand, &select.field, select.test);
                if select.test { StaticType::of(ValueTypes::of(ValueType::Bool)) } else { selected }
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(_) => self.check_parts(expression, ValueType::List),
            Expr::Map(_) => self.check_parts(expression, ValueType::Object),
            Expr::Struct(literal) => {
                let message = format!("makes a message of type {:?}, and there are none here", literal.type_name);
                self.error(message, "write an object as {\"key\": value}");
                StaticType::of(ValueTypes::of(ValueType::Object))
            }
            Expr::Unspecified => StaticType::ANY,
        }
    }

    fn check_parts(&mut self, expression: &IdedExpr, value_type: ValueType) -> StaticType<'s> {
        for part in complexity::parts(expression) {
            self.check(part);
        }
        StaticType::of(ValueTypes::of(value_type))
    }

    /// The type of a field of a value.
    fn select(&mut self, operand: StaticType<'s>, field: &str, is_test: bool) -> StaticType<'s> {
        if !operand.types.has(ValueType::Object) && !operand.types.has(ValueType::Other) {
            self.error(format!("takes {field:?} of {}", operand.types), "only an object has fields");
            return StaticType::ANY;
        }
        let Some(schema) = operand.schema else { return StaticType::ANY };
        match schema.field(field) {
            Field::Known(field) => StaticType::of_schema(field),
            Field::Unspecified => StaticType::ANY,
            Field::Absent => {
                let hint = suggest::did_you_mean(field, schema.field_names()).unwrap_or_else(|| {
                    let names: Vec<&str> = schema.field_names().collect();
                    if names.is_empty() {
                        "it has no fields".into()
                    } else {
                        format!("its fields are {}", names.join(", "))
                    }
                });
                let verb = if is_test { "asks for" } else { "reads" };
                self.warn(format!("{verb} the field {field:?}, which is not among those of its object"), hint);
                StaticType::ANY
            }
        }
    }

    fn call(&mut self, call: &CallExpr) -> StaticType<'s> {
        let target = call.target.as_deref().map(|target| self.check(target));
        let arguments: Vec<StaticType<'s>> = call.args.iter().map(|argument| self.check(argument)).collect();
        let bool = StaticType::of(ValueTypes::of(ValueType::Bool));
        match (call.func_name.as_str(), &arguments[..]) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                self.must_be_bool("?", condition);
                StaticType::of(yes.types.or(no.types))
            }
            (operator @ (operators::LOGICAL_AND | operators::LOGICAL_OR), [one, other]) => {
                let operator = if operator == operators::LOGICAL_AND { "&&" } else { "||" };
                self.must_be_bool(operator, one);
                self.must_be_bool(operator, other);
                bool
            }
            (operator @ (operators::EQUALS | operators::NOT_EQUALS), [one, other]) => {
                if one.types.equals().and(other.types.equals()).is_empty() {
                    let result = if operator == operators::EQUALS { "never" } else { "always" };
                    let message = format!("compares {} to {}: that is {result} so", one.types, other.types);
                    self.warn(message, "compare values of one type, or turn one with int(), double() or string()");
                }
                bool
            }
            (operators::INDEX, [list, _]) => {
                let probed = self.probe(call, target, &arguments);
                let element =
                    list.schema.and_then(SchemaView::element).filter(|_| list.types == ValueTypes::of(ValueType::List));
                element.map_or(probed, StaticType::of_schema)
            }
            _ => self.probe(call, target, &arguments),
        }
    }

    fn must_be_bool(&mut self, operator: &str, operand: &StaticType<'s>) {
        if !operand.types.has(ValueType::Bool) && !operand.types.has(ValueType::Other) {
            let message = format!("has {} at `{operator}`, which takes true or false", operand.types);
            self.error(message, "compare it with something");
        }
    }

    /// Calls CEL on trial with the possible types of the arguments.
    fn probe(
        &mut self,
        call: &CallExpr,
        target: Option<StaticType<'s>>,
        arguments: &[StaticType<'s>],
    ) -> StaticType<'s> {
        let all: Vec<ValueTypes> = target.iter().chain(arguments).map(|argument| argument.types).collect();
        let probed = probe((call.func_name.clone(), target.is_some(), all.clone()));
        if let ProbeResult::Returns(types) = probed {
            return StaticType::of(types);
        }
        let is_unknown = probed == ProbeResult::Unknown;
        let name = call.func_name.as_str();
        let form = FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, form)| *form);
        match (is_unknown, form) {
            (_, Some(form)) => {
                self.error(format!("calls `{name}` with {}", describe_arguments(&all)), format!("write it as {form}"));
            }
            (true, None) => {
                let names = || FUNCTIONS.iter().map(|(known, _)| *known);
                let listed = || format!("it may call {}", names().collect::<Vec<_>>().join(", "));
                let hint = suggest::did_you_mean(name, names()).unwrap_or_else(listed);
                self.error(format!("calls `{name}`, which does not exist here"), hint);
            }
            (false, None) => {
                let operator = name.trim_matches(['_', '@']).replace("[_]", "[]");
                let hint = match name {
                    operators::IN => "it looks into a list, or for a key into an object",
                    operators::NEGATE => "it takes a number",
                    operators::LOGICAL_NOT => "compare it with something",
                    _ => "it takes values of one type: turn one with int(), double() or string()",
                };
                self.error(format!("has {} at `{operator}`", describe_arguments(&all)), hint);
            }
        }
        StaticType::ANY
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> StaticType<'s> {
        let range = self.check(&comprehension.iter_range);
        let iterable = ValueTypes::of(ValueType::List).or(ValueTypes::of(ValueType::Object));
        if range.types.and(iterable.or(ValueTypes::of(ValueType::Other))).is_empty() {
            self.error(format!("has a loop over {}", range.types), "a loop goes over a list, or the keys of an object");
        }
        let is_list = range.types == ValueTypes::of(ValueType::List);
        let element = range
            .schema
            .and_then(SchemaView::element)
            .filter(|_| is_list)
            .map_or(StaticType::ANY, StaticType::of_schema);
        let accumulator = self.check(&comprehension.accu_init);
        let outer_count = self.names.len();
        match &comprehension.iter_var2 {
            // The first of the two is the index or the key.
            Some(second) => {
                self.names.push((comprehension.iter_var.clone(), StaticType::ANY));
                self.names.push((second.clone(), element));
            }
            None => self.names.push((comprehension.iter_var.clone(), element)),
        }
        self.names.push((comprehension.accu_var.clone(), accumulator));
        self.check(&comprehension.loop_cond);
        self.check(&comprehension.loop_step);
        let result = self.check(&comprehension.result);
        self.names.truncate(outer_count);
        result
    }
}

fn of_literal(literal: &LiteralValue) -> ValueType {
    match literal {
        LiteralValue::Boolean(_) => ValueType::Bool,
        LiteralValue::Int(_) => ValueType::Int,
        LiteralValue::UInt(_) => ValueType::UInt,
        LiteralValue::Double(_) => ValueType::Double,
        LiteralValue::String(_) => ValueType::Text,
        LiteralValue::Bytes(_) => ValueType::Bytes,
        LiteralValue::Null => ValueType::Null,
    }
}

fn describe_arguments(all: &[ValueTypes]) -> String {
    match all {
        [] => "nothing".into(),
        all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    }
}

/// Every combination of one type per argument. No supported function takes more than three arguments: then any types do.
fn combinations(all: &[ValueTypes]) -> Vec<Vec<ValueType>> {
    if all.len() > 3 {
        return vec![vec![ValueType::Null; all.len()]];
    }
    let mut combinations = vec![Vec::new()];
    for types in all {
        let choices: Vec<ValueType> = types.iter().collect();
        combinations = combinations
            .iter()
            .flat_map(|prefix: &Vec<ValueType>| choices.iter().map(|choice| [prefix.as_slice(), &[*choice]].concat()))
            .collect();
    }
    combinations
}

/// A call whose arguments have one of some types each: its function, whether the first argument is before it, and the types.
type TypedCall = (String, bool, Vec<ValueTypes>);

/// The results for functions that exist. All conditions share them: a trial takes microseconds, there may be hundreds for one call,
/// and one flow may have thousands of conditions.
static PROBED: LazyLock<Mutex<BTreeMap<TypedCall, ProbeResult>>> = LazyLock::new(Mutex::default);

/// The maximum number of stored results. Calls without schemas need fewer.
const MAX_PROBED: usize = 10_000;

/// Calls CEL on trial with the possible types of the arguments.
fn probe(call: TypedCall) -> ProbeResult {
    let probed = || PROBED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = probed().get(&call) {
        return *known;
    }
    let (name, has_target, all) = &call;
    let mut returned = ValueTypes::NONE;
    for combination in combinations(all) {
        match probe_function(name, *has_target, &combination) {
            // Whether it exists does not depend on the types, and there is no end of such names.
            ProbeResult::Unknown => return ProbeResult::Unknown,
            ProbeResult::Rejects => {}
            ProbeResult::Returns(types) => returned = returned.or(types),
        }
    }
    let result = if returned.is_empty() { ProbeResult::Rejects } else { ProbeResult::Returns(returned) };
    let mut probed = probed();
    if probed.len() >= MAX_PROBED {
        probed.clear();
    }
    probed.insert(call, result);
    result
}

/// Calls a function of CEL with one value of each of these types.
fn probe_function(name: &str, has_target: bool, types: &[ValueType]) -> ProbeResult {
    let mut context = Context::with_env(ENVIRONMENT.clone());
    let mut arguments: Vec<IdedExpr> = Vec::new();
    for (index, value) in types.iter().enumerate() {
        let variable = format!("v{index}");
        context.add_variable_from_value(variable.as_str(), example(*value));
        arguments.push(IdedExpr { id: 0, expr: Expr::Ident(variable) });
    }
    let target = has_target.then(|| Box::new(arguments.remove(0)));
    let call = CallExpr { func_name: name.to_owned(), target, args: arguments };
    match context.resolve(&IdedExpr { id: 0, expr: Expr::Call(call) }) {
        Err(ExecutionError::UndeclaredReference(_)) => ProbeResult::Unknown,
        // A value of unknown type may have any type.
        _ if types.contains(&ValueType::Other) => {
            ProbeResult::Returns(ValueTypes::ANY.or(ValueTypes::of(ValueType::Other)))
        }
        Ok(value) => ProbeResult::Returns(ValueTypes::of(type_of(&value))),
        Err(
            ExecutionError::NoSuchOverload(_)
            | ExecutionError::UnsupportedBinaryOperator(..)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::ValuesNotComparable(..)
            | ExecutionError::UnsupportedTargetType { .. }
            | ExecutionError::NotSupportedAsMethod { .. }
            | ExecutionError::InvalidArgumentCount { .. }
            | ExecutionError::MissingArgumentOrTarget,
        ) => ProbeResult::Rejects,
        // Another value of the type may succeed.
        Err(_) => ProbeResult::Returns(ValueTypes::ANY),
    }
}

/// An example value of a type that most operations accept.
fn example(value_type: ValueType) -> cel::Value {
    let text = || Arc::new("1".to_owned());
    match value_type {
        ValueType::Null | ValueType::Other => cel::Value::Null,
        ValueType::Bool => cel::Value::Bool(true),
        ValueType::Int => cel::Value::Int(1),
        ValueType::UInt => cel::Value::UInt(1),
        ValueType::Double => cel::Value::Float(1.0),
        ValueType::Text => cel::Value::String(text()),
        ValueType::Bytes => cel::Value::Bytes(Arc::new(b"1".to_vec())),
        ValueType::List => cel::Value::List(Arc::default()),
        ValueType::Object => cel::Value::Map(cel::objects::Map { map: Arc::default() }),
    }
}

fn type_of(value: &cel::Value) -> ValueType {
    use cel::objects::ValueType as CelType;
    match value.type_of() {
        CelType::Int => ValueType::Int,
        CelType::UInt => ValueType::UInt,
        CelType::Float => ValueType::Double,
        CelType::String => ValueType::Text,
        CelType::List => ValueType::List,
        CelType::Map | CelType::Struct => ValueType::Object,
        CelType::Null => ValueType::Null,
        CelType::Bytes => ValueType::Bytes,
        CelType::Bool => ValueType::Bool,
        CelType::Function | CelType::Duration | CelType::Timestamp | CelType::Opaque => ValueType::Other,
    }
}
