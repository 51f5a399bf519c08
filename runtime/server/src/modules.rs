//! Uploads, signs, lists and shows modules of the store.

pub(crate) mod list;

use std::str::FromStr as _;

use api::{self, ModuleSignature};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use flow::{Digest, Namespace};
use protocol::events::rfc3339;
use sandbox::{CompileError, DescribeError, ModuleError};
use serde::Deserialize;
use store::{FetchError, MAX_SIGNATURES, Refusal, SignError, Signature, Store, Tag, TagError};
use utoipa::{IntoParams, ToSchema};

use crate::{
    InspectedModule, LibraryError, MovedTag,
    audit::Subject,
    auth::namespace::CallerNamespace,
    extract::{Body, Query},
    problem::{IN_THE_LOG, Problem, chain},
    state::Shared,
};

/// The header with a signature of a pushed module, in base64. There may be several.
const SIGNATURE: HeaderName = HeaderName::from_static("waft-signature");

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
/// stored. A module that the server does not admit is not stored.
#[utoipa::path(post, operation_id = "push_module", path = "/v1/modules", tag = "modules",
    params(PushQuery, ("waft-signature" = Option<String>, Header, description = "A signature of the component, in base64; the header may be repeated")),
    request_body(content = inline(Bytes), content_type = "application/wasm"), responses(
        (status = 201, description = "It is stored", body = api::Module),
        (status = 403, description = "The server does not admit it, or its signer", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "The namespace has no space left, or as many tags as are allowed", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "It is larger than the server allows", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "It is no module that waft can run, a signature is not of this module, or it asks for more than the server allows", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn push(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Query(query): Query<PushQuery>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<(StatusCode, Extension<Subject>, Option<Extension<MovedTag>>, Json<api::Module>), Problem> {
    let library = &state.dependencies.modules;
    let tag = query.tag.map(|tag| tag.parse::<Tag>()).transpose();
    let tag = tag.map_err(|error| Problem::bad_request(error.to_string()))?;
    let tag = tag.map(|tag| own_tag(&tag, namespace.as_ref())).transpose()?;
    let signatures = given_signatures(&headers)?;
    signatures.iter().try_for_each(|signature| check_signed_tag(signature, namespace.as_ref()))?;
    let owner = namespace.clone().or_else(|| tag.as_ref().and_then(Tag::namespace));
    let component = library.component(bytes, owner.as_ref()).await.map_err(refused)?;
    state.add_bytes(owner.as_ref(), component.bytes.len()).await?;
    let (found, moved) = library.push(component, &signatures, tag.as_ref()).await.map_err(refused)?;
    state.namespace_storage.note_pushed(&state.dependencies, owner.as_ref(), found.digest).await;
    let subject = Extension(Subject(found.digest.to_string()));
    Ok((
        StatusCode::CREATED,
        subject,
        moved.map(Extension),
        Json(module(&*library.store, &found, namespace.as_ref()).await?),
    ))
}

/// The signatures in the headers of a request.
fn given_signatures(headers: &HeaderMap) -> Result<Vec<Signature>, Problem> {
    let values: Vec<_> = headers.get_all(SIGNATURE).iter().collect();
    if values.len() > MAX_SIGNATURES {
        return Err(invalid_signature(format!("a module has at most {MAX_SIGNATURES} signatures")));
    }
    let read = |bytes: &[u8]| {
        let text = BASE64_STANDARD.decode(bytes).map_err(|error| error.to_string())?;
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        Signature::from_str(&text).map_err(|error| error.to_string())
    };
    let read = values.into_iter().map(|value| read(value.as_bytes()));
    read.collect::<Result<_, _>>().map_err(|reason| invalid_signature(format!("the header {SIGNATURE}: {reason}")))
}

/// Refuses a signature that counts outside the namespace that its sender is limited to. A module has room for a few signatures,
/// and others may use the module too.
fn check_signed_tag(signature: &Signature, namespace: Option<&Namespace>) -> Result<(), Problem> {
    let Some(namespace) = namespace else { return Ok(()) };
    if signature.tag().and_then(Tag::namespace).as_ref() == Some(namespace) {
        return Ok(());
    }
    let signed = signature.tag().map_or_else(|| "no tag".to_owned(), |tag| format!("the tag {tag}"));
    let detail = format!("the signature is for {signed}, and the token is limited to the namespace {namespace}");
    Err(Problem::forbidden(detail)
        .hint(format!("push and sign it with a tag of the namespace: `--tag {namespace}/NAME`")))
}

fn invalid_signature(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-signature", "the signature is not right", detail)
        .hint("`waft push FILE --sign KEY` and `waft modules sign DIGEST --key KEY` make signatures")
}

/// Stores a signature of a module that the store has.
///
/// The body is a signature in the format of minisign, as `waft modules sign` makes it.
#[utoipa::path(post, operation_id = "sign_module", path = "/v1/modules/{module}/signatures", tag = "modules",
    params(("module" = String, Path, description = "sha256: and 64 hex digits")),
    request_body(content = inline(Bytes), content_type = "application/octet-stream"), responses(
        (status = 201, description = "It is stored: all signatures of the module", body = Vec<ModuleSignature>),
        (status = 403, description = "The server denies its signer", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "The store does not have the module", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "The module has as many signatures as are allowed", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "It is no signature of this module", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn sign(
    State(state): Shared,
    Path(digest): Path<String>,
    Body(bytes): Body,
) -> Result<(StatusCode, Json<Vec<ModuleSignature>>), Problem> {
    let library = &state.dependencies.modules;
    let digest = digest.parse::<Digest>().map_err(|_| Problem::bad_request(format!("{digest:?} is no digest")))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| invalid_signature(error.to_string()))?;
    let signature = Signature::from_str(text).map_err(|error| invalid_signature(error.to_string()))?;
    library.sign(&digest, &signature).await.map_err(refused)?;
    let signatures = library.store.signatures(&digest).await.map_err(|error| Problem::internal(&error))?;
    Ok((StatusCode::CREATED, Json(signatures.iter().map(shown).collect())))
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

/// Shows a module by tag or digest.
#[utoipa::path(get, operation_id = "show_module", path = "/v1/modules/{module}", tag = "modules",
    params(("module" = String, Path, description = "A tag, or sha256: and 64 hex digits")), responses(
        (status = 200, description = "The module", body = api::Module),
        (status = 403, description = "The server does not admit it", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "The store does not have it", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Path(name): Path<String>,
) -> Result<Json<api::Module>, Problem> {
    let library = &state.dependencies.modules;
    // It describes itself in the sandbox.
    let found = library.find_admitted(&name, namespace.as_ref()).await.map_err(refused)?;
    Ok(Json(module(&*library.store, &found, namespace.as_ref()).await?))
}

/// Whether a caller that is limited to a namespace may see a tag.
fn is_visible(tag: Option<&Tag>, namespace: Option<&Namespace>) -> bool {
    let of = tag.and_then(Tag::namespace);
    namespace.is_none() || of.is_none() || of.as_ref() == namespace
}

async fn module(
    store: &dyn Store,
    found: &InspectedModule,
    namespace: Option<&Namespace>,
) -> Result<api::Module, Problem> {
    let signatures = store.signatures(&found.digest).await.map_err(|error| Problem::internal(&error))?;
    Ok(api::Module {
        digest: found.digest.to_string(),
        size: found.bytes.len() as u64,
        tasks: found.task_names(),
        signatures: signatures.iter().filter(|made| is_visible(made.tag(), namespace)).map(shown).collect(),
    })
}

/// A signature, as the API shows it.
#[must_use]
pub fn shown(signature: &Signature) -> ModuleSignature {
    ModuleSignature {
        signer: signature.signer().to_string(),
        key_id: signature.signer().key_id(),
        tag: signature.tag().map(ToString::to_string),
        signed_at: rfc3339(signature.signed_at()),
    }
}

/// What a person can do about a module that is above a limit.
const LIMITS_HINT: &str = "an operator changes the maximum under [limits] in the settings of the server";

/// The problem for a module that a request names or contains.
fn refused(error: LibraryError) -> Problem {
    let detail = chain(&error);
    match error {
        LibraryError::Name { .. } => Problem::bad_request(detail),
        LibraryError::NotAdmitted(refusal) => not_admitted(&refusal),
        LibraryError::OtherModule { .. } => invalid_signature(detail),
        LibraryError::Sign(SignError::TooMany { .. }) => {
            Problem::new(StatusCode::CONFLICT, "too-many-signatures", "the module takes no more signatures", detail)
                .hint("sign it for no tag, which counts for every tag; or remove files below `signatures` in the store")
        }
        LibraryError::Tag(TagError::TooMany { .. }) => {
            let title = "the namespace has as many tags as are allowed";
            Problem::new(StatusCode::CONFLICT, "too-many-tags", title, detail)
                .hint("push it with a tag that the namespace has already; or an operator removes files below `tags` in the store")
        }
        LibraryError::NoTag { .. }
        | LibraryError::Fetch(FetchError::Missing { .. })
        | LibraryError::Sign(SignError::Missing { .. })
        | LibraryError::Tag(TagError::Missing { .. }) => {
            Problem::new(StatusCode::NOT_FOUND, "no-such-module", "there is no such module", detail)
                .hint("`waft modules` or GET /v1/modules shows the modules there are")
        }
        LibraryError::Module(ModuleError::Busy)
        | LibraryError::Compile(CompileError::Busy { .. })
        | LibraryError::Describe(DescribeError::Busy { .. }) => {
            let title = "too many modules wait to be compiled";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", title, detail)
                .hint("send it again once the modules before it are done; at most two are compiled at the same time")
        }
        LibraryError::Module(ModuleError::Unavailable { .. })
        | LibraryError::Compile(CompileError::Unavailable { .. } | CompileError::Interrupted { .. })
        | LibraryError::Describe(DescribeError::Interrupted { .. }) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the module cannot be compiled now", detail)
                .hint("send it again later; the log of the machine may say what it lacks")
                .for_limited(IN_THE_LOG, None)
        }
        LibraryError::TooLarge { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the module is too large", detail)
                .hint(LIMITS_HINT)
        }
        LibraryError::Exceeds { .. } => {
            let title = "the module asks for more than the server allows";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-module", title, detail).hint(LIMITS_HINT)
        }
        LibraryError::Module(_) | LibraryError::Compile(_) | LibraryError::Describe(_) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-module", "the module is not right", detail)
                .hint("build a guest with `cargo build --target wasm32-wasip1 --release`; `waft new NAME` writes one")
        }
        LibraryError::Tag(_)
        | LibraryError::Fetch(_)
        | LibraryError::Put(_)
        | LibraryError::Sign(_)
        | LibraryError::List(_)
        | LibraryError::Stopping => Problem::internal(&error),
    }
}

fn not_admitted(refusal: &Refusal) -> Problem {
    let title = "the server does not admit the module";
    Problem::new(StatusCode::FORBIDDEN, "not-admitted", title, refusal.to_string())
        .hint(refusal.advice())
        .for_limited(refusal.without_rules(), Some(Refusal::ADVICE_WITHOUT_RULES))
}
