//! The HTTP API. Bodies are JSON. A request that makes something may have the header `idempotency-key`.
//!
//! | request | means |
//! | --- | --- |
//! | `POST /v1/servers` | makes a server: `{"name": "blog", "region": "eu-north", "protected": false}` |
//! | `GET /v1/servers` | all servers |
//! | `PUT /v1/servers/ID/protection` | allows or forbids to delete a server: `{"protected": false}` |
//! | `DELETE /v1/servers/ID` | deletes a server that nothing uses |
//! | `POST /v1/servers/ID/wordpress` | installs WordPress: `{"version": "6.9", "recipes": ["web"]}` |
//! | `GET /v1/recipes` | the recipes for configuring a server |
//! | `POST /v1/servers/ID/monitors` | watches a server: `{"alert": "ann@example.com"}` |
//! | `POST /v1/pools/POOL/addresses` | adds an address to a pool of a load balancer: `{"address": "blog-1.eu-north.example"}` |
//! | `GET /v1/pools/POOL/addresses` | the addresses in a pool |
//! | `DELETE /v1/pools/POOL/addresses/ADDRESS` | removes an address |
//! | `DELETE /v1/requests/KEY` | deletes what the request with this idempotency key has made |
//! | `GET /v1/orders?day=2026-03-01&page=1` | a page of the orders of a day |
//! | `GET /files/NAME` | a file; it needs no token |

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    middleware,
    routing::{delete, get, post, put},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    cloud::{Cloud, NewServer, RECIPES},
    faults::Faults,
    files::Files,
    ledger::KeyedRequest,
    orders::{self, Page},
    problem::Problem,
    resource::Resource,
    serve,
    turns::Turns,
};

/// The header with the key that is the same for each attempt of a request.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The path of requests, before their keys.
pub(crate) const REQUESTS: &str = "/v1/requests/";

/// The maximum length of a key.
const MAX_KEY_LENGTH: usize = 512;

/// A region whose servers have to be prepared: the first request for a server is answered with 503.
const REGION_WITHOUT_STOCK: &str = "far-north";

/// What all requests share.
pub(crate) struct App {
    cloud: Mutex<Cloud>,
    pub(crate) turns: Turns,
    pub(crate) faults: Faults,
    token: String,
    /// The time that each change takes.
    slow: Duration,
    /// The requests for which a server is being prepared.
    prepared: Mutex<HashSet<String>>,
}

type Answer = Result<(StatusCode, Json<Value>), Problem>;

impl App {
    pub(crate) fn new(cloud: Cloud, token: String, slow: Duration, faults: Faults) -> Arc<Self> {
        let (cloud, prepared) = (Mutex::new(cloud), Mutex::default());
        Arc::new(Self { cloud, turns: Turns::default(), faults, token, slow, prepared })
    }

    /// Whether a request has the token.
    pub(crate) fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let sent = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(token) = sent.strip_prefix("Bearer ") else {
            let expected = "send the header `authorization: Bearer TOKEN` with the token in CLOUD_TOKEN of the cloud";
            return Err(Problem::unauthorized(format!("the request has no token: {expected}")));
        };
        // The time of the comparison does not depend on how many characters are right.
        let differences = token.bytes().zip(self.token.bytes()).fold(0, |sum, (sent, own)| sum | (sent ^ own));
        if token.len() != self.token.len() || differences != 0 {
            return Err(Problem::unauthorized("the token is not the one in CLOUD_TOKEN of the cloud"));
        }
        Ok(())
    }

    /// Changes the cloud.
    async fn change<T: Send + 'static>(
        self: Arc<Self>,
        change: impl FnOnce(&mut Cloud) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        tokio::time::sleep(self.slow).await;
        // The ledger waits for the disk.
        let changed = tokio::task::spawn_blocking(move || change(&mut lock(&self.cloud))).await;
        changed.map_err(|error| Problem::broken(format!("a bug of the cloud: {error}")))?
    }
}

pub(crate) fn router(app: Arc<App>, files: Option<Files>) -> Router {
    let api = Router::new()
        .route("/v1/servers", get(list_servers).post(create_server))
        .route("/v1/servers/{id}", delete(delete_server))
        .route("/v1/servers/{id}/protection", put(protect_server))
        .route("/v1/servers/{id}/wordpress", post(install_wordpress))
        .route("/v1/servers/{id}/monitors", post(add_monitor))
        .route("/v1/pools/{pool}/addresses", get(list_addresses).post(add_address))
        .route("/v1/pools/{pool}/addresses/{address}", delete(remove_address))
        .route(&format!("{REQUESTS}{{*key}}"), delete(take_back))
        .route("/v1/recipes", get(list_recipes))
        .route("/v1/orders", get(list_orders))
        // The last layer is the first to see a request.
        .layer(middleware::from_fn_with_state(Arc::clone(&app), serve::handle))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), serve::require_token))
        .with_state(app);
    let read_file = move |Path(name): Path<String>| async move {
        match files {
            Some(files) => files.read(name).await,
            None => Err(Problem::not_found("the cloud has no files: start it with --files FOLDER")),
        }
    };
    let unknown =
        |method: Method, uri: Uri| async move { Problem::not_found(format!("there is no {method} {}", uri.path())) };
    api.route("/files/{*name}", get(read_file)).fallback(unknown)
}

async fn create_server(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Answer {
    let (request, new) = read::<NewServer>(&uri, &headers, &body)?;
    let prepared_for = format!("{request:?} {new:?}");
    if new.is_in(REGION_WITHOUT_STOCK) && lock(&app.prepared).insert(prepared_for) {
        let reason = format!("no server is free in {REGION_WITHOUT_STOCK}: one is being prepared");
        return Err(Problem::busy(reason));
    }
    created(app.change(move |cloud| cloud.create_server(request, new)).await)
}

async fn install_wordpress(
    State(app): State<Arc<App>>,
    Path(server): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let (request, new) = read(&uri, &headers, &body)?;
    created(app.change(move |cloud| cloud.install_wordpress(request, server, new)).await)
}

async fn add_monitor(
    State(app): State<Arc<App>>,
    Path(server): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        alert: String,
    }
    let (request, Body { alert }) = read(&uri, &headers, &body)?;
    created(app.change(move |cloud| cloud.add_monitor(request, server, alert)).await)
}

async fn add_address(
    State(app): State<Arc<App>>,
    Path(pool): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        address: String,
    }
    let (request, Body { address }) = read(&uri, &headers, &body)?;
    created(app.change(move |cloud| cloud.add_address(request, pool, address)).await)
}

async fn delete_server(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    deleted(app.change(move |cloud| cloud.delete_server(&id)).await)
}

async fn remove_address(
    State(app): State<Arc<App>>,
    Path((pool, address)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    deleted(app.change(move |cloud| cloud.remove_address(&pool, &address)).await)
}

async fn take_back(State(app): State<Arc<App>>, Path(key): Path<String>) -> Result<StatusCode, Problem> {
    deleted(app.change(move |cloud| cloud.take_back(&key)).await)
}

async fn protect_server(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        protected: bool,
    }
    let Body { protected } = read_json(&body)?;
    let server = app.change(move |cloud| cloud.protect(&id, protected)).await?;
    Ok((StatusCode::OK, Json(server.to_answer())))
}

async fn list_servers(State(app): State<Arc<App>>) -> Json<Value> {
    let cloud = lock(&app.cloud);
    Json(json!({ "servers": cloud.servers().collect::<Vec<_>>() }))
}

async fn list_recipes() -> Json<Value> {
    Json(json!({ "recipes": RECIPES }))
}

async fn list_addresses(State(app): State<Arc<App>>, Path(pool): Path<String>) -> Json<Value> {
    let cloud = lock(&app.cloud);
    let addresses: Vec<&str> = cloud.addresses(&pool).map(|entry| &*entry.address).collect();
    Json(json!({ "addresses": addresses }))
}

async fn list_orders(
    query: Result<Query<PageOfDay>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(PageOfDay { day, page }) = query.map_err(|error| Problem::invalid(error.body_text()))?;
    let found = orders::page(&day, page);
    found.map(Json).ok_or_else(|| Problem::not_found(format!("the orders of {day} have no page {page}")))
}

#[derive(Deserialize)]
struct PageOfDay {
    day: String,
    page: u32,
}

fn created(made: Result<Resource, Problem>) -> Answer {
    Ok((StatusCode::CREATED, Json(made?.to_answer())))
}

fn deleted(done: Result<(), Problem>) -> Result<StatusCode, Problem> {
    done.map(|()| StatusCode::NO_CONTENT)
}

/// The key of a POST request, and its body.
fn read<T: DeserializeOwned>(
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(Option<KeyedRequest>, T), Problem> {
    let parsed = read_json(body)?;
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok((None, parsed)) };
    let key = key.to_str().ok().filter(|key| (1..=MAX_KEY_LENGTH).contains(&key.len()));
    let key = key.ok_or_else(|| {
        Problem::invalid(format!("the header {IDEMPOTENCY_KEY} has 1 to {MAX_KEY_LENGTH} visible characters of ASCII"))
    })?;
    let content = format!("POST {} {}", uri.path(), String::from_utf8_lossy(body));
    Ok((Some(KeyedRequest { key: key.to_owned(), content }), parsed))
}

fn read_json<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::invalid(format!("the body is not the expected JSON: {error}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
