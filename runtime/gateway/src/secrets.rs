//! The secrets of an operator. A guest writes `{{secret:NAME}}` into a header, a query or a body, and the gateway replaces it by the
//! value, in the requests and places that the operator has named. So a guest can use a secret, and never sees it.

mod fetched;
mod places;
mod source;

use std::{collections::BTreeMap, fmt};

use flow::{AccessDenial, CallAccess, HttpPattern, HttpTarget, SECRET_MARK, SecretName};
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use self::fetched::FetchedValues;
use self::places::{BodyKind, SecretValues, names_in, names_in_query, query_with_values, replace_marks};
pub use self::source::{SecretSource, VaultEntry};
use crate::{HttpError, HttpRequest, UsedSecrets, clients::Client};

/// What ends the name of a secret.
const MARK_END: &str = "}}";

/// The maximum number of times that a request may name secrets: each is replaced by a value that may be much longer.
const MAX_MARKS: usize = 64;

/// The maximum size of a value, in bytes: a request may contain it many times.
const MAX_VALUE_BYTES: usize = 64 << 10;

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
    /// The parameters of a query that may contain it.
    pub query: Vec<String>,
    /// Whether a body may contain it.
    pub body: bool,
    /// The requests that may contain it.
    pub http: Vec<HttpPattern>,
}

/// The secrets that the parts of a request name, and may contain.
#[derive(Default)]
struct Named {
    headers: Vec<SecretName>,
    query: Vec<SecretName>,
    body: Vec<SecretName>,
}

/// What decides on the secrets of a request.
pub(crate) struct Context<'a> {
    pub(crate) access: &'a CallAccess,
    pub(crate) fetched: &'a FetchedValues,
    /// Notes the values that the call uses.
    pub(crate) used: &'a UsedSecrets,
}

impl Secrets {
    /// Replaces the secrets in a request by their values. `client` sends requests to the servers that have values.
    ///
    /// # Errors
    /// [`HttpError::Denied`] when the flow or the operator does not allow it, [`HttpError::Secret`] when there is no value.
    pub(crate) async fn insert<Opening: Future<Output = Result<Client, HttpError>> + Send + 'static>(
        &self,
        context: &Context<'_>,
        request: &mut HttpRequest,
        client: impl Fn() -> Opening,
    ) -> Result<(), HttpError> {
        let kind = BodyKind::of(&request.headers);
        let named = self.named(context.access, request, kind)?;
        let mut values = SecretValues::new();
        for name in named.all() {
            if values.contains_key(name) {
                continue;
            }
            let unknown = || without_value(name, "the settings of the worker have no such table");
            let secret = self.0.get(name).ok_or_else(unknown)?;
            let value = context.fetched.get(&secret.source, client()).await;
            let value = value.map_err(|reason| context.fetched.unavailable(name, reason))?;
            check_value(name, &value)?;
            context.used.note(name, &value);
            values.insert(name.clone(), value);
        }
        self.note_known(context, &request.target).await;
        insert_into_headers(&mut request.headers, &values, &named.headers)?;
        if !named.query.is_empty() {
            let query = request.target.url().query().unwrap_or_default();
            let may_have = |name: &SecretName, parameter: &str| {
                self.0.get(name).is_some_and(|secret| secret.may_be_in_parameter(parameter))
            };
            request.target = request.target.with_query(&query_with_values(query, &values, may_have));
        }
        if !named.body.is_empty() {
            let in_body = values.into_iter().filter(|(name, _)| named.body.contains(name)).collect();
            request.body = kind.with_values(&request.body, &in_body);
        }
        Ok(())
    }

    /// Notes the values of the secrets that the request could contain: the server may have got them from another request, also of
    /// another call, and send them back to this one.
    pub(crate) async fn note_known(&self, context: &Context<'_>, target: &HttpTarget) {
        let known = self.possible(context.access, target).map(|(name, secret)| async move {
            let values = context.fetched.known(&secret.source).await;
            // Another value is in no request.
            values
                .iter()
                .filter(|value| check_value(name, value).is_ok())
                .for_each(|value| context.used.note(name, value));
        });
        join_all(known).await;
    }

    /// Whether a request could contain a secret.
    pub(crate) fn may_be_in(&self, access: &CallAccess, target: &HttpTarget) -> bool {
        self.possible(access, target).next().is_some()
    }

    /// Whether a secret comes from a source.
    fn have(&self, source: &SecretSource) -> bool {
        self.0.values().any(|secret| secret.source == *source)
    }

    /// The secrets that a request could contain.
    fn possible(&self, access: &CallAccess, target: &HttpTarget) -> impl Iterator<Item = (&SecretName, &Secret)> {
        self.0.iter().filter(|(name, secret)| {
            access.check_secret(name).is_ok() && secret.http.iter().any(|pattern| pattern.matches(target))
        })
    }

    /// The secrets that a request names and may contain. In a query or a body, the name of a secret that no query or no body may
    /// contain is only text.
    fn named(&self, access: &CallAccess, request: &HttpRequest, kind: BodyKind) -> Result<Named, HttpError> {
        let HttpRequest { target, headers, body, .. } = request;
        let mut named = Named::default();
        for (header, value) in headers {
            for name in names_in(value.as_bytes()) {
                let is_there = |secret: &Secret| secret.headers.contains(header);
                self.check(access, &name, target, || format!("in the header {header}"), is_there)?;
                named.headers.push(name);
                named.check_number()?;
            }
        }
        for (parameter, names) in names_in_query(target.url().query().unwrap_or_default()) {
            let in_a_query = |name: &SecretName| self.0.get(name).is_some_and(|secret| !secret.query.is_empty());
            for name in names.into_iter().filter(in_a_query) {
                let is_there = |secret: &Secret| secret.may_be_in_parameter(&parameter);
                self.check(access, &name, target, || format!("in the parameter {parameter:?}"), is_there)?;
                named.query.push(name);
                named.check_number()?;
            }
        }
        if self.0.values().any(|secret| secret.body) {
            let in_a_body = |name: &SecretName| self.0.get(name).is_some_and(|secret| secret.body);
            for name in kind.names_in(body).filter(in_a_body) {
                self.check(access, &name, target, || "in the body".to_owned(), |secret| secret.body)?;
                named.body.push(name);
                named.check_number()?;
            }
        }
        Ok(named)
    }

    /// Checks that a request may contain a secret in a place.
    fn check(
        &self,
        access: &CallAccess,
        name: &SecretName,
        target: &HttpTarget,
        place: impl FnOnce() -> String,
        is_there: impl FnOnce(&Secret) -> bool,
    ) -> Result<(), HttpError> {
        access.check_secret(name)?;
        let unknown = || without_value(name, "the settings of the worker have no such table");
        let secret = self.0.get(name).ok_or_else(unknown)?;
        if is_there(secret) && secret.http.iter().any(|pattern| pattern.matches(target)) {
            return Ok(());
        }
        Err(AccessDenial::SecretPlace { name: name.clone(), place: format!("{} of {target}", place()) }.into())
    }
}

impl Secret {
    fn may_be_in_parameter(&self, parameter: &str) -> bool {
        self.query.iter().any(|own| own == parameter)
    }
}

impl Named {
    fn all(&self) -> impl Iterator<Item = &SecretName> {
        let Self { headers, query, body } = self;
        headers.iter().chain(query).chain(body)
    }

    /// Checked with each name, so that a request with millions of them is not read to its end.
    fn check_number(&self) -> Result<(), HttpError> {
        if self.all().count() <= MAX_MARKS {
            return Ok(());
        }
        Err(HttpError::Denied(format!("the request names secrets more than {MAX_MARKS} times")))
    }
}

fn insert_into_headers(headers: &mut HeaderMap, values: &SecretValues, named: &[SecretName]) -> Result<(), HttpError> {
    if named.is_empty() {
        return Ok(());
    }
    for value in headers.values_mut() {
        let Some(first) = names_in(value.as_bytes()).next() else { continue };
        let mut replaced = HeaderValue::from_bytes(&replace_marks(value.as_bytes(), values))
            .map_err(|_| without_value(&first, "a header cannot contain it"))?;
        replaced.set_sensitive(true);
        *value = replaced;
    }
    Ok(())
}

/// Checks that a value can be sent, and found in a response.
fn check_value(name: &SecretName, value: &str) -> Result<(), HttpError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(without_value(name, format!("it has more than {} KiB", MAX_VALUE_BYTES >> 10)));
    }
    if value.trim_matches([' ', '\t']) != value {
        return Err(without_value(
            name,
            "it begins or ends with a space, which headers lose: remove the space where the value comes from",
        ));
    }
    Ok(())
}

pub(crate) fn mark(name: &SecretName) -> String {
    format!("{SECRET_MARK}{name}{MARK_END}")
}

fn without_value(name: &SecretName, reason: impl fmt::Display) -> HttpError {
    HttpError::Secret { name: name.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
