//! A module that imports an interface that no host provides: it is not part of waft.

// It does not compile for the host: its imports are for WebAssembly.
#![cfg(target_family = "wasm")]
#![expect(missing_docs, unsafe_code, reason = "generated from the contract")]

wit_bindgen::generate!({
    inline: "
        package foreign:house;

        interface door {
            open: func(key: string) -> bool;
        }

        world burglar {
            include waft:task/task@1.0.0;
            import door;
        }
    ",
    path: "../../../guest-sdk/wit",
    world: "foreign:house/burglar",
    generate_all,
});

use exports::waft::task::guest::{Call, Failure, Guest, Outcome, TaskFailure, TaskInfo, Value};
use waft::task::types::{Limits, Retryable};

struct Burglar;

impl Guest for Burglar {
    fn describe() -> Vec<TaskInfo> {
        vec![TaskInfo {
            name: "break-in".into(),
            doc: "Opens a door that is not there.".into(),
            requires: vec![],
            provides: vec![],
            rollback: None,
            retry: None,
            limits: Limits { timeout_milliseconds: None, memory_bytes: None },
        }]
    }

    fn apply(call: Call, _: Vec<Value>) -> Result<Vec<Value>, Failure> {
        if foreign::house::door::open(&call.run) {
            return Ok(vec![]);
        }
        Err(Failure { retryable: Retryable::Permanent, message: "the door is shut".into(), details: None })
    }

    fn rollback(_: Call, _: Vec<Value>, _: Outcome, _: Vec<TaskFailure>) -> Result<(), Failure> {
        Ok(())
    }
}

export!(Burglar);
