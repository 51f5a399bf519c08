//! The rules of a run as tables: a flow as text in, the published changes as text out.
//!
//! Every run here also checks the machine's invariants.

mod for_each;
mod edits;
mod triggers;
mod bounds;
mod limits;
mod memo;
mod ended_attempts;
mod held;
mod open_firings;
mod reports;
mod traces;
mod rules;
mod schedules;
mod step_bytes;
mod links;
mod times;
mod upgrades;
mod bugs;
mod clocks;
mod random_flows;
mod histories;
mod harness;

use self::harness::{Harness, flow};
use flow::RunState;

/// Runs a flow and compares the published changes, the final state, and the values.
#[track_caller]
fn check_trace(text: &str, trace: &str, state: RunState, values: &str) {
    let mut harness = Harness::start(flow(text));
    harness.run();
    let expected = trace.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(harness.trace(), expected);
    assert_eq!(harness.state(), state);
    assert_eq!(harness.values(), values);
}
