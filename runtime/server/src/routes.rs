//! Maps paths to handlers.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode, Uri},
    middleware,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    all_events, audit, auth, engines, events, grants, health, modules, openapi, permits, problem::Problem, quarantine,
    queues, runs, scrape, state::State, tokens, webhooks, workers,
};

/// Every route, with its description. The second router holds the routes that need no token.
pub(crate) fn described() -> (OpenApiRouter<Arc<State>>, OpenApiRouter<Arc<State>>) {
    let guarded = OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(runs::submit::submit, runs::list::list))
        .routes(routes!(runs::counts::counts))
        .routes(routes!(runs::schedules::list))
        .routes(routes!(runs::bulk::bulk))
        .routes(routes!(runs::show::show))
        .routes(routes!(runs::flow_text::flow_text))
        .routes(routes!(runs::value::value))
        .routes(routes!(runs::graph::graph))
        .routes(routes!(runs::timeline::timeline))
        .routes(routes!(runs::rehearsal::rehearse))
        .routes(routes!(runs::elements::elements))
        .routes(routes!(runs::attempt::attempt))
        .routes(routes!(events::events))
        .routes(routes!(all_events::events))
        .routes(routes!(runs::logs::logs))
        .routes(routes!(runs::exchanges::exchanges))
        .routes(routes!(runs::follow::follow))
        .routes(routes!(runs::commands::cancel))
        .routes(routes!(runs::commands::suspend))
        .routes(routes!(runs::commands::resume))
        .routes(routes!(runs::commands::retry))
        .routes(routes!(runs::commands::skip))
        .routes(routes!(runs::commands::notify))
        .routes(routes!(runs::edits::edit))
        .routes(routes!(modules::push, modules::list::list))
        .routes(routes!(modules::show))
        .routes(routes!(modules::sign))
        .routes(routes!(workers::list))
        .routes(routes!(workers::drain))
        .routes(routes!(workers::resume))
        .routes(routes!(queues::list))
        .routes(routes!(engines::list))
        .routes(routes!(permits::list))
        .routes(routes!(quarantine::list, quarantine::drop_messages))
        .routes(routes!(quarantine::release))
        .routes(routes!(grants::explain))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::test))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(health::checks))
        .routes(routes!(scrape::metrics))
        .routes(routes!(openapi::openapi));
    let open = OpenApiRouter::new().routes(routes!(health::health)).routes(routes!(health::ready));
    (guarded, open)
}

/// All routes of the API.
pub(crate) fn router(state: Arc<State>, largest_request: usize) -> Router {
    let (guarded, open) = described();
    let (guarded, _) = guarded.split_for_parts();
    let (open, _) = open.split_for_parts();
    // Unknown paths need a token too, so that outsiders do not learn which paths exist.
    let guarded = guarded.fallback(unknown).method_not_allowed_fallback(wrong_method);
    let guarded = guarded.layer(middleware::from_fn_with_state(state.clone(), auth::require_scope));
    let router = guarded.merge(open.method_not_allowed_fallback(wrong_method));
    router
        .layer(DefaultBodyLimit::max(largest_request))
        .layer(middleware::from_fn(auth::reject_foreign_origin))
        .with_state(state)
}

/// Answers a request for a path that does not exist.
pub(crate) async fn unknown(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such route", detail)
        .hint("GET /v1/openapi.json describes all there is")
}

/// Answers a request with a method that its path does not take.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "the route does not take this method", detail)
        .hint("GET /v1/openapi.json describes what it takes")
}
