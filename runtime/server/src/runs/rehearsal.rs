//! Rehearses how a run goes on if one of its tasks fails, without calling a guest.
//!
//! A rehearsal takes seconds of a processor. So it has limits: the size of the run, the steps, the bytes and the time. A sender has one at a
//! time, and requests for the same rehearsal share it. It holds no turn at reading runs: others read theirs meanwhile.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use ::rehearsal::{Limits, Modules, Request, Results, Stubs, UnknownNode, rehearse_recorded};
use api::{Rehearsal, RehearsalQuery};
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use bytes::Bytes;
use engine::{Clock as _, SystemClock};
use flow::{Flow, NodeName};
use logbook::Version;
use machine::Machine;
use sandbox::Owner;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{history::load_machine, incarnation::Incarnation};
use crate::{
    Dependencies, ModuleLibrary,
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::{Query, Run},
    problem::{Problem, chain},
    shared_answers::SharedAnswers,
    state::{self, Shared},
    turns::{self, Turn},
    wiring::MAX_DESCRIPTION_BYTES,
};

/// Number of different rehearsals at the same time. With two, an owner has one at a time. Each also needs a turn at wiring, of which one is
/// left for the flows of others.
pub(crate) const MAX_AT_ONCE: usize = 2;

/// The maximum number of nodes of a flow. Each case describes all of them, so only a part of the cases of a larger flow would have steps left.
const MAX_NODES: usize = 1_000;

/// The maximum number of nodes and list elements in the firings of a run, and of each case. Each case begins with a copy of the run.
const MAX_RUN_NODES: usize = 20_000;

/// The maximum number of values and parameters of a flow. The stub for one has at most 16 KB.
const MAX_VALUES: usize = 4_000;

/// The maximum number of steps of a rehearsal. They take some seconds.
const MAX_STEPS: usize = 1_000_000;

/// The maximum bytes of the descriptions of all cases.
const MAX_REPORT_BYTES: usize = 4 << 20;

/// The maximum bytes of an answer, with its stubs.
const MAX_ANSWER_BYTES: usize = 2 * MAX_REPORT_BYTES;

/// The longest time of a rehearsal, once it has begun.
const MAX_TIME: Duration = Duration::from_secs(10);

/// The longest time in which the modules of a flow are found. One that is not compiled yet takes some seconds.
const MAX_FINDING: Duration = Duration::from_secs(20);

/// Rehearsals as JSON.
pub(crate) type RehearsalAnswers = SharedAnswers<Question, Bytes>;

/// What is rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question {
    run: Incarnation,
    /// The number of its records when it was asked: after a command, an answer from before would be wrong.
    version: Version,
    node: Option<NodeName>,
    from_start: bool,
}

/// Rehearses what happens if a task of a run fails now.
///
/// No guest is called, and the run is not changed: the state machine goes on alone, with stubs in place of results. Each case has another
/// failure: what is retried, what is rolled back in which order, and what needs a person. An answer has at most 4 MiB of cases, and counts
/// those that are left out: `node` selects the cases of one task.
#[utoipa::path(get, operation_id = "rehearse_run", path = "/v1/runs/{run}/rehearsal", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"), RehearsalQuery),
    responses(
        (status = 200, description = "The rehearsal", body = Rehearsal),
        (status = 400, description = "The query cannot be read", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such run, or it has no such task", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "The run has ended, so nothing of it can fail: `from_start` rehearses its flow", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "The run is too large to be rehearsed by the server", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The modules of the flow were not found in time, or the server sends as many large answers as it has memory for",
            body = api::Problem, content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn rehearse(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    Extension(CallerNamespace(owner)): Extension<CallerNamespace>,
    Run(run): Run,
    Query(RehearsalQuery { node, from_start }): Query<RehearsalQuery>,
) -> Result<Response, Problem> {
    let node = node.map(NodeName::new).transpose();
    let node = node.map_err(|error| Problem::bad_request(format!("node: {error}")))?;
    let summary = state.dependencies.logbook.summary(&run).await?;
    let question = Question { run: Incarnation::of(&summary), version: summary.version, node, from_start };
    let asking = answer(state.clone(), question.clone(), owner.clone());
    let json = state.rehearsal_answers.get(question, owner, asking).await?;
    state.large_answers.json(permission.sender(), json)
}

/// Makes the answer for a sender, who may be limited to a namespace.
async fn answer(state: Arc<state::State>, question: Question, owner: Owner) -> Result<Bytes, Problem> {
    let Dependencies { logbook, modules: library, .. } = &state.dependencies;
    let turn = turns::for_wired_run(owner.clone()).await;
    let (machine, read) = load_machine(logbook, question.run.run()).await?;
    // Its history has been read: others may read theirs while this one waits for its turn at wiring.
    drop(read);
    // A run that was deleted meanwhile may have left its id to one of another namespace.
    let of_run = question.run.summary(&**logbook).await.map_err(Problem::from);
    let found = match of_run.and_then(|_| check(&machine, question.from_start)) {
        Ok(()) => find_modules(library, machine.flow()).await,
        Err(problem) => Err(problem),
    };
    let (modules, prepared) = match found {
        Ok(found) => found,
        Err(problem) => {
            turns::drop_in_thread((machine, turn));
            return Err(problem);
        }
    };
    let stop = state.stop.clone();
    let work = move || {
        // The turns end after the machine, which also takes long to be dropped.
        let _turns = (turn, prepared);
        rehearsed(machine, &modules, question, &stop)
    };
    turns::in_turn(owner, work).await
}

/// Checks whether a run can be rehearsed here.
fn check(machine: &Machine, from_start: bool) -> Result<(), Problem> {
    let (run, flow, state) = (machine.run(), machine.flow(), machine.state());
    if state.is_final() && !from_start {
        let detail = format!("run {run} has ended in {state}: nothing of it can fail any more");
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", "the run is not in a state for that", detail)
            .hint("from_start=true, or `waft rehearse FLOW`, rehearses a new run of its flow"));
    }
    let run_nodes = if from_start { 0 } else { machine.node_count() };
    let sizes = [
        (flow.nodes.len(), MAX_NODES, "nodes in its flow"),
        (run_nodes, MAX_RUN_NODES, "nodes and list elements"),
        (Stubs::search_size(flow), MAX_VALUES, "values and parameters of its tasks"),
    ];
    match sizes.into_iter().find(|(size, most, _)| size > most) {
        None => Ok(()),
        Some((size, most, what)) => {
            Err(too_large(format!("run {run} has {size} {what}, and the server rehearses at most {most}")))
        }
    }
}

fn too_large(detail: String) -> Problem {
    let title = "the run is too large to be rehearsed by the server";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too-large", title, detail)
        .hint("`waft rehearse --against RUN --node TASK` rehearses it on a machine with its logbook")
}

/// Finds the modules of a flow that are in the store and may run here, with the turn at having their descriptions in memory. Of the results
/// of other modules nothing is known.
async fn find_modules(library: &ModuleLibrary, flow: &Flow) -> Result<(Modules, Turn), Problem> {
    let namespace = flow.name.namespace();
    let prepared = turns::for_preparation(namespace.clone()).await;
    let find = async {
        let (mut modules, mut sought, mut bytes) = (Modules::new(), BTreeSet::new(), 0);
        for (_, task, call) in flow.tasks() {
            if !sought.insert(call.module) {
                continue;
            }
            match library.find_admitted(&call.module.to_string(), namespace.as_ref()).await {
                Ok(found) => {
                    bytes += found.content.description_size();
                    if bytes > MAX_DESCRIPTION_BYTES {
                        return Err(too_large(format!(
                            "the modules of its flow describe their tasks with more than {MAX_DESCRIPTION_BYTES} bytes"
                        )));
                    }
                    modules.insert(found.digest, found.content);
                }
                Err(error) => debug!(%task, error = chain(&error), "nothing is known of the results of a task"),
            }
        }
        Ok((modules, prepared))
    };
    timeout(MAX_FINDING, find).await.unwrap_or_else(|_| {
        let detail = format!("the modules of the flow were not found within {} s", MAX_FINDING.as_secs());
        Err(Problem::unavailable(detail).hint("try again: those that were compiled meanwhile take no time then"))
    })
}

/// Rehearses a run in a thread that may block.
fn rehearsed(
    machine: Machine,
    modules: &Modules,
    Question { node, from_start, .. }: Question,
    stop: &CancellationToken,
) -> Result<Bytes, Problem> {
    let began = Instant::now();
    let is_over = || stop.is_cancelled() || began.elapsed() > MAX_TIME;
    let limits = Limits { steps: MAX_STEPS, nodes: MAX_RUN_NODES, report_bytes: MAX_REPORT_BYTES, is_over: &is_over };
    let flow = machine.flow().clone();
    let stubs = Stubs::new(&flow, modules, &Results::default()).expect("no results are given, so none is invalid");
    let request = Request { stubs: &stubs, now: SystemClock.now(), only: node, limits };
    let rehearsal = match from_start {
        true => {
            drop(machine);
            ::rehearsal::rehearse(flow, &request)
        }
        false => rehearse_recorded(machine, &request),
    };
    let json = serde_json::to_vec(&rehearsal.map_err(unknown_task)?).expect("strings and numbers are JSON");
    if json.len() > MAX_ANSWER_BYTES {
        let size = json.len();
        return Err(too_large(format!("it has {size} bytes, and the server answers at most {MAX_ANSWER_BYTES}")));
    }
    Ok(json.into())
}

fn unknown_task(error: UnknownNode) -> Problem {
    let detail = error.to_string();
    Problem::new(StatusCode::NOT_FOUND, "no-such-task", "there is no such task", detail).hint(error.hint)
}
