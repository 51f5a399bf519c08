//! Edits the flow of a run that no process drives, in its logbook.

use std::sync::Arc;

use api::{EditResult, Edits};
use flow::{RunId, Timestamp};
use logbook::{Append, AppendOutcome, Logbook, MaxUnended, MemoChanges, RunInfo};
use machine::Event;

use super::{EditPlan, EditRequest, conflict, plan_edits};
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
    request: Edits,
    now: Timestamp,
) -> Result<EditResult, Problem> {
    let request = Arc::new(EditRequest::parse(request)?);
    let history = logbook.load(run).await?;
    let (follows, published, info) = (history.version(), history.published, history.info.clone());
    let machine = history.into_machine()?;
    // The available workers are known only once a process drives the run.
    let EditPlan { mut machine, revision, flow, edited, .. } =
        plan_edits(library, &QueueCoverage::AnyWorker, machine, &request, None).await?;
    if request.dry_run {
        return Ok(edited);
    }
    let flow = store::values::put_large_of_flow(&*library.store, flow).await;
    let flow = flow.map_err(|error| Problem::internal(&error))?;
    let records = machine.decide(now, &Event::Edit { revision, flow });
    for record in &records {
        // The next driver of the run sends the commands; until then they are unanswered.
        machine.evolve(record).map_err(|error| Problem::internal(&error))?;
    }
    if records.is_empty() {
        return Err(conflict("the run cannot be changed like this any more".into()));
    }
    let info = RunInfo { flow: machine.flow().name.clone(), state: machine.state(), ..info };
    let max_unended = MaxUnended::default();
    let memos = MemoChanges::default();
    let append = Append { run: run.clone(), follows, records, info, logs: Vec::new(), published, max_unended, memos };
    let appended = logbook.append(vec![append]).await.map_err(|error| Problem::internal(&error))?;
    match appended[..] {
        [AppendOutcome::Durable] => Ok(EditResult { applied: true, ..edited }),
        _ => Err(conflict("another process changed the run at the same time".into())),
    }
}
