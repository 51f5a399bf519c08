//! Properties of the rehearsals of random flows.

use std::{collections::BTreeSet, sync::Arc};

use api::{RehearsedCase, RunState};
use flow::{Flow, NodeIndex, NodeName};
use proptest::prelude::*;

use super::{
    flows::flow,
    random_flows::{random_flow, random_triggered_flow},
    rehearsed_with,
};
use crate::seeded_rng::SeededRng;

fn index_of(flow: &Flow, name: &str) -> NodeIndex {
    let name = name.parse::<NodeName>().unwrap().base();
    flow.indices().find(|index| flow.node(*index).name == name).unwrap()
}

/// Checks that no task is rolled back before a task that comes after it in the flow.
fn assert_backwards(flow: &Flow, case: &RehearsedCase) {
    for (position, name) in case.rolled_back.iter().enumerate() {
        let index = index_of(flow, name);
        let after: BTreeSet<NodeIndex> = flow.reachable_from([index]);
        let is_after = |other: &&String| {
            let other = index_of(flow, other);
            other != index && after.contains(&other)
        };
        let too_late: Vec<&String> = case.rolled_back.iter().skip(position + 1).filter(is_after).collect();
        assert!(too_late.is_empty(), "{name} is rolled back before {too_late:?}: {case:#?}");
    }
}

fn rehearse_every_case(flow: &Arc<Flow>) -> Vec<RehearsedCase> {
    let rehearsal = rehearsed_with(flow, "{}");
    assert_eq!(rehearsal.omitted, 0);
    let tasks = flow.tasks().count();
    assert!(rehearsal.cases.len() > tasks, "each task has a case");
    rehearsal.cases
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_rehearsal_ends_and_rolls_back_strictly_backwards(seed in any::<u64>()) {
        let flow = flow(&random_flow(&mut SeededRng(seed)));
        for case in rehearse_every_case(&flow) {
            prop_assert!(case.stopped.is_none() && case.state.is_final(), "{:#?}", case);
            prop_assert_eq!(case.state == RunState::Failure, !case.stuck.is_empty(), "{:#?}", case);
            assert_backwards(&flow, &case);
        }
    }

    #[test]
    fn a_rehearsal_of_a_flow_that_fires_repeatedly_ends(seed in any::<u64>()) {
        let flow = flow(&random_triggered_flow(&mut SeededRng(seed)));
        for case in rehearse_every_case(&flow) {
            let is_open = case.state == RunState::Running;
            prop_assert!(case.state.is_final() || is_open, "{:#?}", case);
            prop_assert!(case.stopped.as_ref().is_none_or(|stopped| stopped.contains("firings")), "{:#?}", case);
        }
    }
}

#[test]
fn the_rollback_of_a_linear_flow_is_the_reverse_of_its_success() {
    let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    let tasks: String = names.iter().map(|name| format!("[[task]]\nname = \"{name}\"\nuse = \"m#noop\"\n")).collect();
    let cases = rehearse_every_case(&flow(&format!("pattern = \"linear\"\n{tasks}")));
    let applies = cases.iter().filter(|case| case.failing.len() == 1);
    for (number, case) in applies.enumerate() {
        let expected: Vec<&String> = names[..=number].iter().rev().collect();
        assert_eq!(case.rolled_back.iter().collect::<Vec<_>>(), expected);
    }
}
