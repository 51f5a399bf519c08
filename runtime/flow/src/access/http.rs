//! Patterns of HTTP requests, such as `PUT https://lb.example.com/v1/pools/*`, and the requests that they match.
//!
//! A request is matched in the form in which it is sent: the parser of the URL standard has resolved dot segments, and has
//! decoded the host. So a server cannot read the request differently from the pattern.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use url::{Host, Url};

use super::{
    Network,
    host::{HostPattern, canonical},
};
use crate::matches_wildcard;

/// The longest pattern, in bytes: longer than any that a person writes.
const MAX_PATTERN_BYTES: usize = 2_000;

/// The longest URL of a request, in bytes. Servers refuse longer ones.
const MAX_URL_BYTES: usize = 16 << 10;

/// The methods that no pattern allows: one makes a tunnel, and the other shows headers that the gateway added.
const NEVER_ALLOWED: [&str; 2] = ["CONNECT", "TRACE"];

/// A pattern of HTTP requests: methods, scheme, host, port and path. It says nothing of the query.
///
/// - The method may be several, `GET,PUT`, or any, `*`.
/// - The host may be all subdomains of a domain, `*.example.com`, or any, `*`.
/// - In the path, `*` stands for any characters of one segment that is not empty, and `**` at the end for any number of segments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpPattern {
    /// Empty for any method.
    methods: BTreeSet<String>,
    is_encrypted: bool,
    host: HostPattern,
    port: u16,
    /// The segments after the first slash.
    path: Vec<String>,
    /// Whether `**` follows them.
    is_open: bool,
}

/// Why a text is no pattern of requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pattern of HTTP requests: {reason}")]
pub struct InvalidHttpPattern {
    /// The refused text, cut to what fits a line.
    pub text: String,
    /// What is wrong, and what to write.
    pub reason: String,
}

/// The method and the address of a request, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    method: String,
    url: Url,
    /// The host of the address, in the form in which patterns have hosts.
    host: Host<String>,
}

/// Why a request has no valid address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the request is refused: {0}")]
pub struct InvalidHttpTarget(String);

impl HttpPattern {
    /// Whether a request matches the pattern.
    #[must_use]
    pub fn matches(&self, target: &HttpTarget) -> bool {
        self.matches_method(&target.method)
            && self.is_encrypted == target.is_encrypted()
            && self.port == target.port()
            && self.host.matches(&target.host)
            && self.matches_path(target.path_segments())
    }

    /// Whether each request that matches `other` surely matches this pattern.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        /// Matched by nothing but a wildcard.
        const ANYTHING: &str = "\0";
        let methods = self.methods.is_empty() || (!other.methods.is_empty() && other.methods.is_subset(&self.methods));
        // Most patterns differ in what is compared quickly, and paths may be long.
        let may_cover = methods
            && self.is_encrypted == other.is_encrypted
            && self.port == other.port
            && self.host.covers(&other.host)
            && (self.is_open || !other.is_open);
        if !may_cover {
            return false;
        }
        let mut path: Vec<String> = other.path.iter().map(|segment| segment.replace('*', ANYTHING)).collect();
        if other.is_open {
            // Any number of further segments is matched only by any number of segments.
            path.push(ANYTHING.to_owned());
        }
        self.matches_path(path.iter().map(String::as_str))
    }

    /// Whether a request may match both patterns, as far as method, scheme, host and port tell.
    #[must_use]
    pub fn may_overlap(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty() || other.methods.is_empty() || !self.methods.is_disjoint(&other.methods);
        methods
            && self.is_encrypted == other.is_encrypted
            && self.port == other.port
            && (self.host.covers(&other.host) || other.host.covers(&self.host))
    }

    /// The address that is its host, if it has one instead of a name.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.address()
    }

    /// The address that the pattern names: it may be one that is not public.
    pub(super) fn named_network(&self) -> Option<Vec<Network>> {
        self.host.named_network()
    }

    fn matches_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// It looks at no more segments than the pattern has, and at one more: a path may have thousands.
    fn matches_path<'s>(&self, mut segments: impl Iterator<Item = &'s str>) -> bool {
        // An encoded slash is a slash for some servers, so only what may have any number of segments may have one.
        let matches = |pattern: &String, segment: &str| {
            pattern == segment || matches_segment(pattern, segment) && !has_encoded_slash(segment)
        };
        self.path.iter().all(|pattern| segments.next().is_some_and(|segment| matches(pattern, segment)))
            && segments.next().is_some() == self.is_open
    }
}

impl HttpTarget {
    /// Parses the parts of a request as a guest gives them. `authority` is a host, perhaps with a port.
    ///
    /// # Errors
    /// [`InvalidHttpTarget`] for a scheme other than HTTP and HTTPS, a name or password in the address, an invalid host or port, and a path
    /// that some servers read as another one.
    pub fn new(method: &str, scheme: &str, authority: &str, path_with_query: &str) -> Result<Self, InvalidHttpTarget> {
        let refused = |reason: &str| InvalidHttpTarget(reason.to_owned());
        if scheme.len() + authority.len() + path_with_query.len() > MAX_URL_BYTES {
            return Err(refused(&format!("its address is longer than {MAX_URL_BYTES} bytes")));
        }
        if !is_method(method) {
            return Err(refused("its method is none of HTTP"));
        }
        if NEVER_ALLOWED.iter().any(|never| never.eq_ignore_ascii_case(method)) {
            return Err(refused(&format!("the method {method} is never allowed")));
        }
        if !matches!(scheme, "http" | "https") {
            return Err(refused("its scheme is neither http nor https"));
        }
        if authority.is_empty() || authority.contains(['/', '\\', '?', '#', '@']) {
            return Err(refused("its authority is not a host, or a host and a port"));
        }
        let slash = if path_with_query.starts_with('/') { "" } else { "/" };
        let text = format!("{scheme}://{authority}{slash}{path_with_query}");
        let mut url =
            Url::parse(&text).map_err(|error| InvalidHttpTarget(format!("its address is invalid: {error}")))?;
        url.set_fragment(None);
        let Some(host) = url.host().map(|host| canonical(host.to_owned())) else {
            return Err(refused("its address has no host"));
        };
        let target = Self { method: method.to_owned(), url, host };
        let is_ambiguous = target.path_segments().any(has_hidden_segment);
        match is_ambiguous {
            true => Err(refused(
                "its path has a `.` or `..` that some servers resolve: encoded twice, before a `;`, or beside an encoded slash",
            )),
            false => Ok(target),
        }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The address, in the form of the URL standard.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The same request with another query.
    #[must_use]
    pub fn with_query(&self, query: &str) -> Self {
        let mut url = self.url.clone();
        url.set_query(Some(query));
        Self { method: self.method.clone(), url, host: self.host.clone() }
    }

    /// The address of the host, where the URL has one instead of a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    fn port(&self) -> u16 {
        self.url.port_or_known_default().expect("http and https have default ports")
    }

    fn path_segments(&self) -> impl Iterator<Item = &str> {
        self.url.path_segments().expect("http and https have paths")
    }
}

/// The method, and the address without its query: a query may contain a secret.
impl fmt::Display for HttpTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        write!(out, "{} {url}", self.method)
    }
}

impl FromStr for HttpPattern {
    type Err = InvalidHttpPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHttpPattern> {
        parse(text).map_err(|reason| InvalidHttpPattern { text: text.chars().take(200).collect(), reason })
    }
}

fn parse(text: &str) -> Result<HttpPattern, String> {
    const EXAMPLE: &str = "write \"GET https://example.com/v1/**\"";
    let too_long = || format!("it is longer than {MAX_PATTERN_BYTES} bytes");
    if text.len() > MAX_PATTERN_BYTES {
        return Err(too_long());
    }
    let (methods, address) = text.split_once(' ').ok_or_else(|| format!("it has no method: {EXAMPLE}"))?;
    let methods = parse_methods(methods)?;
    let url = Url::parse(address).map_err(|error| format!("its address is invalid ({error}): {EXAMPLE}"))?;
    let is_encrypted = match url.scheme() {
        "https" => true,
        "http" => false,
        other => return Err(format!("its scheme is {other:?}: write http or https")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its address has a name or a password: a pattern has none".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("its address has a query or a fragment: a pattern says nothing of them".into());
    }
    let host = HostPattern::of(url.host().map(|host| canonical(host.to_owned())))?;
    let port = url.port_or_known_default().expect("http and https have default ports");
    let (_, after_scheme) = address.split_once("://").unwrap_or_default();
    let written = after_scheme.find('/').map(|start| &after_scheme[start..]);
    let Some(written) = written else { return Err(format!("its address has no path: write {url}** for all paths")) };
    if written != url.path() {
        return Err(format!("its path is sent as {:?}: write that", url.path()));
    }
    let mut path: Vec<String> = url.path_segments().into_iter().flatten().map(str::to_owned).collect();
    let is_open = path.last().is_some_and(|last| last == "**");
    if is_open {
        path.pop();
    }
    if path.iter().any(|segment| segment.contains("**")) {
        return Err("`**` stands for the rest of a path: write it at the end, after a slash".into());
    }
    let pattern = HttpPattern { methods, is_encrypted, host, port, path, is_open };
    // A message contains the form in which it is shown, where a host may be longer.
    match pattern.to_string().len() > MAX_PATTERN_BYTES {
        true => Err(too_long()),
        false => Ok(pattern),
    }
}

fn parse_methods(text: &str) -> Result<BTreeSet<String>, String> {
    if text == "*" {
        return Ok(BTreeSet::new());
    }
    let methods = text.split(',').map(|method| {
        let is_upper_case = method.bytes().all(|byte| byte.is_ascii_uppercase());
        match is_method(method) && is_upper_case {
            true if NEVER_ALLOWED.contains(&method) => Err(format!("the method {method} is never allowed")),
            true => Ok(method.to_owned()),
            false => Err(format!("{method:?} is no method: write one such as GET, several as GET,PUT, or * for any")),
        }
    });
    methods.collect()
}

/// Whether a text may be a method: the tokens of RFC 9110, section 5.6.2.
fn is_method(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

/// Whether a segment matches a pattern in which `*` stands for any characters.
fn matches_segment(pattern: &str, segment: &str) -> bool {
    // Some servers ignore empty segments.
    matches_wildcard(pattern, segment) && (pattern.is_empty() || !segment.is_empty())
}

fn has_encoded_slash(segment: &str) -> bool {
    let mut codes = segment.split('%').skip(1).filter_map(|rest| rest.get(..2));
    codes.any(|code| code.eq_ignore_ascii_case("2f") || code.eq_ignore_ascii_case("5c"))
}

/// Whether a segment has `.` or `..` where some servers see a segment: between encoded slashes, before a `;`, or encoded twice. The
/// parser has resolved the other ones.
fn has_hidden_segment(segment: &str) -> bool {
    let once = segment.to_ascii_lowercase();
    let twice = once.replace("%25", "%");
    [once, twice].iter().any(|text| {
        let decoded = [("%2e", "."), ("%5c", "/"), ("%2f", "/"), ("%3b", ";")];
        let decoded = decoded.iter().fold(text.clone(), |text, (code, char)| text.replace(code, char));
        let mut parts = decoded.split('/').map(|part| part.split(';').next().unwrap_or_default());
        parts.any(|part| matches!(part, "." | ".."))
    })
}

/// The pattern as it is written.
impl fmt::Display for HttpPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = match self.methods.is_empty() {
            true => "*".to_owned(),
            false => self.methods.iter().map(String::as_str).collect::<Vec<_>>().join(","),
        };
        let (scheme, default_port) = if self.is_encrypted { ("https", 443) } else { ("http", 80) };
        let port = if self.port == default_port { String::new() } else { format!(":{}", self.port) };
        let open = self.is_open.then_some("**");
        let path: Vec<&str> = self.path.iter().map(String::as_str).chain(open).collect();
        write!(out, "{methods} {scheme}://{}{port}/{}", self.host, path.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_looks_at_no_more_segments_than_it_has() {
        for (pattern, expected) in [("GET http://a/1", 1), ("GET http://a/x/y", 2), ("GET http://a/x/**", 2)] {
            let pattern: HttpPattern = pattern.parse().unwrap();
            let mut seen = 0;
            let segments = std::iter::repeat_n("x", 10_000).inspect(|_| seen += 1);
            pattern.matches_path(segments);
            assert_eq!(seen, expected, "{pattern}");
        }
    }
}
