//! Answers a dry run of edits with the flow as it would be.

use std::sync::Arc;

use api::{EditPreview, EditResult};
use axum::response::Response;
use flow::{Flow, Revision, RunId};

use crate::{
    problem::Problem,
    runs::{flow_text, graph},
    shares::Sender,
    state::State,
    turns,
};

/// Answers with the result of a dry run of a run's edits, and with the flow as it would be.
pub(super) async fn answer(
    state: &State,
    sender: &Sender,
    (run, edited): (RunId, EditResult),
    flow: Arc<Flow>,
) -> Result<Response, Problem> {
    let memory = state.large_answers.take(sender, size(&flow))?;
    // Writing a flow may take long.
    let json = turns::in_turn(flow.name.namespace(), move || encode(&run, edited, &flow)).await;
    memory.json(json)
}

/// The memory of the answer while it is made, in bytes.
fn size(flow: &Flow) -> usize {
    graph::size(flow) + flow.origin.as_deref().map_or(0, flow_text::size)
}

fn encode(run: &RunId, edited: EditResult, flow: &Flow) -> Vec<u8> {
    let last = Revision::new(edited.revision.saturating_sub(1));
    let graph = graph::shown(run, flow, edited.revision, last, None);
    let text = flow.origin.as_deref().and_then(|source| flow_text::written(source, &flow.name).ok());
    let edited = EditResult { preview: Some(Box::new(EditPreview { graph, text })), ..edited };
    serde_json::to_vec(&edited).expect("strings and numbers are JSON")
}
