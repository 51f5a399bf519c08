//! Parses the text of single settings, and collects what is wrong.

use std::{fmt::Display, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use ::server::LibraryLimits;
use anyhow::anyhow;
use clap::ValueEnum;
use credentials::{Identity, ServerTls};
use flow::{LimitOverrides, Limits, MAX_DELIVERY_LIMIT, MAX_STACK_BYTES, Size};

use super::{Isolate, limits::RawLimits};
use crate::{exit::CliError, queues::ServedQueues};

/// Parses settings one by one, and collects the errors. A setting with an error gets a replacement, which is never used.
#[derive(Default)]
pub(super) struct Parser {
    pub(super) errors: Vec<String>,
}

impl Parser {
    pub(super) fn report(&mut self, key: &str, error: impl Display) {
        self.errors.push(format!("{key}: {error}"));
    }

    pub(super) fn size(&mut self, key: &str, text: Option<String>) -> u64 {
        flow::parse_size(&text.unwrap_or_default()).unwrap_or_else(|error| {
            self.report(key, error);
            0
        })
    }

    pub(super) fn duration(&mut self, key: &str, text: Option<String>) -> Duration {
        flow::parse_duration(&text.unwrap_or_default()).unwrap_or_else(|error| {
            self.report(key, error);
            Duration::ZERO
        })
    }

    /// The maximum of everything that is no limit of a call.
    pub(super) fn limits_beside_calls(&mut self, written: &RawLimits) -> LibraryLimits {
        let limits = written.beside_calls();
        if limits.retries.attempts == 0 {
            self.report("limits.attempts", "each task has one attempt at least");
        }
        if limits.run.firings == 0 {
            self.report("limits.firings", "a run of a flow that fires has one firing at least");
        }
        limits
    }

    /// The maximum of each limit.
    pub(super) fn limits(&mut self, overrides: &LimitOverrides) -> Limits {
        let maximum = Limits::maximum().with(overrides);
        if maximum.stack > MAX_STACK_BYTES {
            self.report("limits.stack", format!("no sandbox has a stack above {}", Size(MAX_STACK_BYTES)));
        }
        // Otherwise every flow that sets nothing would be refused.
        for exceeded in Limits::default().exceeding(&maximum) {
            let reason = format!("{} is below the limit of tasks that set none, {}", exceeded.allowed, exceeded.asked);
            self.report(&format!("limits.{}", exceeded.name), reason);
        }
        maximum
    }

    pub(super) fn address(&mut self, key: &str, text: Option<String>) -> SocketAddr {
        let text = text.unwrap_or_default();
        text.parse().unwrap_or_else(|_| {
            self.report(key, format!("{text:?} is no address and port, as in 127.0.0.1:7468"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    /// The files of a certificate and of its key, in a table of the settings.
    pub(super) fn identity(
        &mut self,
        table: &str,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Option<Identity> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let reason = format!("it belongs together with {table}.key: set both or none");
                self.report(&format!("{table}.certificate"), reason);
                None
            }
        }
    }

    /// The TLS of the server.
    pub(super) fn serve_tls(
        &mut self,
        identity: Option<Identity>,
        client_authority: Option<PathBuf>,
    ) -> Option<ServerTls> {
        if identity.is_none() && client_authority.is_some() {
            self.report(
                "serve.client_authority",
                "it needs serve.certificate and serve.key: only TLS has certificates",
            );
        }
        identity.map(|identity| ServerTls { identity, client_authority })
    }

    pub(super) fn delivery_limit(&mut self, key: &str, limit: Option<u32>) -> NonZeroU32 {
        let limit = limit.unwrap_or(flow::DELIVERY_LIMIT.get());
        let valid = NonZeroU32::new(limit).filter(|limit| limit.get() <= MAX_DELIVERY_LIMIT);
        valid.unwrap_or_else(|| {
            self.report(key, format!("{limit} is not a number from 1 to {MAX_DELIVERY_LIMIT}"));
            flow::DELIVERY_LIMIT
        })
    }

    pub(super) fn isolate(&mut self, key: &str, text: Option<String>) -> Isolate {
        let text = text.unwrap_or_default();
        Isolate::from_str(&text, false).unwrap_or_else(|_| {
            self.report(key, format!("{text:?} is neither \"none\" nor \"process\""));
            Isolate::None
        })
    }

    pub(super) fn queues(&mut self, key: &str, texts: Option<Vec<String>>) -> ServedQueues {
        let mut queues = ServedQueues::default();
        for text in texts.unwrap_or_default() {
            if let Err(error) = queues.add(&text) {
                self.report(key, error);
            }
        }
        queues
    }

    /// All errors as one.
    pub(super) fn finish(self, files: &[String]) -> Result<(), CliError> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let errors = self.errors.join("\n  ");
        let files = if files.is_empty() { "the environment".to_owned() } else { files.join(" and ") };
        Err(CliError::invalid(anyhow!("the settings in {files} are not right:\n  {errors}")))
    }
}
