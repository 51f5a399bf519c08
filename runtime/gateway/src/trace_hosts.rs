//! The hosts whose requests name the trace of their call.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::HttpRequest;

/// The header of W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The hosts of an operator that receive the header `traceparent`. No other host does, unless the guest writes the header itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceHosts(Arc<[String]>);

/// A text is no host of [`TraceHosts`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no host: write api.example.com, *.example.com for the hosts below it, or an address such as 10.0.0.7"
)]
pub struct InvalidTraceHost {
    text: String,
}

impl TraceHosts {
    /// The hosts in texts like `api.example.com`, or `*.example.com` for all below that.
    ///
    /// # Errors
    /// [`InvalidTraceHost`] for the first text that is no host.
    pub fn new(texts: &[String]) -> Result<Self, InvalidTraceHost> {
        let host = |text: &String| {
            let name = text.strip_prefix("*.").unwrap_or(text);
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
            let is_host = !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_part);
            if is_host { Ok(text.to_ascii_lowercase()) } else { Err(InvalidTraceHost { text: text.clone() }) }
        };
        Ok(Self(texts.iter().map(host).collect::<Result<_, _>>()?))
    }

    /// Whether no host receives it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, host: &str) -> bool {
        let is_it = |known: &String| match known.strip_prefix('*') {
            // What is left begins with a dot.
            Some(parent) => host.len() > parent.len() && host.ends_with(parent),
            None => host == known,
        };
        self.0.iter().any(is_it)
    }

    /// Adds the header to a request to one of these hosts. What the guest wrote stays.
    pub(crate) fn add_to(&self, request: &mut HttpRequest, traceparent: &HeaderValue) {
        let host = request.target.url().host_str().unwrap_or_default();
        if self.contains(host) {
            request.headers.entry(TRACEPARENT).or_insert_with(|| traceparent.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flow::HttpTarget;
    use http::HeaderMap;

    use super::*;
    use crate::Timeouts;

    fn added(hosts: &[&str], authority: &str, headers: HeaderMap) -> Option<String> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let target = HttpTarget::new("GET", "https", authority, "/").unwrap();
        let mut request = HttpRequest { target, headers, body: Bytes::new(), timeouts: Timeouts::default() };
        TraceHosts::new(&hosts).unwrap().add_to(&mut request, &HeaderValue::from_static("ours"));
        request.headers.get(TRACEPARENT).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_hosts_that_the_operator_names_receive_the_header() {
        let is_added = |hosts: &[&str], authority| added(hosts, authority, HeaderMap::new()).is_some();
        assert!(is_added(&["api.example.com"], "API.example.com:8443"));
        assert!(is_added(&["other.test", "10.0.0.7"], "10.0.0.7"));
        assert!(is_added(&["*.Example.com"], "a.b.example.com"));
        for (host, authority) in [
            ("api.example.com", "example.com"),
            ("api.example.com", "xapi.example.com"),
            ("*.example.com", "example.com"),
            ("*.example.com", "badexample.com"),
            ("*.example.com", "a.example.com.evil.test"),
        ] {
            assert!(!is_added(&[host], authority), "{host} {authority}");
        }
        assert!(!is_added(&[], "api.example.com"));
    }

    #[test]
    fn the_header_of_a_guest_stays() {
        let of_guest = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static("of the guest"))]);
        assert_eq!(added(&["a.test"], "a.test", of_guest.clone()).as_deref(), Some("of the guest"));
        assert_eq!(added(&[], "a.test", of_guest).as_deref(), Some("of the guest"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "*", "*.", "https://a.test", "a.test/x", "a test", "a.*.test", "*..test"] {
            assert!(TraceHosts::new(&[text.to_owned()]).is_err(), "{text:?}");
        }
    }
}
