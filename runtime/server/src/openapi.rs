//! Builds the OpenAPI description of the API from its code.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
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
    description
}

/// Shows this description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "health", responses(
    (status = 200, description = "The description of the API", body = serde_json::Value)))]
pub(crate) async fn openapi() -> Json<openapi::OpenApi> {
    Json(description())
}
