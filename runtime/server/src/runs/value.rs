//! Reads one value of a run whole, however large it is.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use flow::{Digest, RunId, Value, ValueKind, ValueName, Values};
use logbook::{AppliedRecord, LoadError, Logbook, Replay};
use machine::{Change, Machine, NodeChange, Record};
use store::{
    Store,
    values::{LoadValueError, bytes_of, from_bytes, load_bytes},
};
use tokio::task::spawn_blocking;

use crate::{
    auth::permission::Permission,
    extract::{Query, RunValue},
    problem::Problem,
    runs::history::{Collector, replay_run},
    state::Shared,
    turns,
    values::digest,
};

/// The maximum number of names in a hint.
const MAX_NAMES: usize = 20;

/// One value of a run.
#[derive(Debug, Clone)]
pub struct WantedValue {
    /// The run.
    pub run: RunId,
    /// The name of the value.
    pub name: String,
    /// The digest of the value, which a reference to it has. Without one it is the value that the run has now.
    pub digest: Option<Digest>,
}

/// Why one value of a run cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// The run cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The run has no such value.
    #[error("run {} has no value {:?}{}", wanted.run, wanted.name, with_digest(wanted))]
    Missing {
        /// The value that was wanted.
        wanted: WantedValue,
        /// The names of the values that the run has now.
        names: Vec<String>,
    },
    /// The store does not return the value.
    #[error("could not read the value {name:?} of run {run}")]
    Store {
        /// The run.
        run: RunId,
        /// The name of the value.
        name: String,
        /// The error of the store.
        source: Box<LoadValueError>,
    },
}

fn with_digest(wanted: &WantedValue) -> String {
    wanted.digest.map(|digest| format!(" with the digest {digest}")).unwrap_or_default()
}

impl ValueError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Load(_) => None,
            Self::Missing { names, .. } => Some(match names.len() {
                0 => "it has none yet".into(),
                1..=MAX_NAMES => format!("it has {}", names.join(", ")),
                more => format!("it has {} and {} more", names[..MAX_NAMES].join(", "), more - MAX_NAMES),
            }),
            Self::Store { .. } => Some("see that the store of the server, or --store, can be read".into()),
        }
    }
}

impl From<ValueError> for Problem {
    fn from(error: ValueError) -> Self {
        let hint = error.hint();
        let problem = match error {
            ValueError::Load(error) => error.into(),
            ValueError::Missing { .. } => Self::missing_value(error.to_string()),
            ValueError::Store { .. } => Self::internal(&error),
        };
        hint.into_iter().fold(problem, Self::hint)
    }
}

/// The schema of a value that is bytes.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
struct BytesValue(#[expect(dead_code, reason = "only its schema is used")] Vec<u8>);

/// The query of a request for a value.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValueQuery {
    digest: Option<String>,
}

/// Returns one value of a run whole.
///
/// The body is the value: the text of JSON, or the bytes. The content type tells which; bytes that a worker has stored as JSON, and
/// are not, have the type of bytes. Of a value that a task provided and an input
/// of the same name, it is the one that a task provided. An answer about a run, and its events, have references in place of
/// large values; with the digest of a reference, the route returns its value as long as the records of the run have it.
#[utoipa::path(get, operation_id = "run_value", path = "/v1/runs/{run}/values/{name}", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"),
    ("name" = String, Path, description = "The name of the value, as the flow calls it"),
    ("digest" = Option<String>, Query, description = "The digest of a reference to the value: sha256: and 64 hex digits")),
    responses(
        (status = 200, description = "The value", content(
            (serde_json::Value = "application/json"), (inline(BytesValue) = "application/octet-stream"))),
        (status = 404, description = "There is no such run, or it has no such value", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn value(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    RunValue { run, name }: RunValue,
    Query(ValueQuery { digest }): Query<ValueQuery>,
) -> Result<Response, Problem> {
    let digest = digest.as_deref().map(str::parse::<Digest>).transpose();
    let digest = digest.map_err(|error| Problem::bad_request(format!("the digest: {error}")))?;
    let wanted = WantedValue { run, name, digest };
    let value = find(&state.dependencies.logbook, &wanted).await?;
    let memory = state.large_answers.take(permission.sender(), value.size())?;
    // The store reads a file to its end, also if the client leaves: its memory counts until then.
    turns::to_its_end(async move {
        let (bytes, kind) = bytes(&*state.dependencies.modules.store, &wanted, &value).await?;
        let content_type = content_type(&value, bytes.clone(), kind).await;
        let headers = [
            (header::CONTENT_TYPE, content_type.to_owned()),
            (header::CONTENT_LENGTH, bytes.len().to_string()),
            // A guest made the bytes: a browser does not guess what they are.
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        Ok::<_, Problem>((headers, memory.body(bytes)).into_response())
    })
    .await
}

/// The content type of a value. A worker stores a large value, and says whether it is JSON: that is checked here, before a client
/// relies on it.
async fn content_type(value: &Value, bytes: Bytes, kind: ValueKind) -> &'static str {
    let is_json = match (value, kind) {
        (_, ValueKind::Bytes) => false,
        (Value::Json(_) | Value::Bytes(_), ValueKind::Json) => true,
        // A large value takes long enough to block other requests.
        (Value::Stored(_), ValueKind::Json) => {
            spawn_blocking(move || is_json(&bytes)).await.expect("checking does not panic")
        }
    };
    if is_json { "application/json" } else { "application/octet-stream" }
}

/// Whether bytes are the text of JSON.
fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// Reads one value of a run whole.
///
/// # Errors
/// [`ValueError`] when there is no such run or value, or it cannot be read.
pub async fn read(logbook: &Arc<dyn Logbook>, store: &dyn Store, wanted: &WantedValue) -> Result<Value, ValueError> {
    let value = find(logbook, wanted).await?;
    let Value::Stored(stored) = &value else { return Ok(value) };
    let (bytes, kind) = bytes(store, wanted, &value).await?;
    let content = |source| LoadValueError::Content { digest: stored.digest, source };
    from_bytes(&bytes, kind).map_err(|source| wanted.unreadable(content(source)))
}

async fn bytes(store: &dyn Store, wanted: &WantedValue, value: &Value) -> Result<(Bytes, ValueKind), ValueError> {
    match value {
        Value::Stored(stored) => {
            let bytes = load_bytes(store, stored).await.map_err(|source| wanted.unreadable(source))?;
            Ok((bytes, stored.form))
        }
        Value::Json(_) | Value::Bytes(_) => Ok(bytes_of(value).expect("it is not stored")),
    }
}

impl WantedValue {
    fn unreadable(&self, source: LoadValueError) -> ValueError {
        ValueError::Store { run: self.run.clone(), name: self.name.clone(), source: Box::new(source) }
    }
}

/// Finds a value in the records of a run; it may be a reference to the store.
async fn find(logbook: &Arc<dyn Logbook>, wanted: &WantedValue) -> Result<Value, ValueError> {
    let summary = logbook.summary(&wanted.run).await?;
    let search = Search { name: wanted.name.clone(), digest: wanted.digest, found: None };
    let (loaded, search) = replay_run(logbook, &summary, search).await?;
    let wanted = wanted.clone();
    loaded.answer(move |machine| search.value(machine, wanted)).await
}

/// The search for a value in records.
struct Search {
    name: String,
    /// Only a value with a digest is searched for in the records: another one is what the run has at the end.
    digest: Option<Digest>,
    found: Option<Value>,
}

impl Collector for Search {
    fn start(&mut self, _: &Replay) {}

    fn add_record(&mut self, _: &Record, _: Option<&Machine>) {}

    fn add_applied(&mut self, applied: AppliedRecord, _: &Machine) {
        if let Some(wanted) = self.digest
            && self.found.is_none()
        {
            let mut candidates = applied.changes.into_iter().filter_map(|change| value_of(change, &self.name));
            self.found = candidates.find(|value| digest(value) == wanted);
        }
    }

    fn is_complete(&self) -> bool {
        self.found.is_some()
    }
}

impl Search {
    /// The value that was found, or that the run has at the end.
    fn value(self, machine: &Machine, wanted: WantedValue) -> Result<Value, ValueError> {
        let (inputs, provided) = (&machine.flow().inputs, machine.provided());
        let current = || {
            let mut candidates = [&provided, inputs].into_iter().filter_map(|values| named(values, &wanted.name));
            candidates.find(|value| wanted.digest.is_none_or(|wanted| digest(value) == wanted)).cloned()
        };
        if let Some(value) = self.found.or_else(current) {
            return Ok(value);
        }
        let names: BTreeSet<&ValueName> = inputs.keys().chain(provided.keys()).collect();
        let names = names.into_iter().map(ToString::to_string).collect();
        Err(ValueError::Missing { wanted, names })
    }
}

/// The value that a node provided under a name with a change.
fn value_of(change: Change, name: &str) -> Option<Value> {
    match change {
        Change::Node(NodeChange { provides: Some(provides), .. }) => named(&provides, name).cloned(),
        Change::Node(_) | Change::Run { .. } | Change::Firing { .. } => None,
    }
}

fn named<'a>(values: &'a Values, name: &str) -> Option<&'a Value> {
    values.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stored_bytes_have_the_type_of_json_only_if_they_are() {
        let typed = async |bytes: &'static [u8], form| {
            let (digest, size) = (Digest::from_bytes([1; 32]), bytes.len() as u64);
            let value = Value::Stored(flow::Stored { digest, size, form });
            content_type(&value, Bytes::from_static(bytes), form).await
        };
        assert_eq!(typed(br#"{"a":[1,"x"]}"#, ValueKind::Json).await, "application/json");
        for bytes in [&b"}{,"[..], b"", b"1 2", b"\"\xff\"", b"<script>"] {
            assert_eq!(typed(bytes, ValueKind::Json).await, "application/octet-stream", "{bytes:?}");
        }
        assert_eq!(typed(b"1", ValueKind::Bytes).await, "application/octet-stream");
    }
}
