//! Builds the OpenAPI description of the API from its code.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::http::{HeaderName, header};
use bytes::Bytes;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, Object, Ref, RefOr, Schema,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "waft",
        description = "Runs flows of sandboxed WebAssembly tasks: submit runs, watch and control them, store modules. \
            Errors are problem details as in RFC 9457.",
        license(name = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "runs", description = "Runs of flows"),
        (name = "modules", description = "Modules with the code of tasks"),
        (name = "workers", description = "Workers that handle jobs"),
        (name = "webhooks", description = "Addresses that the server tells of the events of all runs"),
        (name = "engines", description = "Engines that drive runs"),
        (name = "quarantine", description = "Messages that nobody could handle"),
        (name = "tokens", description = "Tokens that allow their owners a part of this"),
        (name = "health", description = "Health checks of the server; /health and /ready need no token")
    ),
    security(("token" = [])),
    modifiers(&Scheme)
)]
struct Head;

struct Scheme;

impl Modify for Scheme {
    fn modify(&self, description: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The description without its routes.
pub(crate) fn head() -> openapi::OpenApi {
    Head::openapi()
}

/// The OpenAPI description of the whole API.
#[must_use]
pub fn description() -> openapi::OpenApi {
    let (guarded, open) = routes::described();
    let mut description = guarded.into_openapi();
    description.merge(open.into_openapi());
    if let Some(components) = &mut description.components {
        name_choices(&mut components.schemas);
    }
    remove_unused(&mut description);
    description
}

/// Gives each choice that is a combination of schemas a schema of its own, named after the word that marks it: generators of
/// clients cannot read a combination within a choice.
fn name_choices(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    let all = schemas.clone();
    let mut named = Vec::new();
    for (owner, schema) in schemas.iter_mut() {
        let RefOr::T(Schema::OneOf(choices)) = schema else { continue };
        choices.items.retain(|choice| !is_unknown(choice));
        for choice in &mut choices.items {
            let RefOr::T(Schema::AllOf(parts)) = choice else { continue };
            let mut object = combined(&parts.items, &all);
            let Some(word) = marking_word(&object) else { continue };
            let name = format!("{owner}{}", pascal_case(&word));
            object.description.clone_from(&parts.description);
            *choice = RefOr::Ref(Ref::from_schema_name(&name));
            named.push((name, RefOr::T(Schema::Object(object))));
        }
    }
    schemas.extend(named);
}

/// Whether a choice stands for words of later versions: a reader has it, and no server sends it.
fn is_unknown(choice: &RefOr<Schema>) -> bool {
    let RefOr::T(Schema::Object(object)) = choice else { return false };
    marking_word(object).is_some_and(|word| word == "Unknown")
}

/// A word with hyphens as a part of a type's name.
fn pascal_case(word: &str) -> String {
    let capitalized = |part: &str| part[..1].to_uppercase() + &part[1..];
    word.split('-').filter(|part| part.is_ascii() && !part.is_empty()).map(capitalized).collect()
}

/// Removes unreferenced schemas, such as schemas that were inlined into a choice.
fn remove_unused(description: &mut openapi::OpenApi) {
    let text = serde_json::to_string(description).unwrap_or_default();
    if let Some(components) = &mut description.components {
        components.schemas.retain(|name, _| text.contains(&format!("\"#/components/schemas/{name}\"")));
    }
}

/// The only word that a property of an object can be.
fn marking_word(object: &Object) -> Option<String> {
    object.properties.values().find_map(|property| match property {
        RefOr::T(Schema::Object(property)) => match property.enum_values.as_deref() {
            Some([word]) => word.as_str().map(str::to_owned),
            _ => None,
        },
        _ => None,
    })
}

/// One object with the properties of all parts.
fn combined(parts: &[RefOr<Schema>], schemas: &BTreeMap<String, RefOr<Schema>>) -> Object {
    let mut object = Object::new();
    for part in parts {
        let part = match part {
            RefOr::Ref(to) => to.ref_location.rsplit('/').next().and_then(|name| schemas.get(name)),
            RefOr::T(_) => Some(part),
        };
        let Some(RefOr::T(Schema::Object(part))) = part else { continue };
        // The word that tells the choices apart comes first.
        object.required.splice(0..0, part.required.iter().cloned());
        object.properties.extend(part.properties.clone());
    }
    object
}

/// Shows this description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "health", responses(
    (status = 200, description = "The description of the API", body = serde_json::Value)))]
pub(crate) async fn openapi() -> ([(HeaderName, &'static str); 1], Bytes) {
    ([(header::CONTENT_TYPE, "application/json")], JSON.clone())
}

/// The description as JSON. It is made once: that takes the processor some time, which runs need.
static JSON: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&description()).expect("strings and numbers are JSON").into());

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_description_is_made_once() {
        let (headers, first) = openapi().await;
        let (_, second) = openapi().await;
        assert_eq!(headers[0].1, "application/json");
        assert!(first.starts_with(b"{\"openapi\"") && first.as_ptr() == second.as_ptr());
    }
}
