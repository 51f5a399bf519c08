//! Decides whether a submission equals the one that started an existing run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::http::StatusCode;
use flow::{
    Diagnostic, Digest, Draft, Edit, Flow, FlowSource, LabelName, Labels, MAX_MODULES, Namespace, RunId, RunLimits,
    Severity, Value, ValueKind, ValueName, Values,
};
use machine::Machine;

use super::{
    history::load_machine,
    submit::{diagnostics_problem, missing_module, wire},
};
use crate::{
    ModuleLibrary,
    auth::client::Client,
    problem::{Problem, listed},
    state, turns,
};

/// A submission with the id of an existing run.
pub(super) struct Resubmission<'a> {
    pub(super) run: &'a RunId,
    /// Its flow, with the modules that the submission names.
    pub(super) draft: &'a Arc<Draft>,
    pub(super) text: &'a str,
    /// The values that override the flow's values.
    pub(super) overrides: &'a Values,
    pub(super) labels: &'a Labels,
    /// The namespace that its sender is limited to.
    pub(super) namespace: Option<&'a Namespace>,
    pub(super) client: &'a Client,
}

/// Refuses a submission whose id belongs to a run with other content. Otherwise the response would show the run of another client.
pub(super) async fn reject_different(state: &state::State, submitted: &Resubmission<'_>) -> Result<(), Problem> {
    let Resubmission { run, draft, text, overrides, labels, namespace, client } = submitted;
    let summary = state.dependencies.logbook.summary(run).await?;
    let (flow, known_labels) = (summary.info.flow, summary.labels);
    // Nothing more is read of a run of others, however large it is.
    if namespace.is_some() && flow.namespace().as_ref() != *namespace {
        return Err(conflict(format!("there is a run {run} already, of another namespace")));
    }
    if draft.name.as_ref() != Some(&flow) {
        return Err(conflict(format!("there is a run {run} already, of the flow {flow}")));
    }
    // It is kept as long as the run is in memory. The turn at reading its history is not: others may wire flows for long.
    let wait = async { Ok::<_, Problem>(turns::for_wired_run(namespace.cloned()).await) };
    let _turn = client.while_present(wait).await?;
    let (machine, _) = client.while_present(load_machine(&state.dependencies.logbook, run)).await?;
    let library = &state.dependencies.modules;
    let mut differences = match machine.flow().origin.clone() {
        Some(origin) => {
            let known = read_known(&origin, draft, (text, *namespace), client).await?;
            let mut differences = if known.is_equal { Vec::new() } else { vec!["the flow".into()] };
            differences.extend(modules_differ(library, (&origin, known.modules), draft, (text, *namespace)).await?);
            differences
        }
        // A run of `waft run`, which is stored without its text.
        None => {
            let wired = wire(library, draft, overrides, *namespace).await;
            let wired = wired.map_err(|diagnostics| diagnostics_problem(&diagnostics, text))?;
            let known = machine.flow().clone();
            let is_equal = move || without_source(&wired.flow) == without_source(&known);
            match in_turn(*namespace, client, is_equal).await? {
                true => Vec::new(),
                false => vec!["the flow".into()],
            }
        }
    };
    let inputs_differ = {
        let (draft, overrides) = ((*draft).clone(), Values::clone(overrides));
        move || inputs_differ(&machine, &draft, &overrides)
    };
    differences.extend(in_turn(*namespace, client, inputs_differ).await?);
    differences.extend(labels_differ(&known_labels, labels));
    if differences.is_empty() {
        return Ok(());
    }
    Err(conflict(format!(
        "there is a run {run} already, and it was submitted with other content: {}",
        listed(differences, ", ")
    )))
}

fn conflict(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", "the run's id is in use", detail).hint("choose another run id")
}

/// A flow without its source, its inputs and its limits, which an operator may have changed meanwhile.
fn without_source(flow: &Flow) -> Flow {
    Flow { origin: None, inputs: Values::new(), limits: RunLimits::default(), ..flow.clone() }
}

/// The canonical form of a flow file, without its modules and inputs: comments and the order of keys do not count.
fn canonical(draft: &Draft) -> Option<String> {
    let draft = Draft { modules: BTreeMap::new(), inputs: Values::new(), ..draft.clone() };
    flow::file::write(&draft).ok()
}

/// The text that started a run, compared with a submitted one.
struct KnownText {
    /// Whether both define the same flow, apart from its modules and inputs.
    is_equal: bool,
    /// The names of its modules.
    modules: BTreeSet<String>,
}

/// Reads the text that started a run, in turn: a large one takes long.
async fn read_known(
    origin: &FlowSource,
    draft: &Arc<Draft>,
    (text, limited_to): (&str, Option<&Namespace>),
    client: &Client,
) -> Result<KnownText, Problem> {
    let is_same_text = *origin.text == *text;
    let (known, draft) = (origin.text.clone(), draft.clone());
    let read = move || {
        let Ok(known) = flow::file::parse(&known) else {
            return KnownText { is_equal: is_same_text, modules: BTreeSet::new() };
        };
        let modules = known.modules.keys().cloned().collect();
        // The text may leave out the namespace. The names are equal.
        let known = Draft { name: draft.name.clone(), ..known };
        let is_equal = is_same_text || canonical(&known).is_some_and(|known| canonical(&draft) == Some(known));
        KnownText { is_equal, modules }
    };
    in_turn(limited_to, client, read).await
}

/// Does work for the sender of a request in turn, unless the sender leaves before.
async fn in_turn<Output: Send + 'static>(
    limited_to: Option<&Namespace>,
    client: &Client,
    work: impl FnOnce() -> Output + Send + 'static,
) -> Result<Output, Problem> {
    client.while_present(async { Ok::<_, Problem>(turns::in_turn(limited_to.cloned(), work).await) }).await
}

/// The modules whose content has changed, of those that the known text or the submitted one names.
async fn modules_differ(
    library: &ModuleLibrary,
    (origin, known): (&FlowSource, BTreeSet<String>),
    draft: &Draft,
    (text, limited_to): (&str, Option<&Namespace>),
) -> Result<Vec<String>, Problem> {
    let namespace = draft.namespace();
    if draft.modules.len() > MAX_MODULES {
        // The known flow was wired, so it names fewer. Each name would be looked up in the store.
        return Ok(vec![format!("its {} modules", draft.modules.len())]);
    }
    let aliases: BTreeSet<&String> = known.iter().chain(draft.modules.keys()).collect();
    let (mut differences, mut diagnostics) = (Vec::<String>::new(), Vec::<Diagnostic>::new());
    for alias in aliases {
        let before = origin.modules.get(alias);
        let now = match draft.modules.get(alias) {
            None => None,
            Some(reference) => match reference.text.parse::<Digest>() {
                // The digest needs no module, which may be deleted by now.
                Ok(digest) => Some(digest),
                // Nothing of it runs, so it need not be admitted any more.
                Err(_) => match library.resolve(&reference.text, namespace.as_ref()).await {
                    Ok((digest, _)) => Some(digest),
                    Err(error) => {
                        let missing = missing_module(&error, limited_to);
                        let message = format!("module {alias:?}: {}", missing.reason());
                        let span = reference.span.clone();
                        diagnostics.push(Diagnostic { severity: Severity::Error, message, hint: None, span });
                        continue;
                    }
                },
            },
        };
        if before != now.as_ref() {
            let shown = |digest: Option<&Digest>| digest.map_or_else(|| "none".to_owned(), ToString::to_string);
            differences.push(format!("module {alias:?} ({}, and now {})", shown(before), shown(now.as_ref())));
        }
    }
    if diagnostics.is_empty() { Ok(differences) } else { Err(diagnostics_problem(&diagnostics, text)) }
}

fn inputs_differ(machine: &Machine, draft: &Draft, overrides: &Values) -> Vec<String> {
    // Edits may have added inputs that no submission names.
    let edits = machine.flow().origin.iter().flat_map(|origin| &origin.edits);
    let added: BTreeSet<ValueName> = edits.flat_map(Edit::added_inputs).collect();
    let known: BTreeMap<_, _> = machine.flow().inputs.iter().filter(|(name, _)| !added.contains(*name)).collect();
    let mut submitted = draft.inputs.clone();
    submitted.extend(overrides.clone());
    let names: BTreeSet<&ValueName> = known.keys().copied().chain(submitted.keys()).collect();
    let differs = |name: &&ValueName| match (known.get(*name), submitted.get(*name)) {
        (Some(known), Some(submitted)) => !is_same(known, submitted),
        (_, _) => true,
    };
    names.into_iter().filter(differs).map(|name| format!("input {:?}", name.as_str())).collect()
}

fn labels_differ(known: &Labels, submitted: &Labels) -> Vec<String> {
    let names: BTreeSet<_> = known.iter().chain(submitted.iter()).map(|(name, _)| name).collect();
    // A client that sends its request again does so in another span, or in another trace.
    let names = names.into_iter().filter(|name| name.as_str() != traces::PARENT_LABEL);
    let differs = |name: &&LabelName| known.get(name.as_str()) != submitted.get(name.as_str());
    names.filter(differs).map(|name| format!("label {name}")).collect()
}

/// Whether a run's value equals a given one. The run's value may be in the store.
fn is_same(known: &Value, overrides: &Value) -> bool {
    let Value::Stored(stored) = known else { return known == overrides };
    let (form, bytes) = match overrides {
        Value::Json(json) => (ValueKind::Json, json.as_str().as_bytes()),
        Value::Bytes(bytes) => (ValueKind::Bytes, &bytes[..]),
        Value::Stored(overrides) => return stored == overrides,
    };
    stored.form == form && stored.size == bytes.len() as u64 && stored.digest == store::digest_of(bytes)
}

#[cfg(test)]
mod tests {
    use flow::{Json, Stored};

    use super::*;

    #[test]
    fn a_stored_value_is_compared_by_bytes_and_kind() {
        let text = "\"a\"";
        let known =
            |form| Value::Stored(Stored { digest: store::digest_of(text.as_bytes()), size: text.len() as u64, form });
        let json = |text: &str| Value::Json(Json::parse(text).unwrap());
        assert!(is_same(&known(ValueKind::Json), &json(text)));
        assert!(!is_same(&known(ValueKind::Json), &json("\"b\"")));
        let bytes = Value::Bytes(text.as_bytes().into());
        assert!(is_same(&known(ValueKind::Bytes), &bytes) && !is_same(&known(ValueKind::Json), &bytes));
    }
}
