//! Compiled code is cached, but never trusted.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use flow::{Digest, Values};
use sandbox::{CacheConfig, CompileError, Compiled, Completion, Config, Module, Sandbox};

use crate::support::{Image, RecordingObserver, call, guest};

fn digest() -> Digest {
    Digest::from_bytes([7; 32])
}

fn open(folder: &Path) -> Sandbox {
    let cache = CacheConfig { folder: folder.join("compiled"), key_file: folder.join("key"), max_bytes: 2 << 30 };
    Sandbox::new(Config { cache: Some(cache), slots: 1, ..Config::default() }).unwrap()
}

fn module() -> Bytes {
    let mut image = Image::new();
    let fine = image.success(&[]);
    Module::componentize(&guest(&image, "", &format!("(i32.const {fine})"))).unwrap().into_bytes()
}

async fn assert_works(sandbox: &Sandbox, compiled: &Compiled) {
    let report = sandbox.call(compiled, call(), Arc::new(RecordingObserver::default())).await;
    assert_eq!(report.completion, Completion::Succeeded(Values::new()));
}

#[tokio::test]
async fn a_module_is_compiled_once_a_machine() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    assert!(first.cached(&digest()).await.is_none());
    first.compile(digest(), module()).await.unwrap();
    assert!(first.cached(&digest()).await.is_some(), "in memory");
    let second = open(folder.path());
    let compiled = second.cached(&digest()).await.expect("on disk");
    assert_works(&second, &compiled).await;
    assert!(second.cached(&Digest::from_bytes([8; 32])).await.is_none());
}

#[tokio::test]
async fn damaged_cached_code_is_recompiled() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).compile(digest(), module()).await.unwrap();
    let file = folder.path().join("compiled").read_dir().unwrap().next().unwrap().unwrap().path();
    let mut code = std::fs::read(&file).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 0x40;
    std::fs::write(&file, code).unwrap();

    let sandbox = open(folder.path());
    assert!(sandbox.cached(&digest()).await.is_none(), "damaged code is not loaded");
    let compiled = sandbox.compile(digest(), module()).await.unwrap();
    assert_works(&sandbox, &compiled).await;
    let next = open(folder.path());
    let compiled = next.cached(&digest()).await.expect("the code is cached again");
    assert_works(&next, &compiled).await;
}

#[tokio::test]
async fn an_invalid_component_is_not_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = open(folder.path());
    let error = sandbox.compile(digest(), Bytes::from_static(b"neither")).await.unwrap_err();
    assert!(matches!(error, CompileError::Module { .. }), "{error:?}");
    assert_eq!(error.to_string(), "module sha256:070707070707 cannot be called");
    // The linker detects differing types.
    let text = r#"(component
        (import "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func (param "no" u32)))))
        (core module $m (func (export "run") (result i32) (i32.const 0)))
        (core instance $m (instantiate $m))
        (func $run (result (result)) (canon lift (core func $m "run")))
        (instance $run (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $run)))"#;
    let other = wat::parse_str(text).unwrap();
    let error = sandbox.compile(digest(), other.into()).await.unwrap_err();
    assert!(
        matches!(&error, CompileError::ContractMismatch { reason, .. } if reason.contains("get-arguments")),
        "{error}"
    );
}
