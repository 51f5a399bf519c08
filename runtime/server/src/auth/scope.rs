//! The scope that each request needs, and what the audit log calls the request.

use api::Scope;
use axum::http::Method;

/// What a request needs, and what it is called.
pub(crate) struct Requirement {
    pub(crate) scope: Scope,
    pub(crate) action: &'static str,
}

/// The requirement of a request. A route that is not named here needs the most.
pub(crate) fn required(method: &Method, route: &str) -> Requirement {
    let is_read = *method == Method::GET || *method == Method::HEAD;
    let (scope, action) = match route {
        "/v1/tokens" if is_read => (Scope::Admin, READ),
        "/v1/tokens" => (Scope::Admin, "create-token"),
        "/v1/tokens/{name}" => (Scope::Admin, "revoke-token"),
        "/v1/audit" => (Scope::Admin, READ),
        _ if is_read => (Scope::Read, READ),
        "/v1/runs" => (Scope::Submit, "submit"),
        "/v1/runs/{run}/notify" => (Scope::Submit, "notify"),
        "/v1/runs/{run}/cancel" => (Scope::Operate, "cancel"),
        "/v1/runs/{run}/suspend" => (Scope::Operate, "suspend"),
        "/v1/runs/{run}/resume" => (Scope::Operate, "resume"),
        "/v1/runs/{run}/retry" => (Scope::Operate, "retry"),
        "/v1/runs/{run}/skip" => (Scope::Operate, "skip"),
        "/v1/runs/{run}/edits" => (Scope::Operate, "edit"),
        "/v1/modules" => (Scope::Push, "push"),
        _ => (Scope::Admin, "other"),
    };
    Requirement { scope, action }
}

/// What requests that only read are called.
pub(crate) const READ: &str = "read";

#[cfg(test)]
mod tests {
    use super::*;

    /// A new route needs a decision: this fails until it has one here.
    #[test]
    fn every_route_has_a_scope() {
        let described = serde_json::to_value(crate::description()).expect("a description is JSON");
        let paths = described["paths"].as_object().expect("there are paths");
        let mut listed = Vec::new();
        for (path, methods) in paths.iter().filter(|(path, _)| path.starts_with("/v1/")) {
            for method in methods.as_object().expect("a path has methods").keys() {
                let method = method.to_uppercase().parse().expect("a method");
                let Requirement { scope, action } = required(&method, path);
                listed.push(format!("{method} {path} {scope} {action}"));
            }
        }
        listed.retain(|line| !line.ends_with(" read read"));
        listed.sort();
        assert_eq!(
            listed,
            [
                "DELETE /v1/tokens/{name} admin revoke-token",
                "GET /v1/audit admin read",
                "GET /v1/tokens admin read",
                "POST /v1/modules push push",
                "POST /v1/runs submit submit",
                "POST /v1/runs/{run}/cancel operate cancel",
                "POST /v1/runs/{run}/edits operate edit",
                "POST /v1/runs/{run}/notify submit notify",
                "POST /v1/runs/{run}/resume operate resume",
                "POST /v1/runs/{run}/retry operate retry",
                "POST /v1/runs/{run}/skip operate skip",
                "POST /v1/runs/{run}/suspend operate suspend",
                "POST /v1/tokens admin create-token",
            ]
        );
    }
}
