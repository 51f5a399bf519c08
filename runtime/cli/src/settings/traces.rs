//! The table `[traces]` of a settings file.

use gateway::TraceHosts;
use serde::Deserialize;
use traces::LinkTemplate;

use super::parser::Parser;

/// The table, before it is checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTraces {
    otlp: Option<String>,
    page: Option<String>,
    hosts: Option<Vec<String>>,
    accept_traceparent: Option<bool>,
}

/// What this process does with traces. Whether it sends any also depends on flags and the environment: see `otlp/config.rs`.
#[derive(Debug, Clone, Default)]
pub(crate) struct TracesSettings {
    /// The address of the collector.
    pub(crate) otlp: Option<String>,
    /// The address of the page of a trace.
    pub(crate) page: Option<LinkTemplate>,
    /// The hosts whose requests name the trace of their call.
    pub(crate) hosts: TraceHosts,
    /// Whether a run continues the trace of its submitter.
    pub(crate) accepts_parents: bool,
}

impl RawTraces {
    /// This table, with missing keys taken from `lower`. An empty text counts as missing.
    pub(super) fn or(self, lower: Self) -> Self {
        let text = |upper: Option<String>, lower| upper.filter(|text| !text.is_empty()).or(lower);
        Self {
            otlp: text(self.otlp, lower.otlp),
            page: text(self.page, lower.page),
            hosts: self.hosts.or(lower.hosts),
            accept_traceparent: self.accept_traceparent.or(lower.accept_traceparent),
        }
    }

    /// The keys that are set.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> {
        let Self { otlp, page, hosts, accept_traceparent } = self;
        let keys = [
            ("traces.otlp", otlp.is_some()),
            ("traces.page", page.is_some()),
            ("traces.hosts", hosts.is_some()),
            ("traces.accept_traceparent", accept_traceparent.is_some()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key)
    }

    /// Checks the table.
    pub(super) fn read(self, parser: &mut Parser) -> TracesSettings {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let page = given(self.page)
            .and_then(|text| LinkTemplate::new(&text).inspect_err(|reason| parser.report("traces.page", reason)).ok());
        let hosts = TraceHosts::new(&self.hosts.unwrap_or_default());
        let hosts = hosts.inspect_err(|error| parser.report("traces.hosts", error)).unwrap_or_default();
        TracesSettings { otlp: given(self.otlp), page, hosts, accepts_parents: self.accept_traceparent.unwrap_or(true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_reported_with_its_key() {
        let toml = "page = \"https://traces.test\"\nhosts = [\"https://a.test\"]\n";
        let raw: RawTraces = toml::from_str(toml).unwrap();
        assert_eq!(raw.keys().collect::<Vec<_>>(), ["traces.page", "traces.hosts"]);
        let mut parser = Parser::default();
        let traces = raw.read(&mut parser);
        assert!(traces.accepts_parents && traces.otlp.is_none());
        let [page, hosts] = &parser.errors[..] else { panic!("{:?}", parser.errors) };
        assert!(page.starts_with("traces.page: it has no {trace_id}"), "{page}");
        assert!(hosts.starts_with("traces.hosts: \"https://a.test\" is no host"), "{hosts}");
    }
}
