//! Scheduled times that fire nothing: they are counted or caught up, and never silently lost.

use std::time::Duration;

use super::harness::{Harness, flow, name};
use crate::{Event, Fact, NotificationPart, Trigger};
use flow::{NotificationOutcome, SkipReason, TaskNotification, Values};

/// A task that fires each minute, and takes its due time.
fn minutely(keys: &str) -> String {
    format!(
        "persistent = true\n[[task]]\nname = \"clean\"\nuse = \"g#make\"\nrequires = {{ item = \"scheduled_at\" }}\n\
         [[schedule]]\ncron = \"* * * * *\"\nto = \"clean\"\n{keys}\n"
    )
}

fn advance(harness: &mut Harness, seconds: u64) {
    harness.now = harness.now.after(Duration::from_secs(seconds));
    harness.step(&Event::Tick);
}

fn skips(harness: &Harness) -> Vec<(SkipReason, u64)> {
    harness.machine.skips().map(|(_, reason, skips)| (reason, skips.count)).collect()
}

/// The minutes of the hour that fired.
fn fired(harness: &Harness) -> Vec<u64> {
    let due = |fact: &Fact| {
        let Fact::Triggered { values, .. } = fact else { return None };
        let flow::Value::Json(at) = values.values().next()? else { return None };
        let at: jiff::Timestamp = at.as_str().trim_matches('"').parse().ok()?;
        Some(u64::try_from(at.as_second()).unwrap() / 60)
    };
    harness.records.iter().filter_map(|record| due(&record.fact)).collect()
}

#[test]
fn missed_all_fires_every_missed_time_in_order() {
    let mut harness = Harness::start(flow(&minutely("missed = \"all\"")));
    advance(&mut harness, 6 * 60);
    assert_eq!((fired(&harness), harness.outstanding.len()), (vec![1], 1), "the others wait until it has ended");
    assert!(harness.machine.next_due().unwrap() > harness.now, "a queued firing sets no timer");
    assert_eq!(harness.machine.backlogs().map(|(_, next)| next.as_micros() / 60_000_000).collect::<Vec<_>>(), [2]);
    let status = harness.machine.schedules().next().unwrap();
    let minute = |at: flow::Timestamp| at.as_micros() / 60_000_000;
    let backlog = status.backlog.map(|backlog| (minute(backlog.next), minute(backlog.until)));
    assert_eq!((status.next.map(minute), backlog), (Some(7), Some((2, 7))));
    for _ in 0..6 {
        harness.answer(0);
    }
    assert_eq!((fired(&harness), harness.outstanding.len()), (vec![1, 2, 3, 4, 5, 6], 0));
    assert_eq!((harness.machine.backlogs().count(), skips(&harness)), (0, vec![]));
    advance(&mut harness, 60);
    assert_eq!(fired(&harness).last(), Some(&7));
}

#[test]
fn a_time_during_catch_up_follows_the_overlap_policy() {
    let mut harness = Harness::start(flow(&minutely("missed = \"all\"")));
    advance(&mut harness, 3 * 60);
    advance(&mut harness, 60);
    assert_eq!(skips(&harness), [(SkipReason::Overlap, 1)], "minute 4 came while the firing of minute 1 was active");
    advance(&mut harness, 3 * 60);
    for _ in 0..6 {
        harness.answer_one();
    }
    assert_eq!(fired(&harness), [1, 2, 3, 5, 6, 7], "each missed span fires");
}

#[test]
fn a_long_backlog_uses_constant_memory() {
    let text = minutely("missed = \"all\"\noverlap = \"allow\"").replace("* * * * *", "* * * * * *");
    let mut harness = Harness::start(flow(&format!("max_parallel = 3\n{text}")));
    advance(&mut harness, 365 * 86_400);
    assert_eq!(
        (harness.outstanding.len(), harness.machine.firing_count()),
        (3, 4),
        "as many as run at once, and the next"
    );
    assert!(harness.records.len() < 50, "{} records", harness.records.len());
    for _ in 0..20_000 {
        harness.machine.step(harness.now, &Event::Tick);
    }
    harness.answer(0);
    assert_eq!((harness.outstanding.len(), harness.machine.firing_count()), (3, 5));
}

#[test]
fn skipped_missed_times_are_counted() {
    let mut harness = Harness::start(flow(&minutely("")));
    advance(&mut harness, 6 * 60);
    assert_eq!((fired(&harness), skips(&harness)), (vec![1], vec![(SkipReason::Missed, 5)]), "once");
    advance(&mut harness, 60);
    assert_eq!(skips(&harness), [(SkipReason::Overlap, 1), (SkipReason::Missed, 5)]);
    let mut harness = Harness::start(flow(&minutely("missed = \"skip\"")));
    advance(&mut harness, 6 * 60);
    assert_eq!((fired(&harness), skips(&harness)), (vec![], vec![(SkipReason::Missed, 6)]), "skip");
    advance(&mut harness, 60);
    assert_eq!(fired(&harness), [7]);
}

#[test]
fn times_beyond_the_queue_limit_are_counted_or_backlogged() {
    let text = |missed: &str| {
        let text = minutely(&format!("overlap = \"queue\"\nmissed = \"{missed}\""));
        let listener = "[[task]]\nname = \"listener\"\nuse = \"g#noop\"\n[[listen]]\nflow = \"kitchen\"\ntask = \"bake\"\nto = \"listener\"\n";
        flow(&format!("max_parallel = 1\n{text}{listener}"))
    };
    let notification = |number: u64| {
        let (flow, task) = ("kitchen".parse().unwrap(), name("bake"));
        let (outcome, key) = (NotificationOutcome::Success(Values::new()), format!("cake-{number}"));
        let notification = TaskNotification { flow, task, outcome, key };
        Event::TaskNotification { notification, part: NotificationPart::Whole }
    };
    let mut harness = Harness::start(text("once"));
    // Not through the harness, which checks everything after each step.
    for number in 0..501 {
        harness.records.extend(harness.machine.step(harness.now, &notification(number)).records);
    }
    assert_eq!((harness.machine.firing_count(), skips(&harness)), (501, vec![]), "one firing is active");
    for number in [501, 502, 502] {
        harness.records.extend(harness.machine.step(harness.now, &notification(number)).records);
    }
    assert_eq!(
        (harness.machine.firing_count(), skips(&harness)),
        (501, vec![(SkipReason::QueueFull, 2)]),
        "each of them once"
    );
    harness.now = harness.now.after(Duration::from_secs(60));
    harness.records.extend(harness.machine.step(harness.now, &Event::Tick).records);
    assert_eq!(skips(&harness), [(SkipReason::QueueFull, 1), (SkipReason::QueueFull, 2)], "and the schedule's");
    let mut harness = Harness::start(text("all"));
    for number in 0..501 {
        harness.machine.step(harness.now, &notification(number));
    }
    harness.now = harness.now.after(Duration::from_secs(60));
    harness.machine.step(harness.now, &Event::Tick);
    assert_eq!(
        (skips(&harness), harness.machine.backlogs().count()),
        (vec![], 1),
        "it waits in the backlog of its schedule"
    );
}

#[test]
fn the_schedule_that_is_due_for_longest_fires_first() {
    let text = "max_parallel = 9\npersistent = true\n[[task]]\nname = \"clean\"\nuse = \"g#noop\"\n\
        [[schedule]]\ncron = \"3 * * * *\"\nto = \"clean\"\n[[schedule]]\ncron = \"1 * * * *\"\nto = \"clean\"\n\
        [[schedule]]\ncron = \"2 * * * *\"\nto = \"clean\"\n";
    let mut harness = Harness::start(flow(text));
    advance(&mut harness, 200);
    let by = |fact: &Fact| {
        let Fact::Triggered { by: Trigger::Schedule(number), .. } = fact else { return None };
        Some(*number)
    };
    assert_eq!(harness.records.iter().filter_map(|record| by(&record.fact)).collect::<Vec<_>>(), [1, 2, 0]);
}
