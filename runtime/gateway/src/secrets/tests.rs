//! Tests in which places of a request secrets are replaced, and how.

use bytes::Bytes;
use http::header;

use super::*;

fn secrets(text: &str) -> Secrets {
    let http = vec!["* https://a.example/v1/*".parse().unwrap()];
    let source = SecretSource::Text(text.into());
    let (headers, query) = (vec![header::AUTHORIZATION], vec!["api key".to_owned()]);
    let secret = Secret { source: source.clone(), headers, query, body: true, http: http.clone() };
    let only_header = Secret { source, headers: vec![header::AUTHORIZATION], query: Vec::new(), body: false, http };
    Secrets([("KEY".parse().unwrap(), secret), ("HEADER".parse().unwrap(), only_header)].into())
}

fn request(path: &str, headers: &[(&'static str, &str)], body: &str) -> HttpRequest {
    let target = HttpTarget::new("POST", "https", "a.example", path).unwrap();
    let header =
        |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    let headers = headers.iter().map(header).collect();
    let body = Bytes::from(body.to_owned());
    HttpRequest { target, headers, body, timeouts: crate::Timeouts::default() }
}

/// What a call may do whose flow asks for these secrets, and whose operator grants them.
fn access(names: &[&str]) -> CallAccess {
    let secrets = names.iter().map(|name| name.parse().unwrap()).collect();
    let access = flow::Access { secrets, ..flow::Access::default() };
    let grants = flow::Grants(vec![flow::Grant { access: access.clone(), ..flow::Grant::default() }]);
    grants.of_call(&access, &"f".parse().unwrap(), &"t".parse().unwrap(), &flow::Digest::from_bytes([0; 32]))
}

async fn insert(text: &str, asked: &[&str], mut request: HttpRequest) -> Result<HttpRequest, String> {
    let (access, fetched, used) = (access(asked), FetchedValues::default(), UsedSecrets::default());
    let context = Context { access: &access, fetched: &fetched, used: &used };
    let no_client = || async { Err(HttpError::Denied("no server is asked".into())) };
    let inserted = secrets(text).insert(&context, &mut request, no_client).await;
    inserted.map(|()| request).map_err(|error| error.to_string())
}

async fn header(text: &str, asked: &[&str], name: &'static str, value: &str) -> Result<String, String> {
    let inserted = insert(text, asked, request("/v1/x", &[(name, value)], "")).await?;
    let header = inserted.headers.values().next().unwrap();
    assert_eq!(header.is_sensitive(), header.as_bytes() != value.as_bytes());
    Ok(header.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_secret_goes_only_into_the_headers_where_the_operator_lets_it() {
    let bearer = "Bearer {{secret:KEY}} {{secret:KEY}}{{secret:a b}}{{secret:";
    let expected = "Bearer s3cret s3cret{{secret:a b}}{{secret:".to_owned();
    assert_eq!(header("s3cret", &["KEY"], "authorization", bearer).await, Ok(expected));
    let error = header("s", &["KEY"], "x-other", bearer).await.unwrap_err();
    assert_eq!(
        error,
        "the secret KEY is denied in the header x-other of POST https://a.example/v1/x: an operator allows it with `headers`, \
         `query`, `body` and `http` in [secret.KEY]"
    );
    assert!(insert("s", &["KEY"], request("/v2/x", &[("authorization", bearer)], "")).await.is_err());
    let error = header("s", &[], "authorization", bearer).await.unwrap_err();
    assert!(error.starts_with("the secret KEY is denied: the flow does not ask for it"), "{error}");
    let error = header("s", &["OTHER"], "authorization", "{{secret:OTHER}}").await.unwrap_err();
    assert_eq!(error, "the secret OTHER has no value: the settings of the worker have no such table");
    let error = header("a\nb", &["KEY"], "authorization", bearer).await.unwrap_err();
    assert_eq!(error, "the secret KEY has no value: a header cannot contain it");
    for value in [" s3cret", "s3cret ", "s3cret\t"] {
        let error = header(value, &["KEY"], "authorization", bearer).await.unwrap_err();
        assert!(error.starts_with("the secret KEY has no value: it begins or ends with a space"), "{error}");
    }
    let error = header(&"x".repeat(65 << 10), &["KEY"], "authorization", bearer).await.unwrap_err();
    assert_eq!(error, "the secret KEY has no value: it has more than 64 KiB");
    let error = header("s", &["KEY"], "authorization", &"{{secret:KEY}}".repeat(65)).await.unwrap_err();
    assert_eq!(error, "the request names secrets more than 64 times");
}

#[tokio::test]
async fn a_secret_goes_only_into_the_named_parameters_of_a_query() {
    let value = "a&b=c d%";
    let query = async |query: &str| {
        let inserted = insert(value, &["KEY", "HEADER"], request(&format!("/v1/x?{query}"), &[], "")).await?;
        Ok::<_, String>(inserted.target.url().query().unwrap_or_default().to_owned())
    };
    let encoded = "a%26b%3Dc%20d%25";
    for (written, sent) in [
        ("x=1&api+key={{secret:KEY}}&y=%41", format!("x=1&api+key={encoded}&y=%41")),
        ("api%20key=%7B%7Bsecret%3AKEY%7D%7D", format!("api%20key={encoded}")),
        ("api+key=k-{{secret:KEY}}{{secret:KEY}}", format!("api+key=k-{encoded}{encoded}")),
        ("api+key={{secret:HEADER}}&{{secret:KEY}}", "api+key={{secret:HEADER}}&{{secret:KEY}}".to_owned()),
    ] {
        assert_eq!(query(written).await.as_deref(), Ok(&*sent), "{written}");
    }
    let error = query("other={{secret:KEY}}").await.unwrap_err();
    assert!(
        error.starts_with("the secret KEY is denied in the parameter \"other\" of POST https://a.example/v1/x:"),
        "{error}"
    );
    assert!(insert("s", &["KEY"], request("/v2/x?api+key={{secret:KEY}}", &[], "")).await.is_err());
    // In a path it is only text.
    let path = insert("s3cret", &["KEY"], request("/v1/{{secret:KEY}}", &[], "")).await.unwrap();
    assert!(!path.target.url().path().contains("s3cret"));
}

#[tokio::test]
async fn a_secret_in_a_body_is_written_as_the_body_writes_texts() {
    let value = "a\"b\\&c=d é";
    let body = async |kind: &str, text: &str| {
        let inserted = insert(value, &["KEY", "HEADER"], request("/v1/x", &[("content-type", kind)], text)).await?;
        Ok::<_, String>(String::from_utf8(inserted.body.to_vec()).unwrap())
    };
    for (kind, written, sent) in [
        ("application/json; charset=utf-8", r#"{"k":"x{{secret:KEY}}"}"#, r#"{"k":"xa\"b\\&c=d é"}"#),
        ("application/merge-patch+json", r#"["{{secret:KEY}}"]"#, r#"["a\"b\\&c=d é"]"#),
        ("text/plain", "<{{secret:KEY}}{{secret:HEADER}}>", "<a\"b\\&c=d é{{secret:HEADER}}>"),
        (
            "application/x-www-form-urlencoded",
            "u=me&k=%7B%7Bsecret%3AKEY%7D%7D&l={{secret:KEY}}",
            "u=me&k=a%22b%5C%26c%3Dd%20%C3%A9&l=a%22b%5C%26c%3Dd%20%C3%A9",
        ),
    ] {
        assert_eq!(body(kind, written).await.as_deref(), Ok(sent), "{kind}");
    }
    let compressed = request("/v1/x", &[("content-encoding", "gzip")], "{{secret:KEY}}");
    assert_eq!(insert("s", &["KEY"], compressed).await.unwrap().body, "{{secret:KEY}}");
    let error = insert("s", &["KEY"], request("/v2/x", &[], "{{secret:KEY}}")).await.unwrap_err();
    assert!(error.starts_with("the secret KEY is denied in the body of POST https://a.example/v2/x:"), "{error}");
    let error = insert("s", &[], request("/v1/x", &[], "{{secret:KEY}}")).await.unwrap_err();
    assert!(error.starts_with("the secret KEY is denied: the flow does not ask for it"), "{error}");
}

#[tokio::test]
async fn a_value_never_becomes_the_name_of_another_secret() {
    let nested = "{{secret:HEA{{secret:KEY}}}}";
    assert_eq!(header("DER", &["KEY", "HEADER"], "authorization", nested).await.as_deref(), Ok("{{secret:HEADER}}"));
    for kind in ["text/plain", "application/json"] {
        let sent = request("/v1/x", &[("content-type", kind)], nested);
        assert_eq!(insert("DER", &["KEY", "HEADER"], sent).await.unwrap().body, "{{secret:HEADER}}");
    }
}

#[tokio::test]
async fn a_guest_learns_only_the_name_of_a_secret_without_a_value() {
    let (access, fetched, used) = (access(&["KEY"]), FetchedValues::default(), UsedSecrets::default());
    let mut secrets = secrets("");
    secrets.0.get_mut("KEY").unwrap().source = SecretSource::File("/no/such/file".into());
    let context = Context { access: &access, fetched: &fetched, used: &used };
    let mut request = request("/v1/x", &[("authorization", "{{secret:KEY}}")], "");
    let no_client = || async { Err(HttpError::Denied("no server is asked".into())) };
    let error = secrets.insert(&context, &mut request, no_client).await.unwrap_err();
    assert_eq!(error.to_string(), "the secret KEY has no value: the log of its worker says why");
}

#[tokio::test]
async fn many_marks_take_no_long_time() {
    let start = std::time::Instant::now();
    for (mark, kind) in [
        ("{{secret:", "text/plain"),
        ("{{secret:HEADER}}", "text/plain"),
        ("a={{secret:HEADER}}&", "application/x-www-form-urlencoded"),
    ] {
        let body = mark.repeat(300_000);
        let sent = request("/v1/x", &[("content-type", kind), ("authorization", "{{secret:KEY}}")], &body);
        assert_eq!(insert(&"x".repeat(60 << 10), &["KEY"], sent).await.unwrap().body, body);
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}
