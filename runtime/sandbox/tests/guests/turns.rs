//! Modules that take long to compile or to describe themselves delay only their namespace, and only while somebody waits.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use flow::{Digest, Namespace};
use futures::FutureExt as _;
use sandbox::{CompileError, Compiler, Config, DescribeError, Sandbox};

use crate::support::{Image, compile, guest, sandbox};

/// A guest that computes forever as soon as it is instantiated.
fn spinning_from_its_start() -> Vec<u8> {
    guest(&Image::new(), "(func $spin (loop $l (br $l))) (start $spin)", "unreachable")
}

#[tokio::test]
async fn only_so_many_modules_of_one_namespace_wait() {
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &spinning_from_its_start()).await;
    let (shop, bank) = (Namespace::new("shop").unwrap(), Namespace::new("bank").unwrap());
    let describe = |owner| Box::pin(sandbox.describe_for(Some(owner), &compiled));
    // Two describe themselves, and the others wait.
    let mut waiting: Vec<_> = (0..2 + 16).map(|_| describe(&shop)).collect();
    assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()), "they take long");
    let refused = describe(&shop).await.unwrap_err();
    assert_eq!(refused, DescribeError::Busy { digest: compiled.digest() });
    let mut other = describe(&bank);
    assert!((&mut other).now_or_never().is_none(), "it takes long too");
    // Who gives up makes room.
    waiting.pop();
    assert!(describe(&shop).now_or_never().is_none());
}

/// A compiler whose children run these commands of the shell.
fn running(folder: &Path, commands: &str) -> Compiler {
    use std::os::unix::fs::PermissionsExt;

    let program = folder.join("compiler");
    std::fs::write(&program, format!("#!/bin/sh\n{commands}\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    Compiler::in_children(program, "compile")
}

/// A compiler that never answers. Its children write their process ids as names of files into a folder.
fn never_answering(folder: &Path) -> Compiler {
    std::fs::create_dir(folder.join("children")).unwrap();
    let children = folder.join("children").display().to_string();
    running(folder, &format!("echo > {children}/$$\nexec sleep 600"))
}

/// The first child that was started.
fn first_child(folder: &Path) -> Option<String> {
    let child = folder.join("children").read_dir().unwrap().next()?;
    Some(child.unwrap().file_name().into_string().unwrap())
}

fn is_running(child: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

async fn until<T>(mut reached: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6_000 {
        if let Some(found) = reached() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute");
}

#[tokio::test]
async fn a_compiler_that_nobody_waits_for_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(Config { compiler: never_answering(folder.path()), ..Config::default() }).unwrap();
    let compile = || Box::pin(sandbox.compile(Digest::from_bytes([1; 32]), Bytes::from_static(b"module")));
    let (mut one, mut other) = (compile(), compile());
    assert!((&mut one).now_or_never().is_none() && (&mut other).now_or_never().is_none());
    let child = until(|| first_child(folder.path())).await;
    drop(one);
    // The other caller waits for the same child.
    assert!((&mut other).now_or_never().is_none() && is_running(&child));
    drop(other);
    until(|| (!is_running(&child)).then_some(())).await;
    // The next caller starts another one.
    std::fs::remove_file(folder.path().join("children").join(&child)).unwrap();
    assert!(compile().now_or_never().is_none());
    let mut next = compile();
    assert!((&mut next).now_or_never().is_none());
    until(|| first_child(folder.path())).await;
}

#[tokio::test]
async fn a_module_whose_compiler_is_killed_again_and_again_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let compiler = running(folder.path(), "kill -9 $$");
    let sandbox = Sandbox::new(Config { compiler, ..Config::default() }).unwrap();
    let compile = || sandbox.compile(Digest::from_bytes([1; 32]), Bytes::from_static(b"module"));
    for _ in 0..2 {
        let error = compile().await.unwrap_err();
        assert!(matches!(error, CompileError::Unavailable { .. }), "others may be the reason: {error}");
    }
    for _ in 0..2 {
        let error = compile().await.unwrap_err();
        assert!(matches!(&error, CompileError::Refused { reason, .. } if reason.contains("3 times")), "{error}");
    }
}
