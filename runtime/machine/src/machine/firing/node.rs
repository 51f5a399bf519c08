//! One node, and one scope, of a firing.

mod state;

use std::collections::{BTreeMap, BTreeSet};

use flow::{
    Action, Attempt, Execution, Firing, Json, NodeIndex, Outcome, Timestamp, Value, ValueName, Values, WorkerName,
    graph::ScopeIndex,
};

pub use state::NodeState;

/// The state of a node in a run. `Start` and `End` are only pending, success or rolled-back.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRun {
    /// Its state.
    pub state: NodeState,
    /// The number of times it was triggered.
    pub firing: Firing,
    /// Attempts dispatched so far, in the whole run; for a controller, its attempts since the last fresh start of its flow.
    pub applies: u32,
    /// Rollbacks started so far: attempts dispatched, and rollbacks that passed through the node without a call.
    pub rollbacks: u32,
    /// Failed attempts of the current call, since the task was last pending.
    pub consecutive_failures: u32,
    /// Lost attempts of the current call, since the task was last pending.
    pub consecutive_losses: u32,
    /// The recorded executions of its applies: any other execution has repeated the effects.
    pub executions: Executions,
    /// Whether an apply may have happened that no outcome reports: a rollback then receives `unknown`.
    pub may_have_applied: bool,
    /// The number of preceding nodes that are neither in success nor ignored.
    pub(in crate::machine) waiting: u32,
    /// The number of following nodes that are not pending, rolled-back or ignored.
    pub(in crate::machine) rollback_blockers: u32,
    /// What few nodes have.
    pub rare: Rare,
}

/// The part of a node's state that few nodes have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RareState {
    /// Attempts that were lost and have not been answered since.
    pub lost: BTreeSet<(Action, Attempt)>,
    /// The leases on its calls: the dispatched call, or one whose job was delivered twice.
    pub lease_holders: BTreeSet<(Action, Attempt, WorkerName)>,
    /// The late outcome of an apply that answered when the node was pending again, or was being rolled back: its effects
    /// still have to be rolled back.
    pub late_outcome: Option<Outcome>,
    /// The number of executions of each call that were recorded without an answer, while the call did not depend on them: a
    /// heartbeat after the call had ended, or a lease that ended beside another.
    pub unanswered: BTreeMap<(Action, Attempt), u32>,
    /// The time at which it starts, although it could start already.
    pub starts_at: Option<Timestamp>,
    /// The values that a controller tries, when another node provided them.
    pub list: Option<Vec<Json>>,
}

/// A [`RareState`] that takes memory only once it is changed: a list has many elements.
#[derive(Debug, Clone, Default)]
pub struct Rare(Option<Box<RareState>>);

impl Rare {
    /// Removes something from the state, if there is anything; releases the memory once nothing is left.
    pub(in crate::machine) fn remove<T: Default>(&mut self, remove: impl FnOnce(&mut RareState) -> T) -> T {
        let Some(state) = &mut self.0 else { return T::default() };
        let removed = remove(state);
        self.0.take_if(|state| **state == RareState::default());
        removed
    }
}

impl From<RareState> for Rare {
    fn from(state: RareState) -> Self {
        Self((state != RareState::default()).then(|| Box::new(state)))
    }
}

impl std::ops::Deref for Rare {
    type Target = RareState;

    fn deref(&self) -> &RareState {
        static NONE: RareState = RareState {
            lost: BTreeSet::new(),
            lease_holders: BTreeSet::new(),
            late_outcome: None,
            unanswered: BTreeMap::new(),
            starts_at: None,
            list: None,
        };
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl std::ops::DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut RareState {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for Rare {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// Counts nodes: a firing has fewer than 2^32.
pub(in crate::machine) fn node_count(nodes: usize) -> u32 {
    u32::try_from(nodes).expect("a firing has fewer than 2^32 nodes")
}

impl NodeRun {
    /// A node that has not run; the initial state in a snapshot.
    #[must_use]
    pub fn untouched() -> Self {
        Self::new(0)
    }

    pub(in crate::machine) fn new(waiting: u32) -> Self {
        Self {
            state: NodeState::Pending,
            firing: Firing::FIRST,
            applies: 0,
            rollbacks: 0,
            consecutive_failures: 0,
            consecutive_losses: 0,
            executions: Executions::default(),
            may_have_applied: false,
            waiting,
            rollback_blockers: 0,
            rare: Rare::default(),
        }
    }

    /// The current action of the node, and the number of its attempts dispatched so far.
    pub(in crate::machine) fn current_action(&self) -> (Action, u32) {
        if self.state.is_rolling_back() { (Action::Rollback, self.rollbacks) } else { (Action::Apply, self.applies) }
    }

    /// The attempt to publish: the current one, or the last. Applies and rollbacks are numbered separately.
    pub(in crate::machine) fn attempt(&self) -> Attempt {
        let has_rollback = self.state.rollback_outcome().is_some() || self.state == NodeState::RolledBack;
        let count = if has_rollback { self.rollbacks } else { self.applies };
        Attempt::new(count.max(1))
    }
}

/// The recorded executions of a node's applies, mostly one: a set would take ten times as much memory, and a list has many
/// elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Executions(ExecutionSet);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum ExecutionSet {
    #[default]
    None,
    One(Attempt, Execution),
    /// Two or more, sorted.
    #[expect(clippy::box_collection, reason = "a thin pointer keeps every node small")]
    Several(Box<Vec<(Attempt, Execution)>>),
}

impl Executions {
    /// Whether the execution of the attempt is recorded.
    #[must_use]
    pub fn contains(&self, attempt: Attempt, execution: Execution) -> bool {
        match &self.0 {
            ExecutionSet::None => false,
            ExecutionSet::One(its_attempt, its_execution) => (*its_attempt, *its_execution) == (attempt, execution),
            ExecutionSet::Several(all) => all.binary_search(&(attempt, execution)).is_ok(),
        }
    }

    /// The executions, in the order of their attempts.
    pub fn iter(&self) -> impl Iterator<Item = (Attempt, Execution)> {
        let (one, several) = match &self.0 {
            ExecutionSet::None => (None, None),
            ExecutionSet::One(attempt, execution) => (Some((*attempt, *execution)), None),
            ExecutionSet::Several(all) => (None, Some(all.iter().copied())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// The number of recorded executions of an attempt.
    #[must_use]
    pub fn count(&self, attempt: Attempt) -> usize {
        match &self.0 {
            ExecutionSet::None => 0,
            ExecutionSet::One(its_attempt, _) => usize::from(*its_attempt == attempt),
            ExecutionSet::Several(all) => {
                let end = all.partition_point(|(other, _)| *other <= attempt);
                end - all.partition_point(|(other, _)| *other < attempt)
            }
        }
    }

    /// Adds an execution.
    pub(in crate::machine) fn insert(&mut self, attempt: Attempt, execution: Execution) {
        let new = (attempt, execution);
        match &mut self.0 {
            ExecutionSet::None => self.0 = ExecutionSet::One(attempt, execution),
            ExecutionSet::One(its_attempt, its_execution) => {
                let first = (*its_attempt, *its_execution);
                if first != new {
                    self.0 = ExecutionSet::Several(Box::new(vec![first.min(new), first.max(new)]));
                }
            }
            ExecutionSet::Several(all) => {
                if let Err(position) = all.binary_search(&new) {
                    all.insert(position, new);
                }
            }
        }
    }
}

impl FromIterator<(Attempt, Execution)> for Executions {
    fn from_iter<Iter: IntoIterator<Item = (Attempt, Execution)>>(executions: Iter) -> Self {
        let sorted: BTreeSet<(Attempt, Execution)> = executions.into_iter().collect();
        Self(match (sorted.len(), sorted.first()) {
            (1, Some((attempt, execution))) => ExecutionSet::One(*attempt, *execution),
            (0, _) | (_, None) => ExecutionSet::None,
            _ => ExecutionSet::Several(Box::new(sorted.into_iter().collect())),
        })
    }
}

/// The values that a node has provided, sorted by name. A map would take ten times as much memory, and a list has many
/// elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvidedValues(Box<[(ValueName, Value)]>);

impl ProvidedValues {
    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &ValueName) -> Option<&Value> {
        let at = self.0.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// The values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ValueName, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The values as a map.
    #[must_use]
    pub fn to_values(&self) -> Values {
        self.0.iter().cloned().collect()
    }
}

impl From<Values> for ProvidedValues {
    fn from(values: Values) -> Self {
        Self(values.into_iter().collect())
    }
}

/// The values of a node that others may read.
#[derive(Clone, Copy)]
pub(in crate::machine) enum ReadableValues<'a> {
    /// Those of a node in success.
    Stored(&'a ProvidedValues),
    /// Those that a rollback receives.
    Returned(&'a Values),
}

impl<'a> ReadableValues<'a> {
    pub(in crate::machine) fn get(self, name: &ValueName) -> Option<&'a Value> {
        match self {
            Self::Stored(values) => values.get(name),
            Self::Returned(values) => values.get(name),
        }
    }

    pub(in crate::machine) fn to_values(self) -> Values {
        match self {
            Self::Stored(values) => values.to_values(),
            Self::Returned(values) => values.clone(),
        }
    }

    /// Their bytes, without names and content in the store.
    pub(in crate::machine) fn bytes(self) -> u64 {
        match self {
            Self::Stored(values) => values.iter().map(|(_, value)| inline_size(value)).sum(),
            Self::Returned(values) => values.values().map(inline_size).sum(),
        }
    }
}

/// The bytes of a value, without its content in the store.
pub(in crate::machine) fn inline_size(value: &Value) -> u64 {
    if value.digest().is_some() { size_of::<flow::Stored>() as u64 } else { value.size() as u64 }
}

/// The state of a scope in a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::machine) struct ScopeRun {
    pub(in crate::machine) intention: Intention,
    /// The nodes of this scope that are not pending, without those of nested scopes.
    pub(in crate::machine) ran: BTreeSet<NodeIndex>,
    pub(in crate::machine) children: Vec<ScopeIndex>,
}

/// The intention for a scope. The strongest intention of a node's enclosing scopes applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Intention {
    /// It runs.
    #[default]
    Execute,
    /// It is rolled back, and its controller retries.
    Retry,
    /// It is rolled back. This never changes back to retry.
    Rollback,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each element of a list keeps a node after it has ended.
    #[test]
    fn a_node_takes_little_memory() {
        assert!(size_of::<NodeRun>() <= 96, "{}", size_of::<NodeRun>());
    }

    #[test]
    fn executions_are_sorted_and_unique() {
        let of = |pairs: &[(u32, u64)]| -> Vec<(Attempt, Execution)> {
            pairs.iter().map(|(attempt, execution)| (Attempt::new(*attempt), Execution::new(*execution))).collect()
        };
        let mut executions = Executions::default();
        for (attempt, execution) in of(&[(2, 5), (1, 9), (2, 5), (1, 3)]) {
            executions.insert(attempt, execution);
        }
        assert_eq!(executions.iter().collect::<Vec<_>>(), of(&[(1, 3), (1, 9), (2, 5)]));
        assert!(executions.contains(Attempt::new(1), Execution::new(9)));
        assert!(!executions.contains(Attempt::new(2), Execution::new(9)));
        let counts = [1, 2, 3].map(|attempt| executions.count(Attempt::new(attempt)));
        assert_eq!(counts, [2, 1, 0]);
        assert_eq!(of(&[(2, 5), (1, 9), (1, 3)]).into_iter().collect::<Executions>(), executions);
    }

    #[test]
    fn provided_values_are_found_by_name() {
        let value = |text: &str| Value::Json(Json::parse(text).unwrap());
        let values: Values = [("b", "2"), ("a", "1"), ("c", "3")]
            .into_iter()
            .map(|(name, text)| (name.parse().unwrap(), value(text)))
            .collect();
        let provided = ProvidedValues::from(values.clone());
        assert_eq!(provided.get(&"b".parse().unwrap()), Some(&value("2")));
        assert_eq!(provided.get(&"d".parse().unwrap()), None);
        assert_eq!(provided.to_values(), values);
    }
}
