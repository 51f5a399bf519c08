//! Tests the lines of a guest, published while it runs.

use protocol::{LiveLog, LogSource};

use super::*;

/// A queue that receives the lines of the run.
async fn lines(harness: &Harness) -> Consumer {
    harness.broker.declare_queue(&Queue { name: "lines".into(), kind: QueueKind::Exclusive }).await.expect("it is new");
    broker::topology::declare_shared(&*harness.broker).await.expect("the broker answers");
    let to = Destination::Queue("lines".into());
    let binding = broker::Binding { exchange: topology::LOGS.into(), key: "r".into(), to };
    harness.broker.bind(&binding).await.expect("both are there");
    harness.broker.consume("lines", 16).await.expect("it is there")
}

/// A job that writes lines, and writes again after some time.
fn say_job(harness: &Harness, ms: u32) -> Job {
    let inputs = [("text", Value::json(&"hi".into())), ("ms", Value::json(&ms.into()))];
    let inputs = inputs.map(|(name, value)| (name.parse().expect("a name"), value)).into();
    Job { inputs, required_outputs: vec!["said".parse().expect("a name")], ..job(harness.module, "say") }
}

async fn next(lines: &mut Consumer) -> LiveLog {
    let delivery = lines.next().await.expect("the broker answers");
    let persistent = delivery.message.persistent;
    let log = LiveLog::decode(&delivery.message.body).expect("lines of a guest");
    delivery.accept();
    assert!(!persistent, "the records contain the lines");
    log
}

/// Each line's source, number and text.
fn numbered_texts(log: &LiveLog) -> Vec<(LogSource, u32, &str)> {
    log.lines.iter().map(|line| (LogSource::of(&line.line.level), line.number, line.line.text.as_str())).collect()
}

const LINES: [(LogSource, u32, &str); 3] =
    [(LogSource::Logged, 1, "hi"), (LogSource::Output, 1, "hi"), (LogSource::Error, 1, "hi")];

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_published_before_their_call_ends_and_again_for_a_new_follower() {
    let mut harness = Harness::new().await;
    let mut lines = lines(&harness).await;
    harness.start_worker("one").await;
    let job = say_job(&harness, 300_000);
    harness.publish("one", &job).await;
    let mut log = next(&mut lines).await;
    // On a slow machine, a guest writes for longer than a worker waits for more lines.
    while log.lines.len() < LINES.len() {
        log.lines.extend(next(&mut lines).await.lines);
    }
    assert_eq!(
        (numbered_texts(&log), log.cut, log.call.clone(), log.worker.as_str()),
        (LINES.to_vec(), false, job.call, "one")
    );
    let all = Destination::Exchange(topology::CONTROL.into());
    // A request for the lines of another run.
    harness.control(all.clone(), &Control::FollowLogs { run: "other".parse().expect("an id") }).await;
    harness.control(all.clone(), &Control::FollowLogs { run: "r".parse().expect("an id") }).await;
    assert_eq!(next(&mut lines).await, log);
    harness.control(all, &interrupt(log.call.clone())).await;
    assert!(matches!(harness.answer().await, TaskResult::Failed(_)), "it was sleeping");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_short_or_write_nothing_publish_no_lines() {
    let mut harness = Harness::new().await;
    let mut lines = lines(&harness).await;
    harness.start_worker("one").await;
    let sleeping = Job {
        inputs: [("ms".parse().expect("a name"), Value::json(&600.into()))].into(),
        required_outputs: vec!["slept_ms".parse().expect("a name")],
        ..job(harness.module, "sleep")
    };
    let short = say_job(&harness, 0);
    // The first job compiles the module.
    for (attempt, job) in [job(harness.module, "noop"), sleeping, short].into_iter().enumerate() {
        let attempt = Attempt::new(u32::try_from(attempt).expect("it is small") + 1);
        let call = CallId { attempt, ..job.call.clone() };
        harness.publish("one", &Job { call, ..job }).await;
        assert!(matches!(harness.answer().await, TaskResult::Succeeded(_)));
    }
    let marker = LiveLog {
        call: CallId { attempt: Attempt::new(9), ..say_job(&harness, 0).call },
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
    harness.broker.publish(message).await.expect("the queue is there");
    assert_eq!(next(&mut lines).await, marker, "no lines were published before it");
    harness.stop().await;
}
