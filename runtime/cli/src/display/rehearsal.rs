//! A rehearsal for people: each case with its end, and what leads there. The terminal and the report page have the same texts.

use api::{
    Action, FailingCall, FailingTries, Rehearsal, RehearsedCase, RetriedCall, RunState, SkippedNode, StubOrigin,
    StubbedValue,
};

use crate::{colour::Colour, sanitize};

/// The maximum number of columns of a value in a text.
const MAX_VALUE_COLUMNS: usize = 60;

/// The maximum number of names, pauses or other items in one text.
const MAX_ITEMS: usize = 20;

/// A case in words. Text of others in it is cleaned, and not escaped.
pub(crate) struct CaseText {
    /// What fails.
    pub(crate) title: String,
    /// How the run ends.
    pub(crate) end: &'static str,
    /// The colour of the end.
    colour: Colour,
    /// What happens, one sentence each.
    pub(crate) details: Vec<String>,
}

/// The lines for a terminal.
pub(crate) fn lines(rehearsal: &Rehearsal, colour: bool) -> Vec<String> {
    let Rehearsal { flow, run, cases, .. } = rehearsal;
    let mut lines = vec![format!("{}, {}", Colour::Bold.text(flow, colour), about(run.as_deref())), String::new()];
    let texts: Vec<CaseText> = cases.iter().map(CaseText::of).collect();
    let width = texts.iter().map(|text| sanitize::columns(&text.title)).max().unwrap_or(0);
    for CaseText { title, end, colour: paint, details } in texts {
        let padding = " ".repeat(width - sanitize::columns(&title));
        lines.push(format!("{}{padding}  {}", Colour::Bold.text(&title, colour), paint.text(end, colour)));
        lines.extend(details.into_iter().map(|detail| format!("    {detail}")));
    }
    lines.extend(omitted(rehearsal));
    let stubs = stub_rows(rehearsal);
    if !stubs.is_empty() {
        lines.extend([String::new(), "stubbed results".into()]);
        let width = stubs.iter().map(|(name, ..)| sanitize::columns(name)).max().unwrap_or(0);
        lines.extend(stubs.iter().map(|(name, value, origin)| format!("    {name:width$}  {value} ({origin})")));
    }
    lines
}

/// What the cases of a rehearsal begin with.
pub(crate) fn about(run: Option<&str>) -> String {
    match run {
        None => "rehearsed without its guests".into(),
        Some(run) => format!("rehearsed without its guests, from the state of run {}", sanitize::one_line(run)),
    }
}

/// A note about cases that were left out.
pub(crate) fn omitted(rehearsal: &Rehearsal) -> Option<String> {
    let count = rehearsal.omitted;
    let reason = "since those before took as many steps as a rehearsal may have";
    (count > 0).then(|| format!("at least {count} more cases are left out, {reason}; --node TASK selects a task"))
}

/// The stubbed values: name, value, and origin.
pub(crate) fn stub_rows(rehearsal: &Rehearsal) -> Vec<(String, String, &'static str)> {
    let row = |stub: &StubbedValue| (format!("{}.{}", stub.task, stub.name), value(stub), origin(stub));
    rehearsal.stubs.iter().map(row).collect()
}

fn origin(stub: &StubbedValue) -> &'static str {
    match stub.from {
        StubOrigin::Results => "from --results",
        StubOrigin::Schema => "from a JSON schema",
        StubOrigin::Failure => "the failure of this rehearsal",
        // A later version may add origins.
        _ => "nothing is known of it",
    }
}

fn value(stub: &StubbedValue) -> String {
    let Some(value) = &stub.value else { return "a long value".into() };
    let text = sanitize::sanitize_json(value.get());
    let cut = sanitize::cut(&text, MAX_VALUE_COLUMNS);
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

impl CaseText {
    /// The case in words.
    pub(crate) fn of(case: &RehearsedCase) -> Self {
        let (end, colour) = match &case.state {
            _ if !case.reached => ("is not called", Colour::Dim),
            _ if !case.stuck.is_empty() => ("needs a person", Colour::Red),
            RunState::Success => ("succeeds", Colour::Green),
            RunState::RolledBack => ("is rolled back", Colour::Yellow),
            RunState::Failure => ("needs a person", Colour::Red),
            RunState::Running if case.stopped.is_some() => ("goes on", Colour::Blue),
            RunState::Running => ("stays open", Colour::Blue),
            // A run ends, stays open, or is stopped.
            _ => ("does not end", Colour::Yellow),
        };
        let details = match case.reached {
            true => details(case),
            false => skipped(case).into_iter().chain(stop(case)).collect(),
        };
        Self { title: title(case), end, colour, details }
    }
}

/// `b fails, after a has failed`.
fn title(case: &RehearsedCase) -> String {
    let Some((target, causes)) = case.failing.split_last() else { return "no failure".into() };
    let FailingCall { node, action, fails, .. } = target;
    let mut title = match action {
        Action::Rollback => format!("the rollback of {node} fails"),
        _ => format!("{node} fails"),
    };
    if *fails == FailingTries::FirstTry {
        let flows: Vec<&str> = case.retried_flows.iter().map(|retried| retried.flow.as_str()).collect();
        title.push_str(&format!(" in the first run of {}", flows.join(", ")));
    }
    let causes: Vec<&str> = causes.iter().map(|cause| cause.node.as_str()).collect();
    if !causes.is_empty() {
        let verb = if causes.len() == 1 { "has" } else { "have" };
        title.push_str(&format!(", after {} {verb} failed", causes.join(" and ")));
    }
    title
}

fn details(case: &RehearsedCase) -> Vec<String> {
    let mut details: Vec<String> = case.retried.iter().map(retried).collect();
    for flow in &case.retried_flows {
        let before = match flow.rolled_back.is_empty() {
            true => String::new(),
            false => format!("; before it runs again, {} is rolled back", names(&flow.rolled_back)),
        };
        details.push(format!("{} runs {} times{before}", flow.flow, flow.runs));
    }
    let mut list = |heading: &str, listed: &[String]| {
        if !listed.is_empty() {
            details.push(format!("{heading}: {}", names(listed)));
        }
    };
    list("rolled back, in this order", &case.rolled_back);
    list("stays done, without a rollback", &case.without_rollback);
    list("still applied", &case.still_applied);
    list("failure handlers that run", &case.handlers);
    list("waits for a notification", &case.notified);
    if !case.stuck.is_empty() {
        let stuck = names(&case.stuck);
        details.push(format!(
            "a person has to act: {stuck} could not be rolled back; `waft retry RUN` tries again, `waft skip RUN TASK --reason TEXT` \
             after a rollback by hand"
        ));
    }
    details.extend(skipped(case));
    if !case.firings.is_empty() {
        let firings: Vec<String> = case
            .firings
            .iter()
            .map(|firing| format!("{} ({})", sanitize::one_line(&firing.by), firing.state))
            .collect();
        details.push(format!("fires by {}", names(&firings)));
    }
    details.extend(stop(case));
    for (name, failure) in &case.unexpected {
        details.push(format!(
            "{name} fails too, perhaps because of a stubbed value: {}",
            sanitize::one_line(&failure.to_string())
        ));
    }
    details
}

/// Why the rehearsal stopped before the run ended, if it did.
fn stop(case: &RehearsedCase) -> Option<String> {
    case.stopped.as_ref().map(|stopped| format!("the rehearsal stops {}", sanitize::one_line(stopped)))
}

/// The links that were not taken because of stubbed values.
fn skipped(case: &RehearsedCase) -> Vec<String> {
    let mut lines = Vec::new();
    for SkippedNode { node, links, .. } in &case.skipped {
        for link in links.iter().filter(|link| !link.stubs.is_empty()) {
            let stubs: Vec<String> = link
                .stubs
                .iter()
                .map(|stub| format!("{}.{} is {} ({})", stub.task, stub.name, value(stub), origin(stub)))
                .collect();
            let when = link.when.as_deref().map(sanitize::one_line).unwrap_or_default();
            lines.push(format!(
                "the link from {} to {node} is not taken because of a stub: `{when}`, and {}",
                link.from,
                names(&stubs)
            ));
        }
    }
    lines
}

/// `b: 3 attempts, after pauses of 1s and 2s`.
fn retried(call: &RetriedCall) -> String {
    let RetriedCall { node, action, attempts, pauses, jitter, .. } = call;
    let kind = if *action == Action::Rollback { "attempts to roll back" } else { "attempts" };
    let about = if *jitter { "about " } else { "" };
    let pauses: Vec<String> = pauses.iter().map(|pause| format!("{about}{}", seconds(*pause))).collect();
    format!("{node}: {attempts} {kind}, with pauses of {}", names(&pauses))
}

/// A number of seconds, with as many digits as a person needs.
fn seconds(seconds: f64) -> String {
    if seconds.fract() == 0.0 || seconds >= 10.0 { format!("{seconds:.0}s") } else { format!("{seconds:.1}s") }
}

/// The first few of some names.
fn names(names: &[String]) -> String {
    let more = if names.len() > MAX_ITEMS { format!(" and {} more", names.len() - MAX_ITEMS) } else { String::new() };
    format!("{}{more}", names[..names.len().min(MAX_ITEMS)].join(", "))
}
