//! Access control: who sends a request, and what the sender may do. Pages of other origins are refused.

pub(crate) mod client;
pub(crate) mod namespace;
pub(crate) mod peer;
pub(crate) mod permission;
pub(crate) mod tokens;
mod scope;

use std::{net::IpAddr, sync::Arc};

use api::Scope;
use axum::{
    Extension,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use flow::Namespace;
use logbook::{AccessToken, AuditEntry};
use tracing::info;

use self::{client::Client, namespace::CallerNamespace, peer::Peer, permission::Permission, scope::Requirement};
use crate::{
    MovedTag,
    audit::{self, Detail, Subject},
    bodies::Bodies,
    problem::{LimitedAnswer, Problem},
    shares::{Sender, Share},
    state, turns,
};

/// Who sends a request, and what the sender may do.
pub(crate) struct Caller {
    /// The name of the sender's token, or words in parentheses.
    name: String,
    scopes: Vec<Scope>,
    /// The namespace that the sender is limited to.
    namespace: Option<Namespace>,
}

impl Caller {
    /// Somebody who may do everything.
    fn admin(name: &str) -> Self {
        Self { name: name.to_owned(), scopes: vec![Scope::Admin], namespace: None }
    }

    /// Whether the caller is limited to a namespace.
    pub(crate) fn is_limited(&self) -> bool {
        self.namespace.is_some()
    }

    /// Whose share of the server the caller uses.
    fn sender(&self) -> Sender {
        match &self.namespace {
            Some(namespace) => Sender::Namespace(namespace.clone()),
            None => Sender::Token(self.name.clone()),
        }
    }

    /// The name of the caller for the audit log, with the certificate of the connection.
    fn shown_with(&self, peer: &Peer) -> String {
        let certificate = peer.certificate().map(|subject| format!(" ({subject})")).unwrap_or_default();
        format!("{}{certificate}", self.name)
    }

    /// The answer to the caller: one that is limited to a namespace gets to know nothing of the rest of the server.
    fn answer(&self, response: Response) -> Response {
        let Some(namespace) = &self.namespace else { return response };
        let Some(answer) = response.extensions().get::<LimitedAnswer>() else { return response };
        info!(token = self.name, %namespace, detail = answer.left_out, "a sender was answered without the details");
        answer.clone().into_response()
    }

    fn may(&self, scope: &Scope) -> bool {
        self.scopes.iter().any(|own| own == scope || *own == Scope::Admin)
    }
}

/// Marks the answer to a sender that was identified, whether or not it may send the request.
#[derive(Clone, Copy)]
pub(crate) struct Identified;

/// Whether the sender of a request may also read runs.
#[derive(Clone, Copy)]
pub(crate) struct MayRead(pub(crate) bool);

/// Passes a request whose sender may send it, and notes it in the audit log if it does more than read.
pub(crate) async fn require_scope(
    State(state): State<Arc<state::State>>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    let caller = match identify(&state, request.headers(), &peer).await {
        Ok(caller) => caller,
        Err(refusal) => return refusal,
    };
    let mut response = answer(state, peer, caller, request, next).await;
    response.extensions_mut().insert(Identified);
    response
}

/// Answers a request of an identified sender.
async fn answer(
    state: Arc<state::State>,
    peer: Arc<Peer>,
    caller: Caller,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if route.is_empty() {
        // Whoever has any scope may learn that a path does not exist.
        return next.run(request).await;
    }
    let required = scope::required(request.method(), route);
    let action = required.action;
    let named = subject_in_path(route, request.uri().path());
    let allowed = check(&state, &caller, &required, named.as_deref()).await;
    let permission = Arc::new(Permission {
        state: state.clone(),
        sender: caller.sender(),
        headers: permission::identifying(request.headers()),
        peer: peer.clone(),
        required,
        subject: named.clone(),
    });
    request.extensions_mut().insert(CallerNamespace(caller.namespace.clone()));
    request.extensions_mut().insert(MayRead(caller.may(&Scope::Read)));
    request.extensions_mut().insert(permission.clone());
    request.extensions_mut().insert(state.audit.of_request(caller.shown_with(&peer), peer.to_string()));
    if allowed.is_ok() && action == scope::READ {
        return caller.answer(turns::of_sender(caller.namespace.clone(), next.run(request)).await);
    }
    // It is dropped with this future, also when the client leaves.
    let (client, _present) = Client::new();
    request.extensions_mut().insert(client);
    let request = match allowed {
        Ok(()) => complete(&state.bodies, &permission, request).await,
        Err(refusal) => Err(refusal),
    };
    // A task of its own: a client that leaves stops neither the request nor its entry.
    let answered = state.requests.clone().spawn(async move {
        let response = match request {
            Ok((request, memory)) => {
                let response = turns::of_sender(caller.namespace.clone(), next.run(request)).await;
                drop(memory);
                response
            }
            Err(refusal) => refusal,
        };
        let subject = response.extensions().get::<Subject>().map(|Subject(subject)| subject.clone()).or(named);
        let entry =
            audit::entry(caller.shown_with(&peer), peer.to_string(), action, subject, response.status().as_u16());
        let detail = response.extensions().get::<Detail>().map(|Detail(detail)| detail.clone());
        let entry = AuditEntry { detail, ..entry };
        let moved = response.extensions().get::<MovedTag>().map(|moved| audit::moved_tag(&entry, moved));
        state.audit.note(entry).await;
        if let Some(moved) = moved {
            state.audit.note(moved).await;
        }
        caller.answer(response)
    });
    answered.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Refuses a request that its sender may not send.
async fn check(
    state: &state::State,
    caller: &Caller,
    required: &Requirement,
    subject: Option<&str>,
) -> Result<(), Response> {
    let Requirement { scope, reach, .. } = required;
    if !caller.may(scope) {
        return Err(out_of_scope(caller, scope));
    }
    match &caller.namespace {
        Some(namespace) => namespace::check(state, namespace, *reach, subject).await,
        None => Ok(()),
    }
}

/// Maximum length of a subject in the audit log, in characters. An id or a digest is shorter.
const MAX_SUBJECT: usize = 200;

/// Waits for the body of a request. Its sender may send it slowly, so the permission is checked again when the body is there.
///
/// # Errors
/// The answer to a request whose body does not come, or that its sender may not send any more.
async fn complete(bodies: &Bodies, permission: &Permission, request: Request) -> Result<(Request, Share), Response> {
    let complete = bodies.read(permission.sender(), request).await?;
    permission.check_again().await?;
    Ok(complete)
}

/// The run or token that the path of a request names.
fn subject_in_path(route: &str, path: &str) -> Option<String> {
    let position = route.split('/').position(|part| part.starts_with('{'))?;
    path.split('/').nth(position).map(|subject| subject.chars().take(MAX_SUBJECT).collect())
}

fn out_of_scope(caller: &Caller, needed: &Scope) -> Response {
    let Caller { name, scopes, .. } = caller;
    let has = scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(", ");
    let detail = format!("the token {name} has the scopes {has}, and this needs {needed}");
    Problem::forbidden(detail)
        .hint(format!("`waft token create NAME --scope {needed}` makes a token that does; it takes an admin"))
        .into_response()
}

/// Finds out who sends a request.
///
/// With a token it is one of the server's configured ones, or one of the logbook. Without a token, the server listens only on this
/// machine and has none configured, and serves the user who started it. Then the request must name an IP address or
/// `localhost` as its host. This stops a web page whose own host name resolves to this machine from acting for its visitor. Neither may a
/// page of another origin cause the request.
///
/// # Errors
/// The answer to a request that nobody may send.
pub(crate) async fn identify(state: &state::State, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Response> {
    if let Some(text) = bearer(headers) {
        if state.token.as_ref().is_some_and(|token| token.is(text.as_bytes())) {
            return Ok(Caller::admin("(server token)"));
        }
        // Without the logbook: the metrics are wanted most while it does not answer.
        if state.metrics_token.as_ref().is_some_and(|token| token.is(text.as_bytes())) {
            return Ok(Caller { name: "(metrics token)".into(), scopes: vec![Scope::Metrics], namespace: None });
        }
        let found = state.tokens.find(&*state.dependencies.logbook, text).await;
        // It is not known yet who asks.
        let found = found.map_err(|error| Problem::internal(&error).limited().into_response())?;
        if let Some(AccessToken { name, scopes, namespace, .. }) = found {
            let scopes = scopes.iter().map(|scope| Scope::from(scope.as_str())).collect();
            return Ok(Caller { name: name.to_string(), scopes, namespace });
        }
        return Err(unauthorized());
    }
    if state.token.is_some() {
        return Err(unauthorized());
    }
    check_owner(headers, peer).map_err(|refusal| *refusal)?;
    Ok(Caller::admin("(owner)"))
}

/// Refuses a request to a server without a token, unless it comes from the user who started the server, and not from a web page.
///
/// # Errors
/// The answer to a request that nobody may send.
pub(crate) fn check_owner(headers: &HeaderMap, peer: &Peer) -> Result<(), Box<Response>> {
    if headers.contains_key(header::AUTHORIZATION) {
        return Err(Box::new(unauthorized()));
    }
    if !is_local_host(headers) {
        let detail = "without a token, requests name this machine by its address or as localhost";
        let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden", "the request names another host", detail);
        return Err(Box::new(problem.hint("set a token, and requests may come under any name").into_response()));
    }
    if is_of_other_page(headers) {
        let detail =
            "without a token, a server answers no request that a page of another origin makes its visitor send";
        let title = "a page of another origin causes the request";
        let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden", title, detail);
        return Err(Box::new(problem.hint("open the address in a tab of its own, or set a token").into_response()));
    }
    if !peer.is_own_user() {
        let detail = "the connection comes from another user of this machine";
        let title = "without a token, a server serves only its own user";
        let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden", title, detail)
            .hint("ask that user for a token (`waft token create`), and give it with --token or WAFT_TOKEN");
        return Err(Box::new(problem.into_response()));
    }
    Ok(())
}

/// In which relation the page that causes a request is to its address, as the browser says.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses requests that a web page of another origin makes.
pub(crate) async fn reject_foreign_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return next.run(request).await };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    if authority.is_some() && authority == text(headers, &header::HOST) && origins.next().is_none() {
        return next.run(request).await;
    }
    let origin: String = String::from_utf8_lossy(origin.as_bytes()).chars().take(200).collect();
    let detail = format!("a page of {origin} may not send requests to this server");
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "the request comes from another origin", detail).into_response()
}

/// The token that a request carries.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(crate) fn unauthorized() -> Response {
    let detail = "the request carries no token, or one that is wrong, revoked or expired";
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "a token is needed", detail)
        .hint("send the header `Authorization: Bearer TOKEN`; the waft commands take --token or WAFT_TOKEN");
    ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

/// Whether a browser says that a page of another origin causes the request. It says so also of images, scripts and links, which have no
/// `Origin`. Other clients say nothing.
fn is_of_other_page(headers: &HeaderMap) -> bool {
    let own = [&b"same-origin"[..], b"none"];
    headers.get_all(FETCH_SITE).iter().any(|site| !own.contains(&site.as_bytes()))
}

/// Whether the request names this machine as its host. A request without a host does not come from a browser: HTTP/1.1
/// requires the header.
fn is_local_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return headers.get(header::HOST).is_none() };
    let Ok(host) = host.to_str() else { return false };
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, Some(port.strip_prefix(':').unwrap_or(port))),
        None => host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let has_valid_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    has_valid_port && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_browser_says_which_requests_other_pages_cause() {
        let of_other = |sites: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for site in sites {
                headers.append(FETCH_SITE, HeaderValue::from_static(site));
            }
            is_of_other_page(&headers)
        };
        assert!(!of_other(&[]) && !of_other(&["same-origin"]) && !of_other(&["none"]));
        for other in [&["cross-site"][..], &["same-site"], &["Same-Origin"], &["same-origin", "cross-site"]] {
            assert!(of_other(other), "{other:?} passed");
        }
    }

    #[test]
    fn this_machine_is_named_by_address_or_as_localhost() {
        let named = |host: &str| is_local_host(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]));
        for good in ["127.0.0.1:7468", "localhost:7468", "LOCALHOST", "[::1]:7468", "[::1]", "10.0.0.1"] {
            assert!(named(good), "{good} was refused");
        }
        for bad in
            ["evil.example", "evil.example:7468", "localhost.evil.example", "", "[::1]evil.example", "localhost:x"]
        {
            assert!(!named(bad), "{bad} passed");
        }
        let raw = |hosts: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_bytes(host).unwrap());
            }
            is_local_host(&headers)
        };
        assert!(raw(&[]) && raw(&[b"localhost"]));
        assert!(!raw(&[b"\xff"]) && !raw(&[b"localhost", b"evil.example"]));
    }
}
