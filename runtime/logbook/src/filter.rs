//! The filters of lists: which runs, and which attempts of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use flow::{
    Action, Attempt, Firing, FlowName, LabelCondition, LabelValue, Namespace, NodeName, RunId, RunState, Shard,
    Timestamp,
};
use protocol::AttemptLog;

use crate::{Summary, Version};

/// The maximum number of runs that are counted: more take longer than a request for a page should.
pub const MAX_COUNTED: u64 = 1_000_000;

/// Selects runs for a list. The list is ordered by start time, then by id, both descending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Only runs of this flow.
    pub flow: Option<FlowName>,
    /// Only runs of flows in this namespace.
    pub namespace: Option<Namespace>,
    /// Only runs of this shard.
    pub shard: Option<Shard>,
    /// Only runs with all of these labels.
    pub labels: Vec<LabelCondition>,
    /// Only runs whose id begins with this text, or that have it as the value of a label or as a short input.
    pub text: Option<LabelValue>,
    /// Only runs in one of these states; empty means any state.
    pub states: Vec<RunState>,
    /// Only runs started at or after this time.
    pub since: Option<Timestamp>,
    /// Only runs started before this time.
    pub until: Option<Timestamp>,
    /// Only runs after this one in the order of the list: the end of the previous page.
    pub after: Option<(Timestamp, RunId)>,
    /// The maximum number of runs.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            flow: None,
            namespace: None,
            shard: None,
            labels: Vec::new(),
            text: None,
            states: Vec::new(),
            since: None,
            until: None,
            after: None,
            limit: 100,
        }
    }
}

impl Filter {
    /// Whether it selects a run that is found by some texts.
    pub(crate) fn selects(&self, run: &Summary, search_texts: &BTreeSet<LabelValue>) -> bool {
        let Self { flow, namespace, shard, labels, text, states, since, until, after: _, limit: _ } = self;
        let is_found = |text: &LabelValue| {
            let begins = RunId::new(text.as_str()).is_ok() && run.run.as_str().starts_with(text.as_str());
            begins || search_texts.contains(text)
        };
        flow.as_ref().is_none_or(|flow| *flow == run.info.flow)
            && namespace.as_ref().is_none_or(|namespace| run.info.flow.namespace().as_ref() == Some(namespace))
            && shard.as_ref().is_none_or(|shard| *shard == run.info.shard)
            && labels.iter().all(|label| label.holds_for(&run.labels))
            && text.as_ref().is_none_or(is_found)
            && (states.is_empty() || states.contains(&run.info.state))
            && since.is_none_or(|since| run.started_at >= since)
            && until.is_none_or(|until| run.started_at < until)
    }
}

/// How many runs a filter selects, by flow and state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// The number of the runs of each flow in each state, of the first flows by name.
    pub flows: BTreeMap<FlowName, Vec<(RunState, u64)>>,
    /// The number of all runs: at most [`MAX_COUNTED`].
    pub total: u64,
    /// Whether there are more flows, or more runs than are counted.
    pub more: bool,
}

/// Selects attempts of a run for a list. The list is ordered by when their results were recorded, the youngest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// Only attempts of this task; of a task with `for_each`, also those of its elements.
    pub task: Option<NodeName>,
    /// Only attempts in this firing.
    pub firing: Option<Firing>,
    /// Only attempts with this number.
    pub attempt: Option<Attempt>,
    /// Only attempts to apply, or to roll back.
    pub action: Option<Action>,
    /// Only attempts before this one: the end of the previous page.
    pub before: Option<LogPosition>,
    /// The maximum number of attempts.
    pub limit: usize,
    /// The maximum number of stored logs with exchanges that are looked at. Those that are not selected count too, so a page may be
    /// empty and not the last one.
    pub max_looked_at: usize,
}

impl Default for LogFilter {
    fn default() -> Self {
        let (firing, attempt) = (None, None);
        Self { task: None, firing, attempt, action: None, before: None, limit: 100, max_looked_at: 1_000 }
    }
}

impl LogFilter {
    /// Whether it selects an attempt, wherever it is.
    pub(crate) fn selects(&self, AttemptLog { call, .. }: &AttemptLog) -> bool {
        let Self { task, firing, attempt, action, before: _, limit: _, max_looked_at: _ } = self;
        let is_of = |task: &NodeName| call.task == *task || call.task.as_element().is_some_and(|(of, _)| of == *task);
        task.as_ref().is_none_or(is_of)
            && firing.is_none_or(|firing| firing == call.firing)
            && attempt.is_none_or(|attempt| attempt == call.attempt)
            && action.is_none_or(|action| action == call.action)
    }
}

/// The position of an attempt among the logs of its run. As text, it is a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The version that the records follow with which it was appended.
    pub(crate) first: u64,
    /// Its number among the logs of the append.
    pub(crate) number: u64,
}

impl LogPosition {
    /// The position of the first log of a run.
    pub const START: Self = Self { first: 0, number: 0 };

    /// The position of the first log that came with records after a version.
    #[must_use]
    pub const fn at(version: Version) -> Self {
        Self { first: version.get(), number: 0 }
    }

    /// The position behind it: no log is in between.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { first: self.first, number: self.number.saturating_add(1) }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.first, self.number)
    }
}

/// A text that is no position of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the position of an attempt")]
pub struct InvalidPosition(String);

impl FromStr for LogPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let parse = || {
            let (first, number) = text.split_once('.')?;
            Some(Self { first: first.parse().ok()?, number: number.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidPosition(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_cursor() {
        let position = LogPosition { first: 12, number: 3 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "12", "12.", "12.x", "-1.2", "1.2.3"] {
            assert_eq!(text.parse::<LogPosition>(), Err(InvalidPosition(text.to_owned())));
        }
    }
}
