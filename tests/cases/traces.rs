//! Tests the traces of `waft run`, `waft serve` and `waft worker` with a collector that decodes them.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};
use waft_tests::{
    Collector, CollectorMood, CommandOutput, HttpServer, Process, ReceivedSpan, Role, Scrape, TestBroker, Waft, unique,
    wait_until,
};

const NOOP: &str = "name = \"good\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n";

/// It fails once, and again for good.
const FAILING: &str = "name = \"bad\"\n[[task]]\nname = \"t\"\nuse = \"hostile#fail\"\n\
    with = { message = \"the guest's s3cret\", transient = true }\nretry = { attempts = 2, initial = \"1ms\" }\n";

/// It ends when somebody notifies it.
const WAITING: &str = "name = \"waiting\"\n[[task]]\nname = \"a\"\nwait = \"a person\"\nprovides = []\n";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SUBMITTER: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{SUBMITTER}-01")
}

/// A server that traces.
struct Server {
    waft: Waft,
    process: Process,
    address: String,
}

impl Server {
    fn start(waft: Waft, arguments: &[&str]) -> Self {
        let mut process = Process::spawn(waft.command(["serve", "--listen", "127.0.0.1:0"]).args(arguments));
        let line = process.wait_for("waft listens on ");
        let address = line.trim_start_matches("waft listens on ").trim().to_owned();
        Self { waft, process, address }
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.waft.command(arguments).env("WAFT_SERVER", &self.address).output().expect("waft starts").into()
    }

    /// Submits a flow with a header, and returns the run in the answer.
    fn submit(&self, run: &str, flow: &str, header: &str) -> Value {
        let body = json!({ "run": run, "flow": flow }).to_string();
        let host = self.address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).expect("it listens");
        write!(
            stream,
            "POST /v1/runs HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{header}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.1 20"), "{answer}");
        serde_json::from_str(body).expect("a run is JSON")
    }
}

/// The one span of a run with a name.
#[track_caller]
fn span(collector: &Collector, run: &str, name: &str) -> ReceivedSpan {
    let of_run = |span: &ReceivedSpan| span.attributes.get("waft.run.id").is_some_and(|id| id == run);
    let spans: Vec<ReceivedSpan> = collector.named(name).into_iter().filter(of_run).collect();
    let [span] = &spans[..] else { panic!("{name} of {run}: {:#?}", collector.spans()) };
    span.clone()
}

#[test]
fn a_run_is_one_trace_from_its_start_to_the_calls_of_its_guests() {
    let (collector, waft) = (Collector::start(CollectorMood::Takes), Waft::default());
    let arguments = |run| ["--run-id", run, "--otlp", &*collector.url()].map(str::to_owned);
    let run = |run, flow, code| {
        let arguments = arguments(run);
        waft.run_flow(flow, &arguments.each_ref().map(String::as_str)).expect(code);
    };
    run("r1", NOOP, 0);
    run("r2", FAILING, 1);
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.service == "waft-run" && span.times.0 <= span.times.1), "{spans:#?}");

    let root = span(&collector, "r1", "run good");
    assert_eq!((&*root.parent, &*root.attributes["waft.run.state"], root.has_failed), ("", "success", false));
    let attempt = span(&collector, "r1", "apply t");
    assert_eq!((&attempt.parent, &*attempt.attributes["waft.outcome"]), (&root.id, "success"));
    let process = span(&collector, "r1", "process waft.jobs");
    assert_eq!((&process.parent, process.kind), (&attempt.id, 5));
    assert_eq!(process.attributes["messaging.message.id"], "r1.t.1.1.apply");
    let of_trace: Vec<&ReceivedSpan> = spans.iter().filter(|span| span.trace == root.trace).collect();
    let names: BTreeSet<&str> = of_trace.iter().map(|span| span.name.as_str()).collect();
    for name in ["publish waft.jobs", "call guest", "publish waft.reports", "append records"] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    let ids: BTreeSet<&str> = of_trace.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), of_trace.len(), "each span has an id of its own");
    assert!(of_trace.iter().all(|span| span.parent.is_empty() || ids.contains(&*span.parent)), "{of_trace:#?}");
    let call = of_trace.iter().find(|span| span.name == "call guest").expect("it was found");
    assert_eq!((&call.parent, &*call.attributes["code.function.name"]), (&process.id, "noop"));

    let failed = span(&collector, "r2", "run bad");
    assert!(failed.has_failed && failed.trace != root.trace);
    let attempts = collector.named("apply t");
    let attempts: Vec<&ReceivedSpan> = attempts.iter().filter(|span| span.trace == failed.trace).collect();
    let of_attempts: Vec<&str> = attempts.iter().map(|span| &*span.attributes["waft.attempt"]).collect();
    assert_eq!(of_attempts, ["1", "2"]);
    assert!(attempts.iter().all(|span| span.has_failed && span.attributes["error.type"] == "transient"));
    // What belongs to one run is in the trace of no other, and no span has what a guest says.
    for span in &spans {
        let run = span.attributes.get("waft.run.id").map(String::as_str);
        assert!(run.is_none_or(|run| (run == "r1") == (span.trace == root.trace)), "{span:#?}");
        assert!(!span.attributes.values().any(|value| value.contains("s3cret")), "{span:#?}");
    }
}

#[test]
fn engine_and_worker_share_a_trace_through_the_broker() {
    let (collector, broker, queue) = (Collector::start(CollectorMood::Takes), TestBroker::shared(), unique("traced"));
    let elsewhere = Waft::with_own_cache();
    let worker = Process::worker(&elsewhere, &broker, &["--queues", &queue, "--otlp", &collector.url()]);
    let flow = format!("{NOOP}queue = \"{queue}\"\n");
    let broker_url = broker.url(Role::Engine);
    let waft = Waft::default();
    waft.run_flow(&flow, &["--run-id", &queue, "--broker", &broker_url, "--otlp", &collector.url()]).expect(0);
    let attempt = span(&collector, &queue, "apply t");
    // The worker goes on, so it sends its spans soon and not at its end.
    wait_until(|| !collector.named("process waft.jobs").is_empty());
    let process = span(&collector, &queue, "process waft.jobs");
    assert_eq!((&*process.service, &*attempt.service), ("waft-worker", "waft-run"));
    assert_eq!((&process.trace, &process.parent), (&attempt.trace, &attempt.id));
    wait_until(|| ["fetch content", "compile", "call guest"].iter().all(|name| !collector.named(name).is_empty()));
    for name in ["fetch content", "compile", "call guest", "publish waft.reports"] {
        let [span] = &collector.named(name)[..] else { panic!("{name}: {:#?}", collector.spans()) };
        assert_eq!((&span.trace, &span.parent), (&attempt.trace, &process.id), "{name}");
    }
    drop(worker);
}

#[test]
fn a_run_continues_the_trace_of_its_submitter_also_after_another_engine_has_taken_it_over() {
    let collector = Collector::start(CollectorMood::Takes);
    let waft = Waft::default();
    waft.set_settings("[traces]\npage = \"https://traces.test/{trace_id}?span={span_id}\"\n");
    let server = Server::start(waft, &["--otlp", &collector.url()]);
    let shown = server.submit("r1", WAITING, &format!("traceparent: {}", traceparent()));
    assert_eq!(shown["trace_id"], TRACE);
    let page = shown["trace_url"].as_str().expect("the operator has named a page").to_owned();
    // A client that got no answer sends the request again, in another span.
    let repeated = server.submit("r1", WAITING, &format!("traceparent: 00-{TRACE}-{}-01", "1".repeat(16)));
    assert_eq!(repeated["labels"]["traceparent"], traceparent());
    let own = server.submit("r2", WAITING, "traceparent: hostile");
    assert_ne!(own["trace_id"], TRACE);
    let Server { waft, process, .. } = server;
    process.kill();

    let server = Server::start(waft, &["--otlp", &collector.url()]);
    for run in ["r1", "r2"] {
        server.run(&["notify", run, "a"]).expect(0);
        server.run(&["watch", run]).expect(0);
    }
    wait_until(|| collector.named("run waiting").len() == 2);
    let root = span(&collector, "r1", "run waiting");
    assert_eq!((&*root.trace, &*root.parent), (TRACE, SUBMITTER));
    assert_eq!(page, format!("https://traces.test/{TRACE}?span={}", root.id));
    let other = span(&collector, "r2", "run waiting");
    assert_eq!((&Value::from(other.trace), &*other.parent), (&own["trace_id"], ""));
    assert!(other.times.0 < other.times.1, "it began with its first record, at another engine");
}

#[test]
fn a_submission_of_the_command_line_is_a_part_of_the_trace_that_the_environment_names() {
    let collector = Collector::start(CollectorMood::Takes);
    let server = Server::start(Waft::default(), &["--otlp", &collector.url()]);
    server.waft.flow(WAITING);
    let submit = |run: &str, traceparent: &str| -> Value {
        let mut command = server.waft.command(["submit", "flow.toml", "--run-id", run]);
        command.env("WAFT_SERVER", &server.address).env("TRACEPARENT", traceparent);
        CommandOutput::from(command.output().expect("waft starts")).expect(0);
        let shown = Scrape::of(&server.address, &format!("/v1/runs/{run}"), "");
        serde_json::from_str::<Value>(&shown.text).expect("a run is JSON")["trace_id"].clone()
    };
    assert_eq!(submit("r1", &traceparent()), TRACE);
    let own = submit("r2", "00-hostile");
    assert!(own.is_string() && own != TRACE, "{own}");
}

#[test]
fn each_attempt_has_the_address_of_its_span() {
    let collector = Collector::start(CollectorMood::Takes);
    let waft = Waft::default();
    waft.set_settings("[traces]\npage = \"https://traces.test/{trace_id}?span={span_id}\"\n");
    let server = Server::start(waft, &["--otlp", &collector.url()]);
    server.waft.flow(FAILING);
    server.run(&["submit", "flow.toml", "--run-id", "r1", "--wait"]).expect(1);
    let timeline: Value =
        serde_json::from_str(&Scrape::of(&server.address, "/v1/runs/r1/timeline", "").text).expect("it is JSON");
    let shown: BTreeSet<&str> = timeline["attempts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|attempt| attempt["trace_url"].as_str().expect("each attempt has an address"))
        .collect();
    wait_until(|| collector.named("apply t").len() == 2);
    let spans = collector.named("apply t");
    for ReceivedSpan { trace, id, .. } in &spans {
        assert!(shown.contains(&*format!("https://traces.test/{trace}?span={id}")), "{shown:?}");
    }
}

#[test]
fn an_operator_may_refuse_the_traces_of_submitters() {
    let collector = Collector::start(CollectorMood::Takes);
    let waft = Waft::default();
    waft.set_settings("[traces]\naccept_traceparent = false\n");
    let server = Server::start(waft, &["--otlp", &collector.url()]);
    let shown = server.submit("r1", WAITING, &format!("traceparent: {}", traceparent()));
    assert!(shown["trace_id"].is_string() && shown["trace_id"] != TRACE, "{shown}");
    assert!(shown["labels"].is_null(), "{shown}");
    assert!(shown["trace_url"].is_null(), "nobody has said where traces are shown");
}

#[test]
fn without_a_collector_nothing_is_traced() {
    let server = Server::start(Waft::default(), &[]);
    let shown = server.submit("r1", WAITING, &format!("traceparent: {}", traceparent()));
    assert!(shown["trace_id"].is_null() && shown["labels"].is_null(), "{shown}");
    let metrics = Scrape::metrics(&server.address, "");
    for outcome in ["sent", "dropped"] {
        assert_eq!(metrics.get(&format!("waft_spans_total{{outcome=\"{outcome}\"}}")), Some(0.0));
    }
}

#[test]
fn a_collector_that_refuses_never_answers_or_answers_garbage_delays_no_run() {
    let moods =
        [CollectorMood::Refuses(400), CollectorMood::Refuses(503), CollectorMood::Silent, CollectorMood::Babbles];
    for mood in moods {
        let collector = Collector::start(mood);
        let waft = Waft::default();
        let mut command = waft.command(["serve", "--listen", "127.0.0.1:0", "--otlp", &collector.url()]);
        let mut process = Process::spawn(command.env("OTEL_EXPORTER_OTLP_TIMEOUT", "100"));
        let line = process.wait_for("waft listens on ");
        let address = line.trim_start_matches("waft listens on ").trim().to_owned();
        let server = Server { waft, process, address };
        server.waft.flow(NOOP);
        for run in ["r1", "r2", "r3"] {
            server.run(&["submit", "flow.toml", "--run-id", run, "--wait"]).expect(0);
        }
        let count = |outcome: &str| {
            let metrics = Scrape::metrics(&server.address, "");
            metrics.get(&format!("waft_spans_total{{outcome=\"{outcome}\"}}")).expect("it is shown")
        };
        if mood == CollectorMood::Refuses(400) {
            // Its spans are not sent again.
            wait_until(|| count("dropped") > 0.0);
        }
        assert_eq!(count("sent"), 0.0);
        wait_until(|| !collector.requests().is_empty());
        server.process.signal("TERM");
        let Server { mut process, .. } = server;
        assert!(process.wait().success(), "{mood:?}: {}", process.output());
        assert!(process.output().contains("the collector of traces takes no spans"), "{}", process.output());
    }
}

#[test]
fn the_standard_variables_name_the_collector_and_what_it_receives() {
    let (collector, waft) = (Collector::start(CollectorMood::Takes), Waft::default());
    let flow = waft.flow(NOOP);
    let run = |variables: &[(&str, &str)]| -> CommandOutput {
        let mut command = waft.command([OsStr::new("run"), flow.as_os_str()]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()).envs(variables.iter().copied());
        command.output().expect("waft starts").into()
    };
    run(&[("OTEL_TRACES_SAMPLER", "always_off")]).expect(0);
    assert!(collector.spans().is_empty());
    let traceparent = traceparent();
    let variables = [
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
        ("TRACEPARENT", traceparent.as_str()),
    ];
    run(&variables).expect(0);
    let [root] = &collector.named("run good")[..] else { panic!("{:#?}", collector.spans()) };
    assert_eq!((&*root.service, &*root.trace, &*root.parent), ("shop", TRACE, SUBMITTER));
    let requests = collector.requests();
    let [line, headers @ ..] = &requests[0][..] else { panic!("{requests:?}") };
    assert_eq!(line, "POST /v1/traces HTTP/1.1");
    for header in ["x-tenant: a b", "content-type: application/x-protobuf"] {
        assert!(headers.iter().any(|line| line == header), "{header} is not in {headers:?}");
    }
    let refused = run(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert!(refused.expect(2).stderr.contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{}", refused.stderr);
}

#[test]
fn only_hosts_that_the_operator_names_learn_the_trace_of_a_request() {
    let (collector, server) = (Collector::start(CollectorMood::Takes), HttpServer::start());
    let any = format!("http = [\"GET http://127.0.0.1:{}/**\"]", server.port());
    let flow = format!(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"outside#fetch\"\nwith = {{ url = \"{}\" }}\nallow = {{ {any} }}\n",
        server.url("/text")
    );
    let waft = Waft::default();
    let run = |hosts: &str| {
        waft.set_settings(&format!("[traces]\nhosts = [{hosts}]\n[[grant]]\n{any}\n"));
        waft.run_flow(&flow, &["--otlp", &collector.url()]).expect(0);
        server.received().pop().expect("it was asked").header("traceparent").map(str::to_owned)
    };
    assert_eq!(run(""), None);
    assert_eq!(run("\"example.com\""), None);
    let told = run("\"127.0.0.1\"").expect("the host is named");
    let process = collector.named("process waft.jobs").pop().expect("the calls are traced");
    assert_eq!(told, format!("00-{}-{}-01", process.trace, process.id));
}

#[test]
fn a_line_of_the_log_names_run_task_attempt_and_trace() {
    let collector = Collector::start(CollectorMood::Takes);
    let url = collector.url();
    let mut server = Server::start(Waft::default(), &["--otlp", &url, "--log-format", "json", "-vv"]);
    server.waft.flow(FAILING);
    let label = format!("traceparent={}", traceparent());
    server.run(&["submit", "flow.toml", "--run-id", "r1", "--label", &label, "--wait"]).expect(1);
    let line = |server: &mut Server, text: &str| -> Value {
        let line = server.process.wait_for(text);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let failed = line(&mut server, "the call failed");
    let expected = json!({ "run": "r1", "task": "t", "attempt": "1", "trace_id": TRACE, "level": "DEBUG" });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(failed[key], *value, "{key} in {failed}");
    }
    let ended = line(&mut server, "run ended");
    assert_eq!(
        (&ended["run"], &ended["trace_id"], &ended["state"]),
        (&"r1".into(), &TRACE.into(), &"rolled-back".into())
    );
    assert!(ended["timestamp"].is_string() && ended["target"] == "waft::run", "{ended}");
}
