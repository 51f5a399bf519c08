//! Tests the HTTP API over an engine in this process, without guests: refusals, lists and events.

#![expect(clippy::unwrap_used, reason = "values in tests are valid")]

mod access;
mod all_events;
mod bodies;
mod bulk;
mod dashboard;
mod edits;
mod exchanges;
mod labels;
mod large_values;
mod logs;
mod namespaces;
mod notifications;
mod requests;
mod reused_ids;
mod runs;
mod shown_runs;
mod submissions;
mod values;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use broker::{Broker, Message, Properties, Routing};
use client::{
    Client, ClientError,
    api::{
        AuditQuery, BulkAction, BulkRequest, Edit, Edits, FlowTextQuery, ListQuery, NewToken, NodeState, Notification,
        Outcome, Problem, RunFilter, RunState, Scope, Severity, SkipRollback, Submission,
    },
};
use engine::Engine;
use flow::{Digest, Flow, LimitOverrides, ModuleContent, ModuleInfo, Rollback, RunId, TaskInfo, Values};
use logbook::{
    Append, AppendError, Logbook, Memory,
    intercepted::{AppendInterceptor, InterceptedLogbook},
};
use protocol::{Job, Report, topology};
use reqwest::{Method, RequestBuilder, StatusCode};
use server::{BindError, Config, Dependencies, Server, Token};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The maximum request size of the servers here, in bytes.
const LARGEST: u64 = 10_000;

/// A flow whose only task waits for a notification with `v`.
const WAITS: &str = "name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\nprovides = [\"v\"]\n";

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
        metrics_token: None,
        tls: None,
        max_request_bytes: LARGEST,
        dashboard: true,
    }
}

async fn dependencies() -> Dependencies {
    dependencies_over(Arc::new(Memory::new())).await
}

async fn dependencies_over(logbook: Arc<dyn Logbook>) -> Dependencies {
    let sandbox = sandbox::Sandbox::new(sandbox::Config::default()).unwrap();
    Dependencies::in_memory(logbook, Arc::new(store::Memory::new()), sandbox).await.unwrap()
}

impl Harness {
    async fn new() -> Self {
        Self::with(config(None)).await
    }

    async fn with(config: Config) -> Self {
        Self::over(config, dependencies().await).await
    }

    async fn over(config: Config, dependencies: Dependencies) -> Self {
        let (engine, broker) = (dependencies.engine.clone(), dependencies.broker.clone());
        let server = Server::bind(config).await.unwrap();
        let (address, stop) = (server.local_addr(), CancellationToken::new());
        let serving = TaskTracker::new();
        serving.spawn(server.run(dependencies, stop.clone()));
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

/// The report of the worker that has a job.
fn report(job: &Job, report: &Report) -> Message {
    Message {
        exchange: topology::REPORTS.into(),
        key: job.signal_to.clone(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties::default(),
        body: report.encode(&job.keys).into(),
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
    flow_with(text, Vec::new())
}

/// A flow whose module has a task with these parameters.
fn flow_with(text: &str, requires: Vec<flow::Parameter>) -> Arc<Flow> {
    let task = TaskInfo {
        name: "noop".parse().unwrap(),
        doc: String::new(),
        requires,
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    };
    wired(text, ModuleContent::Tasks(vec![task]))
}

/// A flow that uses a module `m` with this content.
fn wired(text: &str, content: ModuleContent) -> Arc<Flow> {
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content };
    let draft = flow::file::parse(text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    let wired = flow::wire(&draft, &BTreeMap::from([("m".into(), info)]), &Values::new());
    Arc::new(wired.unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}")).0)
}

fn submission(flow: &str) -> Submission {
    Submission { flow: flow.into(), ..Submission::default() }
}

fn refusal<Body: std::fmt::Debug>(response: Result<Body, ClientError>) -> Problem {
    match response.unwrap_err() {
        ClientError::Refused { problem, .. } => *problem,
        error => panic!("{error}"),
    }
}
