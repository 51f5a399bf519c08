//! Uploads, lists and shows modules of the store.

use sandbox::{CompileError, ModuleError};
use std::time::{SystemTime, UNIX_EPOCH};

use api::{self, Modules, StoredModule};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use flow::{Digest, Namespace, Timestamp};
use serde::Deserialize;
use store::{FetchError, Tag, TagError};
use utoipa::{IntoParams, ToSchema};

use crate::{
    InspectedModule, LibraryError,
    audit::Subject,
    auth::namespace::CallerNamespace,
    extract::{Body, Query},
    problem::{Problem, chain},
    state::Shared,
};

/// The schema of a body of bytes.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
struct Bytes(#[expect(dead_code, reason = "only its schema is used")] Vec<u8>);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PushQuery {
    /// A tag that refers to the module from now on.
    tag: Option<String>,
}

/// Stores a module.
///
/// The body is a core module, which is converted to a component, a component or a WASI command. It is checked before it is
/// stored.
#[utoipa::path(post, operation_id = "push_module", path = "/v1/modules", tag = "modules", params(PushQuery),
    request_body(content = inline(Bytes), content_type = "application/wasm"), responses(
        (status = 201, description = "It is stored", body = api::Module),
        (status = 422, description = "It is no module that waft can run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn push(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Query(query): Query<PushQuery>,
    Body(bytes): Body,
) -> Result<(StatusCode, Extension<Subject>, Json<api::Module>), Problem> {
    let library = &state.dependencies.modules;
    let tag = query.tag.map(|tag| tag.parse::<Tag>()).transpose();
    let tag = tag.map_err(|error| Problem::bad_request(error.to_string()))?;
    let tag = tag.map(|tag| own_tag(&tag, namespace.as_ref())).transpose()?;
    let found = library.inspect(bytes).await.map_err(refused)?;
    library.store(&found).await.map_err(refused)?;
    if let Some(tag) = tag {
        library.store.tag(&tag, &found.digest).await.map_err(|error| Problem::internal(&error))?;
    }
    Ok((StatusCode::CREATED, Extension(Subject(found.digest.to_string())), Json(module(&found))))
}

/// The tag that a sender means. A sender that is limited to a namespace moves only tags of the namespace.
fn own_tag(tag: &Tag, namespace: Option<&Namespace>) -> Result<Tag, Problem> {
    let own = tag.within(namespace).map_err(|error| Problem::bad_request(error.to_string()))?;
    match namespace.filter(|namespace| own.namespace().as_ref() != Some(*namespace)) {
        Some(namespace) => {
            let detail = format!("the tag is {tag}, and the token is limited to the namespace {namespace}");
            Err(Problem::forbidden(detail).hint("give the tag without a namespace"))
        }
        None => Ok(own),
    }
}

/// Lists the contents of the store: modules, and values that were too large for messages. A token that is limited to a
/// namespace lists what its tags name, and the tags of none.
#[utoipa::path(get, operation_id = "list_modules", path = "/v1/modules", tag = "modules", responses(
    (status = 200, description = "The contents, in order of digest", body = Modules),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
) -> Result<Json<Modules>, Problem> {
    let store = &state.dependencies.modules.store;
    let entries = store.list().await.map_err(|error| Problem::internal(&error))?;
    let tags = store.tags().await.map_err(|error| Problem::internal(&error))?;
    let is_visible = |tag: &Tag| namespace.is_none() || tag.namespace().is_none() || tag.namespace() == namespace;
    let tags_of = |digest: Digest| -> Vec<String> {
        let named = tags.iter().filter(|(tag, named)| *named == digest && is_visible(tag));
        named.map(|(tag, _)| tag.to_string()).collect()
    };
    let stored = |entry: store::Entry| StoredModule {
        digest: entry.digest.to_string(),
        size: entry.size,
        stored_at: protocol::events::rfc3339(timestamp(entry.stored_at)),
        tags: tags_of(entry.digest),
    };
    let mut modules: Vec<StoredModule> = entries.into_iter().map(stored).collect();
    modules.retain(|module| namespace.is_none() || !module.tags.is_empty());
    Ok(Json(Modules { modules }))
}

/// Shows a module by tag or digest.
#[utoipa::path(get, operation_id = "show_module", path = "/v1/modules/{module}", tag = "modules",
    params(("module" = String, Path, description = "A tag, or sha256: and 64 hex digits")), responses(
        (status = 200, description = "The module", body = api::Module),
        (status = 404, description = "The store does not have it", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Path(name): Path<String>,
) -> Result<Json<api::Module>, Problem> {
    let found = state.dependencies.modules.find(&name, namespace.as_ref()).await.map_err(refused)?;
    Ok(Json(module(&found)))
}

fn module(found: &InspectedModule) -> api::Module {
    api::Module { digest: found.digest.to_string(), size: found.bytes.len() as u64, tasks: found.task_names() }
}

/// The problem for a module that a request names or contains.
fn refused(error: LibraryError) -> Problem {
    let detail = chain(&error);
    match error {
        LibraryError::Name { .. } => Problem::bad_request(detail),
        LibraryError::NoTag { .. }
        | LibraryError::Fetch(FetchError::Missing { .. })
        | LibraryError::Tag(TagError::Missing { .. }) => {
            Problem::new(StatusCode::NOT_FOUND, "no-such-module", "there is no such module", detail)
                .hint("`waft modules` or GET /v1/modules shows the modules there are")
        }
        LibraryError::Module(ModuleError::Unavailable { .. })
        | LibraryError::Compile(CompileError::Unavailable { .. } | CompileError::Interrupted { .. }) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the module cannot be compiled now", detail)
                .hint("send it again later; the log of the machine may say what it lacks")
        }
        LibraryError::Module(_) | LibraryError::Compile(_) | LibraryError::Describe(_) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-module", "the module is not right", detail)
                .hint("build a guest with `cargo build --target wasm32-wasip1 --release`; `waft new NAME` writes one")
        }
        LibraryError::Tag(_) | LibraryError::Fetch(_) | LibraryError::Put(_) | LibraryError::Stopping => {
            Problem::internal(&error)
        }
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
