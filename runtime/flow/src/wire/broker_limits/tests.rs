//! Tests of the maxima, that of schedules too: the largest number passes, and one more is an error with its place.

use std::collections::BTreeMap;

use super::{super::triggers::MAX_SCHEDULES, *};
use crate::{
    Digest, Edit, EditedDraft, Flow, LimitOverrides, ModuleContent, ModuleInfo, Parameter, Rollback, RunId, TaskInfo,
    Values, file, render, wire,
};

/// The diagnostics of a persistent flow with these parts.
fn diagnostics_of(parts: impl Iterator<Item = String>) -> String {
    let text = format!("name = \"f\"\npersistent = true\n[modules]\nm = \"m.wasm\"\n{}", parts.collect::<String>());
    wire_draft(&file::read(&text)).map_or_else(|diagnostics| render(&diagnostics, "f.toml", &text), |()| String::new())
}

fn wire_draft(draft: &Draft) -> Result<(), Vec<Diagnostic>> {
    wired(draft).map(drop)
}

fn wired(draft: &Draft) -> Result<Flow, Vec<Diagnostic>> {
    let item = Parameter { name: "item".parse().unwrap(), doc: String::new(), schema: None, optional: true };
    let task = TaskInfo {
        name: "noop".parse().unwrap(),
        doc: String::new(),
        requires: vec![item],
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Tasks(vec![task]) };
    wire(draft, &BTreeMap::from([("m".into(), info)]), &Values::new()).map(|(flow, _)| flow)
}

fn task(number: usize, keys: &str) -> String {
    format!("[[task]]\nname = \"t{number}\"\nuse = \"m#noop\"\n{keys}\n")
}

fn listen(number: usize) -> String {
    format!("[[listen]]\nflow = \"f{number}\"\ntask = \"t\"\nto = \"t0\"\n")
}

fn schedule(number: usize) -> String {
    format!("[[schedule]]\ncron = \"{} {} * * *\"\nto = \"t0\"\n", number % 60, number / 60)
}

#[test]
fn a_flow_listens_at_most_256_times() {
    let flow = |count| std::iter::once(task(0, "")).chain((0..count).map(listen));
    assert_eq!(diagnostics_of(flow(MAX_LISTENERS)), "");
    let shown = diagnostics_of(flow(MAX_LISTENERS + 1));
    assert!(shown.starts_with("error: the flow has 257 [[listen]], and the maximum is 256\n"), "{shown}");
    // The head and each part have four lines.
    let line = 4 + 4 + 4 * MAX_LISTENERS + 1;
    assert!(shown.contains(&format!("f.toml:{line}:")) && shown.contains("hint: "), "{shown}");
}

#[test]
fn an_edit_adds_no_listener_beyond_the_maximum() {
    check_added_parts(listen, MAX_LISTENERS, "257 [[listen]]");
}

#[test]
fn a_flow_has_at_most_256_schedules() {
    let flow = |count| std::iter::once(task(0, "")).chain((0..count).map(schedule));
    assert_eq!(diagnostics_of(flow(MAX_SCHEDULES)), "");
    let shown = diagnostics_of(flow(MAX_SCHEDULES + 1));
    assert!(shown.starts_with("error: the flow has more than 256 [[schedule]]\n"), "{shown}");
    // The head and the task have four lines each, a schedule has three.
    let line = 4 + 4 + 3 * MAX_SCHEDULES + 1;
    assert!(shown.contains(&format!("f.toml:{line}:")) && shown.contains("hint: "), "{shown}");
    let text: String = flow(3 * MAX_SCHEDULES).collect();
    let draft = file::read(&format!("name = \"f\"\n{text}"));
    assert_eq!(draft.schedules.len(), MAX_SCHEDULES + 1, "further ones cost nothing");
}

#[test]
fn an_edit_adds_no_schedule_beyond_the_maximum() {
    let text = |numbers: std::ops::Range<usize>| numbers.map(schedule).collect::<String>().into();
    let mut edited = EditedDraft::new(file::read(&format!("name = \"f\"\n{}{}", task(0, ""), schedule(0))));
    edited.apply(&Edit::Add { text: text(1..MAX_SCHEDULES) }).expect("as many as allowed");
    let refused = edited.apply(&Edit::Add { text: text(0..1) }).expect_err("one too many");
    assert!(refused.contains("257 [[schedule]]"), "{refused}");
    assert_eq!(edited.into_draft().schedules.len(), MAX_SCHEDULES);
}

/// Edits add parts to a flow with one: up to the maximum, and then one more, which is refused.
fn check_added_parts(part: fn(usize) -> String, max: usize, refused: &str) {
    let text = format!("name = \"f\"\npersistent = true\n[modules]\nm = \"m.wasm\"\n{}{}", task(0, ""), part(0));
    let add = |draft, numbers: std::ops::Range<usize>| {
        let mut edited = EditedDraft::new(draft);
        let added = Edit::Add { text: numbers.map(part).collect::<String>().into() };
        edited.apply(&added).expect("the text is right");
        let draft = edited.into_draft();
        (wire_draft(&draft), draft)
    };
    let (wired, draft) = add(file::read(&text), 1..max);
    wired.expect("as many as allowed");
    let (wired, _) = add(draft, max..max + 1);
    let diagnostics = wired.expect_err("one too many");
    assert!(diagnostics[0].message.contains(refused), "{diagnostics:?}");
}

#[test]
fn the_tasks_of_a_flow_have_at_most_256_queues() {
    // Tasks that share a queue, such as the default one, count once.
    let flow = |count| {
        let queue = |number| if number < 2 { String::new() } else { format!("queue = \"q{number}\"") };
        (0..count).map(move |number| task(number, &queue(number)))
    };
    assert_eq!(diagnostics_of(flow(MAX_QUEUES + 1)), "");
    let shown = diagnostics_of(flow(MAX_QUEUES + 2));
    assert!(shown.starts_with("error: the tasks of the flow have more than 256 queues"), "{shown}");
    // The head and each task have four lines; the queue is on the last one.
    let line = 4 + 4 * (MAX_QUEUES + 2);
    assert!(shown.contains(&format!("f.toml:{line}:")) && shown.contains("hint: "), "{shown}");
}

#[test]
fn a_flow_has_at_most_256_paced_tasks() {
    let flow =
        |count| (0..count).map(|number| task(number, if number == 0 { "rate = \"1/s\"" } else { "max_running = 1" }));
    assert_eq!(diagnostics_of(flow(MAX_PACED_TASKS)), "");
    let shown = diagnostics_of(flow(MAX_PACED_TASKS + 1));
    assert!(shown.starts_with("error: 257 tasks of the flow have max_running or rate"), "{shown}");
    assert!(shown.contains("f.toml:") && shown.contains("hint: "), "{shown}");
}

#[test]
fn names_that_fit_no_routing_key_are_refused() {
    let flow = |task: usize, list: &str| {
        let (flow, task) = ("f".repeat(100), "t".repeat(task));
        let text = format!(
            "name = \"{flow}\"\n[modules]\nm = \"m.wasm\"\n[[task]]\nname = \"{task}\"\nuse = \"m#noop\"\n{list}"
        );
        wire_draft(&file::read(&text))
            .map_or_else(|diagnostics| render(&diagnostics, "f.toml", &text), |()| String::new())
    };
    assert_eq!((flow(100, ""), flow(88, "for_each = [1]\n")), (String::new(), String::new()));
    let shown = flow(90, "for_each = [1]\n");
    let says = format!("error: the name of task {:?} is 2 bytes too long for the name of flow \"fff", "t".repeat(90));
    assert!(shown.starts_with(&says), "{shown}");
    assert!(shown.contains("f.toml:5:") && shown.contains("hint: shorten"), "{shown}");
}

#[test]
fn a_run_id_that_fits_no_routing_key_is_refused() {
    let flow = |flow: usize, list: &str| {
        let (flow, task) = ("f".repeat(flow), "t".repeat(88));
        let parts = format!("[modules]\nm = \"m.wasm\"\n[[task]]\nname = \"{task}\"\nuse = \"m#noop\"\n{list}");
        wired(&file::read(&format!("name = \"{flow}\"\n{parts}"))).expect("the flow is right")
    };
    let run = |length: usize| RunId::new("r".repeat(length)).expect("a valid name");
    assert_eq!(flow(100, "").check_run_id(&run(48)), Ok(()));
    assert_eq!(flow(100, "for_each = [1]\n").check_run_id(&run(36)), Ok(()));
    for (list, length) in [("", 48), ("for_each = [1]\n", 36)] {
        let error = flow(100, list).check_run_id(&run(length + 3)).expect_err("its keys have 258 bytes");
        assert_eq!((error.excess, error.task.as_str()), (3, "t".repeat(88).as_str()));
        let says = format!("the run id {:?} is 3 bytes too long for task \"ttt", "r".repeat(length + 3));
        assert!(
            error.to_string().starts_with(&says) && error.to_string().contains("have 239 bytes together"),
            "{error}"
        );
    }
}
