//! Tests of what is known of runs that are not in memory.

use std::time::Duration;

use super::*;

fn shard() -> Shard {
    "0".parse().unwrap()
}

fn run(run: &str) -> RunId {
    run.parse().unwrap()
}

/// The only run of a shard.
fn only(stale: StaleRun) -> Runs {
    let mut runs = Runs::default();
    runs.mark_stale(run("r"), StaleRun { shard: Some(shard()), ..stale });
    runs
}

#[tokio::test(start_paused = true)]
async fn notifications_wait_for_runs_that_may_listen() {
    let unknown = |stale| only(stale).unknown_listeners(&shard());
    assert_eq!(Runs::default().unknown_listeners(&shard()), UnknownListeners::None);
    assert_eq!(unknown(StaleRun::default()), UnknownListeners::Due);
    assert_eq!(unknown(StaleRun { was_active: true, ..StaleRun::default() }), UnknownListeners::None);
    let waiting = || StaleRun { load: LoadProgress::Waiting, ..StaleRun::default() };
    assert_eq!(unknown(waiting()), UnknownListeners::BeingRead);
    let ended = only(StaleRun { has_ended: true, ..waiting() });
    assert_eq!(ended.unknown_listeners(&shard()), UnknownListeners::None, "an ended run listens to nothing");
    assert!(!ended.has_unread_listeners(&shard()));
    assert_eq!(only(waiting()).unknown_listeners(&"1".parse().unwrap()), UnknownListeners::None);
}

#[tokio::test(start_paused = true)]
async fn notifications_wait_for_a_time_for_a_run_that_cannot_be_read() {
    let until = Instant::now() + Duration::from_secs(30);
    let paused = StaleRun { load: LoadProgress::Paused(until), failed_reads: MAX_FAILED_READS, ..StaleRun::default() };
    let mut runs = only(paused);
    assert_eq!(runs.unknown_listeners(&shard()), UnknownListeners::Unreadable);
    assert!(runs.take_due_stale(10).is_empty(), "it is left alone");
    assert_eq!(runs.give_up_unreadable(&shard()), [run("r")]);
    assert_eq!(runs.unknown_listeners(&shard()), UnknownListeners::None);
    assert!(runs.has_unread_listeners(&shard()), "the queue of its shard stays bound");
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(runs.take_due_stale(10).len(), 1, "it is tried again");
}

#[test]
fn a_run_notes_heartbeats_of_a_bounded_number_of_workers() {
    let mut stale = StaleRun::default();
    let call = flow::CallId {
        run: run("r"),
        task: "t".parse().unwrap(),
        firing: flow::Firing::FIRST,
        attempt: flow::Attempt::FIRST,
        action: flow::Action::Apply,
    };
    for number in 0..10_100 {
        // Who has the job of a call may invent the names of workers.
        stale.note_heartbeat((call.clone(), format!("w{number}").parse().unwrap()));
    }
    assert_eq!(stale.heartbeats.len(), 10_000, "one for each call that a list makes at a time");
}

#[test]
fn a_run_is_unread_until_it_is_in_memory() {
    let mut runs = only(StaleRun::default());
    runs.mark_unreadable(run("corrupt"), Some(&shard()));
    assert!(runs.is_unread(&run("r")) && runs.is_unread(&run("corrupt")), "they may listen to a task");
    assert!(!runs.is_unread(&run("missing")));
}

#[test]
fn a_run_that_stays_unreadable_does_not_delay_the_notifications_of_others_for_ever() {
    let delays = |stale| only(stale).delay_notifications();
    assert!(!Runs::default().delay_notifications());
    for was_active in [false, true] {
        let failed = |failed_reads| StaleRun { was_active, failed_reads, ..StaleRun::default() };
        assert!(delays(failed(0)) && delays(failed(MAX_FAILED_READS)));
        assert!(!delays(failed(2 * MAX_FAILED_READS)), "its turn to be read comes again, and the others go on");
    }
    assert!(!delays(StaleRun { has_ended: true, ..StaleRun::default() }), "an ended run listens to nothing");
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_repeated_later_and_a_batch_takes_some_runs() {
    let mut runs = Runs::default();
    for number in 0..20 {
        runs.mark_stale(run(&format!("r{number}")), StaleRun::of(Some(&shard())));
    }
    let retry_at = Some(Instant::now() + Duration::from_secs(1));
    runs.mark_stale(run("failed"), StaleRun { retry_at, ..StaleRun::of(Some(&shard())) });
    assert_eq!([runs.take_due_stale(15).len(), runs.take_due_stale(15).len()], [15, 5]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(runs.take_due_stale(15).len(), 1);
}
