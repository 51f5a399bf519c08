//! The JSON of the HTTP API: bodies of requests, which a server reads, and of responses, which a client reads.

use api::{
    AuditLog, AuditQuery, Checks, CreatedToken, EditResult, Edits, Health, ListQuery, LogEvent, Module, Modules,
    NewToken, Notification, Problem, Run, RunLogs, RunStateResponse, Runs, SkipRollback, Submission, Tokens, Workers,
};
use serde::{Serialize, de::DeserializeOwned};

/// The input is one JSON document.
pub fn run(input: &[u8]) {
    let Some([text]) = crate::parts(input) else { return };
    // Requests.
    round_trips::<Submission>(text);
    round_trips::<Edits>(text);
    round_trips::<Notification>(text);
    round_trips::<SkipRollback>(text);
    round_trips::<NewToken>(text);
    round_trips::<ListQuery>(text);
    round_trips::<AuditQuery>(text);
    // Responses.
    round_trips::<Run>(text);
    round_trips::<Runs>(text);
    round_trips::<RunLogs>(text);
    round_trips::<RunStateResponse>(text);
    round_trips::<EditResult>(text);
    round_trips::<LogEvent>(text);
    round_trips::<Module>(text);
    round_trips::<Modules>(text);
    round_trips::<Workers>(text);
    round_trips::<Checks>(text);
    round_trips::<Health>(text);
    round_trips::<Tokens>(text);
    round_trips::<CreatedToken>(text);
    round_trips::<AuditLog>(text);
    round_trips::<Problem>(text);
}

/// What was read is written as a text that reads the same.
fn round_trips<Document: Serialize + DeserializeOwned>(text: &str) {
    let Ok(document) = serde_json::from_str::<Document>(text) else { return };
    let written = written(&document);
    let again = serde_json::from_str::<Document>(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(self::written(&again), written, "a document that is written twice");
}

fn written(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("what was read can be written")
}
