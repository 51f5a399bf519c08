//! Rules of the maximum number of runs of a flow that have not ended.

use std::num::NonZeroU64;

use flow::RunState;

use super::{append_as, info, write, write_one};
use crate::{Append, AppendOutcome, Counted, Logbook, MaxUnended, Version};

/// The first records of a run of a flow, of which at most this many may not have ended.
fn start(name: &str, flow: &str, most: u64) -> Append {
    let max_unended = MaxUnended { of_flow: NonZeroU64::new(most), of_namespace: None };
    Append { max_unended, ..append_as(name, 0, [1], info("s", flow, RunState::Running)) }
}

fn change(name: &str, follows: u64, state: RunState) -> Append {
    let max_unended = MaxUnended { of_flow: NonZeroU64::new(1), of_namespace: NonZeroU64::new(1) };
    Append { max_unended, ..append_as(name, follows, [2], info("s", "f", state)) }
}

pub(super) async fn a_flow_has_at_most_as_many_unended_runs_as_allowed(logbook: impl Logbook) {
    let batch = vec![start("a", "f", 2), start("b", "f", 2), start("c", "f", 2), start("d", "g", 2)];
    let (durable, refused) = (AppendOutcome::Durable, AppendOutcome::TooManyUnended(Counted::OfFlow));
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

/// The first records of a run of a flow in a namespace, of whose runs at most this many may not have ended.
fn start_in_namespace(name: &str, flow: &str, of_flow: u64, of_namespace: u64) -> Append {
    let max_unended = MaxUnended { of_flow: NonZeroU64::new(of_flow), of_namespace: NonZeroU64::new(of_namespace) };
    Append { max_unended, ..append_as(name, 0, [1], info("s", flow, RunState::Running)) }
}

pub(super) async fn a_namespace_has_at_most_as_many_unended_runs_as_allowed(logbook: impl Logbook) {
    let durable = AppendOutcome::Durable;
    let (flow_full, full) =
        (AppendOutcome::TooManyUnended(Counted::OfFlow), AppendOutcome::TooManyUnended(Counted::OfNamespace));
    // The names around the namespace in the order of their bytes.
    for (name, flow) in [("1", "shop"), ("2", "shop-2/f"), ("3", "shop0"), ("4", "shoq/f"), ("5", "f")] {
        assert_eq!(write_one(&logbook, start_in_namespace(name, flow, 1, 1)).await, durable, "{flow}");
    }
    let batch = ["f", "f", "g", "zz-z", "h"].into_iter().zip(["a", "b", "c", "d", "e"]);
    let batch = batch.map(|(flow, name)| start_in_namespace(name, &format!("shop/{flow}"), 1, 3)).collect();
    assert_eq!(write(&logbook, batch).await, [durable, flow_full, durable, durable, full]);
    assert_eq!(write_one(&logbook, start_in_namespace("b", "shop/b", 1, 3)).await, full);
    let ended = append_as("a", 1, [2], info("s", "shop/f", RunState::Success));
    assert_eq!(write_one(&logbook, ended).await, durable);
    assert_eq!(write_one(&logbook, start_in_namespace("b", "shop/b", 1, 3)).await, durable);
    assert_eq!(write_one(&logbook, start_in_namespace("b2", "shop/b2", 1, 3)).await, full);
}

pub(super) async fn concurrent_starts_respect_the_maximum(logbook: impl Logbook) {
    let names: Vec<String> = (0..12).map(|number| format!("r{number}")).collect();
    let starts = names.iter().map(|name| write_one(&logbook, start(name, "f", 5)));
    let outcomes = futures::future::join_all(starts).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == AppendOutcome::Durable).count(), 5, "{outcomes:?}");
}

pub(super) async fn a_run_that_starts_again_counts_like_a_new_one(logbook: impl Logbook) {
    let (durable, refused) = (AppendOutcome::Durable, AppendOutcome::TooManyUnended(Counted::OfFlow));
    let again = |follows| change("a", follows, RunState::Running);
    assert_eq!(write(&logbook, vec![start("a", "f", 9), start("b", "f", 9)]).await, [durable, durable]);
    assert_eq!(write_one(&logbook, again(1)).await, durable, "it has not ended");
    assert_eq!(write_one(&logbook, change("a", 2, RunState::RolledBack)).await, durable);
    assert_eq!(write_one(&logbook, again(3)).await, refused);
    assert_eq!(write_one(&logbook, again(2)).await, AppendOutcome::Conflict(Version::new(3)));
    assert_eq!(
        write_one(&logbook, Append { max_unended: MaxUnended::default(), ..again(3) }).await,
        durable,
        "without a maximum"
    );
    assert_eq!(write_one(&logbook, change("a", 4, RunState::Failure)).await, durable);
    assert_eq!(write_one(&logbook, change("b", 1, RunState::Success)).await, durable);
    // Of two that start in one transaction, the maximum admits one.
    assert_eq!(write(&logbook, vec![again(5), start("c", "f", 1)]).await, [durable, refused]);
}
