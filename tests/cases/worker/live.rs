//! Tests the lines of a guest, published while it runs.

use protocol::{LiveLog, LogSource};

use super::*;

/// A queue that receives the lines of the run.
async fn lines(world: &Harness) -> Consumer {
    world.broker.declare_queue(&Queue { name: "lines".into(), kind: QueueKind::Exclusive }).await.expect("it is new");
    broker::topology::declare_shared(&*world.broker).await.expect("the broker is there");
    let to = Destination::Queue("lines".into());
    let binding = broker::Binding { exchange: topology::LOGS.into(), key: "r".into(), to };
    world.broker.bind(&binding).await.expect("both are there");
    world.broker.consume("lines", 16).await.expect("it is there")
}

/// A job that writes lines, and writes again after some time.
fn say(world: &Harness, ms: u32) -> Job {
    let inputs = [("text", Value::json(&"hi".into())), ("ms", Value::json(&ms.into()))];
    let inputs = inputs.map(|(name, value)| (name.parse().expect("a name"), value)).into();
    Job { inputs, required_outputs: vec!["said".parse().expect("a name")], ..job(world.module, "say") }
}

async fn next(lines: &mut Consumer) -> LiveLog {
    let delivery = lines.next().await.expect("the broker is there");
    let persistent = delivery.message.persistent;
    let log = LiveLog::decode(&delivery.message.body).expect("lines of a guest");
    delivery.accept();
    assert!(!persistent, "they are recorded elsewhere");
    log
}

/// Each line's source, number and text.
fn told(log: &LiveLog) -> Vec<(LogSource, u32, &str)> {
    log.lines.iter().map(|line| (LogSource::of(&line.line.level), line.number, line.line.text.as_str())).collect()
}

const ONCE: [(LogSource, u32, &str); 3] =
    [(LogSource::Logged, 1, "hi"), (LogSource::Output, 1, "hi"), (LogSource::Error, 1, "hi")];

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_published_before_their_call_ends_and_again_when_somebody_begins_to_follow() {
    let mut world = Harness::new().await;
    let mut lines = lines(&world).await;
    world.start_worker("one").await;
    let job = say(&world, 300_000);
    world.publish("one", &job).await;
    let log = next(&mut lines).await;
    assert_eq!((told(&log), log.cut, log.call.clone(), log.worker.as_str()), (ONCE.to_vec(), false, job.call, "one"));
    let all = Destination::Exchange(topology::CONTROL.into());
    // A request for the lines of another run.
    world.control(all.clone(), &Control::TellLogs { run: "other".parse().expect("an id") }).await;
    world.control(all.clone(), &Control::TellLogs { run: "r".parse().expect("an id") }).await;
    assert_eq!(next(&mut lines).await, log);
    world.control(all, &Control::Interrupt(log.call.clone())).await;
    assert!(matches!(world.answer().await, TaskResult::Failed(_)), "it was asleep all the time");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_short_or_write_nothing_publish_no_lines() {
    let mut world = Harness::new().await;
    let mut lines = lines(&world).await;
    world.start_worker("one").await;
    let asleep = Job {
        inputs: [("ms".parse().expect("a name"), Value::json(&600.into()))].into(),
        required_outputs: vec!["slept_ms".parse().expect("a name")],
        ..job(world.module, "sleep")
    };
    let short = say(&world, 0);
    // The first job compiles the module.
    for (attempt, job) in [job(world.module, "noop"), asleep, short].into_iter().enumerate() {
        let attempt = Attempt::new(u32::try_from(attempt).expect("it is small") + 1);
        let call = CallId { attempt, ..job.call.clone() };
        world.publish("one", &Job { call, ..job }).await;
        assert!(matches!(world.answer().await, TaskResult::Succeeded(_)));
    }
    let marker = LiveLog {
        call: CallId { attempt: Attempt::new(9), ..say(&world, 0).call },
        worker: "w".parse().expect("a name"),
        lines: Vec::new(),
        cut: false,
    };
    let message = Message {
        exchange: topology::LOGS.into(),
        key: "r".into(),
        routing: Routing::Mandatory,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: marker.encode().into(),
    };
    world.broker.publish(message).await.expect("the queue is there");
    assert_eq!(next(&mut lines).await, marker, "it is the first");
    world.stop().await;
}
