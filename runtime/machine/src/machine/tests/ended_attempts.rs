//! The attempts that a step ends, and how late it fires schedules.

use std::time::Duration;

use super::harness::{Harness, flow};
use crate::{AttemptEnd, Event};

fn ended(harness: &Harness) -> Vec<(&str, AttemptEnd)> {
    harness.ended.iter().map(|attempt| (attempt.task.as_str(), attempt.end)).collect()
}

#[test]
fn each_attempt_of_a_task_ends_once() {
    let mut harness = Harness::start(flow(
        "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"g#flaky\"\nretry = { attempts = 2, initial = \"1s\" }\n\
         [[task]]\nname = \"w\"\nwait = \"word\"\n[[task]]\nname = \"z\"\nuse = \"g#fails\"\n",
    ));
    harness.answer(0);
    harness.advance_to_next_due();
    assert!(harness.remember(0));
    harness.notify("w", &[]);
    harness.lose(0);
    harness.run();
    let expected = [
        ("a", AttemptEnd::Failed),
        ("a", AttemptEnd::Remembered),
        ("w", AttemptEnd::Succeeded),
        ("z", AttemptEnd::Lost),
        ("z", AttemptEnd::Failed),
    ];
    assert_eq!(ended(&harness), expected, "the rollback ends no attempt");
}

#[test]
fn the_elements_of_a_firing_that_is_forgotten_when_it_ends_name_their_task() {
    let mut harness = Harness::start(flow(
        "persistent = true\n[[task]]\nname = \"make\"\nuse = \"g#make\"\nfor_each = [1, 2, 3]\n\
         [[schedule]]\ncron = \"* * * * *\"\nto = \"make\"\n",
    ));
    harness.advance_to_next_due();
    while !harness.outstanding.is_empty() || !harness.fetches.is_empty() {
        harness.step_or_advance();
    }
    assert!(harness.machine.firings.is_empty(), "the firing is forgotten");
    assert_eq!(ended(&harness), [("make", AttemptEnd::Succeeded); 3], "the list and its results are no attempts");
}

#[test]
fn a_schedule_is_late_by_the_time_since_it_was_due() {
    let minutely = |keys: &str| {
        let text = format!(
            "persistent = true\n[[task]]\nname = \"t\"\nuse = \"g#noop\"\n\
             [[schedule]]\ncron = \"* * * * *\"\nto = \"t\"\n{keys}"
        );
        Harness::start(flow(&text))
    };
    // A harness starts at second 1.
    let advance = |harness: &mut Harness, seconds: u64| {
        harness.now = harness.now.after(Duration::from_secs(seconds));
        harness.step(&Event::Tick);
    };
    let mut harness = minutely("");
    advance(&mut harness, 66);
    assert_eq!(harness.delays, [Duration::from_secs(7)]);
    let mut harness = minutely("missed = \"all\"\n");
    advance(&mut harness, 6 * 60);
    assert_eq!(harness.outstanding.len(), 1, "a missed time has fired");
    assert!(harness.delays.is_empty(), "it was to be late: {:?}", harness.delays);
}
