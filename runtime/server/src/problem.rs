//! Problem details, as in RFC 9457.

use std::error::Error;

use axum::{
    Extension,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::{CommandError, SubmitError};
use logbook::LoadError;
use tracing::warn;

/// What senders get to know of a failure that is about the whole server, such as of its logbook or store.
pub(crate) const IN_THE_LOG: &str = "the log of the server has the reason";

/// Why a request was not fulfilled.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    problem: Box<api::Problem>,
    /// What a sender that is limited to a namespace gets to know instead.
    limited: Option<Limited>,
}

/// The detail and the hint for senders that are limited to a namespace.
#[derive(Debug, Clone)]
struct Limited {
    detail: String,
    /// `None` for the hint that everybody gets.
    hint: Option<String>,
}

/// The answer to senders that are limited to a namespace, beside the answer to all others.
#[derive(Clone)]
pub(crate) struct LimitedAnswer {
    status: StatusCode,
    problem: Box<api::Problem>,
    /// What it leaves out, for the log.
    pub(crate) left_out: String,
}

impl Problem {
    /// The problem document of the API.
    #[must_use]
    pub fn into_document(self) -> api::Problem {
        *self.problem
    }

    /// A problem: its kind, its title, and the detail of this occurrence.
    pub(crate) fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        let problem = api::Problem {
            kind: format!("urn:waft:problem:{kind}"),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            hint: None,
            diagnostics: Vec::new(),
        };
        Self { status, problem: Box::new(problem), limited: None }
    }

    /// Senders that are limited to a namespace get this detail, and this hint if there is one: the detail for others is about
    /// the whole server. Its log has both.
    pub(crate) fn for_limited(mut self, detail: impl Into<String>, hint: Option<&str>) -> Self {
        self.limited = Some(Limited { detail: detail.into(), hint: hint.map(str::to_owned) });
        self
    }

    /// The problem as senders see it that are limited to a namespace.
    pub(crate) fn limited(self) -> Self {
        let Self { status, mut problem, limited } = self;
        if let Some(Limited { detail, hint }) = limited {
            problem.detail = detail;
            problem.hint = hint.or(problem.hint);
        }
        Self { status, problem, limited: None }
    }

    /// A part of the request cannot be parsed.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "the request cannot be read", detail)
    }

    /// The sender may not do this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "the token does not allow this", detail)
    }

    /// A dependency of the server is unavailable.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let title = "something the server needs does not work";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail)
    }

    /// A dependency of the server failed, with the chain of causes.
    pub(crate) fn internal(error: &dyn Error) -> Self {
        let detail = chain(error);
        warn!(error = detail, "a request failed");
        Self::unavailable(detail).for_limited(IN_THE_LOG, None)
    }

    /// Stored data is corrupt.
    fn corrupt(detail: String) -> Self {
        warn!(error = detail, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", "the records of the run are corrupt", detail)
            .for_limited(IN_THE_LOG, None)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    pub(crate) fn diagnostics(mut self, diagnostics: Vec<api::Diagnostic>) -> Self {
        self.problem.diagnostics = diagnostics;
        self
    }

    /// There is no webhook of this name.
    pub(crate) fn missing_webhook(name: &str, known: &[&str]) -> Self {
        let detail = format!("there is no webhook {name:?}");
        let problem = Self::new(StatusCode::NOT_FOUND, "no-such-webhook", "there is no such webhook", detail);
        match known {
            [] => problem.hint("[[webhook]] in the settings of the server adds one"),
            known => problem.hint(format!("the webhooks are {}", known.join(", "))),
        }
    }

    /// A run has no such value.
    pub(crate) fn missing_value(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-value", "the run has no such value", detail)
    }

    /// The records of a run have no such attempt.
    pub(crate) fn missing_attempt(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-attempt", "the records of the run have no such attempt", detail)
    }

    /// The store does not have a content any more that a run names.
    pub(crate) fn deleted_content(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-content", "the store does not have it any more", detail)
    }

    /// What is asked for is larger than an answer may be.
    pub(crate) fn too_large_answer(detail: String) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too-large", "the answer would be too large", detail)
    }

    fn missing_run(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-run", "there is no such run", detail)
            .hint("`waft list` or GET /v1/runs shows the runs there are")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, problem, limited } = self;
        let response = response(status, &problem);
        let Some(limited) = limited else { return response };
        let left_out = problem.detail.clone();
        let Self { problem, .. } = Self { status, problem, limited: Some(limited) }.limited();
        (Extension(LimitedAnswer { status, problem, left_out }), response).into_response()
    }
}

impl IntoResponse for LimitedAnswer {
    fn into_response(self) -> Response {
        response(self.status, &self.problem)
    }
}

fn response(status: StatusCode, problem: &api::Problem) -> Response {
    let body = serde_json::to_string(problem).expect("texts and numbers serialize");
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Missing { .. } => Self::missing_run(error.to_string()),
            LoadError::Damaged { .. } => Self::corrupt(error.to_string()),
            LoadError::Unavailable { .. } => Self::internal(&error),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match &error {
            CommandError::Missing { .. } => Self::missing_run(detail),
            CommandError::NotApplicable { .. } | CommandError::AlreadyDriven { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", "the run is not in a state for that", detail)
                    .hint("`waft show RUN` or GET /v1/runs/RUN shows the state of the run and its tasks")
            }
            CommandError::Unreachable { .. } => Self::unavailable(detail).hint(
                "the command may still take effect: look at the run again; a run of `waft run` that was \
                     interrupted is continued with `waft run --resume RUN`",
            ),
            CommandError::Abandoned { run } => {
                Self::new(StatusCode::CONFLICT, "conflict", "no process drives the run", detail)
                    .hint(format!("`waft run --resume {run}` continues it"))
            }
            CommandError::Refused { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", "the run cannot take that now", detail)
                    .hint("`waft show RUN` or GET /v1/runs/RUN shows what it waits for")
            }
            CommandError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the command is too large", detail)
                    .hint("put large data into values, which go to the store; divide a large flow into several")
            }
            CommandError::Failed { .. } | CommandError::Stopping => Self::internal(&error),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Exists { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", "there is such a run already", error.to_string())
            }
            SubmitError::TooManyOpen { .. } => {
                let title = "too many runs of the flow have not ended";
                Self::new(StatusCode::CONFLICT, "too-many-runs", title, error.to_string()).hint(
                    "submit it again when some of them have ended, or cancel some: `waft list --flow FLOW` shows them; an \
                     operator changes the maximum under [limits] in the settings of the server",
                )
            }
            SubmitError::TooManyOpenInNamespace { .. } => {
                let title = "too many runs of the namespace have not ended";
                Self::new(StatusCode::CONFLICT, "too-many-runs", title, error.to_string()).hint(
                    "submit it again when some of them have ended, or cancel some: `waft list` shows them; an operator changes \
                     the maximum under [namespace] in the settings of the server",
                )
            }
            SubmitError::RunId(_) => {
                let (status, title) = (StatusCode::UNPROCESSABLE_ENTITY, "the flow cannot run");
                Self::new(status, "invalid-flow", title, error.to_string()).hint("choose a shorter id for the run")
            }
            SubmitError::Bug { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "the run triggers a bug of waft", error.to_string())
            }
            SubmitError::Put(_)
            | SubmitError::Declare(_)
            | SubmitError::Listen(_)
            | SubmitError::NoShard
            | SubmitError::Stopping
            | SubmitError::Append(_) => {
                Self::internal(&error).hint("submit it again with the same run id: it starts once")
            }
        }
    }
}

/// The maximum number of texts of a list in an answer. A request may have millions of inputs, and a flow hundreds of thousands of nodes.
const MAX_LISTED: usize = 100;

/// The first texts of a list, and the number of the others.
pub(crate) fn listed(mut texts: Vec<String>, separator: &str) -> String {
    let others = texts.len().saturating_sub(MAX_LISTED);
    texts.truncate(MAX_LISTED);
    if others > 0 {
        texts.push(format!("and {others} more"));
    }
    texts.join(separator)
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(error) = reason {
        text.push_str(&format!(": {error}"));
        reason = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut() {
        let texts = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(listed(texts(3), ", "), "0, 1, 2");
        assert!(listed(texts(MAX_LISTED), "; ").ends_with("; 98; 99"));
        assert!(listed(texts(MAX_LISTED + 2), "; ").ends_with("; 99; and 2 more"));
    }
}
