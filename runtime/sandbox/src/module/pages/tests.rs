//! The memory that a program sees. The host acts as the adapter.

use wasmtime::{Engine, Instance, Module, Store};

use super::*;

/// A program with a global and a memory besides the relevant ones.
const PROGRAM: &str = r#"(module
    (memory 7)
    (memory $shared (export "memory") 2 6)
    (global $own (mut i32) (i32.const 11))
    (func (export "own") (result i32) (global.get $own))
    (func (export "other") (result i32) (memory.size 0))
    (func (export "size") (result i32) (memory.size $shared))
    (func (export "grow") (param i32) (result i32) (memory.grow $shared (local.get 0)))
    (@custom ".debug_line" "offsets")
    (@custom "origin" "an oven"))"#;

fn hidden(text: &str) -> Vec<u8> {
    hide_adapters(&wat::parse_str(text).unwrap()).unwrap()
}

fn custom_sections(bytes: &[u8]) -> Vec<String> {
    let names = Parser::new(0).parse_all(bytes).map(Result::unwrap).filter_map(|payload| match payload {
        Payload::CustomSection(section) => Some(section.name().to_owned()),
        _ => None,
    });
    names.collect()
}

#[test]
fn memory_growth_of_the_adapter_is_hidden() {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &Module::new(&engine, hidden(PROGRAM)).unwrap(), &[]).unwrap();
    let get = |store: &mut Store<()>, name| {
        instance.get_typed_func::<(), i32>(&mut *store, name).unwrap().call(&mut *store, ()).unwrap()
    };
    let grow = |store: &mut Store<()>, pages| {
        instance.get_typed_func::<i32, i32>(&mut *store, "grow").unwrap().call(&mut *store, pages).unwrap()
    };
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    assert_eq!(memory.grow(&mut store, 1).unwrap(), 2, "the adapter grows it");
    assert_eq!((get(&mut store, "size"), grow(&mut store, 0)), (2, 2));
    assert_eq!((grow(&mut store, 1), get(&mut store, "size")), (3, 4));
    assert_eq!(memory.grow(&mut store, 1).unwrap(), 4, "the adapter grows it");
    assert_eq!((get(&mut store, "size"), grow(&mut store, 0)), (4, 4));
    assert_eq!((grow(&mut store, 2), get(&mut store, "size")), (-1, 4), "the maximum is six pages");
    assert_eq!((grow(&mut store, 1), get(&mut store, "size")), (5, 6));
    assert_eq!((get(&mut store, "own"), get(&mut store, "other")), (11, 7), "they are unchanged");
}

#[test]
fn offset_sections_are_removed_and_names_stay() {
    assert_eq!(custom_sections(&wat::parse_str(PROGRAM).unwrap()), [".debug_line", "origin", "name"]);
    assert_eq!(custom_sections(&hidden(PROGRAM)), ["origin", "name"]);
}

#[test]
fn a_program_without_hidden_pages_is_unchanged() {
    let grow = "(func (drop (memory.grow (i32.const 1))))";
    for text in [
        format!(r#"(module (memory (export "memory") 1) (func (export "cabi_realloc")) {grow})"#),
        format!("(module (memory 1) {grow})"),
        r#"(module (memory (export "memory") 1))"#.to_owned(),
        format!(r#"(module (memory (export "memory") i64 1) {})"#, grow.replace("i32", "i64")),
    ] {
        assert_eq!(hidden(&text), wat::parse_str(&text).unwrap(), "{text}");
    }
}
