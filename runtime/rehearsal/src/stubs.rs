//! The values that stand for the results of tasks: those of a person, those that fit the schemas of modules, or `null`.

use std::collections::BTreeMap;

use api::{StubOrigin, StubbedValue};
use flow::{
    Digest, Flow, Json, ModuleContent, NodeIndex, NodeName, Schema, Task, Value, ValueName, Values,
    graph::{Requiredness, Role},
    invalid::InvalidJson,
};
use serde_json::value::RawValue;

use crate::{
    consumers::{Consumers, described},
    minimal::MinimalValues,
};

/// The modules of a flow, as far as they are known.
pub type Modules = BTreeMap<Digest, ModuleContent>;

/// A list of two elements of which nothing is known.
const UNKNOWN_LIST: &str = "[null,null]";

/// The maximum number of errors that are reported for results: the search for an intended name takes a while.
const MAX_ERRORS: usize = 20;

/// The results that a person gives: an object of tasks, each with an object of its values by the flow's names.
#[derive(Debug, Clone, Default)]
pub struct Results(BTreeMap<String, BTreeMap<String, Json>>);

/// Why results cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidResults {
    /// The text is not JSON.
    #[error(transparent)]
    Json(#[from] InvalidJson),
    /// The JSON has another form.
    #[error("it is not an object of tasks, each with an object of its values: {0}")]
    Form(serde_json::Error),
    /// The flow has no such task.
    #[error("flow {flow} has no task {task:?}")]
    UnknownTask {
        /// The flow.
        flow: String,
        /// The name.
        task: String,
        /// The intended name, or the names that there are.
        hint: String,
    },
    /// The task does not provide the value.
    #[error("task {task:?} does not provide {value:?}")]
    UnknownValue {
        /// The task.
        task: String,
        /// The name.
        value: String,
        /// What the task provides.
        hint: String,
    },
    /// The value does not fit what the module says of it.
    #[error("{value:?} of task {task:?} does not fit its module: {reason}")]
    Mismatch {
        /// The task.
        task: String,
        /// The value.
        value: String,
        /// The reason.
        reason: String,
    },
}

impl InvalidResults {
    /// What a person may do about it.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Json(_) | Self::Form(_) => "write {\"task\": {\"value\": 1}}, with the names of the flow file",
            Self::UnknownTask { hint, .. } | Self::UnknownValue { hint, .. } => hint,
            Self::Mismatch { .. } => "`waft inspect MODULE` shows what a task provides",
        }
    }
}

impl Results {
    /// Reads the text of a file with results.
    ///
    /// # Errors
    /// [`InvalidResults`] when the text is not JSON, or has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidResults> {
        Json::check(text)?;
        let tasks: BTreeMap<String, BTreeMap<String, &RawValue>> =
            serde_json::from_str(text).map_err(InvalidResults::Form)?;
        let mut results = BTreeMap::new();
        for (task, values) in tasks {
            let mut parsed = BTreeMap::new();
            for (name, value) in values {
                parsed.insert(name, Json::parse(value.get())?);
            }
            results.insert(task, parsed);
        }
        Ok(Self(results))
    }
}

/// A value that stands for one of a task.
#[derive(Debug, Clone)]
struct Stub {
    value: Json,
    from: StubOrigin,
}

/// The values that stand for the results of a flow's tasks, and for those of notifications.
#[derive(Debug)]
pub struct Stubs {
    /// By the task, and the flow's name for the value.
    provided: BTreeMap<(NodeIndex, ValueName), Stub>,
    /// The values of notifications, where something is known of them.
    notified: BTreeMap<ValueName, Json>,
}

impl Stubs {
    /// Finds a value for everything that the tasks of a flow provide.
    ///
    /// # Errors
    /// What does not fit the flow in the given results, as far as it is reported.
    pub fn new(flow: &Flow, modules: &Modules, results: &Results) -> Result<Self, Vec<InvalidResults>> {
        let consumers = Consumers::of(flow, modules);
        let mut finder = StubFinder { flow, consumers: &consumers, minimal: MinimalValues::default() };
        let mut provided = BTreeMap::new();
        for index in flow.indices() {
            for (flow_name, schema) in provided_values(flow, index, modules) {
                let stub = finder.find(Some(index), &flow_name, schema.as_ref());
                provided.insert((index, flow_name), stub);
            }
        }
        let notified = consumers.notified().into_iter();
        let notified = notified.map(|name| (name.clone(), finder.find(None, name, None).value)).collect();
        let mut stubs = Self { provided, notified };
        let errors = stubs.set_results(flow, modules, results);
        if errors.is_empty() { Ok(stubs) } else { Err(errors) }
    }

    /// The number of values that the search for stubs looks at: those that the tasks of a flow provide, and their parameters.
    #[must_use]
    pub fn search_size(flow: &Flow) -> usize {
        let values = |index: NodeIndex| match &flow.node(index).role {
            Role::Task(task) => task.provides.len() + task.inputs.len(),
            Role::ForEach(each) => each.task.provides.len() + each.task.inputs.len(),
            Role::Wait(wait) => wait.provides.len(),
            Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => 0,
        };
        flow.indices().map(values).sum()
    }

    fn set_results(&mut self, flow: &Flow, modules: &Modules, results: &Results) -> Vec<InvalidResults> {
        let mut errors = Vec::new();
        let tasks = flow.indices().filter(|index| is_task(flow, *index));
        let tasks: BTreeMap<&str, NodeIndex> = tasks.map(|index| (flow.node(index).name.as_str(), index)).collect();
        for (task, values) in &results.0 {
            if errors.len() >= MAX_ERRORS {
                break;
            }
            let Some(index) = tasks.get(task.as_str()).copied() else {
                errors.push(unknown_task(flow, task));
                continue;
            };
            let schemas: BTreeMap<ValueName, Option<Json>> = provided_values(flow, index, modules).collect();
            for (name, value) in values {
                if errors.len() >= MAX_ERRORS {
                    break;
                }
                let (task, value_name) = (task.clone(), name.clone());
                let known = schemas.get_key_value(name.as_str());
                let Some((flow_name, schema)) = known else {
                    let names: Vec<&str> = schemas.keys().map(ValueName::as_str).collect();
                    let hint = match names.is_empty() {
                        true => "it provides nothing".into(),
                        false => format!("it provides {}", names.join(", ")),
                    };
                    errors.push(InvalidResults::UnknownValue { task, value: value_name, hint });
                    continue;
                };
                let as_value = Value::Json(value.clone());
                if let Some(reason) = mismatch(flow, index, (flow_name, schema.as_ref()), &as_value) {
                    errors.push(InvalidResults::Mismatch { task, value: value_name, reason });
                    continue;
                }
                let stub = Stub { value: value.clone(), from: StubOrigin::Results };
                self.provided.insert((index, flow_name.clone()), stub);
            }
        }
        errors
    }

    /// The values that a task provides, by its own names.
    pub(crate) fn results_of(&self, index: NodeIndex, provides: &BTreeMap<ValueName, ValueName>) -> Values {
        let value = |(own_name, flow_name): (&ValueName, &ValueName)| {
            let stub = self.provided.get(&(index, flow_name.clone()));
            let value = stub.map_or_else(null, |stub| stub.value.clone());
            (own_name.clone(), Value::Json(value))
        };
        provides.iter().map(value).collect()
    }

    /// The values that a notification which fires a task must contain.
    pub(crate) fn notification(&self, flow: &Flow, entry: NodeIndex) -> Values {
        let required = flow.notification_values(entry).into_iter();
        let required = required.filter(|(_, requiredness)| *requiredness == Requiredness::Required);
        let value = |(name, _): (ValueName, Requiredness)| {
            let value = self.notified.get(&name).cloned().unwrap_or_else(null);
            (name, Value::Json(value))
        };
        required.map(value).collect()
    }

    /// The stub for a value of a node; the fan-in of a task stands for the task.
    pub(crate) fn describe(&self, flow: &Flow, index: NodeIndex, value: &ValueName) -> Option<StubbedValue> {
        let index = match flow.node(index).role {
            Role::FanIn(each) => each,
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::Controller(_) | Role::Begin | Role::End => index,
        };
        let stub = self.provided.get(&(index, value.clone()))?;
        Some(describe(&flow.node(index).name, value, &stub.value, stub.from.clone()))
    }

    /// All stubs, in the order of the flow.
    pub(crate) fn all(&self, flow: &Flow) -> Vec<StubbedValue> {
        let stub = |((index, value), stub): (&(NodeIndex, ValueName), &Stub)| {
            describe(&flow.node(*index).name, value, &stub.value, stub.from.clone())
        };
        self.provided.iter().map(stub).collect()
    }
}

/// A stubbed value as JSON.
pub(crate) fn describe(task: &NodeName, name: &ValueName, value: &Json, from: StubOrigin) -> StubbedValue {
    let value = RawValue::from_string(value.as_str().to_owned()).expect("the text of `Json` is JSON");
    StubbedValue { task: task.to_string(), name: name.to_string(), from, value: Some(value) }
}

/// Whether a node is a task, which a call or a notification completes.
fn is_task(flow: &Flow, index: NodeIndex) -> bool {
    match flow.node(index).role {
        Role::Task(_) | Role::Wait(_) | Role::ForEach(_) => true,
        Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => false,
    }
}

/// The values that a task provides, by the flow's names, each with the schema of its module, where known.
fn provided_values<'a>(
    flow: &'a Flow,
    index: NodeIndex,
    modules: &'a Modules,
) -> impl Iterator<Item = (ValueName, Option<Json>)> + use<'a> {
    let (task, provides): (Option<&Task>, _) = match &flow.node(index).role {
        Role::Task(task) => (Some(&**task), Some(&task.provides)),
        Role::ForEach(each) => (Some(&each.task), Some(&each.task.provides)),
        Role::Wait(wait) => (None, Some(&wait.provides)),
        Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => (None, None),
    };
    let info = task.and_then(|task| described(task, modules));
    provides.into_iter().flatten().map(move |(own_name, flow_name)| {
        let provided = info.and_then(|info| info.provides.iter().find(|provided| provided.name == *own_name));
        (flow_name.clone(), provided.and_then(|provided| provided.schema.clone()))
    })
}

/// The search for stubs.
struct StubFinder<'c> {
    flow: &'c Flow,
    consumers: &'c Consumers,
    minimal: MinimalValues,
}

impl StubFinder<'_> {
    /// A value for the schema of its provider, or else for that of a consumer.
    fn find(&mut self, provider: Option<NodeIndex>, name: &ValueName, of_provider: Option<&Json>) -> Stub {
        let from_schema = |value: Json| Stub { value, from: StubOrigin::Schema };
        if self.consumers.is_list(provider, name) {
            let of_elements = self.consumers.element_schema(provider, name);
            let list = of_provider.and_then(|schema| self.minimal.list(schema));
            let list = list.or_else(|| list_of(&self.minimal.value(of_elements?)?));
            let unknown = Json::parse(UNKNOWN_LIST).expect("the constant is JSON");
            return list.map_or(Stub { value: unknown, from: StubOrigin::Nothing }, from_schema);
        }
        let mut first = None;
        for schema in of_provider.into_iter().chain(self.consumers.schemas(provider, name)) {
            let Some(value) = self.minimal.value(schema) else { continue };
            if self.fits_notification(provider, name, &value) {
                return from_schema(value);
            }
            first.get_or_insert(value);
        }
        first.map_or_else(|| Stub { value: null(), from: StubOrigin::Nothing }, from_schema)
    }

    /// Whether the notification of a waiting task may have a value: several tasks may take it.
    fn fits_notification(&self, provider: Option<NodeIndex>, name: &ValueName, value: &Json) -> bool {
        let wait = provider.filter(|index| matches!(self.flow.node(*index).role, Role::Wait(_)));
        let values = || Values::from([(name.clone(), Value::Json(value.clone()))]);
        wait.is_none_or(|index| self.flow.wait_mismatch(index, &values()).is_none())
    }
}

/// A list of two elements.
fn list_of(element: &Json) -> Option<Json> {
    Json::parse(format!("[{0},{0}]", element.as_str())).ok()
}

fn null() -> Json {
    Json::parse("null").expect("the constant is JSON")
}

/// Why a given value does not fit the schema of its module, or those of the tasks that take it from a notification.
fn mismatch(
    flow: &Flow,
    index: NodeIndex,
    (name, schema): (&ValueName, Option<&Json>),
    value: &Value,
) -> Option<String> {
    let of_module = schema.and_then(|schema| Schema::new(schema).mismatch(value)).map(|mismatch| mismatch.to_string());
    of_module.or_else(|| flow.wait_mismatch(index, &Values::from([(name.clone(), value.clone())])))
}

fn unknown_task(flow: &Flow, task: &str) -> InvalidResults {
    let unknown = NodeName::new(task).ok().and_then(|name| flow.unknown_task(&name));
    let hint = unknown.map_or_else(|| "name a task as the flow file does".into(), |unknown| unknown.hint());
    InvalidResults::UnknownTask { flow: flow.name.to_string(), task: task.into(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::flows::{flow, modules};

    fn stubs(text: &str, results: &str) -> Result<Vec<(String, String, String)>, String> {
        let flow = flow(text);
        let results = Results::parse(results).map_err(|error| error.to_string())?;
        let stubs = Stubs::new(&flow, &modules(), &results).map_err(|errors| {
            errors.iter().map(|error| format!("{error}: {}", error.hint())).collect::<Vec<_>>().join("; ")
        })?;
        let row = |stub: StubbedValue| {
            let value = stub.value.map(|value| value.get().to_owned());
            (format!("{}.{}", stub.task, stub.name), value.unwrap_or_default(), stub.from.to_string())
        };
        Ok(stubs.all(&flow).into_iter().map(row).collect())
    }

    fn row(name: &str, value: &str, from: &str) -> (String, String, String) {
        (name.into(), value.into(), from.into())
    }

    /// The first of the schemas alone allows 0.
    #[test]
    fn a_notified_value_fits_all_tasks_that_take_it() {
        let text = "[[task]]\nname = \"ask\"\nwait = \"a word\"\nprovides = [\"word\"]\n\
            [[task]]\nname = \"a\"\nuse = \"m#count\"\n[[task]]\nname = \"b\"\nuse = \"m#seven\"\n";
        assert_eq!(stubs(text, "{}").unwrap(), [row("ask.word", "7", "schema")]);
    }

    const FLOW: &str = "[[task]]\nname = \"a\"\nuse = \"m#measure\"\nprovides = { size = \"width\" }\n\
        [[task]]\nname = \"b\"\nuse = \"m#list\"\n\
        [[task]]\nname = \"c\"\nuse = \"m#make\"\nfor_each = \"items\"\nas = \"item\"\n\
        [[task]]\nname = \"d\"\nwait = \"a word\"\nprovides = [\"word\"]\n";

    #[test]
    fn values_come_from_schemas_or_are_null() {
        let expected = [
            row("a.width", "3", "schema"),
            row("b.items", "[0,0]", "schema"),
            row("c.made", "null", "none"),
            row("d.word", "null", "none"),
        ];
        assert_eq!(stubs(FLOW, "{}").unwrap(), expected);
    }

    #[test]
    fn given_results_come_first_by_the_names_of_the_flow() {
        let results = r#"{"a": {"width": 10000000000000000001}, "b": {"items": []}, "d": {"word": "yes"}}"#;
        let expected = [
            row("a.width", "10000000000000000001", "results"),
            row("b.items", "[]", "results"),
            row("c.made", "null", "none"),
            row("d.word", "\"yes\"", "results"),
        ];
        assert_eq!(stubs(FLOW, results).unwrap(), expected);
    }

    #[test]
    fn results_that_do_not_fit_the_flow_are_refused_all_at_once() {
        let error = stubs(FLOW, r#"{"aa": {}, "a": {"size": 1, "width": "wide"}}"#).unwrap_err();
        let expected = "task \"a\" does not provide \"size\": it provides width; \
            \"width\" of task \"a\" does not fit its module: it is a text, and has to be a whole number: \
            `waft inspect MODULE` shows what a task provides; \
            flow f has no task \"aa\": did you mean \"a\"?";
        assert_eq!(error, expected);
    }

    #[test]
    fn other_texts_are_no_results() {
        for (text, message) in [
            ("", "not a JSON value"),
            ("{\"a\": {\"x\": 1, \"x\": 2}}", "twice in one object"),
            ("[]", "it is not an object of tasks"),
            ("{\"a\": 1}", "it is not an object of tasks"),
        ] {
            let error = Results::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
