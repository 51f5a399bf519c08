//! The metrics of a server and a worker at a RabbitMQ.

use waft_tests::{Process, Role, Scrape, TestBroker, Waft, start_rabbit, wait_until};

use super::{NOOP, Server};

/// The address of the metrics of a worker that takes jobs.
fn address(worker: &Process) -> String {
    let output = worker.output();
    let line = output.lines().find_map(|line| line.split_once("the metrics of the worker are at "));
    line.unwrap_or_else(|| panic!("it names no address:\n{output}")).1.trim().to_owned()
}

#[test]
fn a_worker_and_a_server_count_their_own_parts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rabbit = start_rabbit(folder.path());
    let broker = TestBroker::from(&rabbit);
    let server = Server::with(Waft::default(), &["--broker", &broker.url(Role::Engine)]);
    server.waft.flow(NOOP);
    for run in ["r1", "r2"] {
        server.run(&["submit", "flow.toml", "--run-id", run]).expect(0);
    }
    let (messages, consumers) =
        ("waft_queue_messages{queue=\"waft.jobs.default\"}", "waft_queue_consumers{queue=\"waft.jobs.default\"}");
    server.wait_for(messages, 2.0);
    assert_eq!(server.metrics().get(consumers), Some(0.0), "no worker takes jobs");
    wait_until(|| server.metrics().get("waft_oldest_call_seconds").is_some_and(|age| age > 0.0));
    let elsewhere = Waft::default();
    elsewhere.set_settings("[metrics]\nlisten = \"127.0.0.1:0\"\ntoken = \"scrape me\"\n");
    let worker = Process::worker(&elsewhere, &broker, &["--slots", "3"]);
    let address = address(&worker);
    for run in ["r1", "r2"] {
        server.run(&["watch", run]).expect(0);
    }
    server.wait_for("waft_runs_total{flow=\"good\",state=\"success\"}", 2.0);
    let of_worker = || Scrape::metrics(&address, "scrape me");
    wait_until(|| of_worker().get("waft_attempt_seconds_count{action=\"apply\"}") == Some(2.0));
    wait_until(|| of_worker().get("waft_worker_slots{state=\"free\"}") == Some(3.0));
    let metrics = of_worker();
    assert_eq!(metrics.get("waft_attempt_seconds_count{action=\"rollback\"}"), Some(0.0));
    assert_eq!(metrics.get("waft_queue_wait_seconds_count"), Some(2.0));
    assert!(metrics.get("waft_queue_wait_seconds_sum").is_some_and(|seconds| seconds > 0.0));
    assert_eq!(metrics.get("waft_guest_memory_bytes_count"), Some(2.0));
    assert!(metrics.get("waft_publish_confirm_seconds_count").is_some_and(|confirms| confirms >= 1.0));
    assert_eq!((metrics.of("waft_runs_total").len(), metrics.of("waft_shard_owner").len()), (0, 0), "it is no engine");
    let metrics = server.metrics();
    assert_eq!(metrics.of("waft_attempts_total"), ["{flow=\"good\",outcome=\"success\",task=\"t\"} 2"]);
    assert_eq!(metrics.of("waft_attempt_seconds_count"), Vec::<String>::new(), "it calls no guest");
    assert!(metrics.get("waft_publish_confirm_seconds_count").is_some_and(|confirms| confirms >= 2.0));
    server.wait_for(messages, 0.0);
    server.wait_for(consumers, 1.0);
    for (path, token, status) in
        [("/metrics", "", 401), ("/metrics", "wrong", 401), ("/", "scrape me", 404), ("/v1/runs", "scrape me", 404)]
    {
        assert_eq!(Scrape::of(&address, path, token).status, status, "{path} {token}");
    }
    drop(worker);
}

#[test]
fn a_worker_without_a_token_shows_its_owner_the_metrics_until_it_has_ended() {
    let waft = Waft::default();
    let broker = TestBroker::shared();
    let queue = waft_tests::unique("metrics");
    let arguments = ["--queues", &queue, "--metrics", "127.0.0.1:0", "--name", &queue];
    let mut worker = Process::worker(&waft, &broker, &arguments);
    let address = address(&worker);
    assert!(Scrape::metrics(&address, "").get("waft_worker_slots{state=\"free\"}").is_some_and(|free| free >= 1.0));
    assert_eq!(Scrape::of(&address, "/metrics", "some").status, 401);
    worker.signal("TERM");
    assert_eq!(worker.wait().code(), Some(0), "{}", worker.output());
}
