//! The scope that each request needs.

use api::Scope;
use axum::http::Method;

/// The scope that a request needs. A route that is not named here needs the most.
pub(crate) fn required(method: &Method, route: &str) -> Scope {
    let is_read = *method == Method::GET || *method == Method::HEAD;
    match route {
        "/v1/tokens" | "/v1/tokens/{name}" => Scope::Admin,
        _ if is_read => Scope::Read,
        "/v1/runs" | "/v1/runs/{run}/notify" => Scope::Submit,
        "/v1/runs/{run}/cancel"
        | "/v1/runs/{run}/suspend"
        | "/v1/runs/{run}/resume"
        | "/v1/runs/{run}/retry"
        | "/v1/runs/{run}/skip"
        | "/v1/runs/{run}/edits" => Scope::Operate,
        "/v1/modules" => Scope::Push,
        _ => Scope::Admin,
    }
}

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
                listed.push(format!("{method} {path} {}", required(&method, path)));
            }
        }
        listed.retain(|line| !line.starts_with("GET ") || !line.ends_with(" read"));
        listed.sort();
        assert_eq!(
            listed,
            [
                "DELETE /v1/tokens/{name} admin",
                "GET /v1/tokens admin",
                "POST /v1/modules push",
                "POST /v1/runs submit",
                "POST /v1/runs/{run}/cancel operate",
                "POST /v1/runs/{run}/edits operate",
                "POST /v1/runs/{run}/notify submit",
                "POST /v1/runs/{run}/resume operate",
                "POST /v1/runs/{run}/retry operate",
                "POST /v1/runs/{run}/skip operate",
                "POST /v1/runs/{run}/suspend operate",
                "POST /v1/tokens admin",
            ]
        );
    }
}
