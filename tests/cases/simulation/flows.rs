//! Random flows: nested, with links, conditions, failure listeners, retries, controllers, and timers.

use std::{collections::BTreeMap, sync::Arc};

use flow::{
    Digest, Edit, Flow, FlowSource, LimitOverrides, ModuleContent, ModuleInfo, NodeName, Parameter, Provided, Rollback,
    SourceOutcome, TaskInfo, Values,
};
use machine::Machine;

use super::rng::SeededRng;

/// Generates a random flow.
pub(crate) fn random(rng: &SeededRng) -> Arc<Flow> {
    let expires = if rng.percent(10) { "expires = \"2m\"\n" } else { "" };
    let mut text = format!("name = \"f\"\n{expires}{}", controller(rng));
    let mut names = 0;
    if rng.percent(15) {
        random_triggered_flow(rng, &mut names, &mut text);
    }
    body(rng, "", 0, &mut names, &mut text);
    text.push_str("[modules]\ng = \"g.wasm\"\n");
    wired(&text)
}

/// Generates a cyclic flow, or one that fires by a schedule.
fn random_triggered_flow(rng: &SeededRng, names: &mut u32, text: &mut String) {
    let (first, last) = (*names + 1, *names + 2);
    *names = last;
    let (kind, trigger) = if rng.percent(50) {
        let join = if rng.percent(30) { "join = \"any\"\n" } else { "" };
        ("cyclic", format!("[[link]]\nfrom = \"t{last}\"\nto = \"t{first}\"\n{join}"))
    } else {
        ("persistent", format!("[[schedule]]\ncron = \"*/15 * * * * *\"\nto = \"t{first}\"\noverlap = \"allow\"\n"))
    };
    text.insert_str(0, &format!("{kind} = true\nmax_firings = {}\ninputs = {{ none = [] }}\n", 2 + rng.below(3)));
    for task in [first, last] {
        if rng.percent(25) {
            // The list is empty, so the task causes no call; the file does not show that.
            text.push_str(&format!(
                "[[task]]\nname = \"t{task}\"\nuse = \"g#made\"\nfor_each = \"none\"\nprovides = []\n"
            ));
            continue;
        }
        let export = if rng.percent(70) { "undoable" } else { "plain" };
        text.push_str(&format!("[[task]]\nname = \"t{task}\"\nuse = \"g#{export}\"\nprovides = []\n"));
    }
    text.push_str(&format!("[[link]]\nfrom = \"t{first}\"\nto = \"t{last}\"\n{trigger}"));
}

fn controller(rng: &SeededRng) -> &'static str {
    match rng.below(8) {
        0 => "retry = { times = 2 }\n",
        1 => "retry = { for_each = [1, 2] }\n",
        2 => "retry = { always = \"rollback\" }\n",
        _ => "",
    }
}

fn body(rng: &SeededRng, prefix: &str, depth: u32, names: &mut u32, text: &mut String) {
    let mut tasks = Vec::new();
    for _ in 0..rng.below(4) + u64::from(depth == 0) {
        *names += 1;
        if rng.percent(10) {
            // No notification completes it, so it fails at its deadline.
            text.push_str(&format!("[[{prefix}task]]\nname = \"t{names}\"\nwait = \"word\"\ndeadline = \"20s\"\n"));
            tasks.push(*names);
            continue;
        }
        if rng.percent(12) {
            let elements: Vec<String> = (0..rng.below(5)).map(|element| element.to_string()).collect();
            let max_parallel = if rng.percent(50) { "max_parallel = 2\n" } else { "" };
            text.push_str(&format!(
                "[[{prefix}task]]\nname = \"t{names}\"\nuse = \"g#made\"\nfor_each = [{}]\n{max_parallel}\
                 provides = {{ made = \"made{names}\" }}\nretry = {{ attempts = 2, initial = \"1s\" }}\n{}",
                elements.join(", "),
                memo(rng)
            ));
            tasks.push(*names);
            continue;
        }
        let export = if rng.percent(70) { "undoable" } else { "plain" };
        let attempts = 1 + rng.below(3);
        text.push_str(&format!(
            "[[{prefix}task]]\nname = \"t{names}\"\nuse = \"g#{export}\"\nprovides = []\n\
             retry = {{ attempts = {attempts}, initial = \"1s\" }}\n{}",
            memo(rng)
        ));
        tasks.push(*names);
    }
    for pair in tasks.windows(2).filter(|_| rng.percent(60)) {
        text.push_str(&format!("[[{prefix}link]]\nfrom = \"t{}\"\nto = \"t{}\"\n", pair[0], pair[1]));
        match rng.below(10) {
            0 => text.push_str("on = \"failure\"\n"),
            1 => text.push_str("on = \"any\"\n"),
            2 => text.push_str("when = \"false\"\nreach = \"task\"\n"),
            3 => text.push_str("when = \"1 + 1 == 3\"\n"),
            4 => text.push_str("when = \"true\"\n"),
            _ => {}
        }
    }
    if depth < 2 && rng.percent(40) {
        *names += 1;
        let starts = if rng.percent(30) { "start_after = \"15s\"\n" } else { "" };
        text.push_str(&format!("[[{prefix}flow]]\nname = \"n{names}\"\n{starts}{}", controller(rng)));
        body(rng, &format!("{prefix}flow."), depth + 1, names, text);
    }
}

/// All tasks of one export have the same inputs, so most of these results are remembered.
fn memo(rng: &SeededRng) -> &'static str {
    match rng.below(8) {
        0 => "memo = true\n",
        1 => "memo = \"20s\"\n",
        _ => "",
    }
}

/// A random edit of a run's flow, if one is possible.
pub(crate) fn edited(rng: &SeededRng, machine: &Machine) -> Option<Arc<Flow>> {
    let flow = machine.flow();
    let names: Vec<&NodeName> = flow.tasks().map(|(_, name, _)| name).collect();
    let random_name =
        || names.get(usize::try_from(rng.below(names.len().max(1) as u64)).ok()?).map(|name| (*name).clone());
    // Without its scheduled task, a persistent run would never end.
    let may_remove = flow.triggers.as_ref().is_none_or(|triggers| !triggers.persistent);
    let edit = match rng.below(4) {
        0 if !may_remove => return None,
        0 => Edit::Remove { task: random_name()?, ran: false },
        1 => Edit::Link {
            from: random_name()?,
            to: random_name()?,
            on: SourceOutcome::Success,
            when: None,
            reach: None,
            join: flow::Join::All,
        },
        2 => Edit::Unlink { from: random_name()?, to: random_name()? },
        _ => {
            let (name, from) = (rng.below(1_000), random_name()?);
            let text = format!(
                "[[task]]\nname = \"e{name}\"\nuse = \"g#undoable\"\n[[link]]\nfrom = \"{from}\"\nto = \"e{name}\"\n"
            );
            Edit::Add { text: text.into() }
        }
    };
    let (origin, draft) = machine.plan(&[edit]).ok()?;
    let (flow, _) = flow::wire(&draft, &modules(), &Values::new()).ok()?;
    Some(Arc::new(Flow { origin: Some(Arc::new(origin)), ..flow }))
}

/// Adds tasks to a flow by an edit.
pub(crate) fn with(flow: &Arc<Flow>, addition: &str) -> Arc<Flow> {
    let machine = Machine::new("r".parse().expect("a valid name"), flow.clone());
    let plan = machine.plan(&[Edit::Add { text: addition.into() }]);
    let (origin, draft) = plan.unwrap_or_else(|errors| panic!("{errors:#?}"));
    let wired = flow::wire(&draft, &modules(), &Values::new());
    let flow = wired.unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}")).0;
    Arc::new(Flow { origin: Some(Arc::new(origin)), ..flow })
}

/// Wires a flow of the tasks `undoable`, `plain` and `made` of the module `g`. The last requires an `item`.
pub(crate) fn wired(text: &str) -> Arc<Flow> {
    let draft = flow::file::parse(text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}\n{text}"));
    let wired = flow::wire(&draft, &modules(), &Values::new());
    let flow = wired.unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}\n{text}")).0;
    let modules = BTreeMap::from([("g".to_owned(), Digest::from_bytes([1; 32]))]);
    let origin = Some(Arc::new(FlowSource { text: text.into(), modules, edits: Vec::new() }));
    Arc::new(Flow { origin, ..flow })
}

fn modules() -> BTreeMap<String, ModuleInfo> {
    let parameter = |name: &str| Parameter {
        name: name.parse().expect("a valid name"),
        doc: String::new(),
        schema: None,
        optional: false,
    };
    let provided =
        |name: &str| Provided { name: name.parse().expect("a valid name"), doc: String::new(), schema: None };
    let task = |name: &str, requires: &[&str], provides: &[&str], rollback| TaskInfo {
        name: name.parse().expect("a valid name"),
        doc: String::new(),
        requires: requires.iter().map(|name| parameter(name)).collect(),
        provides: provides.iter().map(|name| provided(name)).collect(),
        rollback,
        retry: None,
        limits: LimitOverrides::default(),
    };
    let by_guest = || Rollback::Guest { requires: Vec::new() };
    let tasks = vec![
        task("undoable", &[], &[], by_guest()),
        task("plain", &[], &[], Rollback::None),
        task("made", &["item"], &["made"], by_guest()),
    ];
    BTreeMap::from([(
        "g".into(),
        ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Tasks(tasks) },
    )])
}
