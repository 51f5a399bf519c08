//! Modules for the flows of inputs, and the rules for diagnostics.

use std::collections::BTreeMap;

use flow::{
    Diagnostic, Digest, Draft, Json, LimitOverrides, ModuleContent, ModuleInfo, Parameter, Provided, RetryPolicy,
    Rollback, TaskInfo, ValueName,
};

/// The modules of a draft: an alias that begins with `cmd` is a command, each other one has the same tasks.
pub(crate) fn modules_of(draft: &Draft) -> BTreeMap<String, ModuleInfo> {
    let found = draft.modules.keys().filter(|alias| !alias.starts_with("missing"));
    found.map(|alias| (alias.clone(), module(alias))).collect()
}

fn module(alias: &str) -> ModuleInfo {
    if alias.starts_with("cmd") {
        return ModuleInfo { digest: Digest::from_bytes([8; 32]), content: ModuleContent::Command };
    }
    ModuleInfo { digest: Digest::from_bytes([9; 32]), content: ModuleContent::Tasks(tasks()) }
}

/// Tasks with and without schemas, optional parameters and rollbacks.
fn tasks() -> Vec<TaskInfo> {
    let integer = r#"{"type":"integer","minimum":0,"maximum":1000}"#;
    let text = r#"{"type":"string","enum":["red","blue","a"]}"#;
    let items = r##"{"$defs":{"i":{"type":"object","properties":{"name":{"type":"string"},"size":{"type":"number"}},
        "required":["name"],"additionalProperties":false}},"type":"array","items":{"$ref":"#/$defs/i"}}"##;
    vec![
        TaskInfo {
            requires: vec![parameter("x", None, false), parameter("maybe", None, true)],
            provides: vec![provided("y", None)],
            rollback: Rollback::Guest { requires: vec![parameter("list", None, false)] },
            ..task("t")
        },
        TaskInfo {
            requires: vec![parameter("count", Some(integer), false), parameter("colour", Some(text), true)],
            provides: vec![provided("count", Some(integer)), provided("items", Some(items))],
            retry: Some(RetryPolicy { attempts: 3, ..RetryPolicy::default() }),
            ..task("typed")
        },
        TaskInfo { requires: vec![parameter("items", Some(items), false)], ..task("takes") },
        task("plain"),
    ]
}

fn task(name: &str) -> TaskInfo {
    TaskInfo {
        name: name.parse().expect("a name"),
        doc: String::new(),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    }
}

fn parameter(name: &str, schema: Option<&str>, optional: bool) -> Parameter {
    Parameter { name: value_name(name), doc: String::new(), schema: schema.map(json), optional }
}

fn provided(name: &str, schema: Option<&str>) -> Provided {
    Provided { name: value_name(name), doc: String::new(), schema: schema.map(json) }
}

fn value_name(name: &str) -> ValueName {
    name.parse().expect("a name")
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("a schema is JSON")
}

/// Each diagnostic says something, points into its text and can be shown.
pub(crate) fn check_diagnostics(diagnostics: &[Diagnostic], text: &str) {
    let lines = flow::Lines::of(text);
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty(), "a diagnostic without words: {diagnostic:?}");
        if let Some(span) = &diagnostic.span {
            assert!(span.start <= span.end && span.end <= text.len(), "it points past the text: {diagnostic:?}");
            let (line, column) = lines.line_and_column(span.start);
            assert!(line >= 1 && column >= 1, "lines and columns count from 1: {diagnostic:?}");
        }
    }
    let shown = flow::render(diagnostics, "flow.toml", text);
    assert_eq!(shown.is_empty(), diagnostics.is_empty());
    let is_printable = |char: char| !char.is_control() || matches!(char, '\n' | '\t');
    assert!(shown.chars().all(is_printable), "a terminal would take this for commands: {shown:?}");
}
