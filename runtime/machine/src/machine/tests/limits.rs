//! The limits of a run: they come with its flow, so every machine of the run decides the same.

use std::sync::Arc;

use super::harness::{Harness, flow, name};
use crate::{Event, FetchTarget, Machine, NotificationPart, ValueFetch};
use flow::{
    FailureKind, Flow, NotificationOutcome, RunLimits, RunState, SkipReason, TaskNotification, TaskResult, Value,
    Values,
};

/// Wires a flow with limits.
fn limited(text: &str, limits: RunLimits) -> Arc<Flow> {
    Arc::new(Flow { limits, ..(*flow(text)).clone() })
}

fn ended(flow: Arc<Flow>) -> Harness {
    let mut harness = Harness::start(flow);
    harness.run();
    harness
}

/// The kind and the message of a task's failure.
fn failure(harness: &Harness, task: &str) -> (FailureKind, String) {
    let failure = &harness.machine.failures()[&name(task)];
    (failure.kind, failure.message.clone())
}

const EACH: &str = "[[task]]\nname = \"make\"\nuse = \"g#make\"\nretry = { attempts = 3 }\n";

#[test]
fn a_list_with_too_many_elements_fails_its_task_for_good() {
    let limits = RunLimits { elements: 2, ..RunLimits::default() };
    let harness = ended(limited(&format!("{EACH}for_each = [1, 2]\n"), limits));
    assert_eq!(harness.state(), RunState::Success);
    let harness = ended(limited(&format!("{EACH}for_each = [1, 2, 3]\n"), limits));
    assert_eq!(harness.trace(), "make:R make:F make:RB make:RD", "it is not retried");
    let message = "the list has 3 elements, and the limit `elements` allows 2 here";
    assert_eq!(failure(&harness, "make"), (FailureKind::Permanent, message.into()));
}

#[test]
fn a_list_in_the_store_is_fetched_with_the_limit_of_the_run() {
    let stored = flow::Stored { digest: flow::Digest::from_bytes([2; 32]), size: 70_000, form: flow::ValueKind::Json };
    let limits = RunLimits { elements: 7, ..RunLimits::default() };
    let plain = limited(&format!("[inputs]\nitems = []\n{EACH}for_each = \"items\"\n"), limits);
    let inputs = [("items".parse().unwrap(), Value::Stored(stored))].into();
    let harness = Harness::start(Arc::new(Flow { inputs, ..(*plain).clone() }));
    let restored = Machine::restore(harness.machine.run().clone(), harness.machine.snapshot()).unwrap();
    for fetches in [harness.fetches.clone(), restored.pending().into_iter().filter_map(fetch).collect()] {
        assert!(matches!(fetches[..], [ValueFetch { target: FetchTarget::List { most: 7, .. }, .. }]), "{fetches:?}");
    }
}

#[test]
fn a_list_that_is_too_large_for_one_record_fails_its_task_without_a_fetch() {
    let stored = |size| flow::Stored { digest: flow::Digest::from_bytes([2; 32]), size, form: flow::ValueKind::Json };
    let plain = flow(&format!("[inputs]\nitems = []\n{EACH}for_each = \"items\"\n"));
    let with_list = |size| {
        let inputs = [("items".parse().unwrap(), Value::Stored(stored(size)))].into();
        Harness::start(Arc::new(Flow { inputs, ..(*plain).clone() }))
    };
    assert_eq!(with_list(32 << 20).fetches.len(), 1);
    let harness = with_list((32 << 20) + 1);
    assert!(harness.fetches.is_empty(), "{:?}", harness.fetches);
    let (kind, message) = failure(&harness, "make");
    assert_eq!(kind, FailureKind::Permanent);
    assert!(message.starts_with("the list has 32.0MiB, and the maximum is 32MiB: divide it"), "{message}");
}

fn fetch(command: crate::Command) -> Option<ValueFetch> {
    match command {
        crate::Command::Fetch(fetch) => Some(*fetch),
        crate::Command::Call(_) | crate::Command::Interrupt(_) | crate::Command::Publish(_) => None,
    }
}

#[test]
fn results_that_are_too_large_together_are_not_fetched() {
    // Each result has 70,000 bytes, and is in the store.
    let limited = |value| {
        let limits = RunLimits { value, ..RunLimits::default() };
        limited(&format!("{EACH}for_each = [\"large\", \"large\"]\n"), limits)
    };
    let mut harness = Harness::start(limited(140_007));
    harness.answer(0);
    harness.answer(0);
    assert_eq!(harness.fetches.len(), 1, "the name, two values, two commas or brackets, and the last bracket");
    let harness = ended(limited(140_006));
    assert!(harness.fetches.is_empty());
    let message = "the values of its elements have 140007B together, and the limit `value` allows 140006B here";
    assert_eq!(failure(&harness, "make"), (FailureKind::Permanent, message.into()));
    assert_eq!(harness.state(), RunState::RolledBack, "its elements are rolled back");
    let limits = RunLimits { value: 10, ..RunLimits::default() };
    let inline = ended(self::limited(&format!("{EACH}for_each = [1, 2, 3]\n"), limits));
    let message = "the values of its elements have 11B together, and the limit `value` allows 10B here";
    assert_eq!(failure(&inline, "make"), (FailureKind::Permanent, message.into()));
}

const LISTENER: &str = "persistent = true\nmax_parallel = 2\n[[task]]\nname = \"add-ip\"\nuse = \"g#add\"\n\
    [[listen]]\nflow = \"kitchen\"\ntask = \"bake\"\nto = \"add-ip\"\n";

fn notification_error(harness: &Harness, ip: &str) -> Option<String> {
    let values: Values = [("ip".parse().unwrap(), Value::json(&ip.into()))].into();
    harness.machine.notification_error(&name("add-ip"), &TaskResult::Succeeded(values))
}

#[test]
fn no_more_firings_are_open_than_allowed() {
    let mut harness = Harness::start(limited(LISTENER, RunLimits { firings: 3, ..RunLimits::default() }));
    for ip in ["\"a\"", "\"b\"", "\"c\""] {
        assert_eq!(notification_error(&harness, "x"), None);
        harness.notify("add-ip", &[("ip", ip)]);
    }
    assert_eq!((harness.machine.firing_count(), harness.outstanding.len()), (3, 2), "one of them waits");
    let refusal = "3 firings are open, and the limit `firings` allows no more: try again later";
    assert_eq!(notification_error(&harness, "x").as_deref(), Some(refusal));
    harness.notify("add-ip", &[("ip", "\"d\"")]);
    assert_eq!(harness.machine.firing_count(), 3, "a refused notification fires nothing");
    let (kitchen, bake) = ("kitchen".parse().unwrap(), name("bake"));
    let outcome = NotificationOutcome::Success([("ip".parse().unwrap(), 1.into())].into());
    let notification = TaskNotification { flow: kitchen, task: bake, outcome, key: "k".into() };
    harness.step(&Event::TaskNotification { notification, part: NotificationPart::Whole });
    let skips: Vec<_> = harness.machine.skips().map(|(_, reason, skips)| (reason, skips.count)).collect();
    assert_eq!((harness.machine.firing_count(), skips), (3, vec![(SkipReason::QueueFull, 1)]));
    harness.answer(0);
    assert_eq!(notification_error(&harness, "x"), None, "one has ended");
}

#[test]
fn a_firing_that_needs_a_person_is_open() {
    let text = "persistent = true\n[[task]]\nname = \"add-ip\"\nuse = \"g#add\"\n[[task]]\nname = \"nasty\"\nuse = \"g#nasty\"\n\
                [[task]]\nname = \"check\"\nuse = \"g#same\"\nrequires = { x = \"added\", y = \"value\" }\n\
                [[link]]\nfrom = \"add-ip\"\nto = \"nasty\"\n";
    let mut harness = Harness::start(limited(text, RunLimits { firings: 1, ..RunLimits::default() }));
    harness.notify("add-ip", &[("ip", "\"a\"")]);
    while !harness.outstanding.is_empty() {
        harness.answer(0);
    }
    assert!(harness.machine.firings().any(|(_, state)| state == RunState::Failure), "its rollback has failed");
    assert!(notification_error(&harness, "x").is_some_and(|refusal| refusal.contains("1 firings are open")));
    harness.step(&Event::Skip { task: name("nasty"), reason: "done by hand".into() });
    while !harness.outstanding.is_empty() {
        harness.answer(0);
    }
    assert_eq!(notification_error(&harness, "x"), None);
}

#[test]
fn a_notification_with_too_large_values_is_refused() {
    let mut harness = Harness::start(limited(LISTENER, RunLimits { value: 6, ..RunLimits::default() }));
    assert_eq!(notification_error(&harness, "ab"), None);
    let refusal = "the values of the notification have 7B together, and the limit `value` allows 6B here";
    assert_eq!(notification_error(&harness, "abc").as_deref(), Some(refusal));
    harness.notify("add-ip", &[("ip", "\"abc\"")]);
    assert_eq!(harness.machine.firing_count(), 0);
}

#[test]
fn a_task_with_too_large_inputs_fails_without_a_call() {
    let text = format!(
        "[inputs]\nbig = \"{}\"\n[[task]]\nname = \"t\"\nuse = \"g#same\"\nrequires = {{ x = \"big\", y = \"big\" }}\n",
        "b".repeat(58)
    );
    let harness = Harness::start(limited(&text, RunLimits { value: 122, ..RunLimits::default() }));
    assert_eq!(harness.outstanding.len(), 1, "60 bytes twice, and two names");
    let harness = Harness::start(limited(&text, RunLimits { value: 121, ..RunLimits::default() }));
    assert!(harness.outstanding.is_empty());
    let message = "its inputs have 122B together, and the limit `value` allows 121B here";
    assert_eq!(failure(&harness, "t"), (FailureKind::Permanent, message.into()), "each use of a value counts");
    assert_eq!(harness.state(), RunState::RolledBack);
}

#[test]
fn the_list_of_a_controller_is_at_most_as_long_as_the_attempts_allow() {
    let text = |inner: &str| {
        format!(
            "[[task]]\nname = \"make\"\nuse = \"g#make\"\nfor_each = [1, 2, 3]\n\
             [[flow]]\nname = \"outer\"\nretry = {{ for_each = \"made\" }}\n\
             [[flow.flow]]\nname = \"inner\"\nretry = {inner}\n\
             [[flow.flow.task]]\nname = \"t\"\nuse = \"g#noop\"\n"
        )
    };
    let limits = RunLimits { attempts: 6, ..RunLimits::default() };
    assert_eq!(ended(limited(&text("{ times = 2 }"), limits)).state(), RunState::Success);
    let harness = ended(limited(&text("{ times = 3 }"), limits));
    let message = "the retry controller would try 3 elements, and with the retries of nested flows a flow would run 9 times: the \
         limit `attempts` allows 6 here";
    assert_eq!(failure(&harness, "outer").1, message);
    let harness = ended(limited(&text("{ for_each = \"made\" }"), limits));
    assert!(failure(&harness, "inner").1.contains("run 9 times"), "the inner controller knows the length of both");
}

#[test]
fn an_edit_may_change_the_limits() {
    let mut harness = Harness::start(limited(LISTENER, RunLimits { firings: 1, ..RunLimits::default() }));
    harness.notify("add-ip", &[("ip", "\"a\"")]);
    assert!(notification_error(&harness, "x").is_some());
    let edited = limited(LISTENER, RunLimits { firings: 2, ..RunLimits::default() });
    harness.step(&Event::Edit { revision: harness.machine.revision(), flow: edited });
    assert_eq!(notification_error(&harness, "x"), None);
}
