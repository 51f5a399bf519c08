//! The table `[metrics]` of a settings file.

use std::{net::SocketAddr, path::Path};

use ::server::Token;
use serde::Deserialize;

use super::{
    Settings,
    parser::Parser,
    secrets::{self, text_or_file},
};
use crate::exit::CliError;

/// The table, before it is checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    pub(super) listen: Option<String>,
    pub(super) token: Option<String>,
    pub(super) token_file: Option<String>,
    pub(super) names: Option<usize>,
}

/// The metrics of this process.
pub(crate) struct MetricsSettings {
    /// The address of a worker's metrics.
    pub(crate) listen: Option<SocketAddr>,
    /// The token; it is never shown.
    token: Option<String>,
    /// The file of the token, in place of it.
    token_file: Option<String>,
    /// The maximum number of flows, and of tasks, that have series of their own.
    pub(crate) max_names: usize,
}

impl RawMetrics {
    /// This table, with missing keys taken from `lower`. An empty text counts as missing.
    pub(super) fn or(self, lower: Self) -> Self {
        let (token, token_file) = text_or_file((self.token, self.token_file), (lower.token, lower.token_file));
        Self {
            listen: self.listen.filter(|text| !text.is_empty()).or(lower.listen),
            token,
            token_file,
            names: self.names.or(lower.names),
        }
    }

    /// The keys that are set.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> {
        let Self { listen, token, token_file, names } = self;
        let keys = [
            ("metrics.listen", listen.is_some()),
            ("metrics.token", token.is_some()),
            ("metrics.token_file", token_file.is_some()),
            ("metrics.names", names.is_some()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key)
    }

    /// Checks the table.
    pub(super) fn read(self, parser: &mut Parser) -> MetricsSettings {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        MetricsSettings {
            listen: given(self.listen).map(|text| parser.address("metrics.listen", Some(text))),
            token: given(self.token),
            token_file: given(self.token_file),
            max_names: self.names.unwrap_or(metrics::DEFAULT_MAX_NAMES),
        }
    }
}

impl MetricsSettings {
    /// The token that allows scrapes: those of a worker must carry it. Its file is read only now, since the other commands need
    /// no token for metrics, and their users may not be allowed to read it.
    ///
    /// # Errors
    /// Why the file of the token cannot be used.
    pub(crate) fn token(&self) -> Result<Option<Token>, CliError> {
        let text = secrets::read("the token of the metrics", self.token.clone(), self.token_file.clone())?;
        let token = text.as_deref().and_then(Token::new);
        Ok(token.map(|token| match &self.token_file {
            Some(file) => token.of_file(Path::new(file)),
            None => token,
        }))
    }
}

impl Settings {
    /// These settings, with what a flag says about the address of the metrics.
    pub(crate) fn with_metrics(self, listen: Option<SocketAddr>) -> Self {
        let listen = listen.or(self.metrics.listen);
        Self { metrics: MetricsSettings { listen, ..self.metrics }, ..self }
    }
}
