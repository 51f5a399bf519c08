//! Tasks with a concurrency limit or a rate limit, over all engines.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use broker::Broker as _;
use flow::{Action, CallId, FailureKind, Flow, Revision, RunState};
use protocol::{Job, PermitsAnswer, PermitsQuestion, Report, RunCommand, SendingId, TaskPermits, topology};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Harness, wired};

/// Long enough for engines to find one another and to share the shards.
const SETTLED: Duration = Duration::from_secs(30);

/// Long enough for a job that is about to arrive.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Long enough for a shard to be taken over, but too short for permits to be revoked.
const TAKEN_OVER: Duration = Duration::from_secs(25);

/// A flow of one task with a limit.
fn paced(pace: &str) -> Arc<Flow> {
    wired(&format!("name = \"f\"\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n{pace}\n"))
}

/// Two engines that share the shards.
async fn two_engines() -> (Harness, Harness) {
    let one = Harness::shared().await;
    sleep(SETTLED).await;
    let two = one.sharing_engine("two").await;
    sleep(SETTLED).await;
    (one, two)
}

async fn job_within(harness: &mut Harness, time: Duration) -> Option<Job> {
    timeout(time, harness.take_job()).await.ok()
}

/// Collects jobs until none arrives for some time.
async fn jobs(harness: &mut Harness) -> Vec<CallId> {
    let mut calls = Vec::new();
    while let Some(job) = job_within(harness, SHORT_TIMEOUT).await {
        calls.push(job.call);
    }
    calls
}

/// Answers all jobs, and asserts that at most `most` are outstanding at once.
async fn work(harness: &mut Harness, most: usize, mut out: Vec<Job>) -> usize {
    let mut done = 0;
    loop {
        match job_within(harness, TAKEN_OVER).await {
            // A job that was sent again counts once.
            Some(job) if out.iter().any(|known| known.call == job.call) => {}
            Some(job) => out.push(job),
            None if out.is_empty() => return done,
            None => {
                harness.signal_job(&out.remove(0)).await;
                done += 1;
            }
        }
        assert!(out.len() <= most, "{} are out at once", out.len());
    }
}

#[tokio::test(start_paused = true)]
async fn max_running_holds_over_all_engines() {
    let (mut one, two) = two_engines().await;
    let flow = paced("max_running = 2");
    for number in 0..4 {
        for (harness, name) in [(&one, "one"), (&two, "two")] {
            harness.submit(&format!("{name}-{number}"), &flow).await.map(drop).expect("the run begins");
        }
    }
    assert_eq!(work(&mut one, 2, Vec::new()).await, 8);
    for number in 0..4 {
        one.wait_for_state(&format!("one-{number}"), RunState::Success).await;
        one.wait_for_state(&format!("two-{number}"), RunState::Success).await;
    }
}

#[tokio::test(start_paused = true)]
async fn any_engine_answers_which_calls_have_permits() {
    let (mut one, two) = two_engines().await;
    let flow = paced("max_running = 2\nrate = \"100/s\"");
    for number in 0..3 {
        for (harness, name) in [(&one, "one"), (&two, "two")] {
            harness.submit(&format!("{name}-{number}"), &flow).await.map(drop).expect("the run begins");
        }
    }
    let out = BTreeSet::from([one.take_job().await.call, one.take_job().await.call]);
    sleep(SHORT_TIMEOUT).await;
    for harness in [&one, &two] {
        let answers = harness.engine.permits(&PermitsQuestion::default()).await;
        let tasks: Vec<TaskPermits> =
            answers.into_iter().flat_map(|(_, answer)| answer.expect("it is driven").tasks).collect();
        assert!(tasks.iter().all(|task| (task.flow.as_str(), task.task.as_str()) == ("f", "a")), "{tasks:?}");
        assert!(tasks.iter().all(|task| task.pace.max_running.is_some_and(|max| max.get() == 2)), "{tasks:?}");
        let held: u64 = tasks.iter().map(|task| task.held).sum();
        let waiting: u64 = tasks.iter().map(|task| task.waiting).sum();
        assert_eq!((held, waiting), (2, 4));
        let holders: BTreeSet<CallId> = tasks.iter().flat_map(|task| task.holders.clone()).collect();
        assert_eq!((holders == out, tasks.iter().map(|task| task.next.len()).sum::<usize>()), (true, 4), "{tasks:?}");
        let other = PermitsQuestion { namespace: Some("shop".parse().unwrap()), ..PermitsQuestion::default() };
        let last = ("f".parse().unwrap(), "a".parse().unwrap());
        let after = PermitsQuestion { after: Some(last), ..PermitsQuestion::default() };
        for question in [other, after] {
            let answers = harness.engine.permits(&question).await;
            assert!(answers.iter().all(|(_, answer)| *answer == Some(PermitsAnswer::default())), "{answers:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_call_returns_its_permit() {
    let mut harness = Harness::new().await;
    let flow = paced("max_running = 1\nexpires = \"1m\"\nretry = { attempts = 3, initial = \"1s\", jitter = false }");
    harness.submit("r", &flow).await.map(drop).expect("the run begins");
    let expired = harness.take_job().await;
    // No worker starts it. The retry is called within seconds of the expiry, and not when it has expired itself.
    let wait = Duration::from_secs(100);
    let retried = job_within(&mut harness, wait).await.expect("the retry has a permit");
    assert_eq!(retried.call.attempt, expired.call.attempt.next());
    harness.signal_job(&retried).await;
    harness.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn rate_holds_over_all_engines() {
    let (mut one, two) = two_engines().await;
    let flow = paced("rate = \"2/s\"");
    for number in 0..5 {
        for (harness, name) in [(&one, "one"), (&two, "two")] {
            harness.submit(&format!("{name}-{number}"), &flow).await.map(drop).expect("the run begins");
        }
    }
    let mut last: Option<Instant> = None;
    for _ in 0..10 {
        let job = job_within(&mut one, SHORT_TIMEOUT).await.expect("it does not stall");
        let now = Instant::now();
        if let Some(last) = last {
            let apart = now.duration_since(last);
            assert!(apart >= Duration::from_millis(490), "{apart:?}");
            assert!(apart <= Duration::from_millis(600), "{apart:?}");
        }
        last = Some(now);
        one.signal_job(&job).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_returned_job_needs_no_other_start_of_its_rate() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &paced("rate = \"1/h\"")).await.expect("the run begins");
    let job = harness.take_job().await;
    harness.return_job(&job.call, SendingId::FIRST).await;
    let again = job_within(&mut harness, SHORT_TIMEOUT).await.expect("it does not wait for an hour");
    assert_eq!(again, job);
    harness.signal_job(&again).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_permit_is_rolled_back_if_a_lost_worker_may_have_executed_it() {
    let mut harness = Harness::new().await;
    let flow = paced("max_running = 1");
    let watch = harness.submit("r1", &flow).await.expect("the run begins");
    let first = harness.take_job().await;
    let run = || "r1".parse().unwrap();
    harness.engine.command_local(&run(), RunCommand::Suspend).await.expect("it is recorded");
    harness.engine.abandon(run()).await.expect("it is recorded");
    assert_eq!(Harness::end(watch).await.state(), RunState::Suspended);
    harness.submit("r2", &flow).await.map(drop).expect("another run begins");
    let second = job_within(&mut harness, SHORT_TIMEOUT).await.expect("the permit is free");
    assert_eq!(second.call.run.as_str(), "r2");
    harness.engine.command_local(&run(), RunCommand::Resume).await.expect("it is recorded");
    // A worker was lost with the job of the first run, and another one returns it.
    let (call, sending) = (first.call.clone(), SendingId::FIRST);
    harness.publish_report(&Report::NotStarted { call, redeliveries: 1, unanswered: 0, sending }).await;
    assert!(jobs(&mut harness).await.is_empty(), "the other run has the permit");
    let mut harness = harness.restart().await;
    let watch = harness.engine.adopt(run(), RunCommand::Resume).await.expect("the run goes on");
    harness.engine.command_local(&run(), RunCommand::Cancel).await.expect("it is recorded");
    let undone = job_within(&mut harness, TAKEN_OVER).await.expect("what it may have done is rolled back");
    assert_eq!((&undone.call.task, undone.call.action), (&first.call.task, Action::Rollback));
    harness.signal_job(&undone).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_crash_neither_exceeds_the_limit_nor_stalls() {
    let (mut one, two) = two_engines().await;
    let flow = paced("max_running = 2");
    // The first engine that meets the flow coordinates its permits.
    for number in 0..4 {
        for (harness, name) in [(&one, "one"), (&two, "two")] {
            harness.submit(&format!("{name}-{number}"), &flow).await.map(drop).expect("the run begins");
        }
    }
    let out = vec![one.take_job().await, one.take_job().await];
    one.engine.abort().await;
    assert_eq!(work(&mut one, 2, out).await, 8);
    for number in 0..4 {
        two.wait_for_state(&format!("one-{number}"), RunState::Success).await;
        two.wait_for_state(&format!("two-{number}"), RunState::Success).await;
    }
}

#[tokio::test(start_paused = true)]
async fn permits_of_a_dead_engine_are_released_on_takeover() {
    let (mut one, two) = two_engines().await;
    let flow = paced("max_running = 1");
    // The engine that stays alive coordinates the permits.
    two.submit("first", &flow).await.map(drop).expect("the run begins");
    let job = one.take_job().await;
    one.signal_job(&job).await;
    two.wait_for_state("first", RunState::Success).await;
    one.submit("held", &flow).await.map(drop).expect("the run begins");
    let held = one.take_job().await;
    two.submit("waits", &flow).await.map(drop).expect("the run begins");
    one.engine.abort().await;
    one.signal_job(&held).await;
    let next = job_within(&mut one, TAKEN_OVER).await.expect("its permit is free");
    assert_eq!(next.call.run.as_str(), "waits");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_stops_after_its_last_run_leaves_no_permit_behind() {
    let mut one = Harness::new().await;
    let other = one.another_engine().await;
    let flow = paced("max_running = 1");
    // The engine that stops coordinates the permits.
    let watch = one.submit("first", &flow).await.expect("the run begins");
    let job = one.take_job().await;
    other.submit("waits", &flow).await.map(drop).expect("the run begins");
    assert!(job_within(&mut one, SHORT_TIMEOUT).await.is_none());
    one.signal_job(&job).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    one.engine.stop().await;
    let next = job_within(&mut one, SHORT_TIMEOUT).await.expect("its permit is free");
    assert_eq!(next.call.run.as_str(), "waits");
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_dead_engine_still_count() {
    let mut harness = Harness::new().await;
    let flow = paced("max_running = 1");
    let runs = ["r1", "r2", "r3"];
    for run in runs {
        harness.submit(run, &flow).await.map(drop).expect("the run begins");
    }
    let first = harness.take_job().await;
    assert!(jobs(&mut harness).await.is_empty());
    let mut harness = harness.restart().await;
    // The runs that waited send their requests first.
    for run in runs.into_iter().rev() {
        harness
            .engine
            .adopt(run.parse().unwrap(), protocol::RunCommand::Resume)
            .await
            .map(drop)
            .expect("the run goes on");
    }
    let again = jobs(&mut harness).await;
    assert_eq!(again, std::slice::from_ref(&first.call), "a call that may run keeps its permit");
    assert_eq!(work(&mut harness, 1, vec![first]).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_leaves_the_queue_and_rollbacks_need_no_permit() {
    let mut harness = Harness::new().await;
    let flow = paced("max_running = 1");
    for run in ["r1", "r2", "r3"] {
        harness.submit(run, &flow).await.map(drop).expect("the run begins");
    }
    let first = harness.take_job().await;
    assert!(jobs(&mut harness).await.is_empty());
    harness.engine.command_local(&"r2".parse().unwrap(), RunCommand::Cancel).await.expect("it is recorded");
    harness.wait_for_state("r2", RunState::RolledBack).await;
    assert!(jobs(&mut harness).await.is_empty(), "an undispatched call needs no rollback");
    harness.engine.command_local(&"r1".parse().unwrap(), RunCommand::Cancel).await.expect("it is recorded");
    harness.signal(&first.call).await;
    let mut out = jobs(&mut harness).await;
    out.sort_unstable();
    let published: Vec<(&str, Action)> = out.iter().map(|call| (call.run.as_str(), call.action)).collect();
    assert_eq!(published, [("r1", Action::Rollback), ("r3", Action::Apply)]);
    for call in &out {
        harness.signal(call).await;
    }
    harness.wait_for_state("r1", RunState::RolledBack).await;
    harness.wait_for_state("r3", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_call_leaves_the_queue_and_requests_again_on_resume() {
    let mut harness = Harness::new().await;
    let flow = paced("max_running = 1");
    for run in ["r1", "r2", "r3"] {
        harness.submit(run, &flow).await.map(drop).expect("the run begins");
    }
    let first = harness.take_job().await;
    let run = || "r2".parse().unwrap();
    harness.engine.command_local(&run(), RunCommand::Suspend).await.expect("it is recorded");
    harness.wait_for_state("r2", RunState::Suspended).await;
    harness.signal(&first.call).await;
    let third = harness.take_job().await;
    assert_eq!(third.call.run.as_str(), "r3");
    harness.engine.command_local(&run(), RunCommand::Resume).await.expect("it is recorded");
    assert!(jobs(&mut harness).await.is_empty());
    harness.signal(&third.call).await;
    assert_eq!(harness.answer_next().await.run.as_str(), "r2");
    harness.wait_for_state("r2", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_removed_while_it_waits_is_not_called() {
    let mut harness = Harness::new().await;
    let flow = paced("max_running = 1");
    for run in ["r1", "r2"] {
        harness.submit(run, &flow).await.map(drop).expect("the run begins");
    }
    let first = harness.take_job().await;
    let mut without = Arc::unwrap_or_clone(flow.clone());
    without.nodes.iter_mut().filter(|node| node.name.as_str() == "a").for_each(|node| node.retired = true);
    let command = RunCommand::Edit { revision: Revision::FIRST, flow: Arc::new(without) };
    harness.engine.command(&"r2".parse().unwrap(), command).await.expect("it is recorded");
    harness.wait_for_state("r2", RunState::Success).await;
    harness.signal(&first.call).await;
    assert!(jobs(&mut harness).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_attempt_needs_its_own_permit() {
    let mut harness = Harness::new().await;
    let flow = paced("max_running = 1\nretry = { attempts = 2, initial = \"1s\", jitter = false }");
    for run in ["r1", "r2"] {
        harness.submit(run, &flow).await.map(drop).expect("the run begins");
    }
    let first = harness.take_job().await;
    harness.fail(&first.call, FailureKind::Transient).await;
    let second = harness.take_job().await;
    assert_eq!(second.call.run.as_str(), "r2", "the waiting run is next");
    assert!(jobs(&mut harness).await.is_empty());
    harness.signal(&second.call).await;
    let again = harness.answer_next().await;
    assert_eq!((again.run.as_str(), again.attempt.get()), ("r1", 2));
    harness.wait_for_state("r1", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_without_a_pace_need_no_permit() {
    let mut harness = Harness::new().await;
    let free = wired("name = \"g\"\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n");
    harness.submit("r1", &paced("max_running = 1")).await.map(drop).expect("the run begins");
    harness.submit("r2", &paced("max_running = 1")).await.map(drop).expect("the run begins");
    harness.submit("s1", &free).await.map(drop).expect("the run begins");
    let runs: BTreeSet<String> = jobs(&mut harness).await.iter().map(|call| call.run.to_string()).collect();
    assert_eq!(runs, ["r1", "s1"].map(str::to_owned).into());
}

#[tokio::test(start_paused = true)]
async fn elements_share_their_tasks_permits_through_an_engine_crash() {
    let mut harness = Harness::new().await;
    let list: Vec<u32> = (0..600).collect();
    let flow = paced(&format!("for_each = {list:?}\nas = \"item\"\nmax_running = 2"));
    harness.submit("r1", &flow).await.map(drop).expect("the run begins");
    let mut out = vec![harness.take_job().await, harness.take_job().await];
    assert!(jobs(&mut harness).await.is_empty());
    let mut harness = harness.restart().await;
    harness.engine.adopt("r1".parse().unwrap(), protocol::RunCommand::Resume).await.map(drop).expect("the run goes on");
    let again: BTreeSet<CallId> = jobs(&mut harness).await.into_iter().collect();
    assert_eq!(again, out.iter().map(|job| job.call.clone()).collect(), "a call that may run keeps its permit");
    for _ in 2..600 {
        harness.signal_job(&out.remove(0)).await;
        out.push(job_within(&mut harness, SHORT_TIMEOUT).await.expect("it does not stall"));
    }
    assert!(jobs(&mut harness).await.is_empty(), "no more run at once");
    for job in &out {
        harness.signal_job(job).await;
    }
    harness.wait_for_state("r1", RunState::Success).await;
}

/// How many calls hold a permit, and how many wait for one.
async fn held_and_waiting(harness: &Harness) -> (u64, u64) {
    let answers = harness.engine.permits(&PermitsQuestion::default()).await;
    let tasks: Vec<TaskPermits> =
        answers.into_iter().flat_map(|(_, answer)| answer.expect("it is driven").tasks).collect();
    (tasks.iter().map(|task| task.held).sum(), tasks.iter().map(|task| task.waiting).sum())
}

#[tokio::test(start_paused = true)]
async fn only_the_next_elements_of_a_long_list_wait_for_permits() {
    // As many elements are prepared at once, where the task sets no `max_parallel`.
    const WINDOW: u64 = 1_000;
    let mut harness = Harness::new().await;
    let list: Vec<u64> = (0..5 * WINDOW).collect();
    harness.submit("r", &paced(&format!("for_each = {list:?}\nmax_running = 1"))).await.expect("the run begins");
    let mut job = harness.take_job().await;
    for answered in 0..20 {
        sleep(SHORT_TIMEOUT).await;
        assert_eq!(held_and_waiting(&harness).await, (1, WINDOW - 1), "after {answered} calls");
        harness.signal_job(&job).await;
        job = job_within(&mut harness, SHORT_TIMEOUT).await.expect("it does not stall");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_list_does_not_delay_later_runs() {
    let mut harness = Harness::shared().await;
    sleep(SETTLED).await;
    let list = |length: u32| {
        let elements: Vec<String> = (0..length).map(|element| element.to_string()).collect();
        paced(&format!("for_each = [{}]\nmax_running = 1", elements.join(", ")))
    };
    harness.submit("many", &list(400)).await.expect("the run begins");
    let mut job = harness.take_job().await;
    harness.submit("few", &list(1)).await.expect("another run begins");
    sleep(SHORT_TIMEOUT).await;
    let mut others = 0;
    while job.call.run.as_str() == "many" {
        others += 1;
        harness.signal_job(&job).await;
        job = harness.take_job().await;
    }
    assert!(others <= 2, "{others} calls of the long list came before it");
}

#[tokio::test(start_paused = true)]
async fn a_permit_queue_has_a_consumer_while_permits_are_needed() {
    const LONG: Duration = Duration::from_secs(120);
    let mut harness = Harness::new().await;
    let queue = topology::permit_queue(harness.secret(), &"f".parse().unwrap(), &"a".parse().unwrap());
    for pace in ["max_running = 1", "rate = \"10/s\""] {
        for run in ["first", "second"] {
            let run = format!("{run}-{}", &pace[..4]);
            let watch = harness.submit(&run, &paced(pace)).await.expect("the run begins");
            let waiting = harness.submit(&format!("{run}-waiting"), &paced(pace)).await.expect("the run begins");
            let job = harness.take_job().await;
            if pace.starts_with("max") {
                sleep(LONG).await;
                let consumers = harness.broker().consumers(&queue).await.unwrap();
                assert_eq!(consumers, Some(1), "{pace}: a call holds the permit, and another waits");
            }
            harness.signal_job(&job).await;
            let job = job_within(&mut harness, SHORT_TIMEOUT).await.expect("the other call gets the permit");
            harness.signal_job(&job).await;
            for watch in [watch, waiting] {
                assert_eq!(Harness::end(watch).await.state(), RunState::Success);
            }
            sleep(LONG).await;
            let consumers = harness.broker().consumers(&queue).await.unwrap();
            assert_eq!(consumers, Some(0), "{pace}: nobody needs a permit");
            assert_eq!(harness.broker().waiting(&queue).await.unwrap(), Some(0), "and nothing is left to read");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_whose_permits_fit_no_message_wait_for_others_to_end() {
    const MAX_BYTES: usize = 4_096;
    let mut harness = Harness::with_max_message_bytes(MAX_BYTES).await;
    // Each permit has the name of the engine, with 90 bytes.
    let elements: Vec<String> = (0..60).map(|number: u32| number.to_string()).collect();
    let flow = paced(&format!("max_running = 60\nfor_each = [{}]", elements.join(", ")));
    let watch = harness.submit("r", &flow).await.expect("the run begins");
    let mut out = Vec::new();
    while let Some(job) = job_within(&mut harness, TAKEN_OVER).await {
        out.push(job);
    }
    assert!((1..=MAX_BYTES / 90).contains(&out.len()), "{} have a permit", out.len());
    let end = async {
        work(&mut harness, MAX_BYTES / 90, out).await;
        Harness::end(watch).await.state()
    };
    assert_eq!(timeout(Duration::from_secs(7_200), end).await, Ok(RunState::Success));
}
