//! Results that the logbook remembers for the namespaces of flows, so that later runs need not call the task again.
//!
//! They are no part of a run: no run is read from them, and a result that is missing only costs a call. A result is written with
//! the records of the run that has computed it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use flow::{Digest, Firing, Namespace, NodeName, RunId, Timestamp};
use protocol::{MemoAddress, RememberedResult};

use crate::{AppendError, LoadError, row::column};

/// What the records of an append change in the remembered results. The results are remembered first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoChanges {
    /// Results of calls that succeeded. Each replaces an earlier one at its address.
    pub remembered: Vec<NewResult>,
    /// Calls that are rolled back: what they computed is forgotten.
    pub forgotten: Vec<RolledBackTask>,
}

impl MemoChanges {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remembered.is_empty() && self.forgotten.is_empty()
    }
}

/// A result to remember.
#[derive(Debug, Clone, PartialEq)]
pub struct NewResult {
    /// Where it is found.
    pub address: MemoAddress,
    /// The result.
    pub result: RememberedResult,
    /// From when on it no longer counts; `None` for never.
    pub expires_at: Option<Timestamp>,
}

/// A task of a run that is rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBackTask {
    /// The namespace of the flow. A run of another namespace may have had the same id, and be deleted since.
    pub namespace: Option<Namespace>,
    /// The run.
    pub run: RunId,
    /// The task, or the element of its list.
    pub task: NodeName,
    /// The firing.
    pub firing: Firing,
}

/// How much is remembered of each namespace. If a limit is 0, nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoLimits {
    /// The maximum number of results.
    pub results: u64,
    /// The maximum of their bytes, those of values in the store included.
    pub bytes: u64,
}

impl Default for MemoLimits {
    fn default() -> Self {
        Self { results: 100_000, bytes: 1 << 30 }
    }
}

impl MemoLimits {
    /// No limits.
    pub const NONE: Self = Self { results: u64::MAX, bytes: u64::MAX };

    /// Nothing may be remembered.
    pub const ZERO: Self = Self { results: 0, bytes: 0 };

    /// Whether nothing may be remembered.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.results == 0 || self.bytes == 0
    }
}

/// The remembered results of a logbook.
#[async_trait]
pub trait Memos: Send + Sync + 'static {
    /// The results at these addresses that have not expired at a time, in their order; `None` where there is none, or one that
    /// cannot be read.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn remembered(
        &self,
        addresses: &[MemoAddress],
        now: Timestamp,
    ) -> Result<Vec<Option<RememberedResult>>, LoadError>;

    /// Forgets the results that have expired at a time, and the oldest ones of each namespace that has more than the limits
    /// allow; returns their number.
    ///
    /// # Errors
    /// [`AppendError`] when it stopped early.
    async fn trim_remembered(&self, limits: MemoLimits, now: Timestamp) -> Result<u64, AppendError>;

    /// The digests of the values in the store that are remembered.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn remembered_digests(&self) -> Result<BTreeSet<Digest>, LoadError>;
}

/// The maximum number of results that are deleted in one transaction: appends run in between.
pub(crate) const DELETE_BATCH: usize = 500;

/// The largest size of one result in a column: the sum of all sizes has to fit a column, too.
const MAX_SIZE: u64 = 1 << 40;

/// A result as the columns of its row.
pub(crate) struct MemoRow {
    pub(crate) run: String,
    pub(crate) task: String,
    pub(crate) firing: i64,
    pub(crate) at: i64,
    /// The maximum for a result that never expires.
    pub(crate) expires_at: i64,
    pub(crate) size: i64,
    /// The digests of its values in the store, one after the other.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

/// The namespace of an address as a column: empty for flows in no namespace. No namespace has an empty name.
pub(crate) fn namespace_column(namespace: Option<&Namespace>) -> String {
    namespace.map(ToString::to_string).unwrap_or_default()
}

/// The rows of some results, each address once and in the order of addresses, so that two writers do not wait for each other.
pub(crate) fn rows(results: Vec<NewResult>) -> BTreeMap<(String, [u8; 32]), MemoRow> {
    let row = |NewResult { address, result, expires_at }: NewResult| {
        let content: Vec<u8> = result.digests().flat_map(|digest| *digest.as_bytes()).collect();
        let call = &result.computed_by;
        let row = MemoRow {
            run: call.run.to_string(),
            task: call.task.to_string(),
            firing: column(call.firing.get()),
            at: column(result.at.as_micros()),
            expires_at: expires_at.map_or(i64::MAX, |at| column(at.as_micros())),
            size: column(result.size().min(MAX_SIZE)),
            content: (!content.is_empty()).then_some(content),
            body: result.encode(),
        };
        ((namespace_column(address.namespace.as_ref()), *address.key.as_bytes()), row)
    };
    results.into_iter().map(row).collect()
}

/// The digests in a column.
pub(crate) fn digests_of(content: &[u8]) -> impl Iterator<Item = Digest> + use<'_> {
    let (digests, _) = content.as_chunks::<32>();
    digests.iter().map(|digest| Digest::from_bytes(*digest))
}

/// What a namespace has beyond its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Excess {
    results: u64,
    bytes: u64,
}

impl Excess {
    /// What a number of results with these bytes together exceeds; `None` within the limits.
    pub(crate) fn of(results: u64, bytes: u64, limits: MemoLimits) -> Option<Self> {
        let excess =
            Self { results: results.saturating_sub(limits.results), bytes: bytes.saturating_sub(limits.bytes) };
        (excess.results > 0 || excess.bytes > 0).then_some(excess)
    }

    /// The first of these results, the oldest first, without which the rest is within the limits, as far as they suffice.
    pub(crate) fn oldest<Id>(self, results: impl IntoIterator<Item = (Id, u64)>) -> Vec<Id> {
        let Self { results: mut count, mut bytes } = self;
        let is_excess = |(_, size): &(Id, u64)| {
            let is_excess = count > 0 || bytes > 0;
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(*size);
            is_excess
        };
        results.into_iter().take_while(is_excess).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_results_go_until_both_limits_hold() {
        let limits = MemoLimits { results: 3, bytes: 100 };
        let oldest = |results, bytes, sizes: &[u64]| {
            Excess::of(results, bytes, limits).map(|excess| excess.oldest((0..).zip(sizes.iter().copied())))
        };
        assert_eq!(oldest(3, 100, &[1, 1, 1]), None);
        assert_eq!(oldest(5, 10, &[2; 5]), Some(vec![0, 1]));
        assert_eq!(oldest(3, 130, &[10, 25, 95]), Some(vec![0, 1]));
        assert_eq!(oldest(1, 500, &[500]), Some(vec![0]));
        assert_eq!(oldest(2, 101, &[0, 101]), Some(vec![0, 1]), "one without bytes goes before it");
    }
}
