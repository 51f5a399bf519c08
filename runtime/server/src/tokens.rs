//! Makes, lists and revokes tokens.

use std::time::Duration;

use api::{self, CreatedToken, NewToken, Scope, Tokens};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use engine::{Clock as _, SystemClock};
use flow::{Namespace, TokenName};
use logbook::AccessToken;
use protocol::events::rfc3339;

use crate::{audit::Subject, auth::tokens::generate, extract, problem::Problem, state::Shared};

/// The maximum time for which a token is made: a hundred years.
const MAX_LIFETIME: Duration = Duration::from_secs(100 * 366 * 24 * 3_600);

/// Makes a token. Only the answer contains its text.
#[utoipa::path(post, operation_id = "create_token", path = "/v1/tokens", tag = "tokens", request_body = NewToken, responses(
    (status = 201, description = "It was made", body = CreatedToken),
    (status = 409, description = "There is a token of that name", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(state): Shared,
    extract::Json(new): extract::Json<NewToken>,
) -> Result<(StatusCode, Extension<Subject>, Json<CreatedToken>), Problem> {
    let name = TokenName::new(&new.name).map_err(|error| Problem::bad_request(format!("name: {error}")))?;
    let words = || Scope::ALL.iter().map(Scope::as_str).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = new.scopes.iter().find(|scope| matches!(scope, Scope::Unknown(_))) {
        return Err(Problem::bad_request(format!("there is no scope {:?}", unknown.as_str()))
            .hint(format!("the scopes are {}", words())));
    }
    if new.scopes.is_empty() {
        return Err(Problem::bad_request("a token has one scope at least").hint(format!("the scopes are {}", words())));
    }
    let namespace = new.namespace.as_ref().map(Namespace::new).transpose();
    let namespace = namespace.map_err(|error| Problem::bad_request(format!("namespace: {error}")))?;
    let of_server = [Scope::Admin, Scope::Metrics].into_iter().find(|scope| new.scopes.contains(scope));
    if let Some(scope) = of_server.filter(|_| namespace.is_some()) {
        return Err(Problem::bad_request(format!(
            "the scope {scope} is for the whole server, and not for a namespace"
        ))
        .hint("give the other scopes that the token needs"));
    }
    let lifetime = new.expires_in.map(Duration::from_secs);
    if lifetime.is_some_and(|lifetime| lifetime.is_zero() || lifetime > MAX_LIFETIME) {
        return Err(Problem::bad_request("expires_in is not a number of seconds from one to a hundred years"));
    }
    let secret = generate().map_err(Problem::unavailable)?;
    let now = SystemClock.now();
    let scopes = Scope::ALL.iter().filter(|scope| new.scopes.contains(scope)).map(|scope| scope.as_str().to_owned());
    let token = AccessToken {
        name,
        hash: store::digest_of(secret.as_bytes()),
        scopes: scopes.collect(),
        namespace,
        created_at: now,
        expires_at: lifetime.map(|lifetime| now.after(lifetime)),
    };
    let logbook = &state.dependencies.logbook;
    if !logbook.add_token(&token).await.map_err(|error| Problem::internal(&error))? {
        let detail = format!("there is a token {} already", token.name);
        return Err(Problem::new(StatusCode::CONFLICT, "token-exists", "the name is taken", detail)
            .hint("choose another name, or revoke that token first"));
    }
    let subject = Extension(Subject(token.name.to_string()));
    Ok((StatusCode::CREATED, subject, Json(CreatedToken { secret, token: document(&token) })))
}

/// Lists the tokens, without their text.
#[utoipa::path(get, operation_id = "list_tokens", path = "/v1/tokens", tag = "tokens", responses(
    (status = 200, description = "The tokens, in order of name", body = Tokens),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(State(state): Shared) -> Result<Json<Tokens>, Problem> {
    let tokens = state.dependencies.logbook.tokens().await.map_err(|error| Problem::internal(&error))?;
    Ok(Json(Tokens { tokens: tokens.iter().map(document).collect() }))
}

/// Revokes a token: within a second, no server that shares the logbook accepts it.
#[utoipa::path(delete, operation_id = "revoke_token", path = "/v1/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "The token's name")), responses(
        (status = 204, description = "It was revoked"),
        (status = 404, description = "There is no such token", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn revoke(State(state): Shared, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let missing = |detail: String| {
        Problem::new(StatusCode::NOT_FOUND, "no-such-token", "there is no such token", detail)
            .hint("`waft token list` or GET /v1/tokens shows the tokens there are")
    };
    let parsed = TokenName::new(&name).map_err(|error| missing(error.to_string()))?;
    let removed = state.dependencies.logbook.remove_token(&parsed).await.map_err(|error| Problem::internal(&error))?;
    if !removed {
        return Err(missing(format!("there is no token {parsed}")));
    }
    state.tokens.forget(parsed.as_str());
    Ok(StatusCode::NO_CONTENT)
}

fn document(token: &AccessToken) -> api::Token {
    api::Token {
        name: token.name.to_string(),
        scopes: token.scopes.iter().map(|scope| Scope::from(scope.as_str())).collect(),
        namespace: token.namespace.as_ref().map(ToString::to_string),
        created_at: rfc3339(token.created_at),
        expires_at: token.expires_at.map(rfc3339),
    }
}
