//! Tasks that are called for each element of a list.

use super::harness::{Harness, flow};
use crate::{ElementState, Event, FetchTarget};
use flow::{Edit, RunState, State, Value};

const MAKE: &str = "name = \"make\"\nuse = \"g#make\"\nretry = { attempts = 2, initial = \"1s\" }\n";

fn ended(text: &str) -> Harness {
    let mut harness = Harness::start(flow(text));
    harness.run();
    harness
}

/// An invalid list is refused in the flow itself, and not only when a run reaches it.
fn ended_with_items_of_7(text: &str) -> Harness {
    let inputs = [("items".parse().unwrap(), Value::json(&7.into()))].into();
    let mut harness = Harness::start(std::sync::Arc::new(flow::Flow { inputs, ..(*flow(text)).clone() }));
    harness.run();
    harness
}

#[test]
fn one_call_for_each_element_and_the_results_in_their_order() {
    let mut harness =
        Harness::start(flow(&format!("[inputs]\nitems = [3, \"slow\", 1]\n[[task]]\n{MAKE}for_each = \"items\"\n")));
    // The last call first.
    while !harness.outstanding.is_empty() {
        harness.answer(harness.outstanding.len() - 1);
    }
    harness.run();
    assert_eq!(
        harness.trace(),
        "make:R make[0]:R make[1]:R make[2]:R make[2]:S(1) make[1]:F make[0]:S(3) make[1]:R make[1]:S(\"slow\") \
         make:S([3,\"slow\",1])"
    );
    assert_eq!(harness.values(), "items=[3,\"slow\",1] made=[3,\"slow\",1]");
}

#[test]
fn a_list_without_elements_is_done_at_once() {
    let harness = ended(&format!(
        "[[task]]\n{MAKE}for_each = []\n[[task]]\nname = \"after\"\nuse = \"g#noop\"\n[[link]]\nfrom = \"make\"\nto = \"after\"\n"
    ));
    assert_eq!(harness.trace(), "make:R make:S([]) after:R after:S");
}

#[test]
fn max_parallel_counts_elements_that_wait_for_a_retry() {
    let mut harness =
        Harness::start(flow(&format!("[[task]]\n{MAKE}for_each = [\"slow\", 1, 2, 3]\nmax_parallel = 2\n")));
    assert_eq!(harness.outstanding.len(), 2);
    harness.answer(0);
    assert_eq!(harness.outstanding.len(), 1, "it is retried, and keeps its index");
    harness.answer(0);
    assert_eq!(harness.outstanding.len(), 1);
    assert_eq!(harness.machine.progress(flow::NodeIndex(1)), Some((4, 1)));
    let shown = |from| {
        let (firing, elements) = harness.machine.elements(None, flow::NodeIndex(1), from).expect("its list is known");
        let show = |element: ElementState<'_>| {
            let attempt = element.attempt.map_or(0, flow::Attempt::get);
            format!("{} {} {attempt} {}", element.number, element.state, element.failure.is_some())
        };
        (firing.get(), elements.map(show).collect::<Vec<_>>())
    };
    let all = ["0 failure 1 true", "1 success 1 false", "2 running 1 false", "3 pending 0 false"];
    assert_eq!(shown(0), (1, all.map(str::to_owned).to_vec()));
    assert_eq!(shown(2), (1, all[2..].iter().map(|text| (*text).to_owned()).collect()));
    assert_eq!(shown(9), (1, Vec::new()), "there are no more");
    harness.run();
    assert_eq!(harness.values(), "made=[\"slow\",1,2,3]");
}

#[test]
fn a_failed_element_fails_the_task_and_rolls_back_the_others() {
    let harness = ended(&format!("[[task]]\n{MAKE}for_each = [1, \"bad\", 2, 3]\nmax_parallel = 2\n"));
    assert_eq!(
        harness.trace(),
        "make:R make[0]:R make[1]:R make[0]:S(1) make[2]:R make[1]:F make:F make:RB make[0]:RB make[1]:RB \
         make[2]:S(2) make[0]:RD make[2]:RB make[1]:RD make[2]:RD make:RD"
    );
    assert_eq!(harness.state(), RunState::RolledBack);
    let failures: Vec<String> =
        harness.machine.failures().iter().map(|(name, failure)| format!("{name}: {}", failure.message)).collect();
    assert_eq!(failures, ["make: element 1: no such item", "make[1]: no such item"]);
}

#[test]
fn a_controller_retry_reads_the_list_again() {
    let harness = ended(
        "retry = { times = 2 }\n[[task]]\nname = \"list\"\nuse = \"g#list\"\n\
         [[task]]\nname = \"make\"\nuse = \"g#make\"\nfor_each = \"list\"\nas = \"item\"\n\
         [[task]]\nname = \"check\"\nuse = \"g#same\"\nrequires = { x = \"made\", y = \"list\" }\n",
    );
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn a_value_that_is_no_list_fails_the_task_permanently() {
    let harness = ended_with_items_of_7(&format!("[inputs]\nitems = []\n[[task]]\n{MAKE}for_each = \"items\"\n"));
    assert_eq!(harness.trace(), "make:R make:F make:RB make:RD");
    let failure = &harness.machine.failures()[&super::harness::name("make")];
    assert_eq!(failure.message, "the value to be called for each element of is not a list");
}

#[test]
fn a_stored_list_is_fetched() {
    let stored = flow::Stored { digest: flow::Digest::from_bytes([2; 32]), size: 70_000, form: flow::ValueKind::Json };
    let plain = flow(&format!("[inputs]\nitems = []\n[[task]]\n{MAKE}for_each = \"items\"\n"));
    let inputs = [("items".parse().unwrap(), Value::Stored(stored))].into();
    let mut harness = Harness::start(std::sync::Arc::new(flow::Flow { inputs, ..(*plain).clone() }));
    assert!(matches!(harness.fetches[..], [crate::ValueFetch { target: FetchTarget::List { .. }, .. }]));
    harness.complete_fetch(0);
    harness.run();
    assert_eq!(harness.values(), format!("items={:?} made=[0,1]", Value::Stored(stored)));
    // The value of one element is too large to be inline in the list.
    let mut harness = Harness::start(flow(&format!("[[task]]\n{MAKE}for_each = [\"large\"]\n")));
    harness.answer(0);
    assert!(matches!(harness.fetches[..], [crate::ValueFetch { target: FetchTarget::Results(_), .. }]));
    harness.step(&Event::Suspend);
    assert_eq!(harness.state(), RunState::Suspending, "a fetch is outstanding");
    harness.complete_fetch(0);
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn the_first_element_that_leaves_bytes_fails_the_task_before_others_are_called() {
    let harness = ended(&format!("[[task]]\n{MAKE}for_each = [\"bytes\", 1, 2]\nmax_parallel = 1\n"));
    assert_eq!(harness.state(), RunState::RolledBack);
    let failure = &harness.machine.failures()[&super::harness::name("make")];
    assert!(failure.message.starts_with("element 0: it left \"made\" as bytes"), "{failure}");
    assert!(!harness.trace().contains("make[1]:R"), "{}", harness.trace());
}

#[test]
fn a_failed_element_rollback_is_skipped_by_its_name() {
    let mut harness = Harness::start(flow(
        "[[task]]\nname = \"make\"\nuse = \"g#stubborn\"\nrequires = { item = \"item\" }\nfor_each = [1, 2]\n",
    ));
    harness.step(&Event::Cancel);
    harness.run();
    assert_eq!(harness.state(), RunState::Failure);
    assert_eq!(harness.machine.node_state(flow::NodeIndex(1)), State::RollbackFailure);
    for name in ["make[0]", "make[1]"] {
        harness.step(&Event::Skip { task: super::harness::name(name), reason: "by hand".into() });
    }
    assert_eq!(harness.state(), RunState::RolledBack);
}

#[test]
fn a_failure_handler_receives_element_and_list_failures() {
    let listener =
        "[[task]]\nname = \"t\"\nuse = \"g#report-failure\"\n[[link]]\nfrom = \"make\"\nto = \"t\"\non = \"failure\"\n";
    for (list, expected) in [
        ("[1, \"bad\"]", "make: element 1: no such item"),
        ("\"items\"", "make: the value to be called for each element of is not a list"),
    ] {
        let text = format!("[inputs]\nitems = []\n[[task]]\n{MAKE}for_each = {list}\n{listener}");
        let harness = ended_with_items_of_7(&text);
        let received = harness.published.iter().find_map(|change| change.provides.as_ref()?.get("report").cloned());
        assert_eq!(received, Some(Value::json(&expected.into())));
        assert_eq!(harness.state(), RunState::RolledBack);
    }
}

#[test]
fn a_false_condition_skips_all_elements() {
    let harness = ended(&format!(
        "[[task]]\nname = \"a\"\nuse = \"g#noop\"\n[[task]]\n{MAKE}for_each = [1]\n[[task]]\nname = \"b\"\nuse = \"g#noop\"\n\
         [[link]]\nfrom = \"a\"\nto = \"make\"\nwhen = \"false\"\nreach = \"task\"\n[[link]]\nfrom = \"make\"\nto = \"b\"\n"
    ));
    assert_eq!(harness.trace(), "a:R a:S make:I b:R b:S");
}

#[test]
fn an_unrelated_edit_keeps_the_elements() {
    let mut harness = Harness::start(flow(&format!("[[task]]\n{MAKE}for_each = [1, 2, 3]\nmax_parallel = 1\n")));
    harness.answer(0);
    let text = "[[task]]\nname = \"first\"\nuse = \"g#noop\"\n[[task]]\nname = \"last\"\nuse = \"g#noop\"\n\
                [[link]]\nfrom = \"make\"\nto = \"last\"\n";
    harness.edit(&[Edit::Add { text: text.into() }]).unwrap();
    let errors = harness.edit(&[Edit::Use { task: super::harness::name("make"), uses: "g#add".into() }]).unwrap_err();
    assert!(errors[0].contains("make"), "{errors:?}");
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.values(), "made=[1,2,3]");
    assert_eq!(harness.done.iter().filter(|(name, _)| name.as_element().is_some()).count(), 3, "each was called once");
}

#[test]
fn a_false_condition_before_it_skips_all_elements() {
    let harness = ended(&format!(
        "[[task]]\nname = \"a\"\nuse = \"g#noop\"\n[[task]]\nname = \"b\"\nuse = \"g#noop\"\n[[task]]\n{MAKE}for_each = [1]\n\
         [[link]]\nfrom = \"a\"\nto = \"b\"\nwhen = \"false\"\nreach = \"neighbors\"\n[[link]]\nfrom = \"b\"\nto = \"make\"\n"
    ));
    assert_eq!(harness.trace(), "a:R a:S b:I make:I");
    assert_eq!(harness.values(), "");
}

#[test]
fn a_false_condition_does_not_skip_a_running_for_each() {
    let mut harness = Harness::start(flow(&format!(
        "[[task]]\nname = \"a\"\nuse = \"g#noop\"\n[[task]]\n{MAKE}for_each = [1, 2]\nmax_parallel = 1\n\
         [[task]]\nname = \"b\"\nuse = \"g#add\"\nrequires = {{ ip = \"made\" }}\n"
    )));
    let text = "[[task]]\nname = \"c\"\nuse = \"g#noop\"\n[[link]]\nfrom = \"a\"\nto = \"c\"\nwhen = \"false\"\nreach = \"neighbors\"\n\
                [[link]]\nfrom = \"c\"\nto = \"make\"\n";
    harness.edit(&[Edit::Add { text: text.into() }]).unwrap();
    harness.run();
    assert_eq!(harness.state(), RunState::Success, "{}", harness.trace());
    assert_eq!(harness.values(), "added=[1,2] made=[1,2]");
}

#[test]
fn a_failure_handler_starts_no_element_after_one_failed() {
    let harness = ended(&format!(
        "[[task]]\nname = \"woot\"\nuse = \"g#fails\"\n\
         [[task]]\n{MAKE}for_each = [\"bad\", 1, 2, 3]\nmax_parallel = 1\n\
         [[link]]\nfrom = \"woot\"\nto = \"make\"\non = \"failure\"\n"
    ));
    assert_eq!(harness.trace(), "woot:R woot:F make:R make[0]:R make[0]:F make:F woot:RB woot:RD");
}

#[test]
fn a_task_that_was_removed_while_it_was_called_is_done_once_its_calls_are() {
    let mut harness = Harness::start(flow(&format!("[[task]]\n{MAKE}for_each = [1, 2, 3]\nmax_parallel = 2\n")));
    harness.edit(&[Edit::Remove { task: super::harness::name("make"), ran: false }]).unwrap();
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.machine.node_state(flow::NodeIndex(1)), State::Success, "{}", harness.trace());
}

#[test]
fn a_task_named_like_its_flow_survives_an_edit() {
    for each in ["", "for_each = [1, 2]\n"] {
        let each_or = if each.is_empty() { "with = { item = 1 }\n" } else { each };
        let text = format!(
            "[[task]]\nname = \"w\"\nwait = \"word\"\n[[flow]]\nname = \"n\"\n[[flow.task]]\nname = \"f\"\nuse = \"g#make\"\n{each_or}[[link]]\nfrom = \"w\"\nto = \"n\"\n"
        );
        let mut harness = Harness::start(flow(&text));
        let add = "[[task]]\nname = \"more\"\nuse = \"g#noop\"\n";
        harness.edit(&[Edit::Add { text: add.into() }]).unwrap();
        harness.notify("w", &[]);
        harness.run();
        assert_eq!(harness.state(), RunState::Success);
        let called = harness.done.iter().filter(|(name, _)| name.base().as_str() == "f").count();
        assert_eq!(called, if each.is_empty() { 1 } else { 2 }, "{}", harness.trace());
    }
}

#[test]
fn an_edit_after_a_task_with_the_name_of_its_flow_has_run() {
    for each in ["with = { item = 1 }\n", "for_each = [1, 2]\n"] {
        let text = format!(
            "[[task]]\nname = \"f\"\nuse = \"g#make\"\n{each}[[task]]\nname = \"w\"\nwait = \"word\"\n[[link]]\nfrom = \"f\"\nto = \"w\"\n"
        );
        let mut harness = Harness::start(flow(&text));
        while !harness.outstanding.is_empty() {
            harness.answer(0);
        }
        let add = "[[task]]\nname = \"more\"\nuse = \"g#noop\"\n";
        harness.edit(&[Edit::Add { text: add.into() }]).unwrap();
        harness.notify("w", &[]);
        harness.run();
        assert_eq!(harness.state(), RunState::Success);
        let called = harness.done.iter().filter(|(name, _)| name.base().as_str() == "f").count();
        assert_eq!(called, if each.starts_with("with") { 1 } else { 2 }, "{}", harness.trace());
    }
}

#[test]
fn a_failed_second_fetch_of_the_list_does_not_affect_the_results() {
    let stored = flow::Stored { digest: flow::Digest::from_bytes([2; 32]), size: 70_000, form: flow::ValueKind::Json };
    let plain = flow(&format!("[inputs]\nitems = []\n[[task]]\n{MAKE}for_each = \"items\"\n"));
    let inputs = [("items".parse().unwrap(), Value::Stored(stored))].into();
    let mut harness = Harness::start(std::sync::Arc::new(flow::Flow { inputs, ..(*plain).clone() }));
    harness.complete_list_fetch(0, &["\"large\""]);
    // Now the results are fetched, under the same name and the same attempt number.
    harness.answer(0);
    assert_eq!(harness.fetches.len(), 1);
    harness.complete_fetch(0);
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn elements_withdrawn_before_their_call_are_not_rolled_back() {
    let mut harness = Harness::start(flow(&format!("[[task]]\n{MAKE}for_each = [\"bad\", 1, 2]\n")));
    harness.answer(0);
    harness.withdraw(0);
    harness.answer(0);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    let rolled_back = harness.done.iter().filter(|(_, action)| *action == flow::Action::Rollback);
    let names: Vec<&str> = rolled_back.map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["make[0]", "make[2]"]);
}

#[test]
fn rollback_does_not_wait_for_a_pending_fetch() {
    // At the second attempt the list is in the store.
    let mut harness = Harness::start(flow(
        "[[task]]\nname = \"w\"\nwait = \"word\"\n[[task]]\nname = \"list\"\nuse = \"g#list\"\n\
         [[task]]\nname = \"make\"\nuse = \"g#make\"\nfor_each = \"list\"\nas = \"item\"\n",
    ));
    harness.lose(0);
    harness.answer(0);
    assert_eq!(harness.fetches.len(), 1);
    let reversed = Edit::Link {
        from: super::harness::name("make"),
        to: super::harness::name("list"),
        on: flow::SourceOutcome::Success,
        when: None,
        reach: None,
        join: flow::Join::All,
    };
    harness.edit(&[reversed]).unwrap();
    harness.step(&Event::Cancel);
    assert_eq!(harness.machine.pending(), [], "no fetch is outstanding");
    assert_eq!(harness.state(), RunState::RolledBack);
}
