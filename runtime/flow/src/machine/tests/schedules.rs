//! Scheduled times that fire nothing: they are counted or caught up, and never silently lost.

use std::time::Duration;

use super::harness::{Harness, flow, name};
use crate::{Event, Fact, NotificationOutcome, SkipReason, TaskNotification, Values};

/// A task that fires each minute, and takes its due time.
fn minutely(rest: &str) -> String {
    format!(
        "persistent = true\n[[task]]\nname = \"clean\"\nuse = \"g#make\"\nrequires = {{ item = \"scheduled_at\" }}\n\
         [[schedule]]\ncron = \"* * * * *\"\nto = \"clean\"\n{rest}\n"
    )
}

fn advance(world: &mut Harness, seconds: u64) {
    world.now = world.now.after(Duration::from_secs(seconds));
    world.step(&Event::Tick);
}

fn skips(world: &Harness) -> Vec<(SkipReason, u64)> {
    world.machine.skips().map(|(_, reason, skips)| (reason, skips.count)).collect()
}

/// The minutes of the hour that fired.
fn fired(world: &Harness) -> Vec<u64> {
    let due = |fact: &Fact| {
        let Fact::Triggered { values, .. } = fact else { return None };
        let crate::Value::Json(at) = values.values().next()? else { return None };
        let at: jiff::Timestamp = at.as_str().trim_matches('"').parse().ok()?;
        Some(u64::try_from(at.as_second()).unwrap() / 60)
    };
    world.records.iter().filter_map(|record| due(&record.fact)).collect()
}

#[test]
fn missed_all_fires_every_missed_time_in_order() {
    let mut world = Harness::start(flow(&minutely("missed = \"all\"")));
    advance(&mut world, 6 * 60);
    assert_eq!((fired(&world), world.outstanding.len()), (vec![1], 1), "the others wait until it has ended");
    assert!(world.machine.next_due().unwrap() > world.now, "what waits for a firing is no reason to wake up");
    assert_eq!(world.machine.backlogs().map(|(_, next)| next.as_micros() / 60_000_000).collect::<Vec<_>>(), [2]);
    for _ in 0..6 {
        world.answer(0);
    }
    assert_eq!((fired(&world), world.outstanding.len()), (vec![1, 2, 3, 4, 5, 6], 0));
    assert_eq!((world.machine.backlogs().count(), skips(&world)), (0, vec![]));
    advance(&mut world, 60);
    assert_eq!(fired(&world).last(), Some(&7));
}

#[test]
fn a_time_during_catch_up_follows_the_overlap_policy() {
    let mut world = Harness::start(flow(&minutely("missed = \"all\"")));
    advance(&mut world, 3 * 60);
    advance(&mut world, 60);
    assert_eq!(skips(&world), [(SkipReason::Overlap, 1)], "minute 4 came while minute 1 was under way");
    advance(&mut world, 3 * 60);
    for _ in 0..6 {
        world.answer_one();
    }
    assert_eq!(fired(&world), [1, 2, 3, 5, 6, 7], "each span that was missed");
}

#[test]
fn a_long_backlog_uses_constant_memory() {
    let text = minutely("missed = \"all\"\noverlap = \"allow\"").replace("* * * * *", "* * * * * *");
    let mut world = Harness::start(flow(&format!("max_parallel = 3\n{text}")));
    advance(&mut world, 365 * 86_400);
    assert_eq!((world.outstanding.len(), world.machine.firing_count()), (3, 4), "as many as run at once, and the next");
    assert!(world.records.len() < 50, "{} records", world.records.len());
    for _ in 0..20_000 {
        world.machine.step(world.now, &Event::Tick);
    }
    world.answer(0);
    assert_eq!((world.outstanding.len(), world.machine.firing_count()), (3, 5));
}

#[test]
fn skipped_missed_times_are_counted() {
    let mut world = Harness::start(flow(&minutely("")));
    advance(&mut world, 6 * 60);
    assert_eq!((fired(&world), skips(&world)), (vec![1], vec![(SkipReason::Missed, 5)]), "once");
    advance(&mut world, 60);
    assert_eq!(skips(&world), [(SkipReason::Overlap, 1), (SkipReason::Missed, 5)]);
    let mut world = Harness::start(flow(&minutely("missed = \"skip\"")));
    advance(&mut world, 6 * 60);
    assert_eq!((fired(&world), skips(&world)), (vec![], vec![(SkipReason::Missed, 6)]), "skip");
    advance(&mut world, 60);
    assert_eq!(fired(&world), [7]);
}

#[test]
fn times_beyond_the_queue_limit_are_counted_or_backlogged() {
    let text = |missed: &str| {
        let text = minutely(&format!("overlap = \"queue\"\nmissed = \"{missed}\""));
        let listens = "[[task]]\nname = \"hear\"\nuse = \"g#noop\"\n[[listen]]\nflow = \"kitchen\"\ntask = \"bake\"\nto = \"hear\"\n";
        flow(&format!("max_parallel = 1\n{text}{listens}"))
    };
    let heard = |number: u64| {
        let (flow, task) = ("kitchen".parse().unwrap(), name("bake"));
        Event::TaskNotification(TaskNotification {
            flow,
            task,
            outcome: NotificationOutcome::Success(Values::new()),
            key: format!("cake-{number}"),
        })
    };
    let mut world = Harness::start(text("once"));
    // Not through the harness, which checks everything after each step.
    for number in 0..501 {
        world.records.extend(world.machine.step(world.now, &heard(number)).records);
    }
    assert_eq!((world.machine.firing_count(), skips(&world)), (501, vec![]), "one is under way");
    for number in [501, 502, 502] {
        world.records.extend(world.machine.step(world.now, &heard(number)).records);
    }
    assert_eq!(
        (world.machine.firing_count(), skips(&world)),
        (501, vec![(SkipReason::QueueFull, 2)]),
        "each of them once"
    );
    world.now = world.now.after(Duration::from_secs(60));
    world.records.extend(world.machine.step(world.now, &Event::Tick).records);
    assert_eq!(skips(&world), [(SkipReason::QueueFull, 1), (SkipReason::QueueFull, 2)], "and the schedule's");
    let mut world = Harness::start(text("all"));
    for number in 0..501 {
        world.machine.step(world.now, &heard(number));
    }
    world.now = world.now.after(Duration::from_secs(60));
    world.machine.step(world.now, &Event::Tick);
    assert_eq!((skips(&world), world.machine.backlogs().count()), (vec![], 1), "it waits in its schedule");
}
