//! Shows the graph of a run: its tasks, nested flows and links, with their states.

use std::sync::Arc;

use api::{GraphLink, GraphNode, GraphNodeKind, GraphQuery, LinkCondition, RunGraph};
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use flow::{
    Flow, NodeKind, Revision, RunId,
    picture::{Outline, OutlineArrow, OutlineShape, ShapeKind},
};
use logbook::{Logbook, ReadError, Version};
use machine::{Fact, Machine};

use super::history::load_run;
use crate::{
    auth::permission::Permission,
    extract::{Query, Run},
    problem::Problem,
    state::Shared,
};

/// The number of records that are searched at once for a revision.
const PAGE_RECORDS: usize = 1_000;

/// The memory for a node or a link in the answer while it is made, without long conditions.
const BYTES_OF_PART: usize = 1 << 10;

/// Shows the graph of a run.
///
/// It has the tasks, nested flows and links of its flow. The graph of the last revision has the states of the run, that of an earlier
/// one has none. A task with a list is one node with the number of its elements: `/elements/{task}` shows them.
#[utoipa::path(get, operation_id = "run_graph", path = "/v1/runs/{run}/graph", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"), GraphQuery),
    responses(
        (status = 200, description = "The graph", body = RunGraph),
        (status = 404, description = "There is no such run, or its records have no such revision", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn graph(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    Run(run): Run,
    Query(GraphQuery { revision }): Query<GraphQuery>,
) -> Result<Response, Problem> {
    let logbook = &state.dependencies.logbook;
    let loaded = load_run(logbook, &run).await?;
    let last = loaded.machine().revision();
    let earlier = match revision.map(Revision::new) {
        Some(revision) if revision != last => {
            Some((flow_of_revision(&**logbook, &run, revision, last).await?, revision))
        }
        Some(_) | None => None,
    };
    let (state, sender) = (state.clone(), permission.sender().clone());
    let show = move |machine: &Machine| {
        let (flow, revision, machine) = match earlier {
            Some((flow, revision)) => (flow, revision, None),
            None => (machine.flow().clone(), last, Some(machine)),
        };
        let memory = state.large_answers.take(&sender, size(&flow))?;
        let graph = shown(&run, &flow, revision.get(), last, machine);
        memory.json(serde_json::to_vec(&graph).expect("strings and numbers are JSON"))
    };
    loaded.answer(show).await
}

/// The memory that the graph of a flow takes while the answer is made, at least.
pub(super) fn size(flow: &Flow) -> usize {
    let parts = flow.nodes.iter().map(|node| 1 + node.before.len() + node.links.len()).sum::<usize>();
    let conditions = flow.nodes.iter().flat_map(|node| &node.links).filter_map(|link| link.when.as_ref());
    parts * BYTES_OF_PART + 2 * conditions.map(|condition| condition.to_string().len()).sum::<usize>()
}

/// The flow of an earlier revision.
pub(super) async fn flow_of_revision(
    logbook: &dyn Logbook,
    run: &RunId,
    wanted: Revision,
    last: Revision,
) -> Result<Arc<Flow>, Problem> {
    let missing = |reason: String| {
        let detail = format!("the records of run {run} have no revision {} of its flow: {reason}", wanted.get());
        Problem::new(StatusCode::NOT_FOUND, "no-such-revision", "the run has no such revision", detail)
            .hint("leave the revision out for the last one; `waft show RUN` or GET /v1/runs/RUN lists the changes")
    };
    let mut version = Version::NONE;
    let mut was_trimmed = false;
    while wanted.get() < last.get() {
        let records = match logbook.read(run, version, PAGE_RECORDS).await {
            Ok(records) => records,
            Err(ReadError::Trimmed { version: trimmed, .. }) => {
                (version, was_trimmed) = (trimmed, true);
                continue;
            }
            Err(ReadError::Load(error)) => return Err(error.into()),
        };
        if records.is_empty() {
            break;
        }
        let mut flows = records.iter().filter_map(|record| match &record.fact {
            Fact::RunStarted { flow, revision, .. } | Fact::Edited { flow, revision } => Some((flow, *revision)),
            _ => None,
        });
        if let Some((flow, _)) = flows.find(|(_, revision)| *revision == wanted) {
            return Ok(flow.clone());
        }
        version = version.after(&records);
    }
    Err(missing(match was_trimmed {
        true => "its oldest records were deleted, as in every long-lived run".into(),
        false => format!("the last one is {}", last.get()),
    }))
}

/// The graph of a flow, with the states of a machine that executes it.
pub(super) fn shown(run: &RunId, flow: &Flow, revision: u64, last: Revision, machine: Option<&Machine>) -> RunGraph {
    let Outline { retry, shapes, arrows } = flow::picture::outline(flow);
    RunGraph {
        run: run.to_string(),
        flow: flow.name.to_string(),
        revision,
        last_revision: last.get(),
        retry,
        nodes: shapes.into_iter().map(|shape| shown_node(shape, machine)).collect(),
        links: arrows.into_iter().map(shown_link).collect(),
    }
}

fn shown_node(shape: OutlineShape, machine: Option<&Machine>) -> GraphNode {
    let OutlineShape { name, node, kind, within, triggers, retry, is_failure_handler, retired } = shape;
    let (kind, of) = match kind {
        ShapeKind::Task => (GraphNodeKind::Task, Some(NodeKind::Task)),
        ShapeKind::ForEach => (GraphNodeKind::ForEach, Some(NodeKind::Task)),
        ShapeKind::Wait => (GraphNodeKind::Wait, Some(NodeKind::Task)),
        // A flow without a retry controller has no state of its own.
        ShapeKind::Flow => (GraphNodeKind::Flow, retry.is_some().then_some(NodeKind::Retry)),
    };
    let progress = machine.and_then(|machine| machine.progress(node));
    GraphNode {
        name: name.to_string(),
        kind,
        within: within.map(|within| within.to_string()),
        triggers,
        retry,
        is_failure_handler,
        removed: retired,
        state: machine.zip(of).map(|(machine, of)| api::NodeState::of(of, machine.node_state(node))),
        elements: progress
            .map(|(count, succeeded)| api::ElementProgress { count: count as u64, succeeded: succeeded as u64 }),
    }
}

fn shown_link(OutlineArrow { from, to, values, links, is_back_edge }: OutlineArrow) -> GraphLink {
    let condition = |link: flow::picture::OutlineLink| LinkCondition { on: link.on.into(), when: link.when };
    GraphLink {
        from: from.to_string(),
        to: to.to_string(),
        values: values.iter().map(ToString::to_string).collect(),
        conditions: links.into_iter().map(condition).collect(),
        back: is_back_edge,
    }
}
