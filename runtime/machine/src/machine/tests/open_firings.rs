//! The open firings of a run: their number, their nodes and their values are limited.

use std::sync::Arc;

use super::harness::{Harness, flow, name};
use crate::{Fact, FiringSnapshot};
use flow::{Flow, RunLimits, RunState, TaskResult, Value, Values};

fn limited(text: &str, limits: RunLimits) -> Arc<Flow> {
    Arc::new(Flow { limits, ..(*flow(text)).clone() })
}

/// A flow in which each firing of `a` triggers ten others. It provides a value of this many bytes before.
fn multiplying(bytes: usize) -> String {
    let value = "x".repeat(bytes - 2);
    let first = format!(
        "cyclic = true\nmax_parallel = 10000\n[[task]]\nname = \"v\"\nuse = \"g#add\"\nwith = {{ ip = \"{value}\" }}\n\
         [[task]]\nname = \"s\"\nuse = \"g#noop\"\n[[task]]\nname = \"a\"\nuse = \"g#noop\"\n\
         [[link]]\nfrom = \"v\"\nto = \"s\"\n[[link]]\nfrom = \"s\"\nto = \"a\"\njoin = \"any\"\n"
    );
    let branch = |number| {
        format!(
            "[[task]]\nname = \"b{number}\"\nuse = \"g#noop\"\n[[link]]\nfrom = \"a\"\nto = \"b{number}\"\n\
             [[link]]\nfrom = \"b{number}\"\nto = \"a\"\njoin = \"any\"\n"
        )
    };
    [first].into_iter().chain((0..10).map(branch)).collect()
}

/// The number of open firings, and the bytes of the values that they begin with, each written by itself.
fn open(harness: &Harness) -> (usize, usize) {
    let snapshot = harness.machine.snapshot();
    let is_open = |firing: &&FiringSnapshot| !firing.state.is_final() || firing.state == RunState::Failure;
    let size = |values: &Values| values.values().map(Value::size).sum::<usize>();
    let of_open: Vec<usize> =
        snapshot.firings.iter().filter(is_open).map(|firing| firing.given.values().map(size).sum()).collect();
    let of_queued: Vec<usize> = snapshot
        .triggers
        .iter()
        .flat_map(|triggers| &triggers.queued)
        .map(|queued| queued.inherited.iter().flat_map(|given| given.values()).map(size).sum())
        .collect();
    (of_open.len() + of_queued.len(), of_open.iter().chain(&of_queued).sum())
}

/// Runs for some steps, and returns the most open firings and bytes at any time.
fn most_open(flow: Arc<Flow>, steps: usize) -> (usize, usize, Harness) {
    let mut harness = Harness::start(flow);
    let (mut firings, mut bytes) = (0, 0);
    for _ in 0..steps {
        if harness.state().is_final() {
            break;
        }
        harness.step_or_advance();
        let now = open(&harness);
        (firings, bytes) = (firings.max(now.0), bytes.max(now.1));
    }
    (firings, bytes, harness)
}

fn skip_reasons<'a>(harness: &'a Harness) -> Vec<&'a str> {
    let reason = |fact: &'a Fact| if let Fact::BackEdgeSkipped { reason, .. } = fact { Some(&**reason) } else { None };
    harness.records.iter().filter_map(|record| reason(&record.fact)).collect()
}

#[test]
fn the_nodes_of_all_open_firings_are_limited_like_the_elements_of_a_list() {
    let text = multiplying(10);
    let nodes = flow(&text).nodes.len();
    let elements = u32::try_from(nodes * 12 + nodes - 1).unwrap();
    let (firings, _, harness) = most_open(limited(&text, RunLimits { elements, ..RunLimits::default() }), 120);
    assert_eq!(firings, 12);
    let reason = format!("12 firings of {nodes} nodes are open, and the limit `elements` allows {elements} nodes");
    assert!(skip_reasons(&harness).contains(&&*reason), "{:?}", skip_reasons(&harness));
    // The flow has more nodes than a list may have elements: it may still fire.
    let (firings, _, _) = most_open(limited(&text, RunLimits { elements: 1, ..RunLimits::default() }), 30);
    assert_eq!(firings, 2);
}

#[test]
fn the_values_of_all_open_firings_are_limited_together() {
    let limits = RunLimits { value: 10_000, ..RunLimits::default() };
    let (firings, bytes, harness) = most_open(limited(&multiplying(1_000), limits), 120);
    assert!((8..=11).contains(&firings), "{firings}");
    // One firing may be more than the limit.
    assert!(bytes <= 11_000, "{bytes}");
    let reason = "the limit `value` allows 10000B of values for all open firings together";
    assert!(skip_reasons(&harness).contains(&reason), "{:?}", skip_reasons(&harness));
    let (firings, ..) = most_open(limited(&multiplying(1_000), RunLimits::default()), 60);
    assert!(firings > 20, "{firings}");
}

#[test]
fn a_cycle_whose_values_are_larger_than_the_limit_goes_on_alone() {
    let text = "cyclic = true\nmax_firings = 5\n[inputs]\ncount = 0\n[[task]]\nname = \"v\"\nuse = \"g#add\"\n\
                with = { ip = \"xxxxxxxxxxxxxxxxxxxxxxxx\" }\n[[task]]\nname = \"tick\"\nuse = \"g#next\"\n\
                [[link]]\nfrom = \"v\"\nto = \"tick\"\n[[link]]\nfrom = \"tick\"\nto = \"tick\"\n";
    let mut harness = Harness::start(limited(text, RunLimits { value: 30, ..RunLimits::default() }));
    harness.run();
    assert_eq!((harness.state(), harness.machine.firing_count()), (RunState::Success, 5));
}

#[test]
fn a_notification_is_refused_when_the_open_firings_have_too_many_nodes_or_values() {
    let text = "persistent = true\nmax_parallel = 2\n[[task]]\nname = \"add-ip\"\nuse = \"g#add\"\n";
    let nodes = u32::try_from(flow(text).nodes.len()).unwrap();
    let values: Values = [("ip".parse().unwrap(), Value::json(&"x".into()))].into();
    let refusal = |limits| {
        let mut harness = Harness::start(limited(text, limits));
        for _ in 0..3 {
            harness.notify("add-ip", &[("ip", "\"aaaaaaaaaaaaaaaaaaaa\"")]);
        }
        harness.machine.notification_error(&name("add-ip"), &TaskResult::Succeeded(values.clone())).unwrap_or_default()
    };
    assert_eq!(refusal(RunLimits::default()), "");
    let error = refusal(RunLimits { elements: 3 * nodes, ..RunLimits::default() });
    let elements = 3 * nodes;
    assert_eq!(
        error,
        format!(
            "3 firings of {nodes} nodes are open, and the limit `elements` allows {elements} nodes: try again later"
        )
    );
    let error = refusal(RunLimits { value: 60, ..RunLimits::default() });
    assert_eq!(error, "the limit `value` allows 60B of values for all open firings together: try again later");
}
