//! The dashboard: a page for browsers, and the files that it consists of.
//!
//! `cargo xtask dashboard` builds the files from `dashboard/`; they are part of the binary. They are the same for everybody and hold
//! no data, so they need no token. Everything that the page shows comes from the API, which asks for one.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    problem::Problem,
    routes::{unknown, wrong_method},
};

/// What the page may load: only files of this server, and no script or style within the page. It may talk to this server only,
/// nobody may show it in a frame, and no text may become markup or a script.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types waft-worker";

/// The headers of each file besides those of its content.
const HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // A browser keeps a file, and asks each time whether it has changed: a new binary has a new page at once.
    (header::CACHE_CONTROL, "no-cache"),
    (header::VARY, "accept-encoding"),
];

/// A file as it is built.
struct File {
    name: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

macro_rules! file {
    ($name:literal, $content_type:literal) => {
        File {
            name: $name,
            content_type: $content_type,
            plain: include_bytes!(concat!("../assets/dashboard/", $name)),
            gzip: include_bytes!(concat!("../assets/dashboard/", $name, ".gz")),
        }
    };
}

/// The page.
const PAGE: File = file!("index.html", "text/html; charset=utf-8");

/// The files that the page loads.
const ASSETS: [File; 5] = [
    file!("app.js", "text/javascript; charset=utf-8"),
    file!("app.css", "text/css; charset=utf-8"),
    file!("theme.js", "text/javascript; charset=utf-8"),
    file!("layout.js", "text/javascript; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
];

/// A file with its names for caches, which differ by encoding.
struct Served {
    file: File,
    plain_tag: String,
    gzip_tag: String,
}

impl Served {
    fn new(file: File) -> Self {
        let digest = store::digest_of(file.plain).hex();
        let digest = &digest[..32];
        Self { file, plain_tag: format!("\"{digest}\""), gzip_tag: format!("\"{digest}-gzip\"") }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let (tag, encoding, bytes) = if takes_gzip(request) {
            (&self.gzip_tag, Some("gzip"), self.file.gzip)
        } else {
            (&self.plain_tag, None, self.file.plain)
        };
        let is_known = matches(request, tag);
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(self.file.content_type))];
            (content_type, Bytes::from_static(bytes)).into_response()
        };
        let headers = response.headers_mut();
        if let Some(encoding) = encoding.filter(|_| !is_known) {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        headers.insert(header::ETAG, HeaderValue::from_str(tag).expect("hex digits are a header"));
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Whether a request asks only for a file that differs from the one with this tag.
fn matches(request: &HeaderMap, tag: &str) -> bool {
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|list| list.split(',')).map(str::trim);
    known.map(|known| known.strip_prefix("W/").unwrap_or(known)).any(|known| known == tag || known == "*")
}

/// Whether the sender of a request accepts gzip.
fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|list| list.split(',')).any(|entry| {
        let (encoding, weight) = entry.split_once(';').unwrap_or((entry, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        encoding.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

struct Files {
    page: Served,
    assets: Vec<Served>,
}

/// The routes of the dashboard. The page finds its place in itself from its address, so that each address below `/ui/` is the
/// page.
pub(crate) fn router() -> Router {
    let files = Files { page: Served::new(PAGE), assets: ASSETS.into_iter().map(Served::new).collect() };
    Router::new()
        .route("/", get(page))
        .route("/ui", get(page))
        .route("/ui/", get(page))
        .route("/ui/{*place}", get(page))
        .route("/assets/{name}", get(asset))
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::new(files))
}

async fn page(State(files): State<Arc<Files>>, headers: HeaderMap) -> Response {
    files.page.answer(&headers)
}

async fn asset(State(files): State<Arc<Files>>, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    // No name has characters that a path escapes, so the path is compared as it is.
    let name = uri.path().strip_prefix("/assets/").unwrap_or_default();
    match files.assets.iter().find(|served| served.file.name == name) {
        Some(served) => Ok(served.answer(&headers)),
        None => Err(unknown(uri).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_is_sent_to_those_who_accept_it() {
        for accepts in ["gzip", "br, gzip", "GZIP;q=0.5", "deflate, gzip;q=1.0, *;q=0.5"] {
            assert!(takes_gzip(&headers(header::ACCEPT_ENCODING, accepts)), "{accepts}");
        }
        for refuses in ["", "br", "gzip;q=0", "gzip; q=0.0", "gzip;q=x", "xgzip"] {
            assert!(!takes_gzip(&headers(header::ACCEPT_ENCODING, refuses)), "{refuses}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_known_file_is_not_sent_again() {
        for known in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(matches(&headers(header::IF_NONE_MATCH, known), "\"a\""), "{known}");
        }
        for other in ["\"b\"", "a", "\"a-gzip\""] {
            assert!(!matches(&headers(header::IF_NONE_MATCH, other), "\"a\""), "{other}");
        }
    }

    #[test]
    fn the_page_has_no_script_or_style_in_itself() {
        let page = std::str::from_utf8(PAGE.plain).unwrap();
        assert!(page.contains("src=\"/assets/app.js\""), "{page}");
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("://"), "{page}");
        assert_eq!(page.matches("<script").count(), page.matches(" src=\"/assets/").count(), "{page}");
        for File { name, plain, gzip, .. } in ASSETS.iter().chain([&PAGE]) {
            assert!(gzip.starts_with(&[0x1f, 0x8b]) && gzip.len() <= plain.len() + 64, "{name}");
        }
    }
}
