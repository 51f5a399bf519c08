//! How spans are sent: the settings, and the variables that all programs with OpenTelemetry have. A variable overrides a setting, one for
//! traces overrides the one for all signals, and the flag overrides both. An empty variable counts as unset.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::anyhow;
use credentials::{ClientTls, Identity, Trust};
use flow::HttpTarget;
use gateway::Url;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;
use traces::Sampler;
use tracing::warn;

use crate::{exit::CliError, settings::TracesSettings};

/// How long the collector may take for a request.
const DEFAULT_TIMEOUT_MS: u64 = 10_000;

/// The maximum of that time.
const MAX_TIMEOUT_MS: u64 = 600_000;

/// The maximum number of attributes and of headers in a variable.
const MAX_PAIRS: usize = 128;

/// What is sent, and where.
pub(super) struct Otlp {
    pub(super) target: HttpTarget,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) tls: ClientTls,
    pub(super) sampler: Sampler,
    /// The attributes of this process.
    pub(super) resource: Vec<(String, String)>,
}

/// The variables with the address of the collector: the exact one, and the one to which a path is added.
const OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const OF_ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The path of traces at a collector.
const PATH: &str = "/v1/traces";

/// What this process is.
pub(super) struct Process {
    /// The name of its service, unless a variable has one.
    pub(super) service: &'static str,
    /// An id that no other process has.
    pub(super) instance: String,
}

/// The variables of the environment.
struct Variables<Read>(Read);

impl<Read: Fn(&str) -> Option<String>> Variables<Read> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|text| !text.is_empty())
    }

    /// A variable about the exporter, with its name: the one for traces, or the one for all signals.
    fn of_exporter(&self, what: &str) -> Option<(String, String)> {
        let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }
}

/// Reads how spans are sent; `None` if they are not.
///
/// # Errors
/// The first setting or variable that cannot be used.
pub(super) fn read(
    settings: &TracesSettings,
    flag: Option<&str>,
    process: &Process,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Otlp>, CliError> {
    let variables = Variables(variable);
    let Some(target) = target(settings, flag, &variables)? else { return Ok(None) };
    check_protocol(&variables)?;
    let mut headers = HeaderMap::new();
    if let Some((name, text)) = variables.of_exporter("HEADERS") {
        for (key, value) in pairs(&name, &text)? {
            let key =
                HeaderName::from_bytes(key.as_bytes()).map_err(|_| invalid(&name, "it has no name of a header"))?;
            let value = HeaderValue::from_str(&value);
            let mut value = value.map_err(|_| invalid(&name, format!("{key} has no valid value")))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let tls = tls(&target, &variables)?;
    let (timeout, sampler) = (timeout(&variables)?, sampler(&variables)?);
    let resource = resource(process, &variables)?;
    Ok(Some(Otlp { target, headers, timeout, tls, sampler, resource }))
}

fn invalid(name: &str, reason: impl std::fmt::Display) -> CliError {
    CliError::invalid(anyhow!("{name}: {reason}")).hint("docs/tracing.md has the variables and settings of traces")
}

/// Where spans are sent; `None` if they are not.
fn target(
    settings: &TracesSettings,
    flag: Option<&str>,
    variables: &Variables<impl Fn(&str) -> Option<String>>,
) -> Result<Option<HttpTarget>, CliError> {
    if variables.get("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    if let Some(flag) = flag.filter(|text| !text.is_empty()) {
        return parse_target("--otlp", flag, PATH).map(Some);
    }
    match variables.get("OTEL_TRACES_EXPORTER").as_deref() {
        Some("none") => return Ok(None),
        None | Some("otlp") => {}
        Some(other) => {
            return Err(invalid("OTEL_TRACES_EXPORTER", format!("{other:?} is neither \"otlp\" nor \"none\"")));
        }
    }
    if let Some(text) = variables.get(OF_TRACES) {
        return parse_target(OF_TRACES, &text, "").map(Some);
    }
    if let Some(text) = variables.get(OF_ALL) {
        return parse_target(OF_ALL, &text, PATH).map(Some);
    }
    settings.otlp.as_ref().map(|text| parse_target("traces.otlp", text, PATH)).transpose()
}

/// The target of requests at an address. The address is not shown: it may have a password.
fn parse_target(name: &str, text: &str, path: &str) -> Result<HttpTarget, CliError> {
    let url = Url::parse(text).map_err(|error| invalid(name, format!("it is no address of a collector: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        let reason = "it has a user or a password: give them in a header, with OTEL_EXPORTER_OTLP_HEADERS";
        return Err(invalid(name, reason));
    }
    let host = url.host_str().ok_or_else(|| invalid(name, "it has no host: write http://127.0.0.1:4318"))?;
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = match path {
        "" => url.path().to_owned(),
        path => format!("{}{path}", url.path().trim_end_matches('/')),
    };
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = HttpTarget::new("POST", url.scheme(), &authority, &format!("{path}{query}"));
    target.map_err(|error| invalid(name, error))
}

fn check_protocol(variables: &Variables<impl Fn(&str) -> Option<String>>) -> Result<(), CliError> {
    if let Some((name, protocol)) = variables.of_exporter("PROTOCOL")
        && protocol != "http/protobuf"
    {
        let reason =
            format!("{protocol:?} is not spoken here, only \"http/protobuf\", which collectors take at port 4318");
        return Err(invalid(&name, reason));
    }
    if let Some((name, compression)) = variables.of_exporter("COMPRESSION")
        && compression != "none"
    {
        warn!(variable = name, compression, "spans are sent without compression");
    }
    Ok(())
}

fn tls(target: &HttpTarget, variables: &Variables<impl Fn(&str) -> Option<String>>) -> Result<ClientTls, CliError> {
    let file = |what: &str| -> Option<(String, PathBuf)> {
        variables.of_exporter(what).map(|(name, path)| (name, path.into()))
    };
    let trust = match file("CERTIFICATE") {
        Some((_, path)) => Trust::Only(path),
        // The certificates of the machine take time to read.
        None if target.url().scheme() == "http" => Trust::Nothing,
        None => Trust::Machine,
    };
    let identity = match (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")) {
        (Some((_, certificate)), Some((_, key))) => Some(Identity { certificate, key }),
        (None, None) => None,
        (Some((name, _)), None) | (None, Some((name, _))) => {
            return Err(invalid(&name, "the client's certificate and its key belong together: set both or none"));
        }
    };
    Ok(ClientTls { trust, identity })
}

fn timeout(variables: &Variables<impl Fn(&str) -> Option<String>>) -> Result<Duration, CliError> {
    let Some((name, text)) = variables.of_exporter("TIMEOUT") else {
        return Ok(Duration::from_millis(DEFAULT_TIMEOUT_MS));
    };
    match text.parse::<u64>() {
        Ok(milliseconds @ 1..=MAX_TIMEOUT_MS) => Ok(Duration::from_millis(milliseconds)),
        Ok(_) | Err(_) => {
            Err(invalid(&name, format!("{text:?} is not a number of milliseconds from 1 to {MAX_TIMEOUT_MS}")))
        }
    }
}

fn sampler(variables: &Variables<impl Fn(&str) -> Option<String>>) -> Result<Sampler, CliError> {
    const NAME: &str = "OTEL_TRACES_SAMPLER";
    const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
    let ratio = || match variables.get(ARGUMENT) {
        None => Ok(1.0),
        Some(text) => match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            Ok(_) | Err(_) => Err(invalid(ARGUMENT, format!("{text:?} is not a number from 0 to 1"))),
        },
    };
    match variables.get(NAME).as_deref() {
        None | Some("parentbased_always_on") => Ok(Sampler::ParentOrRatio(1.0)),
        Some("always_on") => Ok(Sampler::AlwaysOn),
        Some("always_off") => Ok(Sampler::AlwaysOff),
        Some("traceidratio") => Ok(Sampler::Ratio(ratio()?)),
        Some("parentbased_always_off") => Ok(Sampler::ParentOrRatio(0.0)),
        Some("parentbased_traceidratio") => Ok(Sampler::ParentOrRatio(ratio()?)),
        Some(other) => Err(invalid(
            NAME,
            format!(
                "{other:?} is no sampler here: use always_on, always_off, traceidratio, parentbased_always_on, \
                 parentbased_always_off or parentbased_traceidratio"
            ),
        )),
    }
}

/// The attributes of this process: its own, and over them those that the operator gives.
fn resource(
    process: &Process,
    variables: &Variables<impl Fn(&str) -> Option<String>>,
) -> Result<Vec<(String, String)>, CliError> {
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let own = [
        ("service.name", process.service.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", process.instance.clone()),
        ("host.name", gethostname::gethostname().to_string_lossy().into_owned()),
        ("process.pid", std::process::id().to_string()),
        ("telemetry.sdk.name", "waft".to_owned()),
        ("telemetry.sdk.language", "rust".to_owned()),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut attributes: BTreeMap<String, String> =
        own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    if let Some(text) = variables.get(NAME) {
        attributes.extend(pairs(NAME, &text)?);
    }
    if let Some(service) = variables.get("OTEL_SERVICE_NAME") {
        attributes.insert("service.name".into(), service);
    }
    Ok(attributes.into_iter().collect())
}

/// The pairs of a variable: `key=value,key2=value2`, with what is special in values encoded as in addresses. Values are never shown.
fn pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, CliError> {
    let written: Vec<&str> = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).collect();
    if written.len() > MAX_PAIRS {
        return Err(invalid(name, format!("it has more than {MAX_PAIRS} pairs")));
    }
    let pair = |pair: &str| {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| invalid(name, "a part of it is not written key=value"))?;
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().map(|text| text.into_owned());
        match (decoded(key), decoded(value)) {
            (Ok(key), Ok(value)) if !key.is_empty() => Ok((key, value)),
            (Ok(_), Ok(_)) => Err(invalid(name, "a part of it has no key")),
            (Err(_), _) | (_, Err(_)) => Err(invalid(name, "a part of it is not text in UTF-8 once it is decoded")),
        }
    };
    written.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(flag: Option<&str>, setting: &str, variables: &[(&str, &str)]) -> Result<Option<Otlp>, CliError> {
        let settings = TracesSettings {
            otlp: Some(setting.to_owned()).filter(|text| !text.is_empty()),
            ..TracesSettings::default()
        };
        let process = Process { service: "waft-serve", instance: "i".into() };
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        read(&settings, flag, &process, variable)
    }

    fn url(flag: Option<&str>, setting: &str, variables: &[(&str, &str)]) -> Option<String> {
        let otlp = read_with(flag, setting, variables).map_err(|error| error.error).unwrap();
        otlp.map(|otlp| otlp.target.url().to_string())
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c.test:4318/base/");

    #[test]
    fn the_flag_comes_before_variables_and_these_before_the_setting() {
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t.test/exact?tenant=a");
        assert_eq!(url(None, "", &[]), None);
        assert_eq!(url(None, "http://s.test:4318", &[]).unwrap(), "http://s.test:4318/v1/traces");
        assert_eq!(url(None, "http://s.test", &[BASE]).unwrap(), "http://c.test:4318/base/v1/traces");
        assert_eq!(url(None, "", &[BASE, of_traces]).unwrap(), "https://t.test/exact?tenant=a");
        assert_eq!(url(Some("http://f.test"), "", &[of_traces]).unwrap(), "http://f.test/v1/traces");
        assert_eq!(
            url(None, "http://s.test", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap(),
            "http://s.test/v1/traces"
        );
        assert_eq!(url(None, "", &[BASE, ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert_eq!(url(Some("http://f.test"), "", &[("OTEL_SDK_DISABLED", "TRUE")]), None);
    }

    #[test]
    fn the_standard_variables_are_read() {
        let variables = [
            BASE,
            ("OTEL_EXPORTER_OTLP_HEADERS", "ignored=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Authorization=Bearer%20abc, x-tenant = a%2Cb"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test"),
            ("OTEL_SERVICE_NAME", "shop"),
        ];
        let otlp = read_with(None, "", &variables).map_err(|error| error.error).unwrap().unwrap();
        assert_eq!(otlp.headers.get("authorization").unwrap(), "Bearer abc");
        assert_eq!(otlp.headers.get("x-tenant").unwrap(), "a,b");
        assert_eq!(otlp.headers.get("content-type").unwrap(), "application/x-protobuf");
        assert!(!otlp.headers.contains_key("ignored"));
        assert_eq!((otlp.timeout, otlp.sampler), (Duration::from_millis(2_500), Sampler::ParentOrRatio(0.25)));
        let attribute = |key: &str| otlp.resource.iter().find(|(known, _)| known == key).unwrap().1.clone();
        assert_eq!((&*attribute("service.name"), &*attribute("service.instance.id")), ("shop", "i"));
        assert_eq!(attribute("deployment.environment.name"), "test");
        assert_eq!(otlp.tls.trust, Trust::Nothing);
    }

    #[test]
    fn what_cannot_be_used_is_named_and_no_secret_is_shown() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0a"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:s3cret@c.test"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "s3cret"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
            ("OTEL_TRACES_SAMPLER", "xray"),
            ("OTEL_TRACES_EXPORTER", "console"),
        ] {
            let Err(error) = read_with(None, "", &[BASE, (name, value)]) else { panic!("{name} {value}") };
            let text = error.error.to_string();
            assert!(text.starts_with(name) && !text.contains("s3cret"), "{text}");
        }
        let ratio = [BASE, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        let Err(error) = read_with(None, "", &ratio) else { panic!("2 is no ratio") };
        assert!(error.error.to_string().starts_with("OTEL_TRACES_SAMPLER_ARG"), "{:?}", error.error);
        assert!(read_with(None, "", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_ok_and(|otlp| otlp.is_none()));
    }
}
