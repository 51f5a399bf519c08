//! Callable modules, other modules, and the messages about them.

use flow::{Digest, Export, ModuleContent, Rollback};
use sandbox::{DescribeError, Module};

use crate::support::{Image, compile, guest, program, sandbox};

fn error(bytes: &[u8]) -> String {
    Module::componentize(bytes).unwrap_err().to_string()
}

fn error_of_text(text: &str) -> String {
    error(&wat::parse_str(text).unwrap())
}

#[test]
fn the_same_core_module_gives_the_same_component() {
    let core = guest(&Image::new(), "", "unreachable");
    let component = Module::componentize(&core).unwrap();
    assert_eq!(Module::componentize(&core).unwrap(), component);
    // A component is accepted unchanged.
    let bytes = component.clone().into_bytes();
    assert_eq!(Module::componentize(&bytes).unwrap(), component);
}

#[test]
fn a_non_wasm_file_is_recognised() {
    let expected = [
        (&b""[..], "this is not WebAssembly: it is empty"),
        (
            b"\x7fELF\x02\x01",
            "this is not WebAssembly: it looks like a Linux program or library; build it for wasm32-wasip1",
        ),
        (b"name = \"bake\"", "this is not WebAssembly: it looks like text"),
        (b"  (module)", "this is not WebAssembly: it is WebAssembly text; assemble it first"),
        (b"\x00\x01\x02", "this is not WebAssembly: it is no kind of file that waft knows"),
    ];
    for (bytes, message) in expected {
        assert_eq!(error(bytes), message);
    }
}

#[test]
fn a_truncated_or_damaged_module_is_reported() {
    let core = guest(&Image::new(), "", "unreachable");
    let component = Module::componentize(&core).unwrap().into_bytes();
    for module in [&core[..], &component] {
        for length in [4, 9, module.len() / 2, module.len() - 1] {
            let message = error(&module[..length]);
            let expected = format!("this WebAssembly is truncated: it ends after {length} bytes");
            assert!(message == expected || message.contains("not valid"), "{length}: {message}");
        }
    }
    assert_eq!(
        error(&core[..core.len() / 2]),
        format!("this WebAssembly is truncated: it ends after {} bytes", core.len() / 2)
    );
    let untyped =
        wat::parse_str(r#"(module (func (export "_start") (drop (i32.add (i64.const 1) (i32.const 1)))))"#).unwrap();
    assert!(error(&untyped).contains("this is not valid WebAssembly: type mismatch"), "{}", error(&untyped));
}

#[test]
fn a_module_without_tasks_lists_its_exports() {
    assert_eq!(
        error_of_text(r#"(module (func (export "add")) (func (export "sub")))"#),
        "it exports neither waft:task/guest@1.0.0 (a library made with the guest SDK does) nor _start (a program with \
         a main function does); it exports add, sub"
    );
    assert_eq!(
        error_of_text("(component)"),
        "it exports neither waft:task/guest@1.0.0 nor wasi:cli/run; it exports nothing"
    );
    let other = r#"(component (instance $i) (export "waft:task/guest@2.0.0" (instance $i)))"#;
    assert_eq!(
        error_of_text(other),
        "it exports waft:task/guest@2.0.0, another version of the contract than waft:task/guest@1.0.0"
    );
}

#[test]
fn an_import_that_is_not_granted_is_named() {
    assert_eq!(
        error_of_text(r#"(module (import "env" "secret" (func)) (func (export "_start")))"#),
        "it imports env.secret, which no guest is granted"
    );
    let component = r#"(component
        (import "wasi:http/incoming-handler@0.2.0" (instance))
        (import "wasi:clocks/wall-clock@0.2.0" (instance))
        (instance $run)
        (export "wasi:cli/run@0.2.0" (instance $run)))"#;
    assert_eq!(error_of_text(component), "it imports wasi:http/incoming-handler@0.2.0, which no guest is granted");
}

#[test]
fn imports_are_listed() {
    let component = Module::componentize(&program("", "unreachable")).unwrap().into_bytes();
    let imports = sandbox::imports(&component).unwrap();
    assert!(imports.iter().any(|import| import.starts_with("wasi:cli/stdin@0.2.")), "{imports:?}");
    assert!(sandbox::imports(b"neither").is_err());
}

#[tokio::test]
async fn a_module_describes_itself() {
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &guest(&Image::new(), "", "unreachable")).await;
    let ModuleContent::Tasks(tasks) = sandbox.describe(&compiled).await.unwrap() else { panic!("it has tasks") };
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].name, Export::new("bake").unwrap());
    assert_eq!(tasks[0].rollback, Rollback::Guest { requires: Vec::new() });
}

#[tokio::test]
async fn a_command_has_no_description() {
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &program("", "unreachable")).await;
    assert!(matches!(sandbox.describe(&compiled).await, Ok(ModuleContent::Command)));
}

#[tokio::test]
async fn a_description_without_tasks_is_invalid() {
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &guest(&Image::describing_nothing(), "", "unreachable")).await;
    let error = sandbox.describe(&compiled).await.unwrap_err();
    let digest = Digest::from_bytes([1; 32]);
    assert_eq!(error, DescribeError::Invalid { digest, reason: "it has no task".into() });
    assert_eq!(error.to_string(), "module sha256:010101010101 has an invalid description: it has no task");
}
