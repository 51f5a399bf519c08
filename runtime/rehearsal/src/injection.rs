//! Which calls fail in a case.

use std::collections::BTreeMap;

use api::{FailingCall, FailingTries};
use flow::{Action, Failure, FailureKind, NodeName};

/// The message of a failure that a case lets happen.
pub(crate) const MESSAGE: &str = "this is a rehearsal";

/// The calls that fail in a case; the one of interest is the last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Injection(Vec<FailingTask>);

/// A task whose calls fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailingTask {
    /// The task.
    pub(crate) node: NodeName,
    /// Its calls.
    pub(crate) action: Action,
    /// How often they fail.
    pub(crate) tries: Tries,
}

/// How often the calls of a task fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    /// Always.
    All,
    /// Until the task has used up its retries for the first time.
    First,
}

impl Injection {
    /// The calls that fail, and one more.
    pub(crate) fn and(&self, failing: FailingTask) -> Self {
        Self(self.0.iter().filter(|other| **other != failing).cloned().chain([failing.clone()]).collect())
    }

    /// The same calls, of which that of interest fails only in the first try.
    pub(crate) fn in_first_try(&self) -> Self {
        let mut failing = self.0.clone();
        failing.iter_mut().next_back().into_iter().for_each(|target| target.tries = Tries::First);
        Self(failing)
    }

    /// The number of tasks whose calls fail.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The tasks whose calls fail.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.0.iter().map(|failing| &failing.node)
    }

    /// The call of interest; `None` for a run without a failure.
    pub(crate) fn target(&self) -> Option<&FailingTask> {
        self.0.last()
    }

    /// The failing calls of a task.
    pub(crate) fn find(&self, task: &NodeName, action: Action) -> Option<&FailingTask> {
        self.0.iter().find(|failing| failing.node == *task && failing.action == action)
    }

    /// Whether some calls of a task fail.
    pub(crate) fn concerns(&self, task: &NodeName) -> bool {
        self.0.iter().any(|failing| failing.node == *task)
    }

    /// The failing calls as JSON.
    pub(crate) fn describe(&self) -> Vec<FailingCall> {
        let describe = |failing: &FailingTask| FailingCall {
            node: failing.node.to_string(),
            action: failing.action.into(),
            fails: match failing.tries {
                Tries::All => FailingTries::Always,
                Tries::First => FailingTries::FirstTry,
            },
        };
        self.0.iter().map(describe).collect()
    }
}

/// The failure of a call: another attempt may help, so the retries of the task are used up.
pub(crate) fn failure() -> Failure {
    Failure::new(FailureKind::Transient, MESSAGE)
}

/// The failure of a waiting task, of which a person notifies the run.
pub(crate) fn notified_failure() -> Failure {
    Failure::new(FailureKind::Permanent, MESSAGE)
}

/// The element of each list that fails, once it is known. The others succeed, and are rolled back.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailingElements(BTreeMap<(NodeName, Action), NodeName>);

impl FailingElements {
    /// Whether an element is the one that fails; the first one that `may_fail` is.
    pub(crate) fn is_failing(&mut self, element: &NodeName, action: Action, may_fail: bool) -> bool {
        let key = (element.base(), action);
        match self.0.get(&key) {
            Some(failing) => failing == element,
            None if may_fail => {
                self.0.insert(key, element.clone());
                true
            }
            None => false,
        }
    }
}
