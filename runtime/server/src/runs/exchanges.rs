//! Reads the recorded HTTP exchanges of a run.

use api::{AttemptExchanges, Body, Exchange, ExchangeResponse, Header, RunExchanges};
use axum::{Json, extract::State};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use flow::RunId;
use logbook::{LoadError, Logbook, Version};
use protocol::{
    AttemptLog, HttpExchange, HttpExchanges, HttpRecord, MAX_ENCODED_HTTP_BYTES, RecordedAnswer, RecordedHttpFailure,
    events::rfc3339,
};
use store::Store;

use crate::{
    extract::{Query, Run},
    problem::Problem,
    state::Shared,
};

/// The maximum bytes of records in one answer, and of one record besides.
const MAX_BYTES: usize = 8 << 20;

/// The query of a request for exchanges.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExchangesQuery {
    task: Option<String>,
}

/// Shows the HTTP requests of the attempts of a run and what came of them, as far as they were recorded.
///
/// Secrets of the operator are shown as the task wrote them: `{{secret:NAME}}`.
#[utoipa::path(get, operation_id = "run_exchanges", path = "/v1/runs/{run}/exchanges", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"),
    ("task" = Option<String>, Query, description = "Only the attempts of this task")),
    responses(
        (status = 200, description = "The attempts with recorded exchanges", body = RunExchanges),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn exchanges(
    State(state): Shared,
    Run(run): Run,
    Query(ExchangesQuery { task }): Query<ExchangesQuery>,
) -> Result<Json<RunExchanges>, Problem> {
    let (logbook, store) = (&*state.dependencies.logbook, &*state.dependencies.modules.store);
    Ok(Json(read(logbook, store, &run, task.as_deref()).await?))
}

/// Reads the recorded HTTP exchanges of a run, or of one of its tasks.
///
/// # Errors
/// [`LoadError`] when there is no such run, or it cannot be read. An attempt whose record the store does not return says so.
pub async fn read(
    logbook: &dyn Logbook,
    store: &dyn Store,
    run: &RunId,
    task: Option<&str>,
) -> Result<RunExchanges, LoadError> {
    let mut shown = RunExchanges { attempts: Vec::new(), cut: false };
    let mut bytes = 0;
    for AttemptLog { call, at, worker, log } in logbook.logs(run, Version::NONE).await? {
        let Some(record) = log.http.filter(|_| task.is_none_or(|task| call.task.as_str() == task)) else { continue };
        if bytes > MAX_BYTES {
            shown.cut = true;
            break;
        }
        let (recorded, missing) = match load(store, &record).await {
            Ok((recorded, size)) => {
                bytes += size;
                (recorded, None)
            }
            Err(reason) => (HttpExchanges::default(), Some(reason)),
        };
        shown.attempts.push(AttemptExchanges {
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
    Ok(shown)
}

/// Loads a record, and its size in bytes.
///
/// # Errors
/// The reason why it cannot be read.
async fn load(store: &dyn Store, record: &HttpRecord) -> Result<(HttpExchanges, usize), String> {
    let bytes = match record {
        HttpRecord::Inline(bytes) => bytes.clone(),
        HttpRecord::Stored { digest, size } => {
            let bytes = store.fetch(digest).await.map_err(|error| error.to_string())?;
            // The worker says the size, and the store does not check it.
            if bytes.len() as u64 != *size || bytes.len() > MAX_ENCODED_HTTP_BYTES {
                return Err(format!("its content has {} bytes instead of {size}", bytes.len()));
            }
            bytes.to_vec()
        }
    };
    Ok((HttpExchanges::decode(&bytes).map_err(|error| error.to_string())?, bytes.len()))
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
