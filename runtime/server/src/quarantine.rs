//! Lists, releases or deletes messages in quarantine.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use api::{self, Quarantine, QuarantineResult, QuarantineSelection, QuarantinedMessage};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use client::quarantine::{self, QuarantineAction, QuarantineError, SERVER_LIMITS};
use sandbox::{Permit, Permits};
use tokio::time::timeout;

use crate::{
    audit::Subject,
    auth::permission::Permission,
    extract::{self, Query},
    problem::Problem,
    state::{self, Shared},
    turns,
};

/// The maximum length of a reason in an answer, in characters.
const MAX_REASON: usize = 1_000;

/// The maximum bytes of the headers of a message in an answer.
const MAX_HEADERS_BYTES: usize = 2 << 10;

/// The maximum length of an id in the audit log, in characters: no id of a message is longer.
const MAX_SUBJECT: usize = 255;

/// The time limit of a request: a broker that is away neither keeps the turn of others, nor gets the messages when the operator has
/// given up long ago. It is enough for a thousand messages.
const TIMEOUT: Duration = Duration::from_secs(60);

/// One request reads the quarantine at a time: the messages that it has read are not in the queue meanwhile, and another would miss
/// them. Those that wait are not counted: each has a connection, and a sender has a share of those.
static TURNS: LazyLock<Permits> = LazyLock::new(|| Permits::new(1, usize::MAX));

/// Lists the first messages in quarantine. They stay there.
#[utoipa::path(get, operation_id = "list_quarantine", path = "/v1/quarantine", tag = "quarantine", responses(
    (status = 200, description = "The first messages", body = Quarantine),
    (status = 503, description = "The broker does not answer, or the server sends as many large answers as it has memory for",
        body = api::Problem, content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
) -> Result<Response, Problem> {
    let reading = in_time(quarantine::list_within(state.dependencies.broker.clone(), SERVER_LIMITS));
    let content = turns::in_task(turn().await, reading).await?;
    let answer = Quarantine { messages: shown(&content.messages), unread: content.unread };
    // The texts of a thousand messages take some megabytes, and a slow reader leaves them in memory.
    let json = serde_json::to_vec(&answer).expect("strings are JSON");
    state.large_answers.json(permission.sender(), json)
}

/// Sends messages in quarantine again, to the queues that they came from.
///
/// Of the messages that `GET /v1/quarantine` lists, it releases those with an id, or all. A worker can put any message into the quarantine,
/// also a forged job, and name any queue.
#[utoipa::path(post, operation_id = "release_quarantine", path = "/v1/quarantine/release", tag = "quarantine",
    request_body = QuarantineSelection, responses(
        (status = 200, description = "What was released; nothing if no message has the id", body = QuarantineResult),
        (status = 400, description = "It selects neither an id nor all", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn release(
    State(state): Shared,
    extract::Json(selection): extract::Json<QuarantineSelection>,
) -> Result<(Extension<Subject>, Json<QuarantineResult>), Response> {
    apply(&state, &selection, QuarantineAction::Release).await
}

/// Deletes messages in quarantine.
///
/// Of the messages that `GET /v1/quarantine` lists, it deletes those with an id, or all.
#[utoipa::path(delete, operation_id = "drop_quarantine", path = "/v1/quarantine", tag = "quarantine",
    params(QuarantineSelection), responses(
        (status = 200, description = "What was deleted; nothing if no message has the id", body = QuarantineResult),
        (status = 400, description = "It selects neither an id nor all", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn drop_messages(
    State(state): Shared,
    Query(selection): Query<QuarantineSelection>,
) -> Result<(Extension<Subject>, Json<QuarantineResult>), Response> {
    apply(&state, &selection, QuarantineAction::Drop).await
}

async fn turn() -> Permit {
    TURNS.acquire(None).await.expect("any number of requests may wait")
}

/// Does something at the broker within the time limit.
async fn in_time<Done>(work: impl Future<Output = Result<Done, QuarantineError>>) -> Result<Done, Problem> {
    match timeout(TIMEOUT, work).await {
        Ok(done) => done.map_err(|error| Problem::internal(&error)),
        Err(_) => {
            let detail = format!("the broker has not answered all questions within {} seconds", TIMEOUT.as_secs());
            Err(Problem::unavailable(detail))
        }
    }
}

/// Applies an action. The answer names its subject, also when it has failed: it may have changed messages before.
async fn apply(
    state: &state::State,
    selection: &QuarantineSelection,
    action: QuarantineAction,
) -> Result<(Extension<Subject>, Json<QuarantineResult>), Response> {
    let id = match selection {
        QuarantineSelection { id: Some(id), all: false } => Some(id.as_str()),
        QuarantineSelection { id: None, all: true } => None,
        QuarantineSelection { id: None, all: false } | QuarantineSelection { id: Some(_), all: true } => {
            return Err(Problem::bad_request("give the id of a message, or all = true, and not both")
                .hint("GET /v1/quarantine lists the messages with their ids")
                .into_response());
        }
    };
    let subject = Extension(Subject(id.unwrap_or("all messages").chars().take(MAX_SUBJECT).collect()));
    let _turn = turn().await;
    let broker = state.dependencies.broker.clone();
    let applied = match in_time(quarantine::apply_within(broker, id, action, SERVER_LIMITS)).await {
        Ok(applied) => applied,
        Err(problem) => {
            let hint = "some messages may be released or deleted already: GET /v1/quarantine lists those that are left";
            return Err((subject, problem.hint(hint)).into_response());
        }
    };
    let result = QuarantineResult {
        done: shown(&applied.done),
        without_origin: shown(&applied.without_origin),
        unread: applied.unread,
    };
    Ok((subject, Json(result)))
}

fn shown(messages: &[quarantine::QuarantinedMessage]) -> Vec<QuarantinedMessage> {
    messages.iter().map(message).collect()
}

/// A message with texts that are bounded: its sender chooses them.
fn message(message: &quarantine::QuarantinedMessage) -> QuarantinedMessage {
    let cut = |text: &String| text.chars().take(MAX_REASON).collect::<String>();
    let mut bytes = 0;
    let fits = |(name, value): &(&String, &String)| {
        bytes += name.len() + value.len();
        bytes <= MAX_HEADERS_BYTES
    };
    let headers: BTreeMap<String, String> =
        message.headers.iter().take_while(fits).map(|(name, value)| (name.clone(), value.clone())).collect();
    let more_headers = message.headers.len() - headers.len();
    QuarantinedMessage {
        id: message.id.clone(),
        queue: message.queue.as_ref().map(cut),
        reason: message.reason.as_ref().map(cut),
        headers,
        more_headers: u32::try_from(more_headers).unwrap_or(u32::MAX),
        size: message.size as u64,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use broker::{Broker, InProcess, Message, Properties, Routing, lossy::LossyConnection};
    use protocol::topology;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_texts_of_a_message_are_cut() {
        let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
        broker::topology::declare_shared(&*broker).await.unwrap();
        let mut headers = BTreeMap::from([
            (topology::QUARANTINED_FROM.to_owned(), "waft.jobs.ovens".to_owned()),
            (topology::QUARANTINE_REASON.to_owned(), "é".repeat(2_000)),
            ("a".to_owned(), "r".to_owned()),
        ]);
        headers.extend((0..50).map(|number| (format!("b{number:02}"), "x".repeat(100))));
        let message = Message {
            exchange: topology::DEAD_LETTERS.into(),
            key: String::new(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties { message_id: Some("m".into()), headers, ..Properties::default() },
            body: "?".into(),
        };
        broker.publish(message).await.unwrap();
        let content = quarantine::list_within(broker, SERVER_LIMITS).await.unwrap();
        let [shown] = &shown(&content.messages)[..] else { panic!("one message") };
        assert_eq!((shown.id.as_str(), shown.queue.as_deref(), shown.size), ("m", Some("waft.jobs.ovens"), 1));
        assert_eq!(shown.reason.as_ref().map(|reason| reason.chars().count()), Some(MAX_REASON));
        let bytes: usize = shown.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= MAX_HEADERS_BYTES && shown.headers.contains_key("a"), "{:?}", shown.headers);
        assert_eq!(shown.headers.len() + shown.more_headers as usize, 51, "all are counted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_away_is_not_waited_for() {
        let broker = LossyConnection::to(&InProcess::new());
        broker.set_slow(topology::DEAD_LETTERS, 2 * TIMEOUT);
        let refused = in_time(quarantine::list_within(Arc::new(broker), SERVER_LIMITS)).await.unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
