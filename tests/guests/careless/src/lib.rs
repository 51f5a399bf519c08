//! A module that describes its tasks correctly but violates the descriptions, which the SDK prevents.
//!
//! Every task declares `first` and `second`.

// It does not compile for the host: its imports are for WebAssembly.
#![cfg(target_family = "wasm")]
#![expect(missing_docs, unsafe_code, reason = "generated from the contract")]

wit_bindgen::generate!({ path: "../../../guest-sdk/wit", world: "task" });

use exports::waft::task::guest::{Call, Failure, Guest, Outcome, TaskFailure, TaskInfo, Value};
use waft::task::types::{Content, Limits, Provided, Retryable};

/// The output of each task, by its name.
const TASKS: [(&str, &[(&str, &str)]); 6] = [
    ("breaks-json", &[("first", "{\"a\":"), ("second", "2")]),
    ("leaves-nothing", &[]),
    ("leaves-half", &[("first", "1")]),
    ("leaves-more", &[("first", "1"), ("second", "2"), ("third", "3")]),
    ("leaves-twice", &[("first", "1"), ("second", "2"), ("first", "3")]),
    ("breaks-names", &[("first", "1"), ("second", "2"), ("what a name!", "3")]),
];

/// Tries to command the terminal of who reads it: a title, the clipboard, moves in 8-bit codes, reversed text, and a line of its own.
const DOC: &str =
    "Promises two values.\u{1b}]0;title\u{7}\u{1b}]52;c;ZXZpbA==\u{7}\u{9b}1A\u{202e}txt\r\nforged success";

/// Fails with details that are not JSON.
const BREAKS_DETAILS: &str = "breaks-details";

struct Careless;

impl Guest for Careless {
    fn describe() -> Vec<TaskInfo> {
        TASKS.iter().map(|(name, _)| *name).chain([BREAKS_DETAILS]).map(info).collect()
    }

    fn apply(call: Call, _: Vec<Value>) -> Result<Vec<Value>, Failure> {
        let output = TASKS.iter().find(|(name, _)| *name == call.export).map(|(_, output)| *output);
        let Some(output) = output else {
            return Err(Failure {
                retryable: Retryable::Permanent,
                message: "its details are no JSON".into(),
                details: Some("{\"a\":".into()),
            });
        };
        Ok(output
            .iter()
            .map(|(name, text)| Value { name: (*name).into(), content: Content::Json((*text).into()) })
            .collect())
    }

    fn rollback(_: Call, _: Vec<Value>, _: Outcome, _: Vec<TaskFailure>) -> Result<(), Failure> {
        Ok(())
    }
}

fn info(name: &str) -> TaskInfo {
    let provided = |name: &str| Provided { name: name.into(), doc: String::new(), schema: None };
    TaskInfo {
        name: name.into(),
        doc: DOC.into(),
        requires: vec![],
        provides: vec![provided("first"), provided("second")],
        rollback: None,
        retry: None,
        limits: Limits { timeout_milliseconds: None, memory_bytes: None },
    }
}

export!(Careless);
