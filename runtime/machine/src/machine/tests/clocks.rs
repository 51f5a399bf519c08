//! Clock changes, forward and back: waits keep their exact length, and schedules follow the clock.

use std::time::Duration;

use super::harness::{Harness, flow};
use crate::{Event, Fact};
use flow::{ClockShift, RunState};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// Advances the time, and sends a tick.
fn advance(harness: &mut Harness, seconds: u64) {
    harness.now = harness.now.after(Duration::from_secs(seconds));
    harness.step(&Event::Tick);
}

/// Sets the clock; the driver notices it.
fn set(harness: &mut Harness, seconds: i64) {
    let by = ClockShift::from_micros(seconds * 1_000_000);
    harness.now = harness.now.shift(by);
    harness.step(&Event::ClockSet { by });
}

/// Sets the clock while no engine drives the run.
fn set_unnoticed(harness: &mut Harness, seconds: i64) {
    harness.now = harness.now.shift(ClockShift::from_micros(seconds * 1_000_000));
    harness.step(&Event::Tick);
}

/// Runs that wait for twenty seconds, one for each kind of wait.
fn waiting_runs() -> Vec<(&'static str, Harness, &'static str)> {
    let start_later = |text: &str| {
        let mut harness = Harness::start(flow(text));
        // A clock that is set back by days must not reach the epoch.
        harness.now = harness.now.after(Duration::from_secs(1_000_000));
        harness
    };
    let begin = "[[task]]\nname = \"z\"\nuse = \"g#noop\"\nstart_at = 1970-01-10T00:00:00Z\n[[link]]\nfrom = \"z\"\nto = \"a\"\n";
    let task = |keys: &str| format!("[[task]]\nname = \"a\"\nuse = \"g#flaky\"\n{keys}\n{begin}");
    let wait = format!("[[task]]\nname = \"a\"\nwait = \"word\"\ndeadline = \"20s\"\n{begin}");
    let mut runs = vec![
        ("start_after", start_later(&task("start_after = \"20s\"")), "a:R"),
        ("retry", start_later(&task("retry = { attempts = 2, initial = \"20s\", jitter = false }")), "a:R a:F a:R"),
        ("deadline", start_later(&wait), "a:R a:F"),
        // A worker that has the call sends a message within fifteen seconds.
        ("expires of a task", start_later(&task("expires = \"5s\"")), "a:R a:F"),
    ];
    for (wait, harness, _) in &mut runs {
        harness.step(&Event::Tick);
        harness.answer(0);
        if *wait == "retry" {
            harness.answer(0);
        }
    }
    runs
}

fn trace_of_a(harness: &Harness) -> String {
    let trace = harness.trace();
    trace.split(' ').filter(|change| change.starts_with("a:")).collect::<Vec<_>>().join(" ")
}

#[test]
fn setting_the_clock_does_not_change_the_length_of_a_wait() {
    for sets in [&[HOUR, -HOUR][..], &[-HOUR], &[-DAY], &[DAY], &[-3], &[HOUR, HOUR, -DAY]] {
        for (wait, mut harness, after) in waiting_runs() {
            let before = trace_of_a(&harness);
            advance(&mut harness, 10);
            for seconds in sets {
                set(&mut harness, *seconds);
            }
            advance(&mut harness, 9);
            assert_eq!(trace_of_a(&harness), before, "{wait} came early: {sets:?}");
            advance(&mut harness, 1);
            let now = trace_of_a(&harness);
            assert!(now.starts_with(after) && now != before, "{wait} did not come: {sets:?}: {now}");
        }
    }
}

#[test]
fn a_clock_set_back_without_a_driver_does_not_extend_a_wait() {
    for seconds in [-3, -HOUR, -DAY] {
        for (wait, mut harness, after) in waiting_runs() {
            let before = trace_of_a(&harness);
            set_unnoticed(&mut harness, seconds);
            assert_eq!(trace_of_a(&harness), before, "{wait} came early: {seconds}");
            advance(&mut harness, 20);
            let now = trace_of_a(&harness);
            assert!(now.starts_with(after) && now != before, "{wait} did not come: {seconds}: {now}");
        }
    }
}

#[test]
fn a_run_expires_by_elapsed_time_not_by_the_clock() {
    let text = "expires = \"1h\"\n[[task]]\nname = \"a\"\nwait = \"word\"\n";
    for seconds in [DAY, -50] {
        let mut harness = Harness::start(flow(text));
        harness.now = harness.now.after(Duration::from_secs(60));
        set(&mut harness, seconds);
        assert_eq!(harness.state(), RunState::Running);
        advance(&mut harness, 3_539);
        assert_eq!(harness.state(), RunState::Running);
        advance(&mut harness, 1);
        assert_eq!(harness.state(), RunState::RolledBack);
    }
}

#[test]
fn start_at_follows_the_clock() {
    let mut harness =
        Harness::start(flow("start_at = 1970-01-03T00:00:00Z\n[[task]]\nname = \"a\"\nuse = \"g#noop\"\n"));
    advance(&mut harness, 3_600);
    set(&mut harness, DAY);
    advance(&mut harness, 3_600);
    assert_eq!(harness.trace(), "");
    set(&mut harness, DAY);
    assert_eq!(harness.trace(), "a:R");
}

fn scheduled(cron: &str) -> Harness {
    let text = format!(
        "persistent = true\n[[task]]\nname = \"clean\"\nuse = \"g#noop\"\n[[schedule]]\ncron = \"{cron}\"\nto = \"clean\"\n"
    );
    let mut harness = Harness::start(flow(&text));
    advance(&mut harness, 1_000_000);
    harness.answer_one();
    harness
}

/// The number of firings while this many seconds pass, one at a time.
fn fires_in(harness: &mut Harness, seconds: u64) -> u64 {
    let before = harness.machine.firing_count();
    for _ in 0..seconds {
        advance(harness, 1);
        harness.answer_one();
    }
    harness.machine.firing_count() - before
}

#[test]
fn an_interval_schedule_continues_after_a_clock_change() {
    for unnoticed in [false, true] {
        let set = if unnoticed { set_unnoticed } else { set };
        let mut harness = scheduled("*/2 * * * * *");
        assert_eq!(fires_in(&mut harness, 10), 5);
        set(&mut harness, HOUR);
        harness.answer_one();
        assert_eq!(fires_in(&mut harness, 8), 4, "an hour ahead");
        set(&mut harness, -HOUR);
        assert_eq!(fires_in(&mut harness, 8), 4, "and put right");
        set(&mut harness, -DAY);
        assert_eq!(fires_in(&mut harness, 8), 4, "a day back");
        set(&mut harness, -10);
        assert!(fires_in(&mut harness, 20) >= 4, "by seconds: at most these seconds late");
    }
}

#[test]
fn a_fixed_time_happens_no_second_time_where_the_clock_is_set_back_by_less_than_three_hours() {
    // The test clock shows 13:46:41 of the twelfth day.
    let mut harness = scheduled("0 13 * * *");
    let fired = harness.machine.firing_count();
    set(&mut harness, -HOUR);
    advance(&mut harness, 1_800);
    assert_eq!(harness.machine.firing_count(), fired, "13:00 was before the clock was set back");
    set(&mut harness, -DAY);
    advance(&mut harness, 86_400);
    assert_eq!(
        harness.machine.firing_count(),
        fired + 1,
        "after a correction by hours, the schedule follows the new clock"
    );
}

#[test]
fn times_missed_by_a_fast_clock_are_not_fired_after_its_correction() {
    let text = "persistent = true\n[[task]]\nname = \"clean\"\nuse = \"g#noop\"\n[[schedule]]\n\
                cron = \"*/10 * * * * *\"\nmissed = \"all\"\nto = \"clean\"\n";
    let mut harness = Harness::start(flow(text));
    assert_eq!(fires_in(&mut harness, 60), 6);
    set(&mut harness, DAY);
    assert_eq!((harness.machine.backlogs().count(), harness.outstanding.len()), (1, 1), "the first of a day");
    set(&mut harness, -DAY);
    harness.answer_one();
    assert_eq!(harness.machine.backlogs().count(), 0);
    assert_eq!(fires_in(&mut harness, 40), 4);
}

#[test]
fn only_runs_with_timers_record_a_clock_change() {
    let mut harness = Harness::start(flow("[[task]]\nname = \"a\"\nuse = \"g#noop\"\n"));
    set(&mut harness, DAY);
    set(&mut harness, -DAY);
    assert!(!harness.records.iter().any(|record| matches!(record.fact, Fact::ClockSet { .. })));
    let (_, mut harness, _) = waiting_runs().remove(0);
    set(&mut harness, DAY);
    assert_eq!(harness.records.last().unwrap().fact, Fact::ClockSet { by: ClockShift::from_micros(DAY * 1_000_000) });
}
