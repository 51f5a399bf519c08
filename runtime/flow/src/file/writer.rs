//! Writes a [`Draft`] as a flow file: [`super::parse`] reads the same draft from it. Default values are omitted.
//!
//! Every table is destructured field by field, so that a new field of a draft must be handled here.

mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;

use self::table::Table;
use super::{keys, parse};
use crate::{
    Access, Diagnostic, DirectoryName, DirectoryUse, Draft, Edit, Join, LimitEntry, LimitOverrides, Memo, MissedPolicy,
    Otherwise, OverlapPolicy, Pace, Pattern, Recording, RetryPolicy, Severity, SourceOutcome, Strategy, Values,
    draft::{
        DraftController, DraftForEach, DraftLink, DraftList, DraftListener, DraftNode, DraftSchedule, DraftTask,
        DraftTaskKind, DraftTriggers, FlowBody, ModuleReference,
    },
};

/// A flow that cannot be written as a flow file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the flow cannot be written as a flow file: {}", join_messages(.diagnostics))]
pub struct WriteError {
    /// Every reason: errors from building it, and settings that flow files cannot express.
    pub diagnostics: Vec<Diagnostic>,
}

fn join_messages(diagnostics: &[Diagnostic]) -> String {
    let messages = diagnostics.iter().map(|diagnostic| match &diagnostic.hint {
        Some(hint) => format!("{}: {hint}", diagnostic.message),
        None => diagnostic.message.clone(),
    });
    messages.collect::<Vec<_>>().join("; ")
}

/// Writes a flow as a flow file. Parsing it yields the same draft, except for spans and the order of keys in values.
///
/// # Errors
/// [`WriteError`] with every diagnostic that a file of the draft would have, and with the settings that a file cannot
/// express. Diagnostics of [`crate::wire`] are not included.
pub fn write(draft: &Draft) -> Result<String, WriteError> {
    let mut diagnostics = draft.diagnostics.clone();
    let owner = draft.name.as_ref().map_or_else(|| "the flow".into(), |name| format!("flow {name:?}"));
    let mut top = Table::new(owner, &keys::FLOW);
    draft.name.iter().for_each(|name| top.text("name", name.as_str()));
    let text = write_root(top, draft, &mut diagnostics);
    let parsed = parse(&text);
    verify(text, parsed, diagnostics)
}

/// Writes an addition to a running flow, which has no name: the text of an [`Edit::Add`].
///
/// # Errors
/// As [`write()`], and where the draft contains settings of the whole flow.
pub fn write_addition(draft: &Draft) -> Result<String, WriteError> {
    let mut diagnostics = draft.diagnostics.clone();
    let text = write_root(Table::new("the flow", &keys::FLOW), draft, &mut diagnostics);
    let parsed = Edit::parse_addition(&text);
    verify(text, parsed, diagnostics)
}

/// Parses the written text again: the reader has the best diagnostics.
fn verify(
    text: String,
    parsed: Result<Draft, Vec<Diagnostic>>,
    mut diagnostics: Vec<Diagnostic>,
) -> Result<String, WriteError> {
    let errors = parsed.err().unwrap_or_default();
    // The refused text is not shown, so spans would be meaningless.
    diagnostics.extend(errors.into_iter().map(|diagnostic| Diagnostic { span: None, ..diagnostic }));
    if diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Warning) {
        Ok(text)
    } else {
        Err(WriteError { diagnostics })
    }
}

fn write_root(mut top: Table, draft: &Draft, diagnostics: &mut Vec<Diagnostic>) -> String {
    // The name is written above, or not at all.
    let Draft {
        name: _,
        modules,
        inputs,
        input_spans: _,
        body,
        expires,
        triggers,
        listeners,
        schedules,
        diagnostics: _,
        extent: _,
    } = draft;
    write_flow_keys(body, &mut top, diagnostics);
    top.format_duration("expires", *expires, diagnostics);
    let DraftTriggers { persistent, cyclic, max_firings, max_parallel, spans: _ } = triggers;
    top.flag("persistent", persistent.then_some(true));
    top.flag("cyclic", cyclic.then_some(true));
    top.number("max_firings", *max_firings);
    top.number("max_parallel", *max_parallel);
    let mut text = top.lines();
    section(&mut text, "[modules]", &modules_table(modules));
    section(&mut text, "[inputs]", &values_table(inputs, "inputs", diagnostics));
    members(body, "", &mut text, diagnostics);
    listeners.iter().for_each(|listener| section(&mut text, "[[listen]]", &listen(listener)));
    schedules.iter().for_each(|draft| section(&mut text, "[[schedule]]", &schedule(draft)));
    text
}

/// Writes a section. A list of tables contains all its tables, even empty ones; an empty table is omitted.
fn section(text: &mut String, header: &str, table: &Table) {
    if header.starts_with("[[") || !table.is_empty() {
        let blank = if text.is_empty() { "" } else { "\n" };
        *text += &format!("{blank}{header}\n{}", table.lines());
    }
}

fn modules_table(modules: &BTreeMap<String, ModuleReference>) -> Table {
    let mut table = Table::free("modules");
    for (alias, ModuleReference { text, .. }) in modules {
        table.text(alias, text);
    }
    table
}

fn values_table(values: &Values, owner: &str, diagnostics: &mut Vec<Diagnostic>) -> Table {
    let mut table = Table::free(owner);
    for (name, value) in values {
        table.value(name.as_str(), value, diagnostics);
    }
    table
}

/// Writes the settings of a whole or nested flow.
fn write_flow_keys(body: &FlowBody, table: &mut Table, diagnostics: &mut Vec<Diagnostic>) {
    let FlowBody { pattern, nodes: _, links: _, controller, starts } = body;
    table.keyword("pattern", pattern.as_str(), *pattern != Pattern::default());
    table.starts(*starts, diagnostics);
    if let Some(controller) = controller {
        let retry = controller_table(controller, table.owner(), diagnostics);
        table.inline("retry", &retry);
    }
}

/// Writes the nodes and links of a flow, in order: the content of a nested flow comes right after it.
fn members(body: &FlowBody, prefix: &str, text: &mut String, diagnostics: &mut Vec<Diagnostic>) {
    for node in &body.nodes {
        match node {
            DraftNode::Task(draft) => section(text, &format!("[[{prefix}task]]"), &task(draft, diagnostics)),
            DraftNode::Flow(flow) => {
                let mut table = Table::new(format!("flow {:?}", flow.name), &keys::NESTED_FLOW);
                table.text("name", flow.name.as_str());
                write_flow_keys(&flow.body, &mut table, diagnostics);
                section(text, &format!("[[{prefix}flow]]"), &table);
                members(&flow.body, &format!("{prefix}flow."), text, diagnostics);
            }
        }
    }
    body.links.iter().for_each(|draft| section(text, &format!("[[{prefix}link]]"), &link(draft)));
}

fn task(draft: &DraftTask, diagnostics: &mut Vec<Diagnostic>) -> Table {
    let DraftTask {
        name,
        kind,
        requires,
        provides,
        with,
        retry,
        limits,
        access,
        queue,
        priority,
        rollback,
        starts,
        deadline,
        for_each,
        pace,
        expires,
        delivery_limit,
        retired,
        spans: _,
    } = draft;
    let mut table = Table::new(format!("task {name:?}"), &keys::TASK);
    table.text("name", name.as_str());
    match kind {
        DraftTaskKind::Call(uses) => table.text("use", uses),
        DraftTaskKind::Wait(waits_for) => table.text("wait", waits_for),
    }
    for_each.iter().for_each(|draft| write_for_each(draft, &mut table, diagnostics));
    table.renames("requires", requires.as_ref());
    table.renames("provides", provides.as_ref());
    if !with.is_empty() {
        let constants = values_table(with, &format!("\"with\" of {}", table.owner()), diagnostics);
        table.inline("with", &constants);
    }
    if let Some(policy) = retry {
        let policy = policy_table(policy, table.owner(), diagnostics);
        table.inline("retry", &policy);
    }
    write_limits(limits, &mut table, diagnostics);
    write_access(access, &mut table, diagnostics);
    queue.iter().for_each(|queue| table.text("queue", queue.as_str()));
    table.number("priority", Some(*priority).filter(|priority| *priority != 0));
    let Pace { max_running, rate } = pace;
    table.number("max_running", *max_running);
    rate.iter().for_each(|rate| table.text("rate", &rate.to_string()));
    table.format_duration("expires", *expires, diagnostics);
    table.number("delivery_limit", *delivery_limit);
    table.flag("rollback", *rollback);
    table.starts(*starts, diagnostics);
    table.format_duration("deadline", *deadline, diagnostics);
    if *retired {
        let diagnostic = Diagnostic::error(None, format!("task {name:?} was removed after it had run"));
        diagnostics.push(diagnostic.hint("only the run that it was removed from knows it: leave it out"));
    }
    table
}

fn write_for_each(draft: &DraftForEach, table: &mut Table, diagnostics: &mut Vec<Diagnostic>) {
    let DraftForEach { list, element, max_parallel } = draft;
    match list {
        DraftList::Literal(values) => table.list("for_each", values, diagnostics),
        DraftList::Value(value) => table.text("for_each", value.as_str()),
    }
    element.iter().for_each(|element| table.text("as", element.as_str()));
    table.number("max_parallel", *max_parallel);
}

fn write_access(access: &Access, table: &mut Table, diagnostics: &mut Vec<Diagnostic>) {
    let allow = access_table(access, format!("\"allow\" of {}", table.owner()));
    if !allow.is_empty() {
        table.inline("allow", &allow);
    }
    table.keyword("record", access.record.as_str(), access.record != Recording::default());
    match access.memo {
        Some(Memo::Unlimited) => table.flag("memo", Some(true)),
        Some(Memo::For(time)) => table.format_duration("memo", Some(time), diagnostics),
        Some(Memo::Never) => table.text("memo", super::access::MEMO_NEVER),
        None => {}
    }
    table.texts("args", &access.arguments);
}

/// Writes what a task asks for as the lines of a table: [`super::parse_access`] reads them. What needs no grant is left out.
#[must_use]
pub fn write_access_lines(access: &Access) -> String {
    access_table(access, "the access".into()).lines()
}

fn access_table(access: &Access, owner: String) -> Table {
    let Access {
        http,
        secrets,
        config,
        variables,
        directories,
        sockets,
        arguments: _,
        clock,
        random,
        record: _,
        memo: _,
    } = access;
    let mut allow = Table::new(owner, &keys::ALLOW);
    allow.texts("http", &texts(http));
    allow.texts("sockets", &texts(sockets));
    allow.texts("secrets", &texts(secrets));
    allow.texts("config", &texts(config));
    allow.texts("env", &texts(variables));
    let directory = |(name, directory_use): (&DirectoryName, &DirectoryUse)| match directory_use {
        DirectoryUse::Read => format!("\"{name}\""),
        DirectoryUse::Write => format!("{{ name = \"{name}\", write = true }}"),
    };
    allow.elements("dirs", &directories.iter().map(directory).collect::<Vec<_>>());
    allow.flag("clock", Some(*clock).filter(|clock| *clock));
    allow.flag("random", Some(*random).filter(|random| *random));
    allow
}

fn texts<'a, T: ToString + 'a>(values: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    values.into_iter().map(ToString::to_string).collect()
}

fn write_limits(limits: &LimitOverrides, table: &mut Table, diagnostics: &mut Vec<Diagnostic>) {
    let mut limits = *limits;
    for (key, limit) in limits.entries() {
        match limit {
            LimitEntry::Time(time) => table.format_duration(key, *time, diagnostics),
            LimitEntry::Bytes(bytes) => table.size(key, *bytes),
            LimitEntry::Count(count) => table.number(key, *count),
            LimitEntry::SmallCount(count) => table.number(key, *count),
        }
    }
}

fn policy_table(policy: &RetryPolicy, owner: &str, diagnostics: &mut Vec<Diagnostic>) -> Table {
    let RetryPolicy { attempts, backoff, initial, max, jitter } = *policy;
    let default = RetryPolicy::default();
    let mut table = Table::new(format!("the retry of {owner}"), &keys::POLICY);
    table.number("attempts", Some(attempts).filter(|attempts| *attempts != default.attempts));
    table.keyword("backoff", backoff.as_str(), backoff != default.backoff);
    table.format_duration("initial", Some(initial).filter(|initial| *initial != default.initial), diagnostics);
    table.format_duration("max", Some(max).filter(|max| *max != default.max), diagnostics);
    table.flag("jitter", Some(jitter).filter(|jitter| *jitter != default.jitter));
    table
}

fn controller_table(draft: &DraftController, owner: &str, diagnostics: &mut Vec<Diagnostic>) -> Table {
    let DraftController { strategy, otherwise, provides, span: _ } = draft;
    let mut table = Table::new(format!("the retry of {owner}"), &keys::CONTROLLER);
    match strategy {
        Strategy::Times(times) => table.number("times", Some(*times)),
        Strategy::ForEach(values) => table.list("for_each", values, diagnostics),
        Strategy::ForEachOf(value) => table.text("for_each", value.as_str()),
        Strategy::Always => table.keyword("always", otherwise.as_str(), true),
    }
    let is_explicit = *strategy != Strategy::Always && *otherwise != Otherwise::default();
    table.keyword("otherwise", otherwise.as_str(), is_explicit);
    provides.iter().for_each(|value| table.text("provides", value.as_str()));
    table
}

fn link(draft: &DraftLink) -> Table {
    let DraftLink { from, to, on, when, reach, join, spans: _ } = draft;
    let mut table = Table::new("a link", &keys::LINK);
    table.text("from", from.as_str());
    table.text("to", to.as_str());
    table.keyword("on", on.as_str(), *on != SourceOutcome::default());
    when.iter().for_each(|when| table.text("when", when.as_str()));
    reach.iter().for_each(|reach| table.keyword("reach", reach.as_str(), true));
    table.keyword("join", join.as_str(), *join != Join::default());
    table
}

fn listen(draft: &DraftListener) -> Table {
    let DraftListener { flow, task, on, to, span: _ } = draft;
    let mut table = Table::new("a listen", &keys::LISTEN);
    table.text("flow", flow.as_str());
    table.text("task", task.as_str());
    table.keyword("on", on.as_str(), *on != SourceOutcome::default());
    table.text("to", to.as_str());
    table
}

fn schedule(draft: &DraftSchedule) -> Table {
    let DraftSchedule { cron, to, overlap, missed, span: _ } = draft;
    let mut table = Table::new("a schedule", &keys::SCHEDULE);
    table.text("cron", cron.line());
    table.keyword("zone", cron.zone(), cron.zone() != "UTC");
    table.text("to", to.as_str());
    table.keyword("overlap", overlap.as_str(), *overlap != OverlapPolicy::default());
    table.keyword("missed", missed.as_str(), *missed != MissedPolicy::default());
    table
}
