//! Reads the triggers of a flow: persistent and cyclic settings, listeners and schedules.

use toml::{Spanned, de::DeValue};

use super::{
    foreign_keys, keys,
    reader::{Diagnostics, Reader},
};
use crate::{
    Cron, Diagnostic, FlowName, MissedPolicy, NodeName, OverlapPolicy, SourceOutcome,
    draft::{DraftListener, DraftSchedule, DraftTriggers},
};

/// Reads the keys of the whole flow's table.
pub(super) fn read(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> DraftTriggers {
    let keys = ["persistent", "cyclic", "max_firings", "max_parallel"];
    let spans = keys.into_iter().filter_map(|key| Some((key.to_owned(), table.take(key)?.span()))).collect();
    DraftTriggers {
        persistent: table.boolean("persistent", diagnostics).is_some_and(|persistent| persistent.value),
        cyclic: table.boolean("cyclic", diagnostics).is_some_and(|cyclic| cyclic.value),
        max_firings: table.integer("max_firings", 1..=u64::MAX, diagnostics),
        max_parallel: table.integer("max_parallel", 1..=DraftTriggers::MAX_PARALLEL_FIRINGS, diagnostics),
        spans,
    }
}

pub(super) fn listen<'t>(toml: &'t Spanned<DeValue<'t>>, diagnostics: &mut Diagnostics) -> Option<DraftListener> {
    let example = "{ flow = \"create-server\", task = \"kick-server\", to = \"add-ip\" }";
    let mut table =
        diagnostics.read_needed(|diagnostics| Reader::open(toml, "a listen", &keys::LISTEN, example, diagnostics))?;
    for (key, expected) in [("flow", "the name of a flow"), ("task", "the name of a task in it"), ("to", "a task")] {
        if table.take(key).is_none() {
            diagnostics.is_partial = true;
            diagnostics.push_missing(table.missing_key(key, &format!("{key} = \"{expected}\"")));
        }
    }
    let flow = table.name_or_nearest::<FlowName>("flow", diagnostics);
    let task = table.name_or_nearest::<NodeName>("task", diagnostics);
    let to = table.name_or_nearest::<NodeName>("to", diagnostics);
    let on = table.keyword("on", SourceOutcome::WORDS, diagnostics).unwrap_or_default();
    table.finish(foreign_keys::suggest_listener_key, diagnostics);
    Some(DraftListener { flow: flow?.value, task: task?.value, on, to: to?.value, span: Some(toml.span()) })
}

pub(super) fn schedule<'t>(toml: &'t Spanned<DeValue<'t>>, diagnostics: &mut Diagnostics) -> Option<DraftSchedule> {
    let example = "{ cron = \"0 3 * * *\", to = \"clean-up\" }";
    let mut table = diagnostics
        .read_needed(|diagnostics| Reader::open(toml, "a schedule", &keys::SCHEDULE, example, diagnostics))?;
    for (key, expected) in [("cron", "0 3 * * *"), ("to", "the name of a task")] {
        if table.take(key).is_none() {
            diagnostics.is_partial = true;
            diagnostics.push_missing(table.missing_key(key, &format!("{key} = \"{expected}\"")));
        }
    }
    let line = table.string("cron", "a time in cron form, such as \"0 3 * * *\"", diagnostics);
    let zone = table.string("zone", "the name of a time zone", diagnostics);
    let to = table.name_or_nearest::<NodeName>("to", diagnostics);
    let overlap = table.keyword("overlap", OverlapPolicy::WORDS, diagnostics).unwrap_or_default();
    let missed = table.keyword("missed", MissedPolicy::WORDS, diagnostics).unwrap_or_default();
    table.finish(foreign_keys::suggest_schedule_key, diagnostics);
    let Some(line) = line else {
        diagnostics.is_partial = true;
        return None;
    };
    let cron = match Cron::new(line.value, zone.as_ref().map_or("UTC", |zone| zone.value)) {
        Ok(cron) => Some(cron),
        Err(error) => {
            let is_zone = matches!(error, crate::invalid::InvalidCron::Zone { .. });
            let span = zone.filter(|_| is_zone).map_or(line.span, |zone| zone.span);
            diagnostics.is_partial = true;
            diagnostics.push(Diagnostic::rejected(Some(span), "a schedule", &error));
            None
        }
    };
    Some(DraftSchedule { cron: cron?, to: to?.value, overlap, missed, span: Some(toml.span()) })
}
