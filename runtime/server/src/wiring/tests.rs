//! Tests of how the modules of a flow are found.

use std::cell::Cell;

use flow::{LimitOverrides, ModuleContent, Rollback, TaskInfo};

use super::*;

/// A draft that names a module several times.
fn draft(aliases: usize, reference: impl Fn(usize) -> String) -> Draft {
    let modules: String = (0..aliases).map(|alias| format!("m{alias} = \"{}\"\n", reference(alias))).collect();
    flow::file::parse(&format!("name = \"f\"\n[modules]\n{modules}[[task]]\nname = \"t\"\nwait = \"x\"\n")).unwrap()
}

/// A module with a description of some bytes.
fn module(bytes: usize) -> InspectedModule {
    let task = TaskInfo {
        name: "t".parse().unwrap(),
        doc: "d".repeat(bytes),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    };
    let (digest, content) = (Digest::from_bytes([1; 32]), ModuleContent::Tasks(vec![task]));
    InspectedModule { digest, bytes: Vec::new().into(), content }
}

#[tokio::test]
async fn each_reference_is_found_once() {
    let found = Cell::new(0);
    let find = async |text: String| {
        found.set(found.get() + 1);
        if text == "b" { Err(MissingModule::NotFound { reason: "no".into() }) } else { Ok(module(10)) }
    };
    let draft = draft(100, |alias| if alias % 2 == 0 { "a".into() } else { "b".into() });
    let FoundModules { modules, missing } = find_modules(&draft, find).await;
    assert_eq!((found.get(), modules.len(), missing.len()), (2, 50, 50));
}

#[tokio::test]
async fn the_descriptions_of_modules_have_a_maximum_size_together() {
    let found = Cell::new(0);
    let find = async |_: String| {
        found.set(found.get() + 1);
        Ok::<_, MissingModule>(module(3 << 20))
    };
    let draft = draft(100, |alias| format!("m{alias}"));
    let FoundModules { modules, missing } = find_modules(&draft, find).await;
    assert_eq!((found.get(), modules.len()), (6, 5), "no further module is asked");
    let missing: Vec<MissingModule> = missing.into_values().collect();
    assert_eq!(missing.len(), 1);
    assert!(missing[0].reason().contains("more than 16777216 bytes together"));
}

#[tokio::test]
async fn no_more_modules_are_asked_than_a_flow_may_name() {
    let found = Cell::new(0);
    let find = async |_: String| {
        found.set(found.get() + 1);
        Ok::<_, MissingModule>(module(1))
    };
    find_modules(&draft(1_500, |alias| format!("m{alias}")), find).await;
    assert_eq!(found.get(), 1_000);
}
