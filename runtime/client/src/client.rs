//! The client of a server: one method for each route.

mod operate;
mod several;
mod webhooks;

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use credentials::{ClientTls, FileError, Trust};
use flow::{Json, Stored, Value};
use reqwest::{Method, RequestBuilder, Response, Url, header, redirect::Policy};
use serde::de::DeserializeOwned;

use crate::{
    ClientError, LogPages, LogWatch, Watch,
    api::{
        AuditLog, AuditQuery, Checks, CreatedToken, EditResult, Edits, Elements, ElementsQuery, ExchangesQuery,
        GrantsExplanation, GrantsQuestion, GraphQuery, ListQuery, LogsQuery, Module, ModuleSignature, Modules,
        ModulesQuery, NewToken, Notification, Problem, Rehearsal, RehearsalQuery, Run, RunExchanges, RunGraph, RunLogs,
        RunStateResponse, Runs, SkipRollback, Submission, Timeline, TimelineQuery, Tokens,
    },
    watch::Events,
};

/// The time limit of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept: less than a server keeps it, which is 30 seconds.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The maximum silence of a server. A watched server sends something every few seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum size of an answer, in bytes. The answer for a run holds all its values.
pub(crate) const MAX_ANSWER_BYTES: usize = 256 << 20;

/// The maximum size of a refusal, in bytes. The diagnostics of a large flow are the largest.
const MAX_PROBLEM_BYTES: usize = 16 << 20;

/// The client of one server. Cheap to clone. Dropping a future is safe; its request may or may not have taken effect.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<String>,
}

impl Client {
    /// Creates a client for a server at `http://host:port`, or `https://` with the certificates that this machine trusts.
    /// It does not connect yet. A proxy that is reached over TLS needs an `https` address of the server.
    ///
    /// # Errors
    /// [`ClientError::Address`] when the address is invalid.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, ClientError> {
        Self::with_tls(url, token, ClientTls::default())
    }

    /// Like [`new`](Self::new), for a server with a private authority, or one that asks for a certificate of the client. Files are
    /// read only for an address with `https://`. It blocks while it reads them.
    ///
    /// # Errors
    /// [`ClientError::Address`] when the address is invalid, [`ClientError::Certificate`] when a file cannot be used.
    pub fn with_tls(url: &str, token: Option<String>, tls: ClientTls) -> Result<Self, ClientError> {
        let refused = |reason: String| ClientError::Address { url: url.to_owned(), reason };
        let mut server = Url::parse(url).map_err(|error| refused(error.to_string()))?;
        if !matches!(server.scheme(), "http" | "https") || server.host().is_none() {
            return Err(refused("write http://host:port or https://host:port".into()));
        }
        if !server.path().ends_with('/') {
            let path = format!("{}/", server.path());
            server.set_path(&path);
        }
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
        let builder = builder.pool_idle_timeout(POOL_IDLE_TIMEOUT);
        // A redirected POST would become a GET, and a token must not follow to another address.
        let builder = builder.redirect(Policy::none());
        // Without TLS no certificate is trusted, since reading all of them takes longer than most requests.
        let without_tls = ClientTls { trust: Trust::Nothing, identity: None };
        let tls = if server.scheme() == "https" { tls } else { without_tls };
        let certificate =
            |error: FileError| ClientError::Certificate { url: url.to_owned(), reason: error.to_string() };
        let builder = builder.tls_backend_preconfigured(tls.config().map_err(certificate)?);
        let http = builder.build().map_err(|error| refused(error.to_string()))?;
        Ok(Self { http, server, token })
    }

    /// The server's address.
    #[must_use]
    pub fn server(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }

    /// Starts a run. If the run already exists with the same flow, it is returned as it is. A submission without an answer
    /// may therefore be sent again.
    ///
    /// # Errors
    /// [`ClientError`]; with status 422 the flow has errors, with 409 the id belongs to another flow.
    pub async fn submit(&self, submission: &Submission) -> Result<Run, ClientError> {
        self.json(self.request(Method::POST, &["v1", "runs"])?.json(submission)).await
    }

    /// Like [`Client::submit`]. A server that traces continues the trace that `traceparent`, a header of W3C Trace Context, names.
    ///
    /// # Errors
    /// As those of [`Client::submit`].
    pub async fn submit_traced(&self, submission: &Submission, traceparent: &str) -> Result<Run, ClientError> {
        let request = self.request(Method::POST, &["v1", "runs"])?.header("traceparent", traceparent);
        self.json(request.json(submission)).await
    }

    /// Reads a page of the runs that match a filter, the youngest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&self, query: &ListQuery) -> Result<Runs, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs"])?.query(&query.pairs())).await
    }

    /// Reads a run with all its tasks.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run.
    pub async fn run(&self, run: &str) -> Result<Run, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", run])?).await
    }

    /// Reads one value of a run whole: a value that a task provided, or an input. [`Client::run`] returns references in place of
    /// large values.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run, or it has no such value; with 503 the server sends other large
    /// values now.
    pub async fn value(&self, run: &str, name: &str) -> Result<Value, ClientError> {
        self.whole_value(self.request(Method::GET, &["v1", "runs", run, "values", name])?).await
    }

    /// Reads the value of a reference, which a run or an event has in place of a large value of this name.
    ///
    /// # Errors
    /// As [`Client::value`].
    pub async fn referenced_value(&self, run: &str, name: &str, reference: &Stored) -> Result<Value, ClientError> {
        let request = self.request(Method::GET, &["v1", "runs", run, "values", name])?;
        self.whole_value(request.query(&[("digest", reference.digest.to_string())])).await
    }

    /// Reads a page of what guests wrote during a run. [`Client::log_pages`] reads all of them.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run; with 503 the server sends other large answers now.
    pub async fn logs(&self, run: &str, query: &LogsQuery) -> Result<RunLogs, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", run, "logs"])?.query(query)).await
    }

    /// Reads what guests wrote during a run, page by page.
    #[must_use]
    pub fn log_pages(&self, run: &str, query: LogsQuery) -> LogPages {
        LogPages::new(self.clone(), run.to_owned(), query)
    }

    /// Reads recorded HTTP exchanges of a run: a page, which begins with the attempt that ended last.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run; with 503 the server sends other large answers now.
    pub async fn exchanges(&self, run: &str, query: &ExchangesQuery) -> Result<RunExchanges, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", run, "exchanges"])?.query(query)).await
    }

    /// Reads one attempt with everything that its replay needs, as a file for `waft replay`. `query` may have `firing`, `attempt`
    /// and `call`.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run or attempt, or its content was deleted; with 503 the server sends other
    /// large answers now.
    pub async fn attempt(&self, run: &str, task: &str, query: &[(&str, String)]) -> Result<Vec<u8>, ClientError> {
        let request = self.request(Method::GET, &["v1", "runs", run, "attempts", task])?;
        let response = self.send(request.query(query)).await?;
        self.body(response, "the attempt", MAX_ANSWER_BYTES).await
    }

    /// Reads the graph of a run: its tasks, nested flows and links, with their states.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run, or no such revision in its records.
    pub async fn graph(&self, run: &str, query: &GraphQuery) -> Result<RunGraph, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", run, "graph"])?.query(query)).await
    }

    /// Reads the attempts of a run with their times.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run, with 503 the server sends other large answers now.
    pub async fn timeline(&self, run: &str, query: &TimelineQuery) -> Result<Timeline, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", run, "timeline"])?.query(query)).await
    }

    /// Rehearses what happens if a task of a run fails now. It calls no guest and does not change the run.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run or task, with 409 the run has ended, with 422 it is too large.
    pub async fn rehearsal(&self, run: &str, query: &RehearsalQuery) -> Result<Rehearsal, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", run, "rehearsal"])?.query(query)).await
    }

    /// Reads a page of the elements of a task's list.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such run or task, or the task has no list in that firing.
    pub async fn elements(&self, run: &str, task: &str, query: &ElementsQuery) -> Result<Elements, ClientError> {
        self.json(self.request(Method::GET, &["v1", "runs", run, "elements", task])?.query(query)).await
    }

    /// Follows the output of a run's guests, line by line, until the run has ended. Earlier lines come first.
    #[must_use]
    pub fn follow_logs(&self, run: &str) -> LogWatch {
        LogWatch::new(self.clone(), run.to_owned())
    }

    /// Watches a run from its beginning.
    #[must_use]
    pub fn watch(&self, run: &str) -> Watch {
        Watch::new(self.clone(), Events::Changes(run.to_owned()), None)
    }

    /// Watches a run from the first line after an event.
    #[must_use]
    pub fn watch_after(&self, run: &str, event: &str) -> Watch {
        Watch::new(self.clone(), Events::Changes(run.to_owned()), Some(event.to_owned()))
    }

    /// Waits until a run has ended, however long that takes, and returns the run. A persistent run ends only on request.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn wait(&self, run: &str) -> Result<Run, ClientError> {
        let mut watch = self.watch(run);
        while watch.next().await?.is_some() {}
        self.run(run).await
    }

    /// Cancels a run: stops it and rolls it back.
    ///
    /// # Errors
    /// [`ClientError`]; with status 409 the run's state does not allow that.
    pub async fn cancel(&self, run: &str) -> Result<RunStateResponse, ClientError> {
        self.run_command(run, "cancel").await
    }

    /// Suspends a run, which then starts nothing new.
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub async fn suspend(&self, run: &str) -> Result<RunStateResponse, ClientError> {
        self.run_command(run, "suspend").await
    }

    /// Resumes a suspended run.
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub async fn resume(&self, run: &str) -> Result<RunStateResponse, ClientError> {
        self.run_command(run, "resume").await
    }

    /// Retries rollbacks that failed permanently; a run that was rolled back starts again.
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub async fn retry(&self, run: &str) -> Result<RunStateResponse, ClientError> {
        self.run_command(run, "retry").await
    }

    /// Marks the permanently failed rollback of a task as done.
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub async fn skip(&self, run: &str, skip: &SkipRollback) -> Result<RunStateResponse, ClientError> {
        self.json(self.request(Method::POST, &["v1", "runs", run, "skip"])?.json(skip)).await
    }

    /// Notifies a task: a waiting task continues, and a task of a persistent flow fires.
    ///
    /// # Errors
    /// As [`Client::cancel`]; with status 409 the task does not wait, or not for these values.
    pub async fn notify(&self, run: &str, notification: &Notification) -> Result<RunStateResponse, ClientError> {
        self.json(self.request(Method::POST, &["v1", "runs", run, "notify"])?.json(notification)).await
    }

    /// Changes the flow of a run, in one step.
    ///
    /// # Errors
    /// As [`Client::cancel`]; with status 409 the run cannot be changed like this any more, with 422 the changed flow has
    /// errors.
    pub async fn edit(&self, run: &str, edits: &Edits) -> Result<EditResult, ClientError> {
        self.json(self.request(Method::POST, &["v1", "runs", run, "edits"])?.json(edits)).await
    }

    /// Stores a module; a given tag refers to it from then on.
    ///
    /// # Errors
    /// [`ClientError`]; with status 422 the bytes are no module.
    pub async fn push(&self, bytes: Vec<u8>, tag: Option<&str>) -> Result<Module, ClientError> {
        self.push_signed(bytes, tag, &[]).await
    }

    /// Stores a module with signatures; a given tag refers to it from then on. A signature has the four lines of minisign, and is
    /// of the component that the server makes of the module.
    ///
    /// # Errors
    /// [`ClientError`]; with status 422 the bytes are no module, or a signature is not of it; with 403 the server does not admit
    /// the module.
    pub async fn push_signed(
        &self,
        bytes: Vec<u8>,
        tag: Option<&str>,
        signatures: &[&str],
    ) -> Result<Module, ClientError> {
        let mut request = self.request(Method::POST, &["v1", "modules"])?;
        for signature in signatures {
            request = request.header("waft-signature", BASE64_STANDARD.encode(signature));
        }
        let request = request.query(&tag.map(|tag| [("tag", tag)])).body(bytes);
        self.json(request.header(header::CONTENT_TYPE, "application/wasm")).await
    }

    /// Stores a signature of a module that the server has; returns all signatures of the module.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 the server does not have the module, with 422 it is no signature of the module, with 403
    /// the server denies its signer.
    pub async fn sign(&self, digest: &str, signature: &str) -> Result<Vec<ModuleSignature>, ClientError> {
        let request = self.request(Method::POST, &["v1", "modules", digest, "signatures"])?;
        self.json(request.header(header::CONTENT_TYPE, "application/octet-stream").body(signature.to_owned())).await
    }

    /// Reads a module by digest or tag; `None` when the server does not have it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn module(&self, module: &str) -> Result<Option<Module>, ClientError> {
        match self.json(self.request(Method::GET, &["v1", "modules", module])?).await {
            Ok(module) => Ok(Some(module)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the contents of the server's store: a page in order of digest.
    ///
    /// # Errors
    /// [`ClientError`]; with status 503 the server sends other large answers now.
    pub async fn modules(&self, query: &ModulesQuery) -> Result<Modules, ClientError> {
        self.json(self.request(Method::GET, &["v1", "modules"])?.query(query)).await
    }

    /// Asks how much the workers grant of what the tasks of a flow ask for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain_grants(&self, question: &GrantsQuestion) -> Result<GrantsExplanation, ClientError> {
        self.json(self.request(Method::POST, &["v1", "grants", "explain"])?.json(question)).await
    }

    /// Checks whether the server is ready.
    ///
    /// # Errors
    /// [`ClientError`]; with status 503 it names what does not work.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, &["ready"])?).await.map(drop)
    }

    /// Runs the server's checks of all its dependencies. It takes up to half a minute.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 the server is too old for this.
    pub async fn checks(&self) -> Result<Checks, ClientError> {
        self.json(self.request(Method::GET, &["v1", "health", "checks"])?).await
    }

    /// Makes a token. Only this answer contains its text.
    ///
    /// # Errors
    /// [`ClientError`]; with status 409 there is a token of that name, with 403 the own token is not an admin's.
    pub async fn create_token(&self, token: &NewToken) -> Result<CreatedToken, ClientError> {
        self.json(self.request(Method::POST, &["v1", "tokens"])?.json(token)).await
    }

    /// Lists the tokens, without their text.
    ///
    /// # Errors
    /// [`ClientError`]; with status 403 the own token is not an admin's.
    pub async fn tokens(&self) -> Result<Tokens, ClientError> {
        self.json(self.request(Method::GET, &["v1", "tokens"])?).await
    }

    /// Revokes a token: within a second, no server that shares the logbook accepts it.
    ///
    /// # Errors
    /// [`ClientError`]; with status 404 there is no such token.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["v1", "tokens", name])?).await.map(drop)
    }

    /// Reads a page of the audit log, the youngest entry first.
    ///
    /// # Errors
    /// [`ClientError`]; with status 403 the own token is not an admin's.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditLog, ClientError> {
        self.json(self.request(Method::GET, &["v1", "audit"])?.query(query)).await
    }

    async fn run_command(&self, run: &str, command: &str) -> Result<RunStateResponse, ClientError> {
        self.json(self.request(Method::POST, &["v1", "runs", run, command])?).await
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        let mut url = self.server.clone();
        let refused = |()| ClientError::Address { url: self.server().into(), reason: "it takes no path".into() };
        url.path_segments_mut().map_err(refused)?.pop_if_empty().extend(path);
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Sends a request and returns the response's head; a refusal is an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        if let Some(location) = response.headers().get(header::LOCATION).filter(|_| status.is_redirection()) {
            let location = String::from_utf8_lossy(location.as_bytes());
            let reason = format!("it redirects to {location}; if that is your server, use its address instead");
            return Err(self.unexpected(reason));
        }
        let bytes = self.body(response, "the answer", MAX_PROBLEM_BYTES).await?;
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => ClientError::Refused { server: self.server().into(), problem: Box::new(problem) },
            Err(_) => self.unexpected(format!("it answered {status}")),
        })
    }

    async fn json<Body: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Body, ClientError> {
        let response = self.send(request).await?;
        let bytes = self.body(response, "the answer", MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.unexpected(error.to_string()))
    }

    async fn whole_value(&self, request: RequestBuilder) -> Result<Value, ClientError> {
        let response = self.send(request).await?;
        let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        let bytes = self.body(response, "the value", MAX_ANSWER_BYTES).await?;
        if !is_json {
            return Ok(Value::Bytes(bytes[..].into()));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| self.unexpected(error.to_string()))?;
        Json::parse(text).map(Value::Json).map_err(|error| self.unexpected(error.to_string()))
    }

    /// Reads the body of a response.
    async fn body(&self, mut response: Response, name: &str, max_bytes: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.unreachable(source))? {
            if body.len() + chunk.len() > max_bytes {
                return Err(self.too_large(name, max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    pub(crate) fn too_large(&self, name: &str, max_bytes: usize) -> ClientError {
        self.unexpected(format!("{name} has more than {} MiB", max_bytes >> 20))
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        // The error's own message would repeat the address.
        ClientError::Unreachable { server: self.server().into(), source: source.without_url() }
    }

    pub(crate) fn unexpected(&self, reason: String) -> ClientError {
        ClientError::Unexpected { server: self.server().into(), reason }
    }
}
