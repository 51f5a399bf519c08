//! Rules of the maximum number of runs of a flow that have not ended.

use std::num::NonZeroU64;

use flow::RunState;

use super::{append_as, info, write, write_one};
use crate::{Append, AppendOutcome, Logbook, Version};

/// The first records of a run of a flow, of which at most this many may not have ended.
fn start(name: &str, flow: &str, most: u64) -> Append {
    let max_unended = NonZeroU64::new(most);
    Append { max_unended, ..append_as(name, 0, [1], info("s", flow, RunState::Running)) }
}

fn change(name: &str, follows: u64, state: RunState) -> Append {
    let max_unended = NonZeroU64::new(1);
    Append { max_unended, ..append_as(name, follows, [2], info("s", "f", state)) }
}

pub(super) async fn a_flow_has_at_most_as_many_unended_runs_as_allowed(logbook: impl Logbook) {
    let batch = vec![start("a", "f", 2), start("b", "f", 2), start("c", "f", 2), start("d", "g", 2)];
    let (durable, refused) = (AppendOutcome::Durable, AppendOutcome::TooManyUnended);
    assert_eq!(write(&logbook, batch).await, [durable, durable, refused, durable]);
    assert!(logbook.summary(&super::run("c")).await.is_err(), "the logbook has no such run");
    assert_eq!(write_one(&logbook, start("a", "f", 2)).await, AppendOutcome::Conflict(Version::new(1)));
    assert_eq!(write_one(&logbook, change("a", 1, RunState::Suspended)).await, durable, "the run exists");
    assert_eq!(write_one(&logbook, start("c", "f", 2)).await, refused, "a suspended run has not ended");
    let ends = [RunState::Success, RunState::RolledBack, RunState::Failure];
    for (version, state) in (2..).zip(ends) {
        assert_eq!(write_one(&logbook, change("a", version, state)).await, durable);
        let next = format!("after-{version}");
        assert_eq!(write_one(&logbook, start(&next, "f", 2)).await, durable, "{state}");
        assert_eq!(write_one(&logbook, start("c", "f", 2)).await, refused);
        assert_eq!(write_one(&logbook, change(&next, 1, RunState::Success)).await, durable);
    }
    assert_eq!(write_one(&logbook, start("c", "f", 3)).await, durable);
}

pub(super) async fn concurrent_starts_respect_the_maximum(logbook: impl Logbook) {
    let names: Vec<String> = (0..12).map(|number| format!("r{number}")).collect();
    let starts = names.iter().map(|name| write_one(&logbook, start(name, "f", 5)));
    let outcomes = futures::future::join_all(starts).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == AppendOutcome::Durable).count(), 5, "{outcomes:?}");
}
