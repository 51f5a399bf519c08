//! The values that a `for_each` task reads: its list, and the results of its elements, which are joined into lists. Values in
//! the store are fetched first.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Command, Fact, FetchResult, FetchTarget, ValueFetch};
use flow::{
    Action, CallId, Failure, FailureKind, Json, MAX_INLINE_BYTES, NodeIndex, Size, Value, ValueName, Values,
    graph::Source,
};

use super::{super::graph::NodeRole, FiringMachine};

/// The maximum size of the list that a task is called for, in bytes: one record has the whole list, and an engine writes and reads
/// a record at once.
const MAX_LIST_BYTES: u64 = 32 << 20;

impl FiringMachine {
    /// Starts the fetch of a task that stands for a list: it reads the list, or joins the results. Returns a command when
    /// values have to be fetched from the store.
    pub(in crate::machine) fn start_fetch(&mut self, index: NodeIndex) -> Option<Command> {
        let fetch = self.value_fetch(index);
        let joins_results = self.for_each(index).is_none();
        self.fetches.insert(index, joins_results && fetch.is_some());
        fetch.map(|fetch| Command::Fetch(Box::new(fetch)))
    }

    /// The fetches that are still unanswered.
    pub(in crate::machine) fn pending_fetches(&self) -> impl Iterator<Item = ValueFetch> + use<'_> {
        self.fetches.keys().filter(|index| self.is_fetching(**index)).filter_map(|index| self.value_fetch(*index))
    }

    /// Whether a fetch is outstanding for a task.
    pub(in crate::machine::firing) fn is_fetching(&self, index: NodeIndex) -> bool {
        match (self.fetches.get(&index), self.for_each(index)) {
            (None, _) => false,
            // After an edit, the provider of the list may be rolled back meanwhile: then there is nothing to fetch.
            (Some(_), Some(each)) => {
                matches!(self.read(&each.list).as_deref(), Some(list @ Value::Stored(_)) if !is_too_large(list))
            }
            (Some(needs_fetch), None) => *needs_fetch,
        }
    }

    /// The fetch that a task needs; `None` when all values are inline.
    fn value_fetch(&self, index: NodeIndex) -> Option<ValueFetch> {
        let target = match self.role(index) {
            NodeRole::ForEach(each) => match self.read(&each.list).as_deref() {
                Some(list @ Value::Stored(_)) if !is_too_large(list) => {
                    FetchTarget::List { list: list.clone(), most: self.flow.limits.elements }
                }
                // The failure of a list that is too large needs no fetch.
                Some(_) | None => return None,
            },
            NodeRole::FanIn(each) => {
                let results = self.results(each);
                let largest = self.check_results(&results).ok()?;
                let is_stored = |value: &Value| matches!(value, Value::Stored(_));
                if largest < MAX_INLINE_BYTES as u64 && !results.values().flatten().any(is_stored) {
                    return None;
                }
                FetchTarget::Results(results)
            }
            NodeRole::Task(_)
            | NodeRole::Wait(_)
            | NodeRole::Element(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => {
                return None;
            }
        };
        // A fan-in has the name of its task.
        let id = CallId { attempt: self.node(index).attempt(), action: Action::Apply, ..self.call_id(index) };
        Some(ValueFetch { id, target })
    }

    /// The values of a task's elements, by the flow's names, in list order.
    fn results(&self, each: NodeIndex) -> BTreeMap<ValueName, Vec<Value>> {
        let Some(task) = self.for_each(each).map(|each| &each.task) else { return Default::default() };
        let count = self.elements.get(&each).map_or(0, |elements| elements.expansion.list.len());
        let elements = || self.elements_of(each).iter().take(count);
        let values_of = |name: &ValueName| {
            elements().filter_map(|index| self.node(*index).state.readable()?.get(name).cloned()).collect()
        };
        task.provides.values().map(|name| (name.clone(), values_of(name))).collect()
    }

    /// Checks the size of the lists into which the values of a task's elements would be joined, before anything is fetched.
    /// Returns the size of the largest list, in bytes.
    fn check_results(&self, results: &BTreeMap<ValueName, Vec<Value>>) -> Result<u64, Failure> {
        let (mut total, mut largest) = (0_u64, 0);
        for (name, values) in results {
            // A list has two brackets, and a comma between two elements. The size of a stored value is what its message says.
            let sizes = values.iter().map(|value| (value.size() as u64).saturating_add(1));
            let list = sizes.fold(1, u64::saturating_add);
            total = total.saturating_add(list).saturating_add(name.as_str().len() as u64);
            largest = largest.max(list);
        }
        let too_large = |error| Failure::new(FailureKind::Permanent, format!("the values of its elements {error}"));
        self.flow.limits.check_size(total).map(|()| largest).map_err(too_large)
    }

    /// The result of a fetch whose values are all inline, or too large to be fetched.
    pub(in crate::machine::firing) fn fetch_inline(&self, index: NodeIndex) -> Fact {
        let result = match self.role(index) {
            NodeRole::FanIn(each) => {
                let results = self.results(each);
                FetchResult::Results(self.check_results(&results).and_then(|_| collect_results(results)))
            }
            NodeRole::ForEach(each) => FetchResult::List(self.list_of_source(&each.list)),
            NodeRole::Task(_)
            | NodeRole::Wait(_)
            | NodeRole::Element(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => {
                FetchResult::List(Err(Failure::new(FailureKind::Permanent, "it is not called for a list")))
            }
        };
        self.apply_fetch(index, result)
    }

    fn list_of_source(&self, source: &Source) -> Result<Arc<[Json]>, Failure> {
        let permanent = |message: String| Failure::new(FailureKind::Permanent, message);
        match self.read(source).as_deref() {
            Some(list) if is_too_large(list) => {
                let (size, maximum) = (Size(list.size() as u64), Size(MAX_LIST_BYTES));
                let message = "divide it into lists of a flow each, or make its elements smaller";
                Err(permanent(format!("the list has {size:#}, and the maximum is {maximum:#}: {message}")))
            }
            Some(Value::Json(json)) => elements(json, self.flow.limits.elements).map_err(permanent),
            Some(Value::Bytes(_)) => Err(permanent("the value to be called for each element of is bytes".into())),
            Some(Value::Stored(stored)) => Err(permanent(format!("the list of {:#} is missing", Size(stored.size)))),
            None => {
                let message = "the list to be called for each element of was not there when the task started";
                Err(Failure::new(FailureKind::MissingInput, message))
            }
        }
    }

    /// Turns a fetched list, or joined results, into a record.
    fn apply_fetch(&self, index: NodeIndex, result: FetchResult) -> Fact {
        let attempt = self.node_attempt(index, self.node(index).attempt());
        match result {
            FetchResult::List(Ok(list)) => Fact::Expanded { node: index, list },
            FetchResult::Results(Ok(provided)) => {
                Fact::Succeeded { attempt, provided, execution: flow::Execution::new(0), worker: None }
            }
            FetchResult::List(Err(failure)) | FetchResult::Results(Err(failure)) => {
                let (retry_at, execution) = (None, None);
                Fact::Failed { attempt, failure, retry_at, execution, redelivered: false, worker: None }
            }
        }
    }

    /// Decides what the result of a fetch leads to.
    pub(in crate::machine::firing) fn decide_fetched(&self, id: &CallId, result: &FetchResult) -> Vec<Fact> {
        let Some(each) = self.node_of_call(id).filter(|each| self.for_each(*each).is_some()) else {
            return Vec::new();
        };
        // Both have the task's name, and each numbers its own attempts.
        let index = match result {
            FetchResult::List(_) => each,
            FetchResult::Results(_) => self.flow.fan_in_of(each),
        };
        if !self.is_fetching(index) || self.node(index).attempt() != id.attempt {
            return Vec::new();
        }
        vec![self.apply_fetch(index, result.clone())]
    }
}

fn is_too_large(list: &Value) -> bool {
    list.size() as u64 > MAX_LIST_BYTES
}

/// The elements of a `for_each` list, which has at most `most` of them.
///
/// # Errors
/// A description of the invalid list, for people.
pub fn elements(list: &Json, most: u32) -> Result<Arc<[Json]>, String> {
    let (elements, count) =
        list.elements_up_to(most as usize).ok_or("the value to be called for each element of is not a list")?;
    if count > most as usize {
        return Err(format!("the list has {count} elements, and the limit `elements` allows {most} here"));
    }
    Ok(elements.into())
}

/// Joins the values of a task's elements into lists.
///
/// # Errors
/// Why the values cannot be joined.
pub fn collect_results(results: BTreeMap<ValueName, Vec<Value>>) -> Result<Values, Failure> {
    let list = |(name, values): (ValueName, Vec<Value>)| {
        let mut text = String::from("[");
        for (number, value) in values.iter().enumerate() {
            let Value::Json(json) = value else {
                let message = format!("element {number} left {name:?} as bytes, which a list of JSON cannot contain");
                return Err(Failure::new(FailureKind::InvalidOutput, message));
            };
            if number > 0 {
                text.push(',');
            }
            text.push_str(json.as_str());
        }
        text.push(']');
        let list = Json::parse(text).map_err(|error| Failure::new(FailureKind::InvalidOutput, error.to_string()))?;
        Ok((name, Value::Json(list)))
    };
    results.into_iter().map(list).collect()
}
