//! Submissions: diagnostics, and submissions with the id of an existing run.

use std::sync::atomic::{AtomicU8, Ordering};

use logbook::LoadError;
use server::ModuleLibrary;
use store::Entry;

use super::*;

#[tokio::test]
async fn a_rejected_flow_lists_all_diagnostics_with_positions() {
    let harness = Harness::new().await;
    let text = "name = \"f\"\n[modules]\nm = \"../m.wasm\"\n[[task]]\nname = \"t\"\nuse = \"n\"\n[[link]]\nfrom = \"t\"\nto = \"z\"\n";
    let problem = refusal(harness.client().submit(&submission(text)).await);
    assert_eq!((problem.status, problem.detail.as_str()), (422, "the flow has 3 errors"));
    let positions: Vec<_> = problem.diagnostics.iter().map(|diagnostic| (diagnostic.line, diagnostic.column)).collect();
    assert_eq!(positions, [(Some(3), Some(5)), (Some(6), Some(7)), (Some(9), Some(6))], "{:#?}", problem.diagnostics);
    assert!(
        problem
            .diagnostics
            .iter()
            .all(|diagnostic| diagnostic.severity == Severity::Error && diagnostic.hint.is_some())
    );
    let why = "module \"m\" was not found: \"../m.wasm\" is no tag and no digest; the server reads no files";
    assert!(problem.diagnostics[0].message.starts_with(why), "{:?}", problem.diagnostics[0]);
    let misnamed = text.replace("name = \"t\"", "name = \"t t\"").replace("from = \"t\"", "from = \"t t\"");
    let problem = refusal(harness.client().submit(&submission(&misnamed)).await);
    let lines: Vec<_> = problem.diagnostics.iter().map(|diagnostic| diagnostic.line).collect();
    assert_eq!(
        lines,
        [Some(3), Some(5), Some(6), Some(8), Some(9)],
        "a bad name hides no other: {:#?}",
        problem.diagnostics
    );
    let problem = refusal(harness.client().submit(&submission("nam = 1")).await);
    assert_eq!((problem.status, problem.diagnostics[0].line), (422, Some(1)));
    assert!(harness.client().list(&ListQuery::default()).await.unwrap().runs.is_empty(), "nothing was started");
}

#[tokio::test]
async fn resubmitting_a_run_id_with_other_content_is_rejected() {
    let harness = Harness::new().await;
    let client = harness.client();
    let of = |text: &str| submission(text).run("r1");
    let first = client.submit(&of(WAITS).input("x", 1)).await.unwrap();
    assert_eq!((first.run.as_str(), first.flow.as_str(), first.state), ("r1", "f", RunState::Running));
    for state in [RunState::Running, RunState::Success] {
        for same in [
            of(WAITS).input("x", 1),
            of(&format!("# with a comment\n{WAITS}")).input("x", 1),
            of(&format!("{WAITS}[inputs]\nx = 1\n")),
        ] {
            assert_eq!(client.submit(&same).await.unwrap().state, state, "{}", same.flow);
        }
        for (other, message) in [
            (of(WAITS).input("x", 2), "other content: input \"x\""),
            (of(WAITS).input("x", "1"), "other content: input \"x\""),
            (of(WAITS).input_bytes("x", "1"), "other content: input \"x\""),
            (of(WAITS).input("x", 1).input("y", 1), "other content: input \"y\""),
            (of(WAITS), "other content: input \"x\""),
            (of(&WAITS.replace("a word", "a sign")), "other content: the flow, input \"x\""),
            (of("name = \"g\""), "of the flow f"),
        ] {
            let problem = refusal(client.submit(&other).await);
            assert!(problem.status == 409 && problem.detail.contains(message), "{message}: {problem:?}");
        }
        if state == RunState::Running {
            client.notify("r1", &Notification::of("w").value("v", 1)).await.unwrap();
            client.wait("r1").await.unwrap();
        }
    }
}

#[tokio::test]
async fn inputs_that_an_edit_added_are_not_part_of_the_submission() {
    let harness = Harness::new().await;
    let client = harness.client();
    let of = |input: u32| submission(WAITS).run("r1").input("x", input);
    client.submit(&of(1)).await.unwrap();
    let text = "[inputs]\nadded = 1\n[[task]]\nname = \"another\"\nwait = \"a word\"\n".into();
    let edits = Edits { edits: vec![Edit::Add { text, modules: [].into() }], ..Edits::default() };
    client.edit("r1", &edits).await.unwrap();
    assert_eq!(client.submit(&of(1)).await.unwrap().state, RunState::Running);
    let problem = refusal(client.submit(&of(2)).await);
    assert!(problem.status == 409 && problem.detail.ends_with("other content: input \"x\""), "{problem:?}");
    let problem = refusal(client.submit(&of(1).input("added", 1)).await);
    assert!(problem.status == 409 && problem.detail.ends_with("other content: input \"added\""), "{problem:?}");
}

#[tokio::test]
async fn a_keyed_notification_may_be_repeated() {
    let harness = Harness::new().await;
    let client = harness.client();
    client.submit(&submission(WAITS).run("r1").input("x", 1)).await.unwrap();
    let notification = Notification::of("w").value("v", 1).key("k");
    client.notify("r1", &notification).await.unwrap();
    client.wait("r1").await.unwrap();
    assert_eq!(client.notify("r1", &notification).await.unwrap().state, RunState::Success);
    let problem = refusal(client.notify("r1", &notification.clone().key("other")).await);
    assert_eq!(problem.status, 409, "{problem:?}");
}

#[tokio::test]
async fn a_long_key_is_refused_before_the_run_has_it() {
    let harness = Harness::new().await;
    let client = harness.client();
    client.submit(&submission(WAITS).run("r1").input("x", 1)).await.unwrap();
    let notification = Notification::of("w").value("v", 1);
    let problem = refusal(client.notify("r1", &notification.clone().key("k".repeat(513))).await);
    assert_eq!((problem.status, problem.kind.as_str()), (422, "urn:waft:problem:too-large"));
    assert!(problem.detail.contains("key: it has 513 bytes, and at most 512 are allowed"), "{problem:?}");
    client.notify("r1", &notification.key("k".repeat(512))).await.unwrap();
    client.wait("r1").await.unwrap();
}

#[tokio::test]
async fn a_run_without_source_is_compared_by_its_wired_flow() {
    let harness = Harness::new().await;
    harness.engine.submit("r1".parse().unwrap(), flow_of(WAITS)).await.unwrap();
    let of = |text: &str| submission(text).run("r1");
    assert_eq!(harness.client().submit(&of(WAITS)).await.unwrap().state, RunState::Running);
    let problem = refusal(harness.client().submit(&of(&WAITS.replace("a word", "a sign"))).await);
    assert!(problem.status == 409 && problem.detail.ends_with("other content: the flow"), "{problem:?}");
}

#[tokio::test]
async fn an_answer_has_the_first_diagnostics_of_many() {
    let harness = Harness::new().await;
    let keys: String = (0..1_000).map(|number| format!("k{number} = 1\n")).collect();
    let problem = refusal(harness.client().submit(&submission(&keys)).await);
    assert_eq!((problem.status, problem.diagnostics.len()), (422, 101));
    let last = &problem.diagnostics[100].message;
    assert!(last.ends_with(" more are not shown: `waft check` prints all"), "{last}");
}

/// A program that does nothing, with a memory of so many pages.
fn program(pages: u8) -> Vec<u8> {
    let section = |id: u8, content: &[&[u8]]| {
        let content = content.concat();
        let mut section = vec![id, u8::try_from(content.len()).unwrap()];
        section.extend(content);
        section
    };
    [
        b"\0asm\x01\0\0\0".to_vec(),
        // The types () -> () and (i32, i32, i32, i32) -> i32.
        section(1, &[b"\x02", b"\x60\0\0", b"\x60\x04\x7f\x7f\x7f\x7f\x01\x7f"]),
        section(2, &[b"\x01", b"\x16wasi_snapshot_preview1", b"\x08fd_write", b"\0\x01"]),
        section(3, &[b"\x01\0"]),
        section(5, &[b"\x01\0", &[pages]]),
        section(7, &[b"\x02", b"\x06memory\x02\0", b"\x06_start\0\x01"]),
        section(10, &[b"\x01\x02\0\x0b"]),
    ]
    .concat()
}

/// Stores a program, and returns its entry in the list of a cleanup that runs now.
async fn listed_program(library: &ModuleLibrary, pages: u8) -> Entry {
    let component = library.component(program(pages).into(), None).await.unwrap();
    let (found, _) = library.push(component, &[], None).await.unwrap();
    let entries = library.store.list().await.unwrap();
    entries.into_iter().find(|entry| entry.digest == found.digest).unwrap()
}

#[tokio::test]
async fn a_submission_and_an_edit_keep_their_modules_from_a_cleanup_that_has_listed_them() {
    let dependencies = dependencies().await;
    let library = dependencies.modules.clone();
    let harness = Harness::over(config(None), dependencies).await;
    let client = harness.client();
    let [submitted, added, unused] =
        [listed_program(&library, 1).await, listed_program(&library, 2).await, listed_program(&library, 3).await];
    let uses = |task: &str, module: &Entry| {
        format!("[modules]\n{task} = \"{}\"\n[[task]]\nname = \"{task}\"\nuse = \"{task}\"\n", module.digest)
    };
    let flow = format!("name = \"f\"\n{}", uses("first", &submitted));
    client.submit(&submission(&flow).run("r1")).await.unwrap();
    assert!(!library.store.remove(&submitted).await.unwrap(), "the submission needs it");
    let text = uses("second", &added);
    let edits = Edits { edits: vec![Edit::Add { text, modules: [].into() }], ..Edits::default() };
    client.edit("r1", &edits).await.unwrap();
    assert!(!library.store.remove(&added).await.unwrap(), "the edit needs it");
    assert!(library.store.remove(&unused).await.unwrap(), "nobody needs it");
}

/// Fails the first read after the first append: 0 before the append, 1 after it, and 2 once a read has failed.
#[derive(Default)]
struct FailsFirstRead(AtomicU8);

#[async_trait]
impl AppendInterceptor for FailsFirstRead {
    async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
        Ok(())
    }

    async fn after(&self) -> Result<(), AppendError> {
        // A later append changes nothing.
        let _ = self.0.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        Ok(())
    }

    async fn before_load(&self) -> Result<(), LoadError> {
        match self.0.compare_exchange(1, 2, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Err(LoadError::Unavailable { reason: "it is busy".into() }),
            Err(_) => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_run_that_cannot_be_shown_is_answered_with_its_warnings() {
    let fails = Arc::new(FailsFirstRead::default());
    let logbook = InterceptedLogbook::new(Arc::new(Memory::new()), fails.clone());
    let harness = Harness::over(config(None), dependencies_over(Arc::new(logbook)).await).await;
    let started = harness.client().submit(&submission(WAITS).run("r1").input("x", 1)).await.unwrap();
    assert_eq!(fails.0.load(Ordering::SeqCst), 2, "a read has failed");
    let warnings: Vec<&str> = started.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert!(warnings.len() == 1 && warnings[0].starts_with("no task requires input"), "{warnings:?}");
    assert_eq!(started.run, "r1");
}

#[tokio::test]
async fn few_differences_of_a_submission_are_named() {
    let harness = Harness::new().await;
    let client = harness.client();
    let of = || submission(WAITS).run("r1");
    client.submit(&of()).await.unwrap();
    let many = (0..150).fold(of(), |others, number| others.input(format!("i{number:03}"), 1));
    let problem = refusal(client.submit(&many).await);
    assert!(problem.status == 409 && problem.detail.ends_with(", input \"i099\", and 50 more"), "{problem:?}");
    // They are not looked up in the store.
    let many = (0..1_001).fold(of(), |others, number| others.module(number.to_string(), ""));
    let problem = refusal(client.submit(&many).await);
    assert!(problem.status == 409 && problem.detail.ends_with("other content: its 1001 modules"), "{problem:?}");
}

#[tokio::test]
async fn few_warnings_about_a_flow_are_shown() {
    let harness = Harness::new().await;
    let many = (0..150).fold(submission(WAITS), |others, number| others.input(format!("i{number:03}"), 1));
    let started = harness.client().submit(&many).await.unwrap();
    let last = started.warnings.last().unwrap();
    assert_eq!((started.warnings.len(), &last.severity), (101, &Severity::Warning));
    assert!(last.message.starts_with("50 more are not shown"), "{last:?}");
}
