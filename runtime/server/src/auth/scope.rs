//! The scope that each request needs, and what the audit log calls the request.

use api::Scope;
use axum::http::Method;

use super::namespace::Reach;

/// What a request needs, and what it is called.
pub(crate) struct Requirement {
    pub(crate) scope: Scope,
    pub(crate) action: &'static str,
    pub(crate) reach: Reach,
}

/// The requirement of a request. A route that is not named here needs the most.
pub(crate) fn required(method: &Method, route: &str) -> Requirement {
    let is_read = *method == Method::GET || *method == Method::HEAD;
    let (scope, action) = match route {
        "/v1/tokens" if is_read => (Scope::Admin, READ),
        "/v1/tokens" => (Scope::Admin, "create-token"),
        "/v1/tokens/{name}" => (Scope::Admin, "revoke-token"),
        "/v1/audit" => (Scope::Admin, READ),
        // Their addresses are the operator's.
        "/v1/webhooks" => (Scope::Admin, READ),
        "/v1/webhooks/{webhook}/test" => (Scope::Admin, "test-webhook"),
        // A released message may make any call, and the texts of messages are of all namespaces.
        "/v1/quarantine" if is_read => (Scope::Admin, READ),
        "/v1/quarantine" => (Scope::Admin, "drop-quarantined"),
        "/v1/quarantine/release" => (Scope::Admin, "release-quarantined"),
        // Who collects metrics needs no values of runs.
        "/metrics" => (Scope::Metrics, READ),
        _ if is_read => (Scope::Read, READ),
        "/v1/runs" => (Scope::Submit, "submit"),
        "/v1/grants/explain" => (Scope::Submit, "explain-grants"),
        "/v1/runs/bulk" => (Scope::Operate, "bulk"),
        "/v1/runs/{run}/notify" => (Scope::Submit, "notify"),
        "/v1/runs/{run}/cancel" => (Scope::Operate, "cancel"),
        "/v1/runs/{run}/suspend" => (Scope::Operate, "suspend"),
        "/v1/runs/{run}/resume" => (Scope::Operate, "resume"),
        "/v1/runs/{run}/retry" => (Scope::Operate, "retry"),
        "/v1/runs/{run}/skip" => (Scope::Operate, "skip"),
        "/v1/runs/{run}/edits" => (Scope::Operate, "edit"),
        "/v1/workers/{name}/drain" => (Scope::Operate, "drain-worker"),
        "/v1/workers/{name}/resume" => (Scope::Operate, "resume-worker"),
        "/v1/modules" => (Scope::Push, "push"),
        "/v1/modules/{module}/signatures" => (Scope::Push, "sign"),
        _ => (Scope::Admin, "other"),
    };
    Requirement { scope, action, reach: reach(route) }
}

/// What a route is about. One that is not named here is about the whole server.
fn reach(route: &str) -> Reach {
    match route {
        "/v1/runs" | "/v1/runs/counts" | "/v1/runs/bulk" | "/v1/grants/explain" | "/v1/workers" => Reach::Namespace,
        "/v1/events" | "/v1/schedules" | "/v1/permits" | "/v1/queues" => Reach::Namespace,
        "/v1/modules" | "/v1/modules/{module}" | "/v1/openapi.json" => Reach::Namespace,
        route if route == "/v1/runs/{run}" || route.starts_with("/v1/runs/{run}/") => Reach::Run,
        _ => Reach::Server,
    }
}

/// What requests that only read are called.
pub(crate) const READ: &str = "read";

#[cfg(test)]
mod tests {
    use super::*;

    /// A new route needs a decision: this fails until it has one here. Only those that read one run are not listed.
    #[test]
    fn every_route_has_a_scope() {
        let described = serde_json::to_value(crate::description()).expect("a description is JSON");
        let paths = described["paths"].as_object().expect("there are paths");
        let mut listed = Vec::new();
        for (path, methods) in paths.iter().filter(|(path, _)| path.starts_with("/v1/") || *path == "/metrics") {
            for method in methods.as_object().expect("a path has methods").keys() {
                let method = method.to_uppercase().parse().expect("a method");
                let Requirement { scope, action, reach } = required(&method, path);
                listed.push(format!("{method} {path} {scope} {action} {reach:?}"));
            }
        }
        listed.retain(|line| !line.ends_with(" read read Run"));
        listed.sort();
        assert_eq!(
            listed,
            [
                "DELETE /v1/quarantine admin drop-quarantined Server",
                "DELETE /v1/tokens/{name} admin revoke-token Server",
                "GET /metrics metrics read Server",
                "GET /v1/audit admin read Server",
                "GET /v1/engines read read Server",
                "GET /v1/events read read Namespace",
                "GET /v1/health/checks read read Server",
                "GET /v1/modules read read Namespace",
                "GET /v1/modules/{module} read read Namespace",
                "GET /v1/openapi.json read read Namespace",
                "GET /v1/permits read read Namespace",
                "GET /v1/quarantine admin read Server",
                "GET /v1/queues read read Namespace",
                "GET /v1/runs read read Namespace",
                "GET /v1/runs/counts read read Namespace",
                "GET /v1/schedules read read Namespace",
                "GET /v1/tokens admin read Server",
                "GET /v1/webhooks admin read Server",
                "GET /v1/workers read read Namespace",
                "POST /v1/grants/explain submit explain-grants Namespace",
                "POST /v1/modules push push Namespace",
                "POST /v1/modules/{module}/signatures push sign Server",
                "POST /v1/quarantine/release admin release-quarantined Server",
                "POST /v1/runs submit submit Namespace",
                "POST /v1/runs/bulk operate bulk Namespace",
                "POST /v1/runs/{run}/cancel operate cancel Run",
                "POST /v1/runs/{run}/edits operate edit Run",
                "POST /v1/runs/{run}/notify submit notify Run",
                "POST /v1/runs/{run}/resume operate resume Run",
                "POST /v1/runs/{run}/retry operate retry Run",
                "POST /v1/runs/{run}/skip operate skip Run",
                "POST /v1/runs/{run}/suspend operate suspend Run",
                "POST /v1/tokens admin create-token Server",
                "POST /v1/webhooks/{webhook}/test admin test-webhook Server",
                "POST /v1/workers/{name}/drain operate drain-worker Server",
                "POST /v1/workers/{name}/resume operate resume-worker Server",
            ]
        );
    }
}
