//! Inputs that are written by hand and are no text: code writes them.

use std::{collections::BTreeMap, fs};

use bodies::{Memory, Task};

use super::folder;

/// The variable that makes the test write the files.
const WRITE: &str = "WAFT_WRITE_SEEDS";

const INTEGER: Option<&str> = Some(r#"{"type": "integer"}"#);

fn seeds() -> BTreeMap<(&'static str, &'static str), Vec<u8>> {
    let descriptions = descriptions().into_iter().map(|(name, bytes)| (("description", name), bytes));
    let modules =
        modules().into_iter().map(|(name, text)| (("module", name), wat::parse_str(text).expect("it can be written")));
    descriptions.chain(modules).collect()
}

/// Memories of guests, which begin with the address and the length of the list of tasks.
fn descriptions() -> Vec<(&'static str, Vec<u8>)> {
    let task = Task { name: "bake", requires: &[("pan", None)], provides: &[("cake", None)], ..Task::default() };
    let full = Task {
        requires: &[("pan", INTEGER), ("size", Some("true"))],
        provides: &[("cake", INTEGER)],
        rollback: Some(&[("reason", None)]),
        retry: Some((4, 200)),
        limits: [Some(30_000), Some(1 << 20)],
        ..task
    };
    let with_schema = |schema| Memory::of(&[Task { requires: &[("pan", Some(schema))], ..task }]);
    let mut valid = Memory::of(&[full]);
    let lying = |at: usize, number: u32| {
        let mut memory = Memory::of(&[full]);
        memory[at..at + 4].copy_from_slice(&number.to_le_bytes());
        memory
    };
    let first = u32::from_le_bytes(valid[..4].try_into().expect("it can be written")) as usize - (1 << 10);
    let descriptions = vec![
        ("valid", valid.clone()),
        ("two-tasks", Memory::of(&[task, Task { name: "plain", ..Task::default() }])),
        ("same-names", Memory::of(&[task, task])),
        ("no-task", Memory::of(&[])),
        ("empty", Vec::new()),
        ("bad-name", Memory::of(&[Task { name: "a cake", ..task }])),
        ("no-name", Memory::of(&[Task { name: "", ..task }])),
        ("parameter-twice", Memory::of(&[Task { requires: &[("pan", None), ("pan", None)], ..task }])),
        ("rollback-parameter-twice", Memory::of(&[Task { rollback: Some(&[("pan", None)]), ..task }])),
        ("schema-cut", with_schema("{")),
        ("schema-number", with_schema("7")),
        ("schema-deep", Memory::of(&[Task { requires: &[("pan", Some(&"[".repeat(2_000)))], ..task }])),
        ("no-attempts", Memory::of(&[Task { retry: Some((0, 0)), ..task }])),
        ("no-time", Memory::of(&[Task { limits: [Some(0), None], ..task }])),
        ("no-memory", Memory::of(&[Task { limits: [None, Some(0)], ..task }])),
        ("huge-numbers", Memory::of(&[Task { limits: [Some(u64::MAX); 2], retry: Some((u32::MAX, 1 << 60)), ..task }])),
        ("length-lies", lying(4, u32::MAX)),
        ("length-of-many", lying(4, 400)),
        ("address-lies", lying(0, 0xffff_fff0)),
        ("address-unaligned", lying(0, 1_033)),
        ("name-lies", lying(first + 4, 0x7fff_ffff)),
        ("parameters-lie", lying(first + 20, 60_000)),
        ("flag-is-none", lying(first + 32, 7)),
    ];
    valid.truncate(200);
    [descriptions, vec![("cut", valid)]].concat()
}

/// Modules as WebAssembly text.
fn modules() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "program",
            r#"(module
                (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1 4)
                (global (mut i32) (i32.const 7))
                (func (export "_start")
                    (drop (memory.grow (memory.size)))
                    (call $exit (i32.const 3)))
                (data (i32.const 8) "hello"))"#,
        ),
        ("program-without-memory", r#"(module (func (export "_start")))"#),
        (
            "program-of-two-memories",
            r#"(module
                (memory (export "memory") 1)
                (memory 1)
                (table 1 funcref)
                (start $start)
                (func $start (export "_start") (drop (memory.grow 1 (memory.size 0))))
                (elem (i32.const 0) $start))"#,
        ),
        ("no-exports", r#"(module (func (export "add")) (func (export "sub")))"#),
        ("not-granted", r#"(module (import "env" "f" (func)) (func (export "_start")))"#),
        ("guest-without-types", r#"(module (func (export "waft:task/guest@1.0.0#apply")))"#),
        ("component-of-modules", r#"(component (core module (memory 1)) (component (core module)))"#),
        (
            "component-that-imports",
            r#"(component
                (import "wasi:http/types@0.2.0" (instance))
                (import "wasi:cli/stdin@0.2.0" (instance)))"#,
        ),
        (
            "component-of-another-contract",
            r#"(component (instance $i) (export "waft:task/guest@2.0.0" (instance $i)))"#,
        ),
        ("component-command", r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#),
    ]
}

#[test]
fn the_seeds_of_code_are_in_the_corpus() {
    let writes = std::env::var_os(WRITE).is_some();
    for ((target, name), bytes) in seeds() {
        let file = folder("corpus").join(target).join(name);
        if writes {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        let there = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}: set {WRITE}=1", file.display()));
        assert!(there == bytes, "{} differs from what the test writes: set {WRITE}=1", file.display());
    }
}
