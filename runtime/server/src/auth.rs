//! Access control: requests need the token, and pages of other origins are refused.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{Token, peer::Peer, problem::Problem, state};

/// Passes a request that carries the token. Without a token, the server listens only on this machine, and serves only the
/// user who started it. Then the request must name an IP address or `localhost` as its host. This stops a web page whose own
/// host name resolves to this machine from acting for its visitor.
pub(crate) async fn require_token(
    State(state): State<Arc<state::State>>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    match &state.token {
        Some(token) if !has_bearer_token(request.headers(), token) => unauthorized(),
        None if !is_local_host(request.headers()) => {
            let detail = "without a token, requests name this machine by its address or as localhost";
            Problem::new(StatusCode::FORBIDDEN, "forbidden", "the request names another host", detail)
                .hint("set a token, and requests may come under any name")
                .into_response()
        }
        None if !peer.is_own_user().await => {
            let detail = "the connection comes from another user of this machine";
            Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "without a token, a server serves only its own user",
                detail,
            )
            .hint("start the server with a token (WAFT_TOKEN), and give it to the users who may use the server")
            .into_response()
        }
        Some(_) | None => next.run(request).await,
    }
}

/// Refuses requests that a web page of another origin makes.
pub(crate) async fn reject_foreign_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let Some(origin) = text(headers, &header::ORIGIN) else { return next.run(request).await };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    if authority.is_some() && authority == text(headers, &header::HOST) {
        return next.run(request).await;
    }
    let detail = format!("a page of {origin} may not send requests to this server");
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "the request comes from another origin", detail).into_response()
}

/// Whether the request carries the token, or comes from the user who started a server without one.
pub(crate) async fn is_trusted(headers: &HeaderMap, token: Option<&Token>, peer: &Peer) -> bool {
    match token {
        Some(token) => has_bearer_token(headers, token),
        None => peer.is_own_user().await,
    }
}

fn has_bearer_token(headers: &HeaderMap, token: &Token) -> bool {
    let Some((scheme, token_text)) = text(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && token.is(token_text.trim().as_bytes())
}

fn unauthorized() -> Response {
    let detail = "the request carries no token, or a wrong one";
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "a token is needed", detail)
        .hint("send the header `Authorization: Bearer TOKEN`; the waft commands take --token or WAFT_TOKEN");
    ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

fn is_local_host(headers: &HeaderMap) -> bool {
    // HTTP/1.1 requires this header; a request without it does not come from a browser.
    let Some(host) = text(headers, &header::HOST) else { return true };
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_named_by_address_or_as_localhost() {
        let named = |host: &str| is_local_host(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]));
        for good in ["127.0.0.1:7468", "localhost:7468", "LOCALHOST", "[::1]:7468", "[::1]", "10.0.0.1"] {
            assert!(named(good), "{good} was refused");
        }
        for bad in ["evil.example", "evil.example:7468", "localhost.evil.example", ""] {
            assert!(!named(bad), "{bad} passed");
        }
    }
}
