//! Plans edits of a run: whether it can be changed like this, and the flow that it continues with.
//!
//! Planning takes time for large flows, so all of it happens in turn with the reading and wiring of other flows.

use std::{collections::BTreeMap, sync::Arc};

use api::EditResult;
use flow::{Diagnostic, Draft, Edit, Flow, FlowSource, Namespace, Revision, Severity, Timestamp};
use machine::{Fact, Machine, Record};

use super::{EditRequest, conflict};
use crate::{
    ModuleLibrary, QueueCoverage, WiredFlow,
    problem::{Problem, listed},
    runs::submit::{diagnostics_problem, first_diagnostics, unserved_queues, wire},
    turns,
};

/// A plan for valid edits, with their result.
pub(super) struct EditPlan {
    /// The run as it was planned for.
    pub(super) machine: Machine,
    /// The revision that the edits are based on.
    pub(super) revision: Revision,
    /// The flow that the run continues with.
    pub(super) flow: Arc<Flow>,
    /// The bytes of the record of the edits. It has the whole flow, with the text of its file and all edits.
    pub(super) record_bytes: usize,
    /// The answer to the request; the edits are not applied yet.
    pub(super) edited: EditResult,
}

/// Plans edits of a run; changes nothing.
pub(super) async fn plan_edits(
    library: &ModuleLibrary,
    coverage: &QueueCoverage,
    machine: Machine,
    request: &Arc<EditRequest>,
    limited_to: Option<&Namespace>,
) -> Result<EditPlan, Problem> {
    let revision = machine.revision();
    if request.if_revision.is_some_and(|expected| expected != revision.get()) {
        return Err(conflict(format!("the flow of the run is at revision {revision}")));
    }
    let (owner, edits) = (machine.flow().name.namespace(), request.clone());
    let planned =
        turns::in_turn(owner.clone(), move || edited_draft(&machine, &edits).map(|planned| (machine, planned))).await;
    let (machine, (origin, draft)) = planned.map_err(|reasons| conflict(listed(reasons, "; ")))?;
    let (flow, warnings) = edited_flow(library, coverage, &machine, (origin, Arc::new(draft)), limited_to).await?;
    let request = request.clone();
    let check = move || {
        let reasons = machine.edit_errors(&flow);
        let (run, next, edits) = (machine.run().to_string(), revision.next().get(), request.shown());
        let warnings = first_diagnostics(&warnings, Severity::Warning, "");
        let edited = EditResult { run, revision: next, applied: false, edits, warnings, preview: None };
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let flow = Arc::new(flow);
        let record_bytes = record_bytes(&flow, revision);
        Ok(EditPlan { machine, revision, flow, record_bytes, edited })
    };
    turns::in_turn(owner, check).await.map_err(|reasons| conflict(listed(reasons, "; ")))
}

/// The bytes of the record that changes a flow. Large constants count as well, although the store has them.
fn record_bytes(flow: &Arc<Flow>, revision: Revision) -> usize {
    let fact = Fact::Edited { flow: flow.clone(), revision: revision.next() };
    protocol::encode_records(&[Record { at: Timestamp::default(), firing: None, fact }]).len()
}

/// The source and the draft of the edited flow, or every reason why the edits are invalid.
fn edited_draft(machine: &Machine, request: &EditRequest) -> Result<(FlowSource, Draft), Vec<String>> {
    let (origin, draft) = machine.plan(&request.edits)?;
    // The text of the flow may leave out its namespace.
    let mut draft = Draft { name: Some(machine.flow().name.clone()), ..draft };
    pin_modules(&mut draft, &request.added);
    Ok((origin, draft))
}

/// Builds the flow that the run continues with.
async fn edited_flow(
    library: &ModuleLibrary,
    coverage: &QueueCoverage,
    machine: &Machine,
    (origin, draft): (FlowSource, Arc<Draft>),
    limited_to: Option<&Namespace>,
) -> Result<(Flow, Vec<Diagnostic>), Problem> {
    let wired = wire(library, &draft, &machine.flow().inputs, limited_to).await;
    let wired = wired.map_err(|diagnostics| diagnostics_problem(&without_spans(diagnostics), ""))?;
    let WiredFlow { flow, warnings, modules } = wired;
    if let Err(error) = flow.check_run_id(machine.run()) {
        let (message, hint) = (error.to_string(), Some("shorten the name of the task".to_owned()));
        let diagnostic = Diagnostic { severity: Severity::Error, message, hint, span: None };
        return Err(diagnostics_problem(&[diagnostic], ""));
    }
    let unserved = unserved_queues(coverage, &draft.body, &flow);
    if !unserved.is_empty() {
        return Err(diagnostics_problem(&without_spans(unserved), ""));
    }
    let flow = Flow { origin: Some(Arc::new(FlowSource { modules, ..origin })), ..flow };
    Ok((flow, without_spans(warnings)))
}

/// An edited flow comes from several texts, so spans in one of them would mislead.
fn without_spans(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.into_iter().map(|diagnostic| Diagnostic { span: None, ..diagnostic }).collect()
}

/// Uses the modules that the request names for the added texts.
fn pin_modules(draft: &mut Draft, added: &[(Arc<str>, BTreeMap<String, String>)]) {
    for (text, modules) in added {
        let declared = Edit::parse_addition(text).map(|added| added.modules).unwrap_or_default();
        for (alias, digest) in modules.iter().filter(|(alias, _)| declared.contains_key(*alias)) {
            if let Some(reference) = draft.modules.get_mut(alias) {
                reference.text.clone_from(digest);
            }
        }
    }
}
