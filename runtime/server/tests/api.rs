//! Tests the HTTP API over an engine in this process, without guests: refusals, lists and events.

#![expect(clippy::unwrap_used, reason = "what a test makes up is lawful")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use async_trait::async_trait;
use broker::{Broker, InProcess, Message, Properties, Routing};
use client::{
    Client, ClientError,
    api::{Edit, Edits, ListQuery, Notification, Outcome, Problem, SkipRollback, Submission},
};
use engine::{Engine, ShardAssignment, SystemClock};
use flow::{Digest, Flow, LimitOverrides, ModuleContent, ModuleInfo, Rollback, RunId, TaskInfo, Values};
use logbook::{
    Append, AppendError, Logbook, Memory,
    intercepted::{AppendInterceptor, InterceptedLogbook},
};
use protocol::{Job, Report};
use reqwest::{Method, RequestBuilder, StatusCode};
use server::{BindError, Config, Dependencies, ModuleLibrary, Places, QueueCoverage, Server, Token};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The maximum request size of the servers here, in bytes.
const LARGEST: u64 = 10_000;

/// A server and its engine.
struct Harness {
    address: SocketAddr,
    engine: Engine,
    broker: Arc<dyn Broker>,
    stop: CancellationToken,
    serving: TaskTracker,
}

fn config(token: Option<&str>) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        token: token.and_then(Token::new),
        max_request_bytes: LARGEST,
    }
}

async fn parts() -> Dependencies {
    parts_over(Arc::new(Memory::new())).await
}

async fn parts_over(logbook: Arc<dyn Logbook>) -> Dependencies {
    let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
    let store = Arc::new(store::Memory::new());
    let config = engine::Config { id: "here".into(), shards: ShardAssignment::Shared };
    let clock = Arc::new(SystemClock);
    let engine = Engine::start(config, broker.clone(), logbook.clone(), store.clone(), clock).await.unwrap();
    let library = ModuleLibrary { store, sandbox: sandbox::Sandbox::new(sandbox::Config::default()).unwrap() };
    let takers = QueueCoverage::Embedded(["default".parse().unwrap()].into());
    let places = Places {
        broker: None,
        logbook: "memory:".into(),
        store: std::env::temp_dir(),
        cache: std::env::temp_dir(),
        queues: BTreeSet::new(),
    };
    Dependencies { engine, logbook, modules: library, broker, coverage: takers, places }
}

impl Harness {
    async fn new() -> Self {
        Self::with(config(None)).await
    }

    async fn with(config: Config) -> Self {
        Self::over(config, parts().await).await
    }

    async fn over(config: Config, parts: Dependencies) -> Self {
        let (engine, broker) = (parts.engine.clone(), parts.broker.clone());
        let server = Server::bind(config).await.unwrap();
        let (address, stop) = (server.local_addr(), CancellationToken::new());
        let serving = TaskTracker::new();
        serving.spawn(server.run(parts, stop.clone()));
        serving.close();
        Self { address, engine, broker, stop, serving }
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address), None).unwrap()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest_client().request(method, format!("http://{}{path}", self.address))
    }

    /// The problem in the response to an invalid request.
    async fn problem(&self, method: Method, path: &str) -> Problem {
        problem(self.request(method, path)).await
    }

    /// Starts a run without a worker for its job.
    async fn run(&self, run: &str, flow: &str) {
        self.engine.submit(RunId::new(run).unwrap(), flow_named(flow)).await.unwrap();
    }
}

/// A worker's report, sent to a signal queue.
fn report(queue: &str, report: &Report) -> Message {
    Message {
        exchange: String::new(),
        key: queue.into(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties::default(),
        body: report.encode().into(),
    }
}

fn reqwest_client() -> reqwest::Client {
    // The client cannot send invalid requests, so this uses its own HTTP client.
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}

/// The problem in the response to a request; asserts that it is complete.
async fn problem(request: RequestBuilder) -> Problem {
    let response = request.send().await.unwrap();
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(problem.status, status.as_u16());
    assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
    assert!(problem.kind.starts_with("urn:waft:problem:"), "{problem:?}");
    problem
}

/// A flow of one task, with a module that no store has.
fn flow_named(name: &str) -> Arc<Flow> {
    flow_of(&format!("name = \"{name}\"\n[[task]]\nname = \"t\"\nuse = \"m\"\n[modules]\nm = \"m\"\n"))
}

fn flow_of(text: &str) -> Arc<Flow> {
    let task = TaskInfo {
        name: "noop".parse().unwrap(),
        doc: String::new(),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Tasks(vec![task]) };
    let draft = flow::file::parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let wired = flow::wire(&draft, &BTreeMap::from([("m".into(), info)]), &Values::new());
    Arc::new(wired.unwrap_or_else(|mistakes| panic!("{mistakes:#?}")).0)
}

fn submission(flow: &str) -> Submission {
    Submission { flow: flow.into(), ..Submission::default() }
}

fn refusal<Answer: std::fmt::Debug>(answer: Result<Answer, ClientError>) -> Problem {
    match answer.unwrap_err() {
        ClientError::Refused { problem, .. } => *problem,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_missing_resource_is_a_problem() {
    let world = Harness::new().await;
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/v1/nothing", 404),
        (Method::DELETE, "/v1/runs", 405),
        (Method::POST, "/health", 405),
        (Method::GET, "/v1/runs/nobody", 404),
        (Method::GET, "/v1/runs/nobody/events", 404),
        (Method::GET, "/v1/runs/nobody/logs", 404),
        (Method::POST, "/v1/runs/nobody/cancel", 404),
        (Method::GET, "/v1/runs/a%20b", 400),
        (Method::GET, "/v1/modules/nobody", 404),
        (Method::GET, "/v1/modules/a%20b", 400),
        (Method::POST, "/v1/modules?tag=a%20b", 400),
        (Method::POST, "/v1/modules", 422),
        (Method::POST, "/v1/runs", 415),
    ] {
        let problem = world.problem(method.clone(), path).await;
        assert_eq!(problem.status, status, "{method} {path}: {problem:?}");
    }
}

#[tokio::test]
async fn an_invalid_filter_is_explained() {
    let world = Harness::new().await;
    for (query, told) in [
        ("limit=0", "limit: 0"),
        ("limit=1001", "limit: 1001"),
        ("limit=x", "limit"),
        ("state=done", "\"done\" is no state"),
        ("since=yesterday", "\"yesterday\" is no time"),
        ("until=1", "\"1\" is no time"),
        ("flow=a%20b", "flow: "),
        ("after=x", "after: "),
        ("stat=running", "stat"),
    ] {
        let problem = world.problem(Method::GET, &format!("/v1/runs?{query}")).await;
        assert!(problem.status == 400 && problem.detail.contains(told), "{query}: {problem:?}");
    }
}

#[tokio::test]
async fn an_invalid_body_is_explained() {
    let world = Harness::new().await;
    let post = |body: &str| {
        let request = world.request(Method::POST, "/v1/runs").header("content-type", "application/json");
        problem(request.body(body.to_owned()))
    };
    for (body, told) in [
        ("", "EOF"),
        ("{}", "missing field `flow`"),
        ("{\"flow\":\"\",\"flw\":1}", "unknown field `flw`"),
        ("{\"flow\":\"name = \\\"f\\\"\",\"run\":\"a b\"}", "run: \"a b\" is not a name"),
        (r#"{"flow":"","inputs":{"a b":1}}"#, "inputs: \"a b\""),
        (r#"{"flow":"","inputs":{"$bytes":{"a":"?"}}}"#, "inputs: \"a\": not base64"),
        (r#"{"flow":"","inputs":{"a":1,"$bytes":{"a":""}}}"#, "inputs: \"a\" is given twice"),
        (r#"["name = \"f\""]"#, "not an object"),
        (r#"{"flow":"","flow":""}"#, "key \"flow\" twice"),
        (r#"{"flow":"","inputs":{"a":1,"a":2}}"#, "key \"a\" twice"),
        (r#"{"flow":"","inputs":{"a":[{"b":1,"\u0062":2}]}}"#, "key \"b\" twice"),
        (r#"{"flow":"","modules":{"m":"x","m":"y"}}"#, "key \"m\" twice"),
    ] {
        let problem = post(body).await;
        assert!(problem.status == 400 && problem.detail.contains(told), "{body}: {problem:?}");
    }
    let large = format!("{{\"flow\":\"{}\"}}", "x".repeat(LARGEST as usize));
    assert_eq!(post(&large).await.status, 413);
    let module = world.request(Method::POST, "/v1/modules").body(vec![0; LARGEST as usize + 1]);
    assert_eq!(problem(module).await.status, 413);
}

#[tokio::test]
async fn a_rejected_flow_lists_all_diagnostics_with_positions() {
    let world = Harness::new().await;
    let text = "name = \"f\"\n[modules]\nm = \"../m.wasm\"\n[[task]]\nname = \"t\"\nuse = \"n\"\n[[link]]\nfrom = \"t\"\nto = \"z\"\n";
    let problem = refusal(world.client().submit(&submission(text)).await);
    assert_eq!((problem.status, problem.detail.as_str()), (422, "the flow has 3 mistakes"));
    let places: Vec<_> = problem.mistakes.iter().map(|mistake| (mistake.line, mistake.column)).collect();
    assert_eq!(places, [(Some(3), Some(5)), (Some(6), Some(7)), (Some(9), Some(6))], "{:#?}", problem.mistakes);
    assert!(problem.mistakes.iter().all(|mistake| mistake.severity == "error" && mistake.hint.is_some()));
    let why = "module \"m\" was not found: \"../m.wasm\" is no tag and no digest; the server reads no files";
    assert!(problem.mistakes[0].message.starts_with(why), "{:?}", problem.mistakes[0]);
    let misnamed = text.replace("name = \"t\"", "name = \"t t\"").replace("from = \"t\"", "from = \"t t\"");
    let problem = refusal(world.client().submit(&submission(&misnamed)).await);
    let lines: Vec<_> = problem.mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(
        lines,
        [Some(3), Some(5), Some(6), Some(8), Some(9)],
        "a bad name hides no other: {:#?}",
        problem.mistakes
    );
    let problem = refusal(world.client().submit(&submission("nam = 1")).await);
    assert_eq!((problem.status, problem.mistakes[0].line), (422, Some(1)));
    assert!(world.client().list(&ListQuery::default()).await.unwrap().runs.is_empty(), "nothing was started");
}

#[tokio::test]
async fn resubmitting_a_run_id_with_other_content_is_rejected() {
    let world = Harness::new().await;
    let client = world.client();
    let of = |text: &str| Submission { run: Some("r1".into()), ..submission(text) };
    let first = client.submit(&of(WAITS).input("x", 1)).await.unwrap();
    assert_eq!((first.run.as_str(), first.flow.as_str(), first.state.as_str()), ("r1", "f", "running"));
    for state in ["running", "success"] {
        for same in [
            of(WAITS).input("x", 1),
            of(&format!("# with a comment\n{WAITS}")).input("x", 1),
            of(&format!("{WAITS}[inputs]\nx = 1\n")),
        ] {
            assert_eq!(client.submit(&same).await.unwrap().state, state, "{}", same.flow);
        }
        for (other, told) in [
            (of(WAITS).input("x", 2), "other content: input \"x\""),
            (of(WAITS).input("x", "1"), "other content: input \"x\""),
            (of(WAITS).input_bytes("x", "1"), "other content: input \"x\""),
            (of(WAITS).input("x", 1).input("y", 1), "other content: input \"y\""),
            (of(WAITS), "other content: input \"x\""),
            (of(&WAITS.replace("a word", "a sign")), "other content: the flow, input \"x\""),
            (of("name = \"g\""), "of the flow f"),
        ] {
            let problem = refusal(client.submit(&other).await);
            assert!(problem.status == 409 && problem.detail.contains(told), "{told}: {problem:?}");
        }
        if state == "running" {
            client.notify("r1", &Notification::of("w").value("v", 1)).await.unwrap();
            client.wait("r1").await.unwrap();
        }
    }
}

#[tokio::test]
async fn inputs_that_an_edit_has_added_are_none_of_the_submission() {
    let world = Harness::new().await;
    let client = world.client();
    let of = |input: u32| Submission { run: Some("r1".into()), ..submission(WAITS) }.input("x", input);
    client.submit(&of(1)).await.unwrap();
    let text = "[inputs]\nadded = 1\n[[task]]\nname = \"another\"\nwait = \"a word\"\n".into();
    let edits = Edits { edits: vec![Edit::Add { text, modules: [].into() }], ..Edits::default() };
    client.edit("r1", &edits).await.unwrap();
    assert_eq!(client.submit(&of(1)).await.unwrap().state, "running");
    let problem = refusal(client.submit(&of(2)).await);
    assert!(problem.status == 409 && problem.detail.ends_with("other content: input \"x\""), "{problem:?}");
    let problem = refusal(client.submit(&of(1).input("added", 1)).await);
    assert!(problem.status == 409 && problem.detail.ends_with("other content: input \"added\""), "{problem:?}");
}

#[tokio::test]
async fn a_keyed_notification_may_be_repeated() {
    let world = Harness::new().await;
    let client = world.client();
    client.submit(&Submission { run: Some("r1".into()), ..submission(WAITS) }.input("x", 1)).await.unwrap();
    let notification = Notification::of("w").value("v", 1).key("k");
    client.notify("r1", &notification).await.unwrap();
    client.wait("r1").await.unwrap();
    assert_eq!(client.notify("r1", &notification).await.unwrap().state, "success");
    let problem = refusal(client.notify("r1", &notification.clone().key("other")).await);
    assert_eq!(problem.status, 409, "{problem:?}");
}

#[tokio::test]
async fn a_run_without_source_is_compared_by_its_wired_flow() {
    let world = Harness::new().await;
    world.engine.submit("r1".parse().unwrap(), flow_of(WAITS)).await.unwrap();
    let of = |text: &str| Submission { run: Some("r1".into()), ..submission(text) };
    assert_eq!(world.client().submit(&of(WAITS)).await.unwrap().state, "running");
    let problem = refusal(world.client().submit(&of(&WAITS.replace("a word", "a sign"))).await);
    assert!(problem.status == 409 && problem.detail.ends_with("other content: the flow"), "{problem:?}");
}

#[tokio::test]
async fn pages_of_a_list_continue() {
    let world = Harness::new().await;
    for number in 0..5 {
        world.run(&format!("r{number}"), if number % 2 == 0 { "even" } else { "odd" }).await;
    }
    let client = world.client();
    let mut query = ListQuery { limit: Some(2), ..ListQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = client.list(&query).await.unwrap();
        assert!(page.runs.len() <= 2);
        found.extend(page.runs.into_iter().map(|run| run.run));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["r4", "r3", "r2", "r1", "r0"]);
    let ids = async |query: ListQuery| {
        client.list(&query).await.unwrap().runs.into_iter().map(|run| run.run).collect::<Vec<_>>()
    };
    assert_eq!(ids(ListQuery { flow: Some("odd".into()), ..ListQuery::default() }).await, ["r3", "r1"]);
    let state = |state: &str| ListQuery { state: Some(state.into()), ..ListQuery::default() };
    assert_eq!(ids(state("running,success")).await.len(), 5);
    assert!(ids(state("success")).await.is_empty());
    let since = |time: &str| ListQuery { since: Some(time.into()), ..ListQuery::default() };
    assert!(ids(since("2999-01-01T00:00:00Z")).await.is_empty());
    assert_eq!(ids(since("2000-01-01T00:00:00+01:00")).await.len(), 5);
}

#[tokio::test]
async fn a_run_is_commanded_and_watched_to_its_end() {
    let world = Harness::new().await;
    world.run("r1", "f").await;
    let client = world.client();
    let mut watch = client.watch("r1");
    let first = watch.next().await.unwrap().unwrap();
    assert!(
        first.line.starts_with("{\"event\":\"run\",\"state\":\"running\",\"run\":\"r1\",\"flow\":\"f\""),
        "{first:?}"
    );
    let started = watch.next().await.unwrap().unwrap();
    assert!(started.line.contains("\"name\":\"t\",\"state\":\"running\""), "{started:?}");
    let shown = client.run("r1").await.unwrap();
    assert_eq!((shown.state.as_str(), shown.revision), ("running", 1));
    assert_eq!((shown.tasks.len(), shown.tasks[0].state.as_str(), shown.tasks[0].attempt), (1, "running", Some(1)));
    assert_eq!(refusal(client.resume("r1").await).status, 409);
    assert_eq!(client.suspend("r1").await.unwrap().state, "suspending");
    let skip = |reason: &str| SkipRollback { task: "t".into(), reason: reason.into() };
    let problem = refusal(client.skip("r1", &skip(" ")).await);
    assert!(problem.status == 400 && problem.detail.contains("reason"), "{problem:?}");
    assert_eq!(refusal(client.skip("r1", &skip("done")).await).status, 409);
    world.engine.abandon("r1".parse().unwrap()).await.unwrap();
    let resting = watch.next().await.unwrap().unwrap();
    assert_eq!(resting.run_state(), Some(flow::RunState::Suspended), "{resting:?}");
    // A watcher that reconnects receives the events that followed, and none twice.
    let mut late = client.watch_after("r1", &started.id);
    assert_eq!(late.next().await.unwrap().unwrap(), resting);
    assert_eq!(client.resume("r1").await.unwrap().state, "running");
    let going_on = watch.next().await.unwrap().unwrap();
    assert_eq!(late.next().await.unwrap().unwrap(), going_on);
}

#[tokio::test]
async fn a_run_shows_queue_coverage_lease_holder_and_lost_workers() {
    let world = Harness::new().await;
    world.run("r", "f").await;
    let task = || async { world.client().run("r").await.unwrap().tasks.remove(0) };
    let out = task().await.out.unwrap();
    assert_eq!((out.queue.as_str(), out.untaken, out.worker), ("default", true, None));
    let mut jobs = world.broker.consume("waft.jobs.default", 1).await.unwrap();
    let delivery = jobs.next().await.unwrap();
    let job = Job::decode(&delivery.message.body).unwrap();
    delivery.accept();
    assert!(!task().await.out.unwrap().untaken, "somebody takes its queue");
    let worker = || "w".parse().unwrap();
    let heartbeat = Report::Heartbeat { call: job.call.clone(), worker: worker() };
    world.broker.publish(report(&job.signal_to, &heartbeat)).await.unwrap();
    let mut out = task().await.out.unwrap();
    while out.worker.is_none() {
        out = task().await.out.unwrap();
    }
    assert_eq!((out.worker.as_deref(), out.silent_for), (Some("w"), None));
    world.broker.publish(report(&job.signal_to, &Report::Released { call: job.call, worker: worker() })).await.unwrap();
    let mut lost = task().await.lost;
    while lost.is_empty() {
        lost = task().await.lost;
    }
    assert_eq!((lost[0].worker.as_deref(), lost[0].attempt, lost.len()), (Some("w"), 1, 1));
}

#[tokio::test]
async fn a_cancelled_run_is_cancelling_until_it_is_rolled_back() {
    let world = Harness::new().await;
    world.run("r", "f").await;
    assert!(!world.client().run("r").await.unwrap().cancelling);
    let asked = world.client().cancel("r").await.unwrap();
    assert_eq!((asked.state.as_str(), asked.cancelling), ("running", true));
    let mut run = world.client().run("r").await.unwrap();
    while run.state == "running" {
        assert!(run.cancelling);
        run = world.client().run("r").await.unwrap();
    }
    assert_eq!((run.state.as_str(), run.cancelling), ("rolled-back", false));
}

#[tokio::test]
async fn the_stream_of_an_ended_run_is_complete_and_ends() {
    let world = Harness::new().await;
    // The input of its controller's `for_each` is no list, so it calls no guest.
    let text = "name = \"f\"\nretry = { for_each = \"list\" }\n[inputs]\nlist = []\n\
                [[task]]\nname = \"t\"\nuse = \"m\"\n[modules]\nm = \"m\"\n";
    let none = flow::Json::parse("18446744073709551615").unwrap();
    let inputs = [("list".parse().unwrap(), flow::Value::Json(none))].into();
    let flow = Arc::new(flow::Flow { inputs, ..(*flow_of(text)).clone() });
    let mut watched = world.engine.submit("r1".parse().unwrap(), flow).await.unwrap();
    while watched.next().await.is_some() {}
    let client = world.client();
    let mut watch = client.watch("r1");
    let mut events = Vec::new();
    while let Some(event) = watch.next().await.unwrap() {
        events.push(event);
    }
    assert_eq!(events.last().unwrap().run_state(), Some(flow::RunState::RolledBack), "{events:#?}");
    let mut last = client.watch_after("r1", &events[events.len() - 2].id);
    assert_eq!(last.next().await.unwrap().as_ref(), events.last());
    assert_eq!(last.next().await.unwrap(), None);
    let run = client.run("r1").await.unwrap();
    assert_eq!((run.state.as_str(), run.tasks[1].state.as_str()), ("rolled-back", "pending"));
    assert!(run.failures["f"].get().contains("list"), "{run:?}");
    assert_eq!(run.inputs.json("list"), Some("18446744073709551615"), "no digit is lost");
    assert!(run.provides.is_empty(), "no task left anything: {run:?}");
    assert_eq!(refusal(client.cancel("r1").await).status, 409);
}

/// A logbook that trims the run `r` whenever its records are about to be read.
struct TrimsBeforeReads(Arc<Memory>);

#[async_trait]
impl AppendInterceptor for TrimsBeforeReads {
    async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
        Ok(())
    }

    async fn after(&self) -> Result<(), AppendError> {
        Ok(())
    }

    async fn before_read(&self) {
        let (logbook, run) = (&self.0, RunId::new("r").unwrap());
        let history = logbook.load(&run).await.unwrap();
        let version = history.version();
        logbook.mark_published(&[(run.clone(), version)]).await.unwrap();
        logbook.save_snapshot(&run, version, history.into_machine().unwrap().snapshot()).await.unwrap();
        logbook.trim(&run, version).await.unwrap();
    }
}

#[tokio::test]
async fn a_run_is_shown_and_watched_while_its_records_are_trimmed() {
    let memory = Arc::new(Memory::new());
    let logbook = Arc::new(InterceptedLogbook::new(memory.clone(), Arc::new(TrimsBeforeReads(memory.clone()))));
    let world = Harness::over(config(None), parts_over(logbook).await).await;
    world.run("r", "f").await;
    let shown = world.client().run("r").await.unwrap();
    assert_eq!((shown.state.as_str(), shown.tasks.len()), ("running", 1));
    assert!(memory.trim_point(&"r".parse().unwrap()).await.unwrap().is_some(), "it was trimmed meanwhile");
    let first = world.client().watch("r").next().await.unwrap();
    assert!(format!("{first:?}").contains("trimmed"), "{first:?}");
}

/// A flow whose only task waits for a notification with `v`.
const WAITS: &str = "name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\nprovides = [\"v\"]\n";

/// JSON that looks like bytes, or like a reference to the store.
fn deceptive() -> Vec<String> {
    let reference = format!(r#"{{"digest":"sha256:{}","size":4,"form":"json"}}"#, "ab".repeat(32));
    vec![
        r#"["dGVzdA=="]"#.into(),
        r#"{"base64":"dGVzdA=="}"#.into(),
        format!("[{reference}]"),
        format!(r#"{{"$stored":{{"v":{reference}}}}}"#),
        r#"{"$bytes":{"v":"dGVzdA=="}}"#.into(),
        reference,
    ]
}

#[tokio::test]
async fn client_values_keep_their_kind() {
    let world = Harness::new().await;
    let post = async |path: &str, body: String| {
        let request = world.request(Method::POST, path).header("content-type", "application/json");
        let response = request.body(body).send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    };
    for (number, json) in deceptive().into_iter().enumerate() {
        let (run, flow) = (format!("r{number}"), serde_json::Value::from(WAITS));
        let inputs = format!(r#"{{"x":{json},"$bytes":{{"b":"AP8="}}}}"#);
        post("/v1/runs", format!(r#"{{"run":"{run}","flow":{flow},"inputs":{inputs}}}"#)).await;
        post(&format!("/v1/runs/{run}/notify"), format!(r#"{{"task":"w","values":{{"v":{json}}}}}"#)).await;
        let ended = world.client().wait(&run).await.unwrap();
        assert_eq!(ended.inputs.to_text(), inputs);
        assert_eq!(ended.provides.to_text(), format!(r#"{{"v":{json}}}"#), "what the run started with is not among it");
        let left = ended.tasks[0].provides.as_ref().unwrap();
        assert_eq!(left.to_text(), format!(r#"{{"v":{json}}}"#));
        let mut watch = world.client().watch(&run);
        let mut last = String::new();
        while let Some(event) = watch.next().await.unwrap() {
            last = event.line;
        }
        assert!(last.contains(&format!(r#""inputs":{inputs},"provides":{{"v":{json}}}"#)), "{last}");
    }
}

#[tokio::test]
async fn a_client_cannot_give_a_reference_into_the_store() {
    let world = Harness::new().await;
    let started = Submission { run: Some("r".into()), ..submission(WAITS) };
    world.client().submit(&started).await.unwrap();
    let flow = serde_json::Value::from(WAITS);
    let stored = format!(r#"{{"$stored":{{"v":{{"digest":"sha256:{}","size":4,"form":"json"}}}}}}"#, "ab".repeat(32));
    for (path, body) in [
        ("/v1/runs", format!(r#"{{"flow":{flow},"inputs":{stored}}}"#)),
        ("/v1/runs/r/notify", format!(r#"{{"task":"w","values":{stored}}}"#)),
    ] {
        let request = world.request(Method::POST, path).header("content-type", "application/json");
        let problem = problem(request.body(body)).await;
        assert!(problem.status == 400 && problem.detail.contains("cannot be given"), "{problem:?}");
    }
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let world = Harness::new().await;
    world.run("r1", "f").await;
    let response = world.request(Method::GET, "/v1/runs/r1/events").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    world.stop.cancel();
    assert!(response.text().await.unwrap().contains("data: {\"event\":\"run\""));
    world.serving.wait().await;
}

#[tokio::test]
async fn an_invalid_event_id_is_rejected() {
    let world = Harness::new().await;
    world.run("r1", "f").await;
    let request = world.request(Method::GET, "/v1/runs/r1/events").header("last-event-id", "x");
    assert_eq!(problem(request).await.status, 400);
}

#[tokio::test]
async fn only_health_is_public_without_a_token() {
    let world = Harness::with(config(Some("secret"))).await;
    for path in ["/v1/runs", "/v1/health/checks", "/v1/openapi.json", "/v1/nothing", "/"] {
        for authorization in [None, Some("Bearer wrong"), Some("Basic secret"), Some("secret")] {
            let mut request = world.request(Method::GET, path);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let response = request.try_clone().unwrap().send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(problem(request).await.status, 401, "{path} {authorization:?}");
        }
    }
    let with_token = world.request(Method::GET, "/v1/runs").bearer_auth("secret").send().await.unwrap();
    assert_eq!(with_token.status(), StatusCode::OK);
    for path in ["/health", "/ready"] {
        let response = world.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    let client = Client::new(&format!("http://{}", world.address), Some("secret".into())).unwrap();
    client.list(&ListQuery::default()).await.unwrap();
    client.ready().await.unwrap();
}

#[tokio::test]
async fn a_server_looks_at_what_it_stands_on() {
    let world = Harness::new().await;
    world.run("r1", "f").await;
    let found = world.client().checks().await.unwrap();
    assert_eq!(found.version, env!("CARGO_PKG_VERSION"));
    let outcome = |name: &str| found.checks.iter().find(|check| check.check == name).map(|check| check.outcome);
    for name in ["engine", "broker", "quarantine", "runs"] {
        assert_eq!(outcome(name), Some(Outcome::Ok), "{name}: {:#?}", found.checks);
    }
    // No worker takes the run's job, and an in-memory logbook ends with the process.
    assert_eq!((outcome("queues"), outcome("logbook")), (Some(Outcome::Fail), Some(Outcome::Warn)));
    for check in &found.checks {
        let is_to_be_done = matches!(check.outcome, Outcome::Warn | Outcome::Fail);
        assert_eq!(check.advice.is_some(), is_to_be_done, "{check:?}");
    }
}

#[tokio::test]
async fn a_foreign_origin_is_rejected() {
    let world = Harness::new().await;
    let foreign = world.request(Method::POST, "/v1/runs/r1/cancel").header("origin", "https://evil.example");
    assert_eq!(problem(foreign).await.status, 403);
    let rebound = world.request(Method::GET, "/v1/runs").header("host", "evil.example");
    assert_eq!(problem(rebound).await.status, 403);
    let own = world.request(Method::GET, "/v1/runs").header("origin", format!("http://{}", world.address));
    assert_eq!(own.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_public_server_needs_a_token() {
    let everywhere = |token| Config { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..config(token) };
    assert!(matches!(Server::bind(everywhere(None)).await, Err(BindError::NoToken { .. })));
    assert!(Server::bind(everywhere(Some("secret"))).await.is_ok());
}

#[tokio::test]
async fn a_server_whose_engine_has_stopped_is_not_ready() {
    let world = Harness::new().await;
    world.engine.stop().await;
    assert_eq!(world.problem(Method::GET, "/ready").await.status, 503);
    assert_eq!(world.request(Method::GET, "/health").send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_checked_in_openapi_matches_the_code() {
    let text = format!("{}\n", server::description().to_pretty_json().unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::env::var_os("WAFT_WRITE_OPENAPI").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/openapi.json is not what the code describes: write it anew with `WAFT_WRITE_OPENAPI=1 cargo test -p \
         waft-server the_description`"
    );
}
