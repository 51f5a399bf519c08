//! What a rollback receives.

use std::{collections::BTreeMap, iter::FromIterator, ops::Deref};

use crate::RecordedFailure;

/// The outcome of `apply`. A rollback must be correct in all three cases, and when it is called repeatedly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It succeeded and provided this.
    Provided(T),
    /// It failed. It may have done part of its work.
    Failed(RecordedFailure),
    /// Its result was lost: it may have succeeded.
    Unknown,
}

/// The tasks of the run that failed, by their names in the flow, and why: the first 16, with messages of 2 KiB at most.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failures(BTreeMap<String, RecordedFailure>);

impl Deref for Failures {
    type Target = BTreeMap<String, RecordedFailure>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromIterator<(String, RecordedFailure)> for Failures {
    fn from_iter<I: IntoIterator<Item = (String, RecordedFailure)>>(failures: I) -> Self {
        Self(failures.into_iter().collect())
    }
}
