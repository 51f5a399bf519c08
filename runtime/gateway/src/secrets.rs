//! The secrets of an operator. A guest writes `{{secret:NAME}}` into a header, and the gateway replaces it by the value, in the
//! requests and headers that the operator has named. So a guest can use a secret, and never sees it.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use bytes::Bytes;
use flow::{AccessDenial, CallAccess, HttpPattern, SECRET_MARK, SecretName};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memmem;

use crate::{HttpError, HttpRequest, HttpResponse};

/// What ends the name of a secret.
const MARK_END: &str = "}}";

/// All secrets of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets(pub BTreeMap<SecretName, Secret>);

/// A secret, and where its value may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where its value comes from.
    pub source: SecretSource,
    /// The headers that may contain it.
    pub headers: Vec<HeaderName>,
    /// The requests that may contain it.
    pub http: Vec<HttpPattern>,
}

/// Where the value of a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The value itself.
    Text(String),
    /// A file, which is read for each request: a replaced file takes effect with the next one.
    File(PathBuf),
}

/// The value is not shown.
impl fmt::Debug for SecretSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => out.write_str("Text"),
            Self::File(path) => out.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The secrets that a request contains, with their values.
pub(crate) struct UsedSecrets(BTreeMap<SecretName, String>);

impl Secrets {
    /// Replaces the secrets in the headers of a request by their values.
    ///
    /// # Errors
    /// [`HttpError::Denied`] when the flow or the operator does not allow it, [`HttpError::Secret`] when there is no value.
    pub(crate) async fn insert(
        &self,
        access: &CallAccess,
        request: &mut HttpRequest,
    ) -> Result<UsedSecrets, HttpError> {
        let mut used = UsedSecrets(BTreeMap::new());
        let HttpRequest { target, headers, .. } = request;
        for (header, value) in headers.iter_mut() {
            let names = names_in(value.as_bytes());
            for name in &names {
                access.check_secret(name)?;
                let unknown = || without_value(name, "the settings of the worker have no such table");
                let secret = self.0.get(name).ok_or_else(unknown)?;
                let may_be_there =
                    secret.headers.contains(header) && secret.http.iter().any(|pattern| pattern.matches(target));
                if !may_be_there {
                    let place = format!("in the header {header} of {target}");
                    return Err(AccessDenial::SecretPlace { name: name.clone(), place }.into());
                }
                if !used.0.contains_key(name) {
                    used.0.insert(name.clone(), secret.read(name).await?);
                }
            }
            if let Some(first) = names.first() {
                let mut replaced = HeaderValue::from_bytes(&used.replace_marks(value.as_bytes()))
                    .map_err(|_| without_value(first, "a header cannot contain it"))?;
                replaced.set_sensitive(true);
                *value = replaced;
            }
        }
        Ok(used)
    }
}

impl Secret {
    async fn read(&self, name: &SecretName) -> Result<String, HttpError> {
        match &self.source {
            SecretSource::Text(text) => Ok(text.clone()),
            SecretSource::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || credentials::read_secret("the secret", &path)).await;
                let read = read.map_err(|error| without_value(name, error))?;
                read.map_err(|error| without_value(name, error))
            }
        }
    }
}

impl UsedSecrets {
    /// Replaces each mark by its value.
    fn replace_marks(&self, value: &[u8]) -> Vec<u8> {
        self.0.iter().fold(value.to_vec(), |value, (name, secret)| {
            replace(&value, mark(name).as_bytes(), secret.as_bytes()).unwrap_or(value)
        })
    }

    /// Replaces each value that the server has sent back by its mark: no guest sees it.
    pub(crate) fn redact(&self, response: &mut HttpResponse) {
        for (name, secret) in &self.0 {
            let (secret, mark) = (secret.as_bytes(), mark(name));
            redact_headers(&mut response.headers, secret, mark.as_bytes());
            if let Some(redacted) = replace(&response.body, secret, mark.as_bytes()) {
                response.body = Bytes::from(redacted);
                response.headers.remove(header::CONTENT_LENGTH);
            }
        }
    }
}

fn redact_headers(headers: &mut HeaderMap, secret: &[u8], mark: &[u8]) {
    for value in headers.values_mut() {
        if let Some(redacted) = replace(value.as_bytes(), secret, mark) {
            *value = HeaderValue::from_bytes(&redacted).expect("a header may contain a mark");
        }
    }
}

fn mark(name: &SecretName) -> String {
    format!("{SECRET_MARK}{name}{MARK_END}")
}

/// The secrets that a header names. What only looks like one stays as it is.
fn names_in(value: &[u8]) -> Vec<SecretName> {
    let starts = memmem::find_iter(value, SECRET_MARK).map(|at| &value[at + SECRET_MARK.len()..]);
    let name = |rest: &[u8]| {
        let end = memmem::find(rest, MARK_END.as_bytes())?;
        SecretName::new(std::str::from_utf8(&rest[..end]).ok()?).ok()
    };
    starts.filter_map(name).collect()
}

/// Replaces all occurrences; `None` if there is none.
fn replace(text: &[u8], old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut replaced = Vec::new();
    let mut from = 0;
    for at in memmem::find_iter(text, old) {
        replaced.extend_from_slice(&text[from..at]);
        replaced.extend_from_slice(new);
        from = at + old.len();
    }
    if from == 0 {
        return None;
    }
    replaced.extend_from_slice(&text[from..]);
    Some(replaced)
}

fn without_value(name: &SecretName, reason: impl fmt::Display) -> HttpError {
    HttpError::Secret { name: name.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(text: &str) -> Secrets {
        let http = vec!["GET https://a.example/v1/*".parse().unwrap()];
        let secret = Secret { source: SecretSource::Text(text.into()), headers: vec![header::AUTHORIZATION], http };
        Secrets([("KEY".parse().unwrap(), secret)].into())
    }

    fn request(path: &str, name: &'static str, value: &str) -> HttpRequest {
        let target = flow::HttpTarget::new("GET", "https", "a.example", path).unwrap();
        let headers = [(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())].into_iter().collect();
        HttpRequest { target, headers, body: Bytes::new(), timeouts: crate::Timeouts::default() }
    }

    /// What a call may do whose flow asks for these secrets, and whose operator grants them.
    fn access(names: &[&str]) -> CallAccess {
        let secrets = names.iter().map(|name| name.parse().unwrap()).collect();
        let access = flow::Access { secrets, ..flow::Access::default() };
        let grants = flow::Grants(vec![flow::Grant { access: access.clone(), ..flow::Grant::default() }]);
        grants.of_call(&access, &"f".parse().unwrap(), &"t".parse().unwrap(), &flow::Digest::from_bytes([0; 32]))
    }

    async fn inserted(text: &str, asked: &[&str], mut request: HttpRequest) -> Result<String, String> {
        let used = secrets(text).insert(&access(asked), &mut request).await.map_err(|error| error.to_string())?;
        let header = request.headers.values().next().unwrap();
        assert_eq!(header.is_sensitive(), !used.0.is_empty());
        Ok(header.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_secret_goes_only_where_the_operator_lets_it() {
        let bearer = "Bearer {{secret:KEY}} {{secret:KEY}}{{secret:a b}}{{secret:";
        let expected = "Bearer s3cret s3cret{{secret:a b}}{{secret:".to_owned();
        assert_eq!(inserted("s3cret", &["KEY"], request("/v1/x", "authorization", bearer)).await, Ok(expected));
        let error = inserted("s", &["KEY"], request("/v1/x", "x-other", bearer)).await.unwrap_err();
        assert_eq!(
            error,
            "the secret KEY is denied in the header x-other of GET https://a.example/v1/x: an operator allows it with `headers` and \
             `http` in [secret.KEY]"
        );
        assert!(inserted("s", &["KEY"], request("/v2/x", "authorization", bearer)).await.is_err());
        let error = inserted("s", &[], request("/v1/x", "authorization", bearer)).await.unwrap_err();
        assert!(error.starts_with("the secret KEY is denied: the flow does not ask for it"), "{error}");
        let error = inserted("s", &["OTHER"], request("/v1/x", "authorization", "{{secret:OTHER}}")).await.unwrap_err();
        assert_eq!(error, "the secret OTHER has no value: the settings of the worker have no such table");
        let error = inserted("a\nb", &["KEY"], request("/v1/x", "authorization", bearer)).await.unwrap_err();
        assert_eq!(error, "the secret KEY has no value: a header cannot contain it");
    }

    #[tokio::test]
    async fn a_value_that_comes_back_is_replaced_by_its_name() {
        let mut sent = request("/v1/x", "authorization", "{{secret:KEY}}");
        let used = secrets("s3cret").insert(&access(&["KEY"]), &mut sent).await.unwrap();
        let headers = [("content-length", "14"), ("x-echo", "=s3cret=")];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let status = http::StatusCode::OK;
        let mut response =
            HttpResponse { status, headers: headers.into_iter().collect(), body: "s3crets3cret!".into() };
        used.redact(&mut response);
        assert_eq!(response.body, "{{secret:KEY}}{{secret:KEY}}!");
        assert_eq!(response.headers.len(), 1);
        assert_eq!(response.headers["x-echo"], "={{secret:KEY}}=");
    }
}
