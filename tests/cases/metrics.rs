//! Tests the metrics of `waft serve` and `waft worker` over HTTP, as Prometheus reads them.

mod access;
mod prometheus;
mod worker;

use waft_tests::{CommandOutput, Process, Samples, Scrape, Waft, wait_until};

/// A server without a broker.
struct Server {
    waft: Waft,
    process: Process,
    address: String,
}

impl Server {
    fn new() -> Self {
        Self::in_folder(Waft::default())
    }

    fn in_folder(waft: Waft) -> Self {
        Self::with(waft, &[])
    }

    fn with(waft: Waft, arguments: &[&str]) -> Self {
        let mut process = Process::spawn(waft.command(["serve", "--listen", "127.0.0.1:0"]).args(arguments));
        let line = process.wait_for("waft listens on ");
        let address = line.trim_start_matches("waft listens on ").trim().to_owned();
        Self { waft, process, address }
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.waft.command(arguments).env("WAFT_SERVER", &self.address).output().expect("waft starts").into()
    }

    /// Runs a flow to its end, with an exit code.
    fn submit(&self, run: &str, flow: &str, code: i32) {
        self.waft.flow(flow);
        self.run(&["submit", "flow.toml", "--run-id", run, "--wait"]).expect(code);
    }

    #[track_caller]
    fn metrics(&self) -> Samples {
        Scrape::metrics(&self.address, "")
    }

    /// Waits until a series has a number: a scrape may be a second old.
    #[track_caller]
    fn wait_for(&self, series: &str, number: f64) {
        wait_until(|| self.metrics().get(series) == Some(number));
    }
}

const NOOP: &str = "name = \"good\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n";

const RETRIED: &str = "name = \"retried\"\n[[task]]\nname = \"t\"\nuse = \"hostile#fail-until\"\nwith = { attempt = 3 }\n\
    retry = { attempts = 4, initial = \"1ms\" }\n";

/// The rollback of the first task fails twice.
const ROLLED_BACK: &str = "name = \"bad\"\npattern = \"linear\"\n\
    [[task]]\nname = \"held\"\nuse = \"hostile#stubborn\"\nwith = { value = 7, rolls_back_at = 3 }\n\
    retry = { attempts = 4, initial = \"1ms\" }\n\
    [[task]]\nname = \"t\"\nuse = \"hostile#fail\"\nwith = { message = \"a \\\"word\\\"\\\\\\n\" }\n";

const LISTED: &str = "name = \"each\"\n[[task]]\nname = \"list\"\nuse = \"hostile#echo\"\nwith = { value = [1, 2, 3] }\n\
    provides = { value = \"numbers\" }\n\
    [[task]]\nname = \"one\"\nuse = \"hostile#echo\"\nfor_each = \"numbers\"\nas = \"value\"\n";

const ENDLESS: &str = "name = \"long\"\n[[task]]\nname = \"t\"\nuse = \"hostile#spin\"\ntimeout = \"5m\"\n";

#[test]
fn the_ends_of_runs_attempts_and_rollbacks_are_counted() {
    let server = Server::new();
    server.submit("r1", NOOP, 0);
    server.submit("r2", NOOP, 0);
    server.submit("r3", RETRIED, 0);
    server.submit("r4", ROLLED_BACK, 1);
    server.submit("r5", LISTED, 0);
    server.waft.flow(ENDLESS);
    server.run(&["submit", "flow.toml", "--run-id", "r6"]).expect(0);
    server.wait_for("waft_worker_slots{state=\"computing\"}", 1.0);
    server.wait_for("waft_runs_open", 1.0);
    server.run(&["cancel", "r6"]).expect(0);
    server.run(&["watch", "r6"]).expect(1);
    server.wait_for("waft_runs_open", 0.0);
    let metrics = server.metrics();
    let runs = [
        "{flow=\"bad\",state=\"rolled-back\"} 1",
        "{flow=\"each\",state=\"success\"} 1",
        "{flow=\"good\",state=\"success\"} 2",
        "{flow=\"long\",state=\"rolled-back\"} 1",
        "{flow=\"retried\",state=\"success\"} 1",
    ];
    assert_eq!(metrics.of("waft_runs_total"), runs);
    let attempts = [
        "{flow=\"bad\",outcome=\"failure\",task=\"t\"} 1",
        "{flow=\"bad\",outcome=\"success\",task=\"held\"} 1",
        "{flow=\"each\",outcome=\"success\",task=\"list\"} 1",
        "{flow=\"each\",outcome=\"success\",task=\"one\"} 3",
        "{flow=\"good\",outcome=\"success\",task=\"t\"} 2",
        "{flow=\"long\",outcome=\"failure\",task=\"t\"} 1",
        "{flow=\"retried\",outcome=\"failure\",task=\"t\"} 2",
        "{flow=\"retried\",outcome=\"success\",task=\"t\"} 1",
    ];
    assert_eq!(metrics.of("waft_attempts_total"), attempts);
    assert_eq!(metrics.of("waft_retries_total"), ["{of=\"rollback\"} 2", "{of=\"task\"} 2"]);
    assert_eq!(metrics.of("waft_rollbacks_total"), ["{outcome=\"failure\"} 2", "{outcome=\"success\"} 1"]);
    // The worker is in the same process.
    assert_eq!(metrics.of("waft_attempt_seconds_count"), ["{action=\"apply\"} 12", "{action=\"rollback\"} 3"]);
    assert_eq!(metrics.get("waft_queue_wait_seconds_count"), Some(15.0));
    assert_eq!(metrics.get("waft_guest_memory_bytes_count"), Some(15.0));
    assert_eq!(metrics.get("waft_guest_memory_bytes_bucket{le=\"1073741824\"}"), Some(15.0));
    assert!(metrics.get("waft_guest_memory_bytes_sum").is_some_and(|bytes| bytes >= 15.0 * 65_536.0));
    let hits = metrics.get("waft_module_cache_hits_total{cache=\"memory\"}").expect("it is shown");
    assert!(hits >= 14.0, "the module is found in memory from the second call on: {hits}");
    assert_eq!(metrics.get("waft_worker_slots{state=\"computing\"}"), Some(0.0));
    assert!(metrics.get("waft_worker_slots{state=\"free\"}").is_some_and(|free| free >= 4.0));
    assert!(metrics.get("waft_append_seconds_count").is_some_and(|appends| appends >= 6.0));
    assert_eq!(metrics.get("waft_publish_confirm_seconds_count"), Some(0.0), "there is no RabbitMQ");
    let owned = metrics.of("waft_shard_owner");
    assert!(owned.len() >= 8 && owned.iter().all(|shard| shard.ends_with("} 1")), "{owned:?}");
    assert_eq!(metrics.of("waft_build_info"), [format!("{{version={:?}}} 1", env!("CARGO_PKG_VERSION"))]);
    assert!(metrics.get("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6));
}

#[test]
fn queues_have_their_messages_and_consumers() {
    let server = Server::new();
    let metrics = server.metrics();
    assert_eq!(metrics.get("waft_queue_messages{queue=\"waft.jobs.default\"}"), Some(0.0));
    assert_eq!(metrics.get("waft_queue_consumers{queue=\"waft.jobs.default\"}"), Some(1.0));
    assert_eq!(metrics.get("waft_queue_messages{queue=\"waft.quarantine\"}"), Some(0.0));
    assert_eq!(metrics.get("waft_queue_consumers{queue=\"waft.quarantine\"}"), Some(0.0));
}

#[test]
fn a_restarted_server_counts_no_earlier_record() {
    let server = Server::new();
    server.submit("ended", NOOP, 0);
    let sleep = "[[task]]\nname = \"later\"\nuse = \"hostile#noop\"\n";
    server.waft.flow(&format!(
        "name = \"open\"\npattern = \"linear\"\n[[task]]\nname = \"before\"\nuse = \"hostile#noop\"\n\
         [[task]]\nname = \"word\"\nwait = \"a word\"\n{sleep}"
    ));
    server.run(&["submit", "flow.toml", "--run-id", "open"]).expect(0);
    let before = "waft_attempts_total{flow=\"open\",outcome=\"success\",task=\"before\"}";
    server.wait_for(before, 1.0);
    let Server { waft, process, .. } = server;
    process.kill();
    let server = Server::in_folder(waft);
    server.wait_for("waft_runs_open", 1.0);
    let metrics = server.metrics();
    assert_eq!((metrics.of("waft_runs_total"), metrics.of("waft_attempts_total")), (Vec::new(), Vec::new()));
    server.run(&["notify", "open", "word"]).expect(0);
    server.run(&["watch", "open"]).expect(0);
    server.wait_for("waft_runs_total{flow=\"open\",state=\"success\"}", 1.0);
    let metrics = server.metrics();
    assert_eq!(metrics.of("waft_runs_total"), ["{flow=\"open\",state=\"success\"} 1"]);
    let attempts =
        ["{flow=\"open\",outcome=\"success\",task=\"later\"} 1", "{flow=\"open\",outcome=\"success\",task=\"word\"} 1"];
    assert_eq!(metrics.of("waft_attempts_total"), attempts);
    assert_eq!(metrics.of("waft_attempt_seconds_count"), ["{action=\"apply\"} 1"]);
}

#[test]
fn a_schedule_shows_its_delay() {
    let server = Server::new();
    let flow = "name = \"clean\"\npersistent = true\nmax_firings = 2\n\
        [[task]]\nname = \"sweep\"\nuse = \"hostile#noop\"\n[[schedule]]\ncron = \"* * * * * *\"\nto = \"sweep\"\n";
    server.submit("r", flow, 0);
    server.wait_for("waft_runs_total{flow=\"clean\",state=\"success\"}", 1.0);
    let metrics = server.metrics();
    assert_eq!(metrics.get("waft_schedule_delay_seconds_count"), Some(2.0));
    let seconds = metrics.get("waft_schedule_delay_seconds_sum").expect("it is shown");
    assert!(seconds > 0.0, "a schedule fires after its time: {seconds}");
    assert_eq!(metrics.of("waft_attempts_total"), ["{flow=\"clean\",outcome=\"success\",task=\"sweep\"} 2"]);
}

#[test]
fn the_elements_of_each_firing_count_and_the_run_ends_once() {
    let server = Server::new();
    let flow = "name = \"sweeps\"\npersistent = true\nmax_firings = 2\n\
        [[task]]\nname = \"sweep\"\nuse = \"hostile#echo\"\nfor_each = [1, 2, 3]\nas = \"value\"\n\
        [[schedule]]\ncron = \"* * * * * *\"\nto = \"sweep\"\n";
    server.submit("r", flow, 0);
    server.wait_for("waft_runs_total{flow=\"sweeps\",state=\"success\"}", 1.0);
    let metrics = server.metrics();
    assert_eq!(metrics.of("waft_attempts_total"), ["{flow=\"sweeps\",outcome=\"success\",task=\"sweep\"} 6"]);
    assert_eq!(metrics.of("waft_runs_total"), ["{flow=\"sweeps\",state=\"success\"} 1"]);
    let firings = metrics.get("waft_firings_total{flow=\"sweeps\",state=\"success\"}");
    assert!(firings.is_some_and(|firings| firings >= 2.0), "{firings:?}");
}

#[test]
fn a_call_that_waits_for_a_permit_is_shown() {
    let server = Server::new();
    let task = |name: &str| {
        format!("[[task]]\nname = \"{name}\"\nuse = \"hostile#spin\"\ntimeout = \"5m\"\nmax_running = 1\n")
    };
    server.waft.flow(&format!("name = \"paced\"\n{}", task("t")));
    for run in ["a", "b", "c"] {
        server.run(&["submit", "flow.toml", "--run-id", run]).expect(0);
    }
    server.wait_for("waft_permits{state=\"held\"}", 1.0);
    server.wait_for("waft_permits{state=\"waiting\"}", 2.0);
}

#[test]
fn names_beyond_the_maximum_count_together() {
    let waft = Waft::default();
    waft.set_settings("[metrics]\nnames = 2\n");
    let server = Server::in_folder(waft);
    for flow in ["a", "b", "c", "_other", "d"] {
        let text = format!("name = \"{flow}\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
        server.submit(&format!("r-{flow}"), &text, 0);
    }
    server.wait_for("waft_runs_total{flow=\"_other\",state=\"success\"}", 3.0);
    let metrics = server.metrics();
    let runs = [
        "{flow=\"_other\",state=\"success\"} 3",
        "{flow=\"a\",state=\"success\"} 1",
        "{flow=\"b\",state=\"success\"} 1",
    ];
    assert_eq!(metrics.of("waft_runs_total"), runs);
    let others = "{flow=\"_other\",outcome=\"success\",task=\"_other\"} 3";
    assert!(metrics.of("waft_attempts_total").contains(&others.to_owned()));
}
