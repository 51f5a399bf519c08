//! Edits the flow of a run that no process drives, in its logbook.

use std::sync::Arc;

use client::api::{EditResult, Edits};
use flow::{Event, RunId, Timestamp};
use logbook::{Append, AppendOutcome, Logbook, RunInfo};

use super::{Planned, all_lawful, conflict, planned};
use crate::{ModuleLibrary, QueueCoverage, problem::Problem};

/// Edits the flow of a run that no process drives: it makes all of the edits in one step, or none of them. The next driver
/// of the run continues with the changed flow. The caller holds the lock of the run.
///
/// # Errors
/// [`Problem`] when the edits cannot be made, or the logbook cannot be read or written.
pub async fn edit_alone(
    logbook: &dyn Logbook,
    library: &ModuleLibrary,
    run: &RunId,
    wanted: &Edits,
    now: Timestamp,
) -> Result<EditResult, Problem> {
    let edits = all_lawful(wanted)?;
    let history = logbook.load(run).await?;
    let (follows, told, standing) = (history.version(), history.told, history.standing.clone());
    let mut machine = history.into_machine()?;
    // The available workers are known only once a process drives the run.
    let Planned { revision, flow, edited } =
        planned(library, &QueueCoverage::AnyWorker, &machine, wanted, &edits).await?;
    if wanted.dry_run {
        return Ok(edited);
    }
    let flow = store::values::put_large_of_flow(&*library.store, Arc::new(flow)).await;
    let flow = flow.map_err(|error| Problem::unavailable(error.to_string()))?;
    let records = machine.decide(now, &Event::Edit { revision, flow });
    for record in &records {
        // The next driver of the run sends the commands; until then they are unanswered.
        machine.evolve(record).map_err(|error| Problem::internal(&error))?;
    }
    if records.is_empty() {
        return Err(conflict("the run cannot be changed so by now".into()));
    }
    let standing = RunInfo { flow: machine.flow().name.clone(), state: machine.state(), ..standing };
    let append = Append { run: run.clone(), follows, records, info: standing, logs: Vec::new(), published: told };
    let appended = logbook.append(vec![append]).await.map_err(|error| Problem::internal(&error))?;
    match appended[..] {
        [AppendOutcome::Durable] => Ok(EditResult { applied: true, ..edited }),
        _ => Err(conflict("the run was changed by somebody else in the same moment".into())),
    }
}
