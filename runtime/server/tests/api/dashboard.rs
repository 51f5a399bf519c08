//! The dashboard: its files need no token, and its headers let it do no more than it needs.

use super::*;

#[tokio::test]
async fn the_page_needs_no_token_and_each_address_below_ui_is_the_page() {
    let harness = Harness::with(config(Some("secret"))).await;
    let get = async |path: &str| harness.request(Method::GET, path).send().await.unwrap();
    let page = get("/").await.text().await.unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("/assets/app.js"), "{page}");
    for path in ["/ui", "/ui/", "/ui/runs", "/ui/runs/r-1?view=timeline", "/ui/no/such/place"] {
        let response = get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(response.text().await.unwrap(), page, "{path}");
    }
    for (name, content_type) in [
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.css", "text/css; charset=utf-8"),
        ("theme.js", "text/javascript; charset=utf-8"),
        ("layout.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let response = get(&format!("/assets/{name}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
        assert_eq!(response.headers()["content-type"], content_type);
        assert!(!response.bytes().await.unwrap().is_empty(), "{name}");
    }
    // The rest is as it was.
    for path in ["/assets/nothing.js", "/assets/%FF", "/assets/app.js%2F.."] {
        assert_eq!(problem(harness.request(Method::GET, path)).await.status, 404, "{path}");
    }
    assert_eq!(problem(harness.request(Method::POST, "/")).await.kind, "urn:waft:problem:method-not-allowed");
    assert_eq!(problem(harness.request(Method::GET, "/v1/runs")).await.status, 401);
    assert_eq!(problem(harness.request(Method::GET, "/nothing")).await.status, 401);
    assert_eq!(
        problem(harness.request(Method::GET, "/nothing").bearer_auth("secret")).await.kind,
        "urn:waft:problem:not-found"
    );
}

#[tokio::test]
async fn each_file_says_what_a_browser_may_do_with_it() {
    let harness = Harness::new().await;
    for path in ["/", "/ui/runs", "/ui/runs/%FF", "/assets/app.js", "/assets/icon.svg"] {
        let response = harness.request(Method::GET, path).send().await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        for part in ["script-src 'self';", "style-src 'self';", "require-trusted-types-for 'script'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header("cache-control"), "no-cache", "{path}");
    }
}

#[tokio::test]
async fn a_browser_loads_a_file_once_and_compressed() {
    let harness = Harness::new().await;
    let get = async |name: &str, value: &str| {
        harness.request(Method::GET, "/assets/app.js").header(name, value).send().await.unwrap()
    };
    let (plain, gzip) = (get("accept-encoding", "identity").await, get("accept-encoding", "gzip, br").await);
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
    assert!(!plain.headers().contains_key("content-encoding"));
    let tag = |response: &reqwest::Response| response.headers()["etag"].to_str().unwrap().to_owned();
    let (plain_tag, gzip_tag) = (tag(&plain), tag(&gzip));
    assert_ne!(plain_tag, gzip_tag, "they are different bytes");
    assert!(gzip.bytes().await.unwrap().len() * 2 < plain.bytes().await.unwrap().len());
    let again = get("if-none-match", &plain_tag).await;
    assert_eq!(again.headers()["x-content-type-options"], "nosniff", "a file that is known keeps its rules");
    assert_eq!(again.headers()["vary"], "accept-encoding");
    assert_eq!((again.status(), tag(&again)), (StatusCode::NOT_MODIFIED, plain_tag));
    assert!(again.bytes().await.unwrap().is_empty());
    assert_eq!(get("if-none-match", "\"another\"").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_server_without_the_dashboard_has_none_of_its_paths() {
    let off = Config { dashboard: false, ..config(Some("secret")) };
    let harness = Harness::with(off).await;
    for path in ["/", "/ui/runs", "/assets/app.js"] {
        assert_eq!(problem(harness.request(Method::GET, path)).await.status, 401, "{path}");
        let request = harness.request(Method::GET, path).bearer_auth("secret");
        assert_eq!(problem(request).await.kind, "urn:waft:problem:not-found", "{path}");
    }
}
