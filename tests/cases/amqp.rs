//! Tests runs over RabbitMQ, with worker processes that start, stop and are killed, and with duplicate messages.

mod admission;
mod drain;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use broker::{Amqp, Broker, Message, Options, Properties, Routing};
use serde_json::{Value, json};
use waft_tests::{CommandOutput, Process, Role, TestBroker, Waft, start_rabbit, unique};
use xtask::rabbitmq::with_user;

/// Only a failing test waits this long.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A flow of one task, with its own job queue.
fn one_task(queue: &str, uses: &str, keys: &str) -> String {
    format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"{uses}\"\nqueue = \"{queue}\"\n{keys}")
}

/// A flow of tasks, one after another.
fn chain(queue: &str, length: usize) -> String {
    let task = |number: usize| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"hostile#sleep\"\nqueue = \"{queue}\"\nwith = {{ ms = 50 }}\nprovides = []\n"
        )
    };
    let tasks: String = (0..length).map(task).collect();
    format!("name = \"f\"\npattern = \"linear\"\n{tasks}")
}

/// The trace of a chain with each step recorded once.
fn each_once(length: usize) -> Vec<String> {
    (0..length).flat_map(|task| [format!("t{task}:running"), format!("t{task}:success")]).collect()
}

/// The workers at a broker, as `waft workers` reports them.
fn workers(waft: &Waft, broker: &TestBroker) -> Vec<Value> {
    waft.run(["workers", "--broker", &broker.url(Role::Operator), "--json"]).expect(0).json()
}

/// Waits until a worker is executing `calls` calls.
#[track_caller]
pub(crate) fn wait_until_busy(waft: &Waft, broker: &TestBroker, name: &str, calls: u64) {
    let until = Instant::now() + TEST_TIMEOUT;
    while !workers(waft, broker).iter().any(|worker| worker["name"] == name && worker["busy"] == calls) {
        assert!(Instant::now() < until, "{name} never runs {calls} calls");
    }
}

/// Starts a run; the test reads its output after its end.
fn start_run(waft: &Waft, broker: &TestBroker, flow: &str) -> std::process::Child {
    let flow = waft.flow(flow);
    let mut command = waft.command(["run", "--broker", &broker.url(Role::Engine), "--json"]);
    command.arg(flow).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("waft starts")
}

fn ended(run: std::process::Child) -> CommandOutput {
    run.wait_with_output().expect("it ends").into()
}

#[test]
fn a_generic_worker_runs_any_module() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    // The worker has its own empty store and empty cache.
    let other_machine = Waft::with_own_cache();
    let _worker = Process::worker(&other_machine, &broker, &["--queues", &queue, "--name", &queue]);
    let flow = one_task(&queue, "hostile#echo", "with = { value = { a = 1 } }");
    let output = waft.run_flow(&flow, &["--broker", &broker.url(Role::Engine)]);
    assert_eq!(output.expect(0).trace().join(" "), "t:running t:success");
    assert_eq!(output.end()["provides"], json!({"value": {"a": 1}}));
    let success = output.json().into_iter().find(|line| line["state"] == "success" && line["name"] == "t");
    assert_eq!(success.map(|line| line["worker"].clone()), Some(json!(queue)));
}

#[test]
fn workers_lists_name_slots_busy_and_queues() {
    let (waft, broker, name) = (Waft::default(), TestBroker::shared(), unique("w"));
    let queues = format!("{name},ovens-{name}");
    let _worker = Process::worker(&waft, &broker, &["--queues", &queues, "--name", &name, "--slots", "3"]);
    let worker =
        workers(&waft, &broker).into_iter().find(|worker| worker["name"] == name.as_str()).expect("it is listed");
    assert_eq!((&worker["slots"], &worker["busy"]), (&json!(3), &json!(0)));
    assert_eq!(worker["queues"], json!([name, format!("ovens-{name}")]));
    assert_eq!(worker["version"], env!("CARGO_PKG_VERSION"));
    let table = waft.run(["workers", "--broker", &broker.url(Role::Operator)]);
    assert!(table.expect(0).stdout.lines().any(|line| line.starts_with(&name)), "{}", table.stdout);
}

#[test]
fn the_job_of_a_killed_worker_is_redelivered() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let killed = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    let run = start_run(&waft, &broker, &one_task(&queue, "hostile#sleep", "with = { ms = 120000 }\ntimeout = \"5m\""));
    wait_until_busy(&waft, &broker, &queue, 1);
    killed.kill();
    let next = format!("{queue}-next");
    let _next = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &next]);
    wait_until_busy(&waft, &broker, &next, 1);
    waft_tests::signal(run.id(), "INT");
    ended(run).expect(130);
}

#[test]
fn a_killed_run_resumes_with_its_running_call() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let _worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    let flow = waft.flow(&one_task(&queue, "hostile#sleep", "with = { ms = 5000 }\nprovides = []\n"));
    let mut command = waft.command(["run", "--broker", &broker.url(Role::Engine), "--run-id", &queue]);
    let mut run = command.arg(flow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("waft starts");
    wait_until_busy(&waft, &broker, &queue, 1);
    run.kill().expect("it runs");
    run.wait().expect("it has ended");
    let resumed = waft.run(["run", "--resume", &queue, "--broker", &broker.url(Role::Engine), "--json"]);
    assert_eq!(resumed.expect(0).end()["state"], "success", "{}", resumed.stdout);
}

#[test]
fn killed_workers_never_duplicate_records() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let run = start_run(&waft, &broker, &chain(&queue, 40));
    for number in 0..3 {
        let name = format!("{queue}-{number}");
        let killed = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &name]);
        killed.kill();
    }
    let _last = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    assert_eq!(ended(run).expect(0).trace(), each_once(40));
}

#[test]
fn a_job_that_kills_its_workers_becomes_poison() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let run = start_run(
        &waft,
        &broker,
        &one_task(&queue, "hostile#sleep", "with = { ms = 120000 }\ntimeout = \"5m\"\ndelivery_limit = 2"),
    );
    for number in 0..2 {
        let name = format!("{queue}-{number}");
        let worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &name]);
        wait_until_busy(&waft, &broker, &name, 1);
        worker.kill();
    }
    let mut last = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    last.wait_for("waft.quarantine");
    let output = ended(run);
    let (kind, message) = output.expect(1).failure("t");
    assert_eq!(kind, "poison");
    assert!(message.contains("came back 2 times") && message.contains("waft.quarantine"), "{message}");
    // Its message waits in quarantine for an operator, under the id of its call.
    let run = output.json()[0]["run"].as_str().expect("a run has an id").to_owned();
    let id = format!("{run}.t.1.1.apply");
    let quarantined = || {
        let listed =
            waft.run(["quarantine", "list", "--broker", &broker.url(Role::Operator), "--json"]).expect(0).json();
        listed.into_iter().find(|message| message["id"] == id.as_str())
    };
    let message = quarantined().expect("it is in quarantine");
    assert_eq!(message["queue"], format!("waft.jobs.{queue}"));
    assert_eq!((&message["headers"]["run"], &message["headers"]["task"]), (&json!(run), &json!("t")));
    waft.run(["quarantine", "drop", &id, "--broker", &broker.url(Role::Operator)]).expect(0);
    assert_eq!(quarantined(), None);
    let repeated = waft.run(["quarantine", "drop", &id, "--broker", &broker.url(Role::Operator)]);
    assert!(repeated.expect(2).stderr.contains("there is no such message"), "{}", repeated.stderr);
}

#[test]
fn a_stopping_worker_finishes_its_calls() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let mut worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    let run = start_run(&waft, &broker, &one_task(&queue, "hostile#sleep", "with = { ms = 2000 }"));
    wait_until_busy(&waft, &broker, &queue, 1);
    worker.signal("TERM");
    let output = ended(run);
    assert_eq!(output.expect(0).trace().join(" "), "t:running t:success");
    assert!(worker.wait().success(), "{}", worker.output());
}

#[test]
fn a_worker_continues_without_a_log_reader() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let engine = broker.url(Role::Engine);
    waft.run(["broker", "setup", "--queues", &queue, "--broker", &engine]).expect(0);
    let mut command = waft.command(["worker", "--queues", &queue, "--name", &queue, "-vv", "--broker"]);
    let mut worker = command.arg(broker.url(Role::Worker)).stderr(Stdio::piped()).spawn().expect("waft starts");
    let mut lines = BufReader::new(worker.stderr.take().expect("it is a pipe")).lines();
    assert!(lines.any(|line| line.expect("it is UTF-8").contains("takes jobs")), "it starts");
    drop(lines);
    // It logs each call.
    for _ in 0..3 {
        waft.run_flow(&one_task(&queue, "hostile#noop", ""), &["--broker", &engine]).expect(0);
    }
    waft_tests::signal(worker.id(), "TERM");
    assert_eq!(worker.wait().expect("it can be waited for").code(), Some(0), "it ran until it was stopped");
}

#[test]
fn a_second_stop_signal_returns_the_job() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let mut worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    let run = start_run(&waft, &broker, &one_task(&queue, "hostile#spin", "timeout = \"5m\""));
    wait_until_busy(&waft, &broker, &queue, 1);
    worker.signal("TERM");
    worker.wait_for("takes no new jobs");
    worker.signal("TERM");
    assert!(worker.wait().success(), "{}", worker.output());
    let next = format!("{queue}-next");
    let _next = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &next]);
    wait_until_busy(&waft, &broker, &next, 1);
    waft_tests::signal(run.id(), "INT");
    ended(run).expect(130);
}

#[test]
fn a_busy_guest_does_not_delay_others() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let _worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue, "--slots", "3"]);
    let spinning = [Waft::default(), Waft::default()]
        .map(|other| (start_run(&other, &broker, &one_task(&queue, "hostile#spin", "timeout = \"5m\"")), other));
    wait_until_busy(&waft, &broker, &queue, 2);
    waft.run_flow(&one_task(&queue, "hostile#noop", ""), &["--broker", &broker.url(Role::Engine)]).expect(0);
    for (mut run, _) in spinning {
        run.kill().expect("it can be killed");
        run.wait().expect("it can be waited for");
    }
}

#[test]
fn an_interrupted_run_stops_a_busy_guest_and_is_suspended() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let _worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    let run = start_run(&waft, &broker, &one_task(&queue, "hostile#spin", "timeout = \"5m\""));
    wait_until_busy(&waft, &broker, &queue, 1);
    waft_tests::signal(run.id(), "INT");
    let output = ended(run);
    assert_eq!(output.expect(130).end()["state"], "suspended");
    wait_until_busy(&waft, &broker, &queue, 0);
}

#[test]
fn a_second_worker_of_the_same_name_is_rejected() {
    let (waft, broker, name) = (Waft::default(), TestBroker::shared(), unique("w"));
    let _first = Process::worker(&waft, &broker, &["--queues", &name, "--name", &name]);
    let second = waft.run(["worker", "--broker", &broker.url(Role::Worker), "--queues", &name, "--name", &name]);
    let stderr = &second.expect(2).stderr;
    assert!(stderr.contains(&format!("a worker named {name} is connected to this broker already")), "{stderr}");
    assert!(stderr.contains("hint: choose another --name, or leave it out"), "{stderr}");
    assert_eq!(workers(&waft, &broker).iter().filter(|worker| worker["name"] == name.as_str()).count(), 1);
}

#[test]
fn an_unreachable_broker_is_named() {
    let waft = Waft::default();
    let output = waft.run(["workers", "--broker", "amqp://guest:secret@127.0.0.1:1/%2f"]);
    let stderr = &output.expect(4).stderr;
    assert!(stderr.contains("127.0.0.1:1") && !stderr.contains("secret"), "{stderr}");
}

#[test]
fn a_rejected_password_is_not_shown() {
    let url = with_user(TestBroker::shared().administrator_url(), "guest", "wrong");
    let output = Waft::default().run(["workers", "--broker", &url]);
    let stderr = &output.expect(4).stderr;
    assert!(stderr.contains("password") && !stderr.contains("wrong"), "{stderr}");
}

#[test]
fn an_invalid_address_is_rejected() {
    let output = Waft::default().run(["workers", "--broker", "localhost:5672"]);
    assert!(output.expect(2).stderr.contains("hint: write amqp://user:password@host:5672/vhost"), "{}", output.stderr);
}

/// Publishes bytes to a job queue, like another program.
fn publish(url: &str, queue: &str, body: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let broker = Amqp::connect(Options::new(url)).await.expect("the broker is there");
        let message = Message {
            exchange: protocol::topology::JOBS.into(),
            key: queue.into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: body.to_vec().into(),
        };
        broker.publish(message).await.expect("the queue is there");
        broker.close().await;
    });
}

#[test]
fn an_unreadable_job_is_quarantined() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let mut worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    for garbage in [&b"garbage"[..], b"", &[0xff; 100]] {
        publish(broker.administrator_url(), &queue, garbage);
        let line = worker.wait_for("cannot be read");
        assert!(line.contains("it is kept in waft.quarantine"), "{line}");
    }
    waft.run_flow(&one_task(&queue, "hostile#noop", ""), &["--broker", &broker.url(Role::Engine)]).expect(0);
}

/// Consumes the next job of a queue, and reports like a worker of a later waft.
fn report_as_later_waft(url: &str, queue: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let broker = Amqp::connect(Options::new(url)).await.expect("the broker is there");
        broker::topology::declare_shared(&broker).await.expect("the broker accepts the declaration");
        broker::topology::declare_jobs(&broker, &queue.parse().expect("a valid name"))
            .await
            .expect("the broker accepts the declaration");
        let mut jobs = broker.consume(&format!("waft.jobs.{queue}"), 1).await.expect("the queue is there");
        let delivery = jobs.next().await.expect("a job");
        let job = protocol::Job::decode(&delivery.message.body).expect("it can be read");
        let worker = "later".parse().expect("a valid name");
        let number = protocol::HeartbeatNumber { execution: flow::Execution::new(1), count: 1 };
        let report = protocol::Report::Heartbeat { call: job.call.clone(), worker, number };
        let mut body = report.encode(&job.keys);
        body.truncate(body.len() - 32);
        // The third byte is the format version.
        body[2] = 99;
        let seal = job.keys.call.seal(&body);
        body.extend(seal.as_bytes());
        let message = Message {
            exchange: protocol::topology::REPORTS.into(),
            key: job.signal_to,
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties {
                message_id: Some(protocol::message_id(&job.call)),
                headers: protocol::headers(&job.call),
                ..Properties::default()
            },
            body: body.into(),
        };
        broker.publish(message).await.expect("the engine is there");
        delivery.accept();
        broker.close().await;
    });
}

#[test]
fn a_report_of_a_newer_version_fails_the_call_and_is_quarantined() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let run = start_run(&waft, &broker, &one_task(&queue, "hostile#noop", ""));
    report_as_later_waft(broker.administrator_url(), &queue);
    // This worker executes the rollback.
    let _worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    let output = ended(run);
    let (kind, message) = output.expect(1).failure("t");
    assert_eq!(kind, "poison");
    assert!(message.contains("of format version 99") && message.contains("waft.quarantine"), "{message}");
    let id = format!("{}.t.1.1.apply", output.json()[0]["run"].as_str().expect("a run has an id"));
    let listed = waft.run(["quarantine", "list", "--broker", &broker.url(Role::Operator), "--json"]).expect(0).json();
    let quarantined = listed.into_iter().find(|message| message["id"] == id.as_str()).expect("it is in quarantine");
    let text = |key: &str| quarantined[key].as_str().unwrap_or_default().to_owned();
    assert!(text("queue").starts_with("waft.engine."), "{quarantined}");
    assert!(text("reason").contains("of format version 99; this waft reads up to"), "{quarantined}");
    waft.run(["quarantine", "drop", &id, "--broker", &broker.url(Role::Operator)]).expect(0);
}

#[test]
fn a_run_survives_a_restart_of_its_broker() {
    let (waft, folder) = (Waft::default(), tempfile::tempdir().expect("a temporary folder"));
    let mut rabbit = start_rabbit(folder.path());
    let broker = TestBroker::from(&rabbit);
    let _worker = Process::worker(&waft, &broker, &["--name", "w", "--slots", "2"]);
    let run = start_run(&waft, &broker, &chain("default", 60));
    wait_until_busy(&waft, &broker, "w", 1);
    rabbit.kill();
    rabbit.restart().expect("RabbitMQ restarts");
    let output = ended(run);
    assert_eq!(output.expect(0).trace(), each_once(60));
}

#[test]
fn a_large_value_is_transferred_by_digest() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let other_machine = Waft::with_own_cache();
    let _worker = Process::worker(&other_machine, &broker, &["--queues", &queue, "--name", &queue]);
    let echo = |name: &str, requires: &str, provides: &str| {
        format!(
            "[[task]]\nname = \"{name}\"\nuse = \"hostile#echo\"\nqueue = \"{queue}\"\n\
             requires = {{ value = \"{requires}\" }}\nprovides = {{ value = \"{provides}\" }}\n"
        )
    };
    let large = "x".repeat(100_000);
    let flow = format!(
        "name = \"f\"\n[inputs]\ngiven = \"{large}\"\n{}{}",
        echo("first", "given", "once"),
        echo("second", "once", "twice")
    );
    let output = waft.run_flow(&flow, &["--broker", &broker.url(Role::Engine), "--run-id", &queue]);
    let lines = output.expect(0).json();
    let last = lines.last().expect("there is a last line");
    for (object, name) in [("inputs", "given"), ("provides", "once"), ("provides", "twice")] {
        assert_eq!(last[object][name].as_str().map(str::len), Some(large.len()), "{name} is shown completely");
    }
    // All three have the same content, which the store holds once and no record contains.
    let store = walk(&waft.folder().join("store"));
    assert_eq!(store.into_iter().filter(|size| (100_000..101_000).contains(size)).count(), 1);
}

/// The sizes of all files below a folder.
fn walk(folder: &std::path::Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("it can be read"));
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => walk(&entry.path()),
        _ => vec![entry.metadata().map_or(0, |metadata| metadata.len())],
    });
    sizes.flatten().collect()
}

#[test]
fn a_task_runs_one_at_a_time_over_two_engines_and_two_workers() {
    let (waft, broker) = (Waft::default(), TestBroker::shared());
    let (queue, flow) = (unique("queue"), unique("flow"));
    let workers = ["w1", "w2"].map(|name| {
        let arguments = ["--name", &unique(name), "--queues", &queue, "--slots", "4"];
        Process::worker(&waft, &broker, &arguments)
    });
    let text = format!(
        "name = \"{flow}\"\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nqueue = \"{queue}\"\nmax_running = 1\n\
         for_each = [100, 100, 100]\nas = \"ms\"\n"
    );
    // Each is a separate engine.
    let runs = [start_run(&waft, &broker, &text), start_run(&waft, &broker, &text)];
    let mut ended_at = Vec::new();
    for run in runs {
        let output = ended(run);
        let lines = output.expect(0).json();
        let is_element = |line: &&Value| line["name"].as_str().is_some_and(|name| name.starts_with("t["));
        let succeeded = lines.iter().filter(is_element).filter(|line| line["state"] == "success");
        ended_at.extend(succeeded.map(|line| line["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()));
    }
    ended_at.sort_unstable();
    assert_eq!(ended_at.len(), 6);
    for pair in ended_at.windows(2) {
        // Each call starts once the previous call's result was recorded, and sleeps for the same time.
        let interval = pair[1].as_millisecond() - pair[0].as_millisecond();
        assert!(interval >= 99, "{interval} ms between: {ended_at:?}");
    }
    drop(workers);
}
