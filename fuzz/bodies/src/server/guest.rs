//! A guest whose `describe` returns what an input says.

use std::sync::OnceLock;

use sandbox::Module;
use wit_component::StringEncoding;
use wit_parser::Resolve;

/// The address where the input lies in the memory of the guest. `describe` returns this address: of the address and the length
/// of a list of tasks.
pub(crate) const BASE: u32 = 1 << 10;

/// The number of bytes of an input that are used.
pub(crate) const SPACE: usize = 4 << 10;

/// The byte of which the template has [`SPACE`] in a row.
const BLANK: u8 = 0xa5;

/// A component with these bytes in its memory, and zeros behind them.
pub(crate) fn component(memory: &[u8]) -> Vec<u8> {
    static TEMPLATE: OnceLock<(Vec<u8>, usize)> = OnceLock::new();
    let (template, at) = TEMPLATE.get_or_init(template);
    let mut component = template.clone();
    let space = &mut component[*at..*at + SPACE];
    space.fill(0);
    let length = memory.len().min(SPACE);
    space[..length].copy_from_slice(&memory[..length]);
    component
}

/// A component, and the offset of the blank space in it.
fn template() -> (Vec<u8>, usize) {
    let module = Module::componentize(&core()).expect("the template is a module");
    let component = module.into_bytes().to_vec();
    let at = component.windows(SPACE).position(|bytes| bytes.iter().all(|byte| *byte == BLANK));
    let at = at.expect("the component has the data of its core module");
    (component, at)
}

fn core() -> Vec<u8> {
    let blank = format!("\\{BLANK:02x}").repeat(SPACE);
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "waft:task/guest@1.0.0#describe") (result i32) (i32.const {BASE}))
            (func (export "waft:task/guest@1.0.0#apply")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i64 i32 i32) (result i32) unreachable)
            (func (export "waft:task/guest@1.0.0#rollback") (param i32) (result i32) unreachable)
            (data (i32.const {BASE}) "{blank}"))"#
    );
    let mut module = wat::parse_str(text).expect("the template is WebAssembly text");
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/wit/task.wit");
    let package = resolve.push_path(wit).expect("the contract is WIT").0;
    let world = resolve.select_world(&[package], Some("task")).expect("the contract has a world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the module takes a custom section");
    module
}
