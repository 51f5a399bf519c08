//! Reads the histories of runs for requests. A long one is read in turn and page by page, and no further once its request is dropped:
//! so many requests for long histories take neither all memory nor all threads. A short one needs no turn.

use std::sync::Arc;

use flow::{Namespace, RunId};
use logbook::{LoadError, Logbook, Page, Replay, Summary, Version};
use machine::Machine;
use tokio::task::{spawn_blocking, yield_now};

use crate::turns::{self, Turn};

/// The maximum number of records that are read at once: they take milliseconds. A history is short if one read has all of it.
const PAGE_RECORDS: usize = 500;

/// The history of a run that is being read.
pub(crate) struct HistoryReader {
    /// Applies the records.
    pub(crate) replay: Replay,
    /// The version that the run had at first.
    latest: Version,
    owner: Option<Namespace>,
    turn: Option<Turn>,
    has_read: bool,
}

impl HistoryReader {
    /// Starts before the first record.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run, or it cannot be read.
    pub(crate) async fn open(logbook: &Arc<dyn Logbook>, run: &RunId) -> Result<Self, LoadError> {
        Ok(Self::of(&logbook.summary(run).await?, logbook))
    }

    /// Starts before the first record of a run whose summary is known.
    pub(crate) fn of(summary: &Summary, logbook: &Arc<dyn Logbook>) -> Self {
        let replay = Replay::new(summary.run.clone(), logbook.clone());
        let (latest, owner) = (summary.version, summary.info.flow.namespace());
        Self { replay, latest, owner, turn: None, has_read: false }
    }

    /// Reads the next page of records; empty if there are none yet. A long history has a turn from here until the reader is dropped.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run, or it cannot be read.
    pub(crate) async fn read(&mut self) -> Result<Page, LoadError> {
        if is_long(self.latest) {
            self.take_turn().await;
        }
        if self.has_read {
            // The records of a page keep the thread for milliseconds.
            yield_now().await;
        }
        self.has_read = true;
        let mut page = self.replay.read_at_most(PAGE_RECORDS).await?;
        let is_complete = page.records.is_empty() || self.replay.version().after(&page.records) >= self.latest;
        if self.turn.is_none() && !is_complete {
            // Its records are large. Nothing of them is in memory while it waits.
            let starts_replay = page.starts_replay;
            drop(page);
            self.take_turn().await;
            page = self.replay.read_at_most(PAGE_RECORDS).await?;
            page.starts_replay |= starts_replay;
        }
        Ok(page)
    }

    async fn take_turn(&mut self) {
        if self.turn.is_none() {
            self.turn = Some(turns::for_history(self.owner.clone()).await);
        }
    }
}

fn is_long(version: Version) -> bool {
    version.get() > PAGE_RECORDS as u64
}

/// Loads a run as its records are now, from its last snapshot. If its history is long, the turn is to be kept as long as the
/// machine, unless another turn bounds the machines of its kind.
///
/// # Errors
/// [`LoadError`] when there is no such run, or it cannot be read.
pub(crate) async fn load_machine(
    logbook: &Arc<dyn Logbook>,
    run: &RunId,
) -> Result<(Machine, Option<Turn>), LoadError> {
    let summary = logbook.summary(run).await?;
    if !is_long(summary.version) {
        let history = logbook.load_within(run, PAGE_RECORDS).await?;
        if history.is_complete() {
            return Ok((in_thread(|| history.into_machine()).await?, None));
        }
        // Its records are large. Nothing of them is in memory while it waits.
    }
    let turn = turns::for_history(summary.info.flow.namespace()).await;
    let history = logbook.load_within(run, PAGE_RECORDS).await?;
    let logbook = logbook.clone();
    let (mut replay, mut records) = in_thread(|| Replay::of(history, logbook)).await?;
    loop {
        for record in &records {
            replay.apply(record)?;
        }
        yield_now().await;
        records = replay.read_at_most(PAGE_RECORDS).await?.records;
        if records.is_empty() {
            let machine = replay.into_machine().ok_or_else(|| LoadError::Missing { run: run.clone() })?;
            return Ok((machine, Some(turn)));
        }
    }
}

/// Restores a machine in a thread of its own, since a large flow takes long.
async fn in_thread<Restored: Send + 'static>(restore: impl FnOnce() -> Restored + Send + 'static) -> Restored {
    spawn_blocking(restore).await.expect("a damaged run is an error and no panic")
}

#[cfg(test)]
mod tests;
