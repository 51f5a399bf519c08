//! The parts of a request that may contain secrets: headers, parameters of the query, and the body. Each part has its own way to write
//! any text, and a value is written in that way, so that it cannot become more than a text there.

use std::collections::BTreeMap;

use bytes::Bytes;
use flow::{SECRET_MARK, SecretName};
use http::{HeaderMap, header};
use memchr::memmem;
use percent_encoding::{percent_decode, percent_encode};

use super::MARK_END;
use crate::redaction::{UNRESERVED, json_escaped};

/// The values of the secrets that a request contains.
pub(super) type SecretValues = BTreeMap<SecretName, String>;

/// The maximum number of bytes between the two ends of a mark: no name is longer.
const MAX_NAME_BYTES: usize = 100;

/// How a body writes texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
    Json,
    Form,
    Text,
    /// It is compressed: what looks like a name of a secret in it is none.
    Encoded,
}

impl BodyKind {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let is_identity = |encoding: &[u8]| encoding.eq_ignore_ascii_case(b"identity");
        if headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| !is_identity(encoding.as_bytes())) {
            return Self::Encoded;
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*kind {
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            kind if kind.ends_with("+json") => Self::Json,
            _ => Self::Text,
        }
    }

    /// The secrets that a body names.
    pub(super) fn names_in(self, body: &[u8]) -> Box<dyn Iterator<Item = SecretName> + Send + '_> {
        match self {
            Self::Json | Self::Text => Box::new(names_in(body)),
            Self::Form => {
                Box::new(pairs(body).flat_map(|(_, value)| names_in(&form_decoded(value)).collect::<Vec<_>>()))
            }
            Self::Encoded => Box::new(std::iter::empty()),
        }
    }

    /// The body with the values of these secrets.
    pub(super) fn with_values(self, body: &Bytes, values: &SecretValues) -> Bytes {
        let written = |value: &str| match self {
            Self::Json => json_escaped(value),
            Self::Form | Self::Text | Self::Encoded => value.to_owned(),
        };
        match self {
            Self::Form => Bytes::from(with_values_in_pairs(body, values, |_, _| true)),
            Self::Json | Self::Text | Self::Encoded => {
                let written = values.iter().map(|(name, value)| (name.clone(), written(value))).collect();
                Bytes::from(replace_marks(body, &written))
            }
        }
    }
}

/// The parameters of a query that name secrets, and the secrets.
pub(super) fn names_in_query(query: &str) -> impl Iterator<Item = (String, Vec<SecretName>)> {
    let named = pairs(query.as_bytes()).map(|(parameter, value)| {
        (
            String::from_utf8_lossy(&form_decoded(parameter)).into_owned(),
            names_in(&form_decoded(value)).collect::<Vec<_>>(),
        )
    });
    named.filter(|(_, names)| !names.is_empty())
}

/// A query with the values of these secrets, each in the parameters that may contain it.
pub(super) fn query_with_values(
    query: &str,
    values: &SecretValues,
    may_have: impl Fn(&SecretName, &str) -> bool,
) -> String {
    String::from_utf8_lossy(&with_values_in_pairs(query.as_bytes(), values, may_have)).into_owned()
}

/// Replaces marks in the values of `name=value` pairs by the values that a parameter may have. Pairs without one stay as they are
/// written.
fn with_values_in_pairs(text: &[u8], values: &SecretValues, may_have: impl Fn(&SecretName, &str) -> bool) -> Vec<u8> {
    let written = text.split(|byte| *byte == b'&').map(|pair| {
        let Some(at) = memchr::memchr(b'=', pair) else { return pair.to_vec() };
        let (parameter, value) = (&pair[..at], form_decoded(&pair[at + 1..]));
        let decoded = form_decoded(parameter);
        let decoded = String::from_utf8_lossy(&decoded);
        let value_of = |name: &SecretName| values.get(name).filter(|_| may_have(name, &decoded)).map(String::as_str);
        if !names_in(&value).any(|name| value_of(&name).is_some()) {
            return pair.to_vec();
        }
        let encoded = percent_encode(&replace_marks_by(&value, value_of), UNRESERVED).to_string();
        [parameter, b"=", encoded.as_bytes()].concat()
    });
    written.collect::<Vec<_>>().join(&b'&')
}

fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b'&').filter_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        Some((&pair[..at], &pair[at + 1..]))
    })
}

/// A name or value of a form, as its writer meant it.
fn form_decoded(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).collect()
}

/// Replaces each mark by its value. A value that contains a mark is not read again.
pub(super) fn replace_marks(text: &[u8], values: &SecretValues) -> Vec<u8> {
    replace_marks_by(text, |name| values.get(name).map(String::as_str))
}

fn replace_marks_by<'v>(text: &[u8], value_of: impl Fn(&SecretName) -> Option<&'v str>) -> Vec<u8> {
    let (mut replaced, mut from) = (Vec::with_capacity(text.len()), 0);
    for at in memmem::find_iter(text, SECRET_MARK) {
        let Some((name, length)) = name_at(&text[at..]).filter(|_| at >= from) else { continue };
        let Some(value) = value_of(&name) else { continue };
        replaced.extend_from_slice(&text[from..at]);
        replaced.extend_from_slice(value.as_bytes());
        from = at + length;
    }
    replaced.extend_from_slice(&text[from..]);
    replaced
}

/// The secrets that a text names. What only looks like one stays as it is.
pub(super) fn names_in(text: &[u8]) -> impl Iterator<Item = SecretName> {
    memmem::find_iter(text, SECRET_MARK).filter_map(|at| Some(name_at(&text[at..])?.0))
}

/// The secret that the mark at the start names, and the length of the mark.
fn name_at(text: &[u8]) -> Option<(SecretName, usize)> {
    let rest = text.get(SECRET_MARK.len()..)?;
    let end = memmem::find(&rest[..rest.len().min(MAX_NAME_BYTES + MARK_END.len())], MARK_END.as_bytes())?;
    let name = SecretName::new(std::str::from_utf8(&rest[..end]).ok()?).ok()?;
    Some((name, SECRET_MARK.len() + end + MARK_END.len()))
}
