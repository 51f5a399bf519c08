//! A module with an invalid `describe`: two tasks with one name, an invalid name, a duplicate parameter, a schema that is
//! not JSON, and zero attempts.

// It does not compile for the host: its imports are for WebAssembly.
#![cfg(target_family = "wasm")]
#![expect(missing_docs, unsafe_code, reason = "generated from the contract")]

wit_bindgen::generate!({ path: "../../../guest-sdk/wit", world: "task" });

use exports::waft::task::guest::{Call, Failure, Guest, Outcome, TaskFailure, TaskInfo, Value};
use waft::task::types::{Backoff, Limits, Parameter, Retry};

struct Liar;

impl Guest for Liar {
    fn describe() -> Vec<TaskInfo> {
        let parameter = |schema: &str| Parameter {
            name: "size".into(),
            doc: String::new(),
            schema: Some(schema.into()),
            optional: false,
        };
        let never = Retry {
            attempts: 0,
            backoff: Backoff::Fixed,
            initial_milliseconds: u64::MAX,
            max_milliseconds: 0,
            jitter: true,
        };
        vec![
            info("twin"),
            info("twin"),
            info("no name, but a sentence\n"),
            TaskInfo { requires: vec![parameter("{}"), parameter("{")], ..info("twice-required") },
            TaskInfo { retry: Some(never), ..info("never-tried") },
        ]
    }

    fn apply(_: Call, _: Vec<Value>) -> Result<Vec<Value>, Failure> {
        Ok(vec![])
    }

    fn rollback(_: Call, _: Vec<Value>, _: Outcome, _: Vec<TaskFailure>) -> Result<(), Failure> {
        Ok(())
    }
}

fn info(name: &str) -> TaskInfo {
    TaskInfo {
        name: name.into(),
        doc: String::new(),
        requires: vec![],
        provides: vec![],
        rollback: None,
        retry: None,
        limits: Limits { timeout_milliseconds: None, memory_bytes: None },
    }
}

export!(Liar);
