//! Loads the machine of a run as it is now.

use std::sync::Arc;

use flow::RunId;
use logbook::{LoadError, Logbook, Replay};
use machine::Machine;

/// The number of records after the snapshot that are read with it.
const FIRST_RECORDS: usize = 1_000;

/// Loads the machine of a run from its last snapshot and the records after it. Others go on between two pages of records.
///
/// # Errors
/// [`LoadError`] when there is no such run, or it cannot be read.
pub(super) async fn load_current(logbook: &Arc<dyn Logbook>, run: &RunId) -> Result<Machine, LoadError> {
    let history = logbook.load_within(run, FIRST_RECORDS).await?;
    let (mut replay, mut records) = Replay::of(history, logbook.clone())?;
    loop {
        for record in &records {
            replay.apply(record)?;
        }
        records = replay.read().await?.records;
        if records.is_empty() {
            return replay.into_machine().ok_or_else(|| LoadError::Missing { run: run.clone() });
        }
    }
}
