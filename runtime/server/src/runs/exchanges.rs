//! Reads the recorded HTTP exchanges of a run.

use std::sync::Arc;

use api::{AttemptExchanges, Body, Exchange, ExchangeResponse, ExchangesQuery, Header, RunExchanges};
use axum::{
    Extension,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use flow::{Action, Attempt, Firing, NodeName, RunId};
use logbook::{LoadError, LogFilter, LogPage, LogPosition, Logbook};
use protocol::{
    AttemptLog, CallLog, HttpExchange, HttpExchanges, HttpRecord, MAX_ENCODED_HTTP_BYTES, RecordedAnswer,
    RecordedHttpFailure, events::rfc3339,
};
use store::{FetchError, Store};
use tokio::{
    task::spawn_blocking,
    time::{Duration, Instant},
};

use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::{Query, Run},
    problem::Problem,
    state::Shared,
    turns,
};

/// The maximum bytes of records on a page that has several.
const MAX_BYTES: usize = 4 << 20;

/// The maximum number of attempts on a page.
const MAX_ATTEMPTS: usize = 500;

/// The time after which a page ends, whether or not it has an attempt: the logs of a filter may be far apart, and others wait for the turn.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The number of logs that are read at once. Each has at most 64 KiB of lines, which are dropped, and a small record.
const LOGS_AT_ONCE: usize = 16;

/// The number of stored logs that one read of the logbook looks at: a run may have a million that its filter does not select.
const LOOKED_AT_AT_ONCE: usize = 1_000;

/// How many times the bytes of its records an answer takes while it is made: their strings, and the JSON, in which a byte that is
/// no printable character takes six.
const MEMORY_FACTOR: usize = 8;

/// Shows the HTTP requests of the attempts of a run and what came of them, as far as they were recorded.
///
/// The attempt that ended last comes first. A page has at most 4 MiB of records and 500 attempts. Secrets of the operator are shown as
/// the task wrote them: `{{secret:NAME}}`.
#[utoipa::path(get, operation_id = "run_exchanges", path = "/v1/runs/{run}/exchanges", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"), ExchangesQuery),
    responses(
        (status = 200, description = "A page of the attempts with recorded exchanges", body = RunExchanges),
        (status = 400, description = "The query cannot be read", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn exchanges(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Run(run): Run,
    Query(query): Query<ExchangesQuery>,
) -> Result<Response, Problem> {
    let filter = filter(query)?;
    // The records that it finds are in memory before their bytes are known.
    let turn = turns::for_page(namespace).await;
    let page = RecordPage::find(&*state.dependencies.logbook, &run, filter).await?;
    let memory = state.large_answers.take(permission.sender(), MEMORY_FACTOR * page.bytes())?;
    drop(turn);
    // The store reads a file to its end, also if the client leaves: its memory counts until then.
    turns::to_its_end(async move {
        let shown = page.load(&*state.dependencies.modules.store).await;
        let encode = move || serde_json::to_vec(&shown).expect("strings and numbers are JSON");
        let bytes = spawn_blocking(encode).await.expect("encoding does not panic");
        let headers =
            [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, bytes.len().to_string())];
        Ok::<_, Problem>((headers, memory.body(bytes.into())).into_response())
    })
    .await
}

/// Reads a page of the recorded HTTP exchanges of a run.
///
/// # Errors
/// [`Problem`] when the query cannot be read, there is no such run, or it cannot be read. An attempt whose record the store does not
/// return says so.
pub async fn read(
    logbook: &dyn Logbook,
    store: &dyn Store,
    run: &RunId,
    query: ExchangesQuery,
) -> Result<RunExchanges, Problem> {
    Ok(RecordPage::find(logbook, run, filter(query)?).await?.load(store).await)
}

fn filter(ExchangesQuery { task, firing, attempt, call, after }: ExchangesQuery) -> Result<LogFilter, Problem> {
    let refused = |key: &str, error: String| Problem::bad_request(format!("{key}: {error}"));
    let task = task.map(NodeName::new).transpose().map_err(|error| refused("task", error.to_string()))?;
    let action = call.map(|call| {
        let known = [Action::Apply, Action::Rollback].into_iter().find(|action| action.as_str() == call);
        known.ok_or_else(|| refused("call", format!("{call:?} is neither apply nor rollback")))
    });
    let before = after.map(|cursor| {
        let parsed: Result<LogPosition, _> = cursor.parse();
        parsed.map_err(|_| {
            refused("after", format!("{cursor:?} is not what a page gave as next"))
                .hint("leave it out for the first page")
        })
    });
    Ok(LogFilter {
        task,
        firing: firing.map(Firing::new),
        attempt: attempt.map(Attempt::new),
        action: action.transpose()?,
        before: before.transpose()?,
        limit: LOGS_AT_ONCE,
        max_looked_at: LOOKED_AT_AT_ONCE,
    })
}

/// A page of attempts with records, which are not loaded from the store yet.
struct RecordPage {
    /// The attempts without lines.
    attempts: Vec<(AttemptLog, HttpRecord)>,
    next: Option<LogPosition>,
}

impl RecordPage {
    async fn find(logbook: &dyn Logbook, run: &RunId, mut filter: LogFilter) -> Result<Self, LoadError> {
        let (mut attempts, mut bytes, until) = (Vec::new(), 0_usize, Instant::now() + TIME_LIMIT);
        loop {
            let LogPage { logs, next } = logbook.http_logs(run, &filter).await?;
            for (position, log) in logs {
                let AttemptLog { log: CallLog { http, .. }, .. } = &log;
                if let Some(record) = http.clone() {
                    bytes = bytes.saturating_add(size(&record));
                    if !attempts.is_empty() && (bytes > MAX_BYTES || attempts.len() == MAX_ATTEMPTS) {
                        return Ok(Self { attempts, next: filter.before });
                    }
                    attempts.push((AttemptLog { log: CallLog::default(), ..log }, record));
                }
                filter.before = Some(position);
            }
            if next.is_none() || Instant::now() >= until {
                return Ok(Self { attempts, next });
            }
            // The logs behind the last one that is selected were looked at too.
            filter.before = next;
        }
    }

    /// The bytes of the records.
    fn bytes(&self) -> usize {
        self.attempts.iter().map(|(_, record)| size(record)).fold(0, usize::saturating_add)
    }

    async fn load(self, store: &dyn Store) -> RunExchanges {
        let mut shown = Vec::new();
        for (AttemptLog { call, at, worker, .. }, record) in self.attempts {
            let (recorded, missing) = match load(store, record).await {
                Ok(recorded) => (recorded, None),
                Err(reason) => (HttpExchanges::default(), Some(reason)),
            };
            shown.push(AttemptExchanges {
                task: call.task.to_string(),
                attempt: call.attempt.get(),
                firing: call.firing.get(),
                call: call.action.into(),
                worker: worker.map(|worker| worker.to_string()),
                at: rfc3339(at),
                exchanges: recorded.exchanges.into_iter().map(shown_exchange).collect(),
                cut: recorded.cut,
                missing,
            });
        }
        RunExchanges { attempts: shown, next: self.next.map(|next| next.to_string()) }
    }
}

/// The size of a record, in bytes; of one in the store, as much as is read of it.
fn size(record: &HttpRecord) -> usize {
    match record {
        HttpRecord::Inline(bytes) => bytes.len(),
        HttpRecord::Stored { size, .. } => usize::try_from(*size).unwrap_or(usize::MAX).min(MAX_ENCODED_HTTP_BYTES),
    }
}

/// Loads a record.
///
/// # Errors
/// The reason why it cannot be read.
async fn load(store: &dyn Store, record: HttpRecord) -> Result<HttpExchanges, String> {
    let bytes = match record {
        HttpRecord::Inline(bytes) => bytes.into(),
        HttpRecord::Stored { digest, size } => {
            // The worker says the size, and the store does not check it.
            let stored = store.size(&digest).await.map_err(|error| error.to_string())?;
            match stored {
                Some(stored) if stored != size || stored > MAX_ENCODED_HTTP_BYTES as u64 => {
                    return Err(format!("its content has {stored} bytes instead of {size}"));
                }
                Some(_) => {}
                None => return Err(format!("the store does not have it any more: {digest}")),
            }
            store.fetch(&digest).await.map_err(|error| match error {
                FetchError::Missing { .. } => format!("the store does not have it any more: {digest}"),
                error => error.to_string(),
            })?
        }
    };
    // A large record takes long enough to block other requests.
    let decoded = spawn_blocking(move || HttpExchanges::decode(&bytes)).await.expect("decoding does not panic");
    decoded.map_err(|error| error.to_string())
}

fn shown_exchange(HttpExchange { request, answer, took }: HttpExchange) -> Exchange {
    let (response, error) = match answer {
        RecordedAnswer::Response { status, headers: values, body: bytes } => {
            (Some(ExchangeResponse { status, headers: headers(values), body: body(bytes) }), None)
        }
        RecordedAnswer::DeniedAtOnce(reason) => (None, Some(reason)),
        RecordedAnswer::Failed(failure) => (None, Some(describe(failure))),
        RecordedAnswer::None => (None, Some("no answer was recorded".to_owned())),
    };
    Exchange {
        method: request.method,
        url: request.url,
        headers: headers(request.headers),
        body: body(request.body),
        response,
        error,
        seconds: took.as_secs_f64(),
    }
}

fn describe(failure: RecordedHttpFailure) -> String {
    match failure {
        RecordedHttpFailure::Denied(reason) => reason,
        RecordedHttpFailure::Secret { name, reason } => format!("the secret {name} had no value: {reason}"),
        RecordedHttpFailure::NoAddress { host, reason } => format!("the host {host} had no address: {reason}"),
        RecordedHttpFailure::Connect(reason) => format!("no connection: {reason}"),
        RecordedHttpFailure::Tls(reason) => format!("TLS failed: {reason}"),
        RecordedHttpFailure::Timeout(after) => format!("no answer for {after:?}"),
        RecordedHttpFailure::TooLarge(limit) => {
            format!("the exchanges of the call were larger than its limit `http_bytes` of {}", flow::Size(limit))
        }
        RecordedHttpFailure::TooMany(limit) => format!("the call had {limit} requests without a response"),
        RecordedHttpFailure::Protocol(reason) => format!("the exchange failed: {reason}"),
    }
}

fn headers(headers: Vec<(String, Vec<u8>)>) -> Vec<Header> {
    let header =
        |(name, value): (String, Vec<u8>)| Header { name, value: String::from_utf8_lossy(&value).into_owned() };
    headers.into_iter().map(header).collect()
}

fn body(bytes: Vec<u8>) -> Body {
    let size = bytes.len() as u64;
    match String::from_utf8(bytes) {
        Ok(text) => Body { bytes: size, text: Some(text), base64: None },
        Err(error) => Body { bytes: size, text: None, base64: Some(BASE64_STANDARD.encode(error.as_bytes())) },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flow::{CallId, RunState, Timestamp};
    use logbook::{
        Append, AppendError, MaxUnended, Memory, RunInfo, Version,
        intercepted::{AppendInterceptor, InterceptedLogbook},
    };
    use machine::{Fact, Record};

    use super::*;

    fn run() -> RunId {
        "r".parse().unwrap()
    }

    /// The log of an attempt with a record.
    fn log(task: &str, attempt: u32, record: HttpRecord) -> AttemptLog {
        let (firing, action) = (Firing::FIRST, Action::Apply);
        let call = CallId { run: run(), task: task.parse().unwrap(), firing, attempt: Attempt::new(attempt), action };
        let log = CallLog { http: Some(record), ..CallLog::default() };
        AttemptLog { call, at: Timestamp::from_micros(1), worker: None, log }
    }

    /// A record of one request, which is in a message of about this size.
    fn exchanges(bytes: usize) -> HttpExchanges {
        let exchange = HttpExchange {
            request: protocol::RecordedRequest {
                method: "POST".into(),
                url: "http://a.example/".into(),
                headers: Vec::new(),
                body: vec![0; bytes],
            },
            answer: RecordedAnswer::None,
            took: std::time::Duration::ZERO,
        };
        HttpExchanges { exchanges: vec![exchange], cut: false }
    }

    async fn logbook(logs: Vec<AttemptLog>) -> Memory {
        let logbook = Memory::new();
        let append = Append {
            run: run(),
            follows: Version::NONE,
            records: vec![Record { at: Timestamp::from_micros(1), firing: None, fact: Fact::Resumed }],
            info: RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state: RunState::Running },
            logs,
            published: Version::NONE,
            max_unended: MaxUnended::default(),
            memos: logbook::MemoChanges::default(),
        };
        logbook.append(vec![append]).await.unwrap();
        logbook
    }

    async fn stored(store: &store::Memory, bytes: usize) -> HttpRecord {
        let encoded = exchanges(bytes).encode();
        let size = encoded.len() as u64;
        HttpRecord::Stored { digest: store.put(Bytes::from(encoded)).await.unwrap(), size }
    }

    /// Takes a second for each read.
    struct Slow;

    #[async_trait::async_trait]
    impl AppendInterceptor for Slow {
        async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
            Ok(())
        }

        async fn after(&self) -> Result<(), AppendError> {
            Ok(())
        }

        async fn before_load(&self) -> Result<(), LoadError> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_takes_long_ends_and_leads_to_the_next_one() {
        let log = |attempt| log("x", attempt, HttpRecord::Inline(exchanges(1).encode()));
        let logbook = logbook((1..=200).map(log).collect()).await;
        let slow = InterceptedLogbook::new(Arc::new(logbook), Arc::new(Slow));
        let page = read(&slow, &store::Memory::new(), &run(), ExchangesQuery::default()).await.unwrap();
        let reads = page.attempts.len() / LOGS_AT_ONCE;
        assert!((5..=6).contains(&reads) && page.next.is_some(), "{reads}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_ends_also_if_its_filter_selects_none_of_many_attempts() {
        const READS: usize = 12;
        let last = u32::try_from(READS * LOOKED_AT_AT_ONCE).unwrap();
        let log = |attempt| log("x", attempt, HttpRecord::Inline(Vec::new()));
        let logbook = logbook((1..=last).map(log).collect()).await;
        let slow = InterceptedLogbook::new(Arc::new(logbook), Arc::new(Slow));
        let (mut query, mut pages) = (ExchangesQuery::default().task("y"), 0);
        loop {
            let page = read(&slow, &store::Memory::new(), &run(), query.clone()).await.unwrap();
            assert!(page.attempts.is_empty());
            pages += 1;
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
        assert_eq!(pages, 3, "each read takes a second, and a page five");
    }

    /// All pages, each as the attempts on it.
    async fn pages(logbook: &Memory, store: &store::Memory, mut query: ExchangesQuery) -> Vec<Vec<u32>> {
        let mut pages = Vec::new();
        loop {
            let RunExchanges { attempts, next } = read(logbook, store, &run(), query.clone()).await.unwrap();
            assert!(attempts.iter().all(|attempt| attempt.missing.is_none() && attempt.exchanges.len() == 1));
            pages.push(attempts.iter().map(|attempt| attempt.attempt).collect());
            match next {
                Some(next) => query.after = Some(next),
                None => return pages,
            }
        }
    }

    #[tokio::test]
    async fn the_last_attempt_comes_first_and_all_are_on_some_page() {
        let store = store::Memory::new();
        // Two of these fit on a page.
        let half = stored(&store, MAX_BYTES / 2 - 1024).await;
        let whole = stored(&store, MAX_BYTES + 1024).await;
        let records = [half.clone(), whole, half.clone(), half.clone(), half];
        let logs = (1..).zip(records).map(|(attempt, record)| log("x", attempt, record)).collect();
        let logbook = logbook(logs).await;
        assert_eq!(pages(&logbook, &store, ExchangesQuery::default()).await, [vec![5, 4], vec![3], vec![2], vec![1]]);
        let second = ExchangesQuery::default().attempt(2);
        assert_eq!(pages(&logbook, &store, second).await, [[2]]);
    }

    #[tokio::test]
    async fn many_small_records_are_on_pages_too() {
        let record = HttpRecord::Inline(exchanges(1).encode());
        let most = u32::try_from(MAX_ATTEMPTS).unwrap();
        let logbook = logbook((1..=most + 3).map(|attempt| log("x", attempt, record.clone())).collect()).await;
        let pages = pages(&logbook, &store::Memory::new(), ExchangesQuery::default()).await;
        assert_eq!(pages, [(4..=most + 3).rev().collect::<Vec<_>>(), vec![3, 2, 1]]);
    }

    #[tokio::test]
    async fn a_task_has_the_attempts_of_its_elements() {
        let record = HttpRecord::Inline(exchanges(1).encode());
        let names = [("x", 1), ("x[0]", 2), ("x[1]", 3), ("xy", 4)];
        let logbook = logbook(names.map(|(task, attempt)| log(task, attempt, record.clone())).into()).await;
        let of = async |task: &str| {
            pages(&logbook, &store::Memory::new(), ExchangesQuery::default().task(task)).await.concat()
        };
        assert_eq!((of("x").await, of("x[1]").await, of("z").await), (vec![3, 2, 1], vec![3], vec![]));
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_hides_no_other() {
        let store = store::Memory::new();
        let deleted = HttpRecord::Stored { digest: flow::Digest::from_bytes([9; 32]), size: 9 };
        let HttpRecord::Stored { digest, size } = stored(&store, 10).await else { panic!("it is stored") };
        let other_size = HttpRecord::Stored { digest, size: size + 1 };
        let logbook = logbook(vec![log("x", 1, deleted), log("x", 2, other_size)]).await;
        let shown = read(&logbook, &store, &run(), ExchangesQuery::default()).await.unwrap();
        let reasons: Vec<&str> = shown.attempts.iter().filter_map(|attempt| attempt.missing.as_deref()).collect();
        assert!(reasons[0].starts_with(&format!("its content has {size} bytes instead of")), "{reasons:?}");
        assert!(reasons[1].starts_with("the store does not have it any more: sha256:"), "{reasons:?}");
    }

    #[test]
    fn a_query_that_cannot_be_read_is_refused() {
        let call = ExchangesQuery { call: Some("retry".into()), ..ExchangesQuery::default() };
        for (query, says) in [
            (ExchangesQuery::default().task("a b"), "task: "),
            (call, "call: \"retry\" is neither apply nor rollback"),
            (ExchangesQuery::default().after("1"), "after: \"1\" is not what a page gave as next"),
        ] {
            let problem = filter(query).unwrap_err().into_document();
            assert!(problem.status == 400 && problem.detail.starts_with(says), "{problem:?}");
        }
    }
}
