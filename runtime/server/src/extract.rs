//! Extractors for requests. An invalid request becomes a problem document.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{StatusCode, header, request::Parts},
};
use flow::RunId;
use serde::de::DeserializeOwned;

use crate::{problem::Problem, turns};

/// The run that the path names.
pub(crate) struct Run(pub(crate) RunId);

/// The name of something in the path, as it is written there.
pub(crate) struct Named(pub(crate) String);

/// The run and the name of a value that the path names.
pub(crate) struct RunValue {
    pub(crate) run: RunId,
    pub(crate) name: String,
}

/// The query string, parsed.
pub(crate) struct Query<Value>(pub(crate) Value);

/// The query string, parsed. The name `label` may occur several times.
pub(crate) struct RepeatedQuery<Value>(pub(crate) Value);

/// A JSON body.
pub(crate) struct Json<Value>(pub(crate) Value);

/// The raw body.
pub(crate) struct Body(pub(crate) Bytes);

impl<State: Send + Sync> FromRequestParts<State> for Run {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let axum::extract::Path(id) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
        RunId::new(id).map(Self).map_err(|error| Problem::bad_request(error.to_string()))
    }
}

impl<State: Send + Sync> FromRequestParts<State> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(name)| Self(name)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

impl<State: Send + Sync> FromRequestParts<State> for RunValue {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let path = axum::extract::Path::<(String, String)>::from_request_parts(parts, state).await;
        let axum::extract::Path((id, name)) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
        let run = RunId::new(id).map_err(|error| Problem::bad_request(error.to_string()))?;
        Ok(Self { run, name })
    }
}

impl<State: Send + Sync, Value: DeserializeOwned> FromRequestParts<State> for Query<Value> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let query = axum::extract::Query::<Value>::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(value)| Self(value)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

impl<State: Send + Sync, Value: DeserializeOwned> FromRequestParts<State> for RepeatedQuery<Value> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await?;
        read_pairs(pairs).map(Self).map_err(Problem::bad_request)
    }
}

/// The names of a query that may occur several times.
const REPEATED: &str = "label";

/// The names of a query whose values are numbers.
const NUMBERS: &[&str] = &["limit"];

/// Reads the pairs of a query as an object.
fn read_pairs<Value: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<Value, String> {
    let mut object = serde_json::Map::new();
    for (name, text) in pairs {
        if name == REPEATED {
            let labels = object.entry(name).or_insert_with(|| Vec::<serde_json::Value>::new().into());
            labels.as_array_mut().into_iter().for_each(|labels| labels.push(text.clone().into()));
            continue;
        }
        let value = match NUMBERS.contains(&name.as_str()) {
            true => text.parse::<u64>().map_err(|error| format!("{name}: {text:?}: {error}"))?.into(),
            false => text.into(),
        };
        if object.insert(name.clone(), value).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    serde_json::from_value(object.into()).map_err(|error| format!("the query: {error}"))
}

impl<State: Send + Sync> FromRequest<State> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(body_error)
    }
}

impl<State: Send + Sync, Value: DeserializeOwned + Send + 'static> FromRequest<State> for Json<Value> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        // A web page may send other content types to any origin without a preflight request.
        if !kind.eq_ignore_ascii_case("application/json") {
            let title = "the body has an unsupported content type";
            let detail = format!("the body is {kind:?}");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", title, detail)
                .hint("send JSON with the header `Content-Type: application/json`"));
        }
        let Body(bytes) = Body::from_request(request, state).await?;
        let value = turns::in_turn_if_large(bytes.len(), move || read(&bytes)).await;
        value.map(Self).map_err(|error| Problem::bad_request(format!("the body: {error}")))
    }
}

/// Parses a body. It must be one object, and no object in it may repeat a key: readers disagree about which one counts.
fn read<Value: DeserializeOwned>(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    flow::Json::check(text).map_err(|error| error.to_string())?;
    if !text.trim_start().starts_with('{') {
        return Err("it is JSON, and not an object".into());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn body_error(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let detail = "the body is larger than the server's limit";
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the request is too large", detail)
            .hint("raise largest_request under [serve] in the server's settings, or store large values elsewhere");
    }
    Problem::bad_request(rejection.body_text())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use futures::{FutureExt as _, future::join_all};

    use super::*;

    /// Reads a body of about so many bytes.
    async fn read(bytes: usize) -> Result<serde_json::Value, Problem> {
        let body = axum::body::Body::from(format!("{{\"a\":\"{}\"}}", "b".repeat(bytes)));
        let request = Request::builder().header("content-type", "application/json").body(body).unwrap();
        Json::from_request(request, &()).await.map(|Json(value)| value)
    }

    #[tokio::test]
    async fn a_large_body_is_read_when_it_is_the_turn_of_its_sender() {
        let sender = flow::Namespace::new("large-bodies").ok();
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        // All turns that a sender may have. They end once nobody can send any more.
        let slow = (0..2).map(|_| {
            let ended = ended.clone();
            turns::in_turn(sender.clone(), move || ended.lock().unwrap().recv().is_err())
        });
        let mut slow = Box::pin(join_all(slow));
        assert!(slow.as_mut().now_or_never().is_none());
        let reads = async {
            assert!(read(10).now_or_never().is_some_and(|value| value.is_ok()), "a small one waits for nobody");
            let mut large = Box::pin(read(turns::MAX_INLINE));
            assert!(large.as_mut().now_or_never().is_none(), "it waits");
            drop(end);
            assert!(large.await.is_ok());
        };
        // Others of the sender go on meanwhile.
        let ((), slow) = futures::join!(turns::of_sender(sender, reads), slow);
        assert_eq!(slow, [true; 2]);
    }
}
