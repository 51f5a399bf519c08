//! Several engines over one broker and one logbook.

use std::{collections::BTreeSet, time::Duration};

use broker::{Binding, Broker, Destination};
use flow::{Execution, RunState, Signal, TaskResult, Timestamp, Values};
use logbook::{Append, AppendOutcome, MaxUnended, MemoChanges, RunInfo, Version};
use machine::{Event, Machine};
use protocol::{RunCommand, topology};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Harness, linear, wired};

/// Long enough for engines to find one another and to share the shards.
const SETTLED: Duration = Duration::from_secs(30);

/// Longer than a lease lasts, or than a shard is without an engine. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn another_engine_takes_over_a_run() {
    let mut one = Harness::shared().await;
    let other = one.sharing_engine("other").await;
    let _watch = one.submit("r", &linear(&["a", "b", "c"])).await.expect("the run begins");
    assert_eq!(one.answer_shared("r").await.task.as_str(), "a");
    let b = one.take_job().await;
    assert_eq!(b.call.task.as_str(), "b");
    one.engine.abort().await;
    // The answer waits in the queue of the shard, for the next driver.
    one.signal_job(&b).await;
    assert_eq!(one.answer_shared("r").await.task.as_str(), "c");
    other.wait_for_state("r", RunState::Success).await;
    assert_eq!(other.successes("r").await, ["a", "b", "c"], "each once");
}

#[tokio::test(start_paused = true)]
async fn engines_answer_which_shards_they_drive() {
    let one = Harness::shared().await;
    let other = one.sharing_engine("other").await;
    sleep(SETTLED).await;
    let drivers = one.engine.shard_drivers().await;
    assert_eq!(drivers.len(), topology::shards().count());
    let of = |name: &str| {
        let statuses = drivers.iter().filter_map(|(shard, status)| Some((shard, status.as_ref()?)));
        statuses.filter(|(_, status)| status.engine == name).map(|(shard, _)| shard.clone()).collect::<BTreeSet<_>>()
    };
    let (of_one, of_other) = (of("one"), of("other"));
    assert!(!of_one.is_empty() && !of_other.is_empty(), "{drivers:?}");
    assert_eq!(of_one.len() + of_other.len(), drivers.len(), "{drivers:?}");
    let (_, status) = drivers.iter().find(|(shard, _)| of_one.contains(shard)).unwrap();
    assert_eq!(status.as_ref().unwrap().others, ["other"], "it receives probes of the shards that it drives");
    for (shard, status) in other.engine.shard_drivers().await {
        let seen = of(&status.expect("it is driven").engine);
        assert!(seen.contains(&shard), "it does not matter who asks: {shard}");
    }
    other.engine.abort().await;
    other.connection.close().await;
    sleep(SETTLED).await;
    for (shard, status) in one.engine.shard_drivers().await {
        let status = status.expect("it is driven");
        assert_eq!((status.engine.as_str(), status.others.len()), ("one", 0), "{shard}");
        assert_eq!(status.driving_for > SETTLED, of_one.contains(&shard), "{shard}: {:?}", status.driving_for);
    }
}

#[tokio::test(start_paused = true)]
async fn a_returning_shard_owner_loads_leases_recorded_meanwhile() {
    let mut one = Harness::shared().await;
    let other = one.sharing_engine("other").await;
    let _watch = one.submit("r", &linear(&["a"])).await.expect("the run begins");
    let first = one.take_job().await;
    // From here on, the messages of the shard go to the other engine, which records the lease.
    one.connection.drop_connection().await;
    one.heartbeat_job(&first).await;
    one.wait_for_fact("r", "leased").await;
    // The messages arrive here again, but no answer to the call ever does: its worker is dead.
    other.engine.abort().await;
    other.connection.close().await;
    let second = timeout(PATIENCE, one.take_job()).await.expect("the lease is missed");
    assert_eq!(second.call.attempt, first.call.attempt.next());
}

#[tokio::test(start_paused = true)]
async fn a_run_is_driven_by_the_owner_of_its_shard() {
    let mut one = Harness::shared().await;
    let _other = one.sharing_engine("other").await;
    sleep(SETTLED).await;
    // An engine that wrongly acted as the driver of the shard records the start of the run, and does nothing more.
    let (run, flow) = ("r".parse().unwrap(), linear(&["a"]));
    let mut machine = Machine::new(run, flow.clone());
    let records = machine.step(Timestamp::from_micros(1_000_000), &Event::Start).records;
    let info = RunInfo { shard: "0".parse().unwrap(), flow: flow.name.clone(), state: machine.state() };
    let run = machine.run().clone();
    let (logs, published, max_unended) = (Vec::new(), Version::NONE, MaxUnended::default());
    let memos = MemoChanges::default();
    let append = Append { run, follows: Version::NONE, records, info, logs, published, max_unended, memos };
    assert_eq!(one.logbook.append(vec![append]).await.unwrap(), [AppendOutcome::Durable]);
    let job = timeout(PATIENCE, one.take_job()).await.expect("it is driven");
    one.signal_job(&job).await;
    one.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_records_end_it_is_not_driven_although_its_row_is_open() {
    let one = Harness::shared().await;
    let (run, flow) = ("r".parse().unwrap(), linear(&["a"]));
    let mut machine = Machine::new(run, flow.clone());
    let mut records = machine.step(Timestamp::from_micros(1_000_000), &Event::Start).records;
    let call = machine.outstanding_calls().next().expect("the call of its task");
    let (answer, execution) = (TaskResult::Succeeded(Values::new()), Execution::new(1));
    let signal = Signal { call, answer, execution, redelivered: false, worker: None };
    records.extend(machine.step(Timestamp::from_micros(2_000_000), &Event::Signal(signal)).records);
    assert_eq!(machine.state(), RunState::Success);
    // The waft that wrote the row did not understand its records as this one does.
    let info = RunInfo { shard: "0".parse().unwrap(), flow: flow.name.clone(), state: RunState::Running };
    let run = machine.run().clone();
    let (logs, published, max_unended) = (Vec::new(), Version::NONE, MaxUnended::default());
    let memos = MemoChanges::default();
    let append = Append { run, follows: Version::NONE, records, info, logs, published, max_unended, memos };
    assert_eq!(one.logbook.append(vec![append]).await.unwrap(), [AppendOutcome::Durable]);
    let again = one.new_process().await;
    sleep(SETTLED).await;
    let drivers = again.engine.shard_drivers().await;
    let runs: u64 = drivers.into_iter().map(|(_, status)| status.expect("it is driven").runs).sum();
    assert_eq!(runs, 0, "it stays in no engine's memory");
    let loads = again.faults.loads();
    sleep(SETTLED).await;
    assert_eq!(again.faults.loads(), loads, "nor is it read again and again");
}

#[tokio::test(start_paused = true)]
async fn an_unresponsive_shard_queue_blocks_no_other_shard() {
    let mut one = Harness::with_unresponsive_queue("waft.engine.3").await;
    let flow = linear(&["a"]);
    let mut shards = BTreeSet::new();
    for number in 0..20 {
        let run = format!("before-{number}");
        let _watch = one.submit(&run, &flow).await.expect("the run begins");
        one.answer_shared(&run).await;
        one.wait_for_state(&run, RunState::Success).await;
        shards.insert(one.shard(&run).await);
    }
    assert!(shards.len() > 1 && !shards.contains("3"), "{shards:?}");
    one.connection.set_unresponsive("waft.engine.3", false);
    let driven = async {
        for number in 0.. {
            let run = format!("after-{number}");
            let _watch = one.submit(&run, &flow).await.expect("the run begins");
            one.answer_shared(&run).await;
            one.wait_for_state(&run, RunState::Success).await;
            if one.shard(&run).await == "3" {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(PATIENCE, driven).await.expect("once it speaks again, that one is driven too");
}

#[tokio::test(start_paused = true)]
async fn a_flow_with_an_unresponsive_queue_is_rejected() {
    let mut one = Harness::with_unresponsive_queue("waft.jobs.dead").await;
    let dead =
        wired("name = \"d\"\n[[task]]\nname = \"a\"\nuse = \"g\"\nqueue = \"dead\"\n[modules]\ng = \"g.wasm\"\n");
    let refused = one.submit("d", &dead).await.map(drop).expect_err("its queue does not answer");
    let reasons = format!("{refused}: {}", std::error::Error::source(&refused).expect("it says why"));
    assert!(reasons.contains("waft.jobs.dead") && reasons.contains("rabbitmqctl"), "{reasons}");
    let start = Instant::now();
    one.submit("d", &dead).await.map(drop).expect_err("its queue does not answer");
    assert_eq!(start.elapsed(), Duration::ZERO, "it was asked a moment ago");
    let _watch = one.submit("r", &linear(&["a"])).await.expect("the run begins");
    one.answer_shared("r").await;
    one.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn unsent_messages_of_a_dead_engine_are_sent() {
    let mut one = Harness::shared().await;
    let flow = linear(&["a"]);
    let _watch = one.submit("r", &flow).await.expect("the run begins");
    let first = one.take_job().await;
    one.engine.abort().await;
    // No record tells whether its job arrived: it is sent again, with the same id.
    let other = one.sharing_engine("other").await;
    let again = one.take_job().await;
    assert_eq!(again.call, first.call);
    one.signal_job(&again).await;
    other.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn engines_share_the_shards_evenly() {
    let one = Harness::shared().await;
    tokio::time::sleep(SETTLED).await;
    let two = one.sharing_engine("two").await;
    tokio::time::sleep(SETTLED).await;
    // New runs go to shards that their engine drives: both engines have some.
    for (engine, run) in [(&one, "r1"), (&two, "r2")] {
        engine.submit(run, &linear(&["a"])).await.map(drop).expect("the run begins");
    }
    let shard = |summary: logbook::Summary| summary.info.shard;
    let of_one = shard(one.logbook.summary(&"r1".parse().unwrap()).await.unwrap());
    let of_two = shard(one.logbook.summary(&"r2".parse().unwrap()).await.unwrap());
    assert_ne!(of_one, of_two);
}

#[tokio::test(start_paused = true)]
async fn a_run_command_reaches_the_driving_engine() {
    let one = Harness::shared().await;
    tokio::time::sleep(SETTLED).await;
    let two = one.sharing_engine("two").await;
    let _watch = one.submit("r", &linear(&["a"])).await.expect("the run begins");
    let state = two.engine.command(&"r".parse().unwrap(), protocol::RunCommand::Suspend).await.expect("it is recorded");
    assert_eq!(state, RunState::Suspending);
    assert_eq!(one.state("r").await, RunState::Suspending);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_engine_passes_its_check() {
    let harness = Harness::shared().await;
    assert_eq!(harness.engine.check().await, Ok(()));
    harness.engine.stop().await;
    assert_eq!(harness.engine.check().await, Err("the engine is stopping".into()));
}

#[tokio::test(start_paused = true)]
async fn late_messages_for_an_adopted_run_are_forwarded() {
    let mut one = Harness::shared().await;
    let run = || "r".parse().unwrap();
    let _watch = one.submit("r", &linear(&["a"])).await.expect("the run begins");
    let a = one.take_job().await;
    one.engine.command_local(&run(), RunCommand::Suspend).await.expect("it is recorded");
    one.engine.abandon(run()).await.expect("the engine is there");
    one.wait_for_state("r", RunState::Suspended).await;
    let other = one.another_engine().await;
    let watch = other.engine.adopt(run(), protocol::RunCommand::Resume).await.expect("the run goes on");
    // The answer goes to the queue that the job names, but the run has moved.
    one.signal_job(&a).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_binding_of_a_shards_queue_is_made_again() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    let (exchange, queue) = (topology::REPORTS.to_owned(), job.signal_to.clone());
    let to = Destination::Queue(queue.clone());
    harness.broker().unbind(&Binding { exchange, key: queue, to }).await.expect("it is bound");
    sleep(SETTLED).await;
    harness.signal(&job.call).await;
    assert_eq!(timeout(PATIENCE, Harness::end(watch)).await.expect("it arrives").state(), RunState::Success);
}
