//! What a token that is limited to a namespace reaches.

use axum::response::{IntoResponse as _, Response};
use flow::{Namespace, RunId};
use logbook::LoadError;

use crate::{problem::Problem, state::State};

/// The namespace that the sender of a request is limited to; `None` for a sender with all of them.
#[derive(Clone)]
pub(crate) struct CallerNamespace(pub(crate) Option<Namespace>);

impl CallerNamespace {
    /// Limits a filter to the namespace of the caller.
    ///
    /// # Errors
    /// [`Problem`] when the filter names another namespace.
    pub(crate) fn limit(&self, namespace: &mut Option<String>) -> Result<(), Problem> {
        let Some(own) = &self.0 else { return Ok(()) };
        if namespace.as_ref().is_some_and(|wanted| *wanted != own.as_str()) {
            return Err(Problem::forbidden(format!("the token is limited to the namespace {own}")));
        }
        *namespace = Some(own.to_string());
        Ok(())
    }
}

/// What a route is about, for senders that are limited to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The run in its path.
    Run,
    /// What its handler shows or changes of the namespace.
    Namespace,
    /// The whole server.
    Server,
}

/// Refuses a request about anything outside the namespace.
///
/// # Errors
/// The answer to a request that the sender may not send.
pub(super) async fn check(
    state: &State,
    namespace: &Namespace,
    reach: Reach,
    run: Option<&str>,
) -> Result<(), Response> {
    match reach {
        Reach::Namespace => Ok(()),
        Reach::Run => check_run(state, namespace, run.unwrap_or_default()).await.map_err(Problem::into_response),
        Reach::Server => {
            let detail =
                format!("the token is limited to the namespace {namespace}, and this is about the whole server");
            Err(Problem::forbidden(detail)
                .hint("a token without a namespace does; `waft token create` makes one")
                .into_response())
        }
    }
}

/// A run of another namespace does not exist for the sender.
async fn check_run(state: &State, namespace: &Namespace, run: &str) -> Result<(), Problem> {
    // An id in an encoded form is refused too: the route would decode it, and find another run.
    let run = RunId::new(run).map_err(|error| Problem::bad_request(error.to_string()))?;
    let summary = state.dependencies.logbook.summary(&run).await?;
    if summary.info.flow.namespace().as_ref() == Some(namespace) {
        return Ok(());
    }
    Err(LoadError::Missing { run }.into())
}
