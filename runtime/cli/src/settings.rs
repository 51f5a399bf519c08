//! Settings: the defaults, then `waft.toml`, then the environment; flags override them where commands have them.
//!
//! The environment is read here and not by clap: it ranks between the file and the flags, also for commands without the flag.

use std::{
    env,
    fmt::Display,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use flow::{MAX_DELIVERY_LIMIT, QueueName};
use serde::Deserialize;

use crate::{arguments::Shared, exit::CliError};

/// The defaults, which also serve as reference.
const DEFAULT: &str = include_str!("../default.toml");

/// The name of the settings file.
const FILE: &str = "waft.toml";

/// Settings before they are checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSettings {
    broker: Option<String>,
    logbook: Option<String>,
    server: Option<String>,
    store: Option<String>,
    cache: Option<String>,
    cache_size: Option<String>,
    worker: RawWorkerSettings,
    serve: RawServeSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWorkerSettings {
    slots: Option<u16>,
    queues: Option<Vec<String>>,
    grace: Option<String>,
    delivery_limit: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServeSettings {
    listen: Option<String>,
    token: Option<String>,
    largest_request: Option<String>,
}

/// The server's address, and whether a person chose it.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// Chosen by flag, environment or file.
    Chosen(String),
    /// The built-in address.
    BuiltIn(String),
}

impl Server {
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Chosen(url) | Self::BuiltIn(url) => url,
        }
    }

    /// Whether commands that can work without a server use this one.
    pub(crate) const fn is_chosen(&self) -> bool {
        matches!(self, Self::Chosen(_))
    }
}

/// Checked settings.
pub(crate) struct Settings {
    /// The broker's address; it may hold a password, so it is never shown.
    pub(crate) broker: Option<String>,
    /// The logbook's address; it may hold a password, so it is never shown.
    pub(crate) logbook: String,
    /// Whether a flag named the logbook.
    pub(crate) logbook_is_named: bool,
    pub(crate) server: Server,
    pub(crate) store: PathBuf,
    /// Whether a flag named the store.
    pub(crate) store_is_named: bool,
    pub(crate) cache: PathBuf,
    pub(crate) cache_size: u64,
    pub(crate) slots: Option<u16>,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) grace: Duration,
    /// How often a job may be redelivered after workers were lost, unless the job sets its own limit.
    pub(crate) delivery_limit: NonZeroU32,
    pub(crate) listen: SocketAddr,
    /// The token; it is never shown.
    pub(crate) token: Option<String>,
    pub(crate) largest_request: u64,
}

impl RawSettings {
    /// These settings, with missing ones taken from `lower`. An empty text counts as missing.
    fn or(self, lower: Self) -> Self {
        let text = |upper: Option<String>, lower| upper.filter(|text| !text.is_empty()).or(lower);
        Self {
            broker: text(self.broker, lower.broker),
            logbook: text(self.logbook, lower.logbook),
            server: text(self.server, lower.server),
            store: text(self.store, lower.store),
            cache: text(self.cache, lower.cache),
            cache_size: text(self.cache_size, lower.cache_size),
            worker: RawWorkerSettings {
                slots: self.worker.slots.or(lower.worker.slots),
                queues: self.worker.queues.or(lower.worker.queues),
                grace: text(self.worker.grace, lower.worker.grace),
                delivery_limit: self.worker.delivery_limit.or(lower.worker.delivery_limit),
            },
            serve: RawServeSettings {
                listen: text(self.serve.listen, lower.serve.listen),
                token: text(self.serve.token, lower.serve.token),
                largest_request: text(self.serve.largest_request, lower.serve.largest_request),
            },
        }
    }

    /// The settings in the environment.
    fn from_environment() -> Self {
        let variable = |name| env::var(name).ok();
        Self {
            broker: variable("WAFT_BROKER"),
            logbook: variable("WAFT_LOGBOOK"),
            server: variable("WAFT_SERVER"),
            serve: RawServeSettings { token: variable("WAFT_TOKEN"), ..RawServeSettings::default() },
            store: variable("WAFT_STORE"),
            cache: variable("WAFT_CACHE"),
            ..Self::default()
        }
    }

    /// The settings in `waft.toml`, if it exists.
    fn from_file() -> Result<Self, CliError> {
        match std::fs::read_to_string(FILE) {
            Ok(text) => parse(&text, FILE),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(CliError::invalid(anyhow!(error).context(format!("could not read {FILE}")))),
        }
    }
}

impl Settings {
    /// Reads and checks all settings, and reports all errors at once.
    pub(crate) fn read(flags: &Shared) -> Result<Self, CliError> {
        let from_flags = RawSettings {
            server: flags.server.clone(),
            serve: RawServeSettings { token: flags.token.clone(), ..RawServeSettings::default() },
            ..RawSettings::default()
        };
        let (flags, logbook) = (flags.store.clone(), flags.logbook.clone());
        let (logbook_is_named, store_is_named) = (logbook.is_some(), flags.is_some());
        let chosen = from_flags.or(RawSettings::from_environment()).or(RawSettings::from_file()?);
        let chosen_server = chosen.server.clone().filter(|url| !url.is_empty());
        let written = chosen.or(parse(DEFAULT, "the built-in settings")?);
        let folder = |text: Option<String>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
        let store = flags.or_else(|| folder(written.store));
        let cache = folder(written.cache);
        let logbook = logbook.or(written.logbook).filter(|address| !address.is_empty());
        let mut parser = Parser::default();
        let cache_size = parser.size("cache_size", written.cache_size);
        let grace = parser.duration("worker.grace", written.worker.grace);
        let largest_request = parser.size("serve.largest_request", written.serve.largest_request);
        let listen = parser.address("serve.listen", written.serve.listen);
        let delivery_limit = parser.delivery_limit("worker.delivery_limit", written.worker.delivery_limit);
        let queues = parser.queues("worker.queues", written.worker.queues);
        parser.finish()?;
        Ok(Self {
            broker: written.broker.filter(|url| !url.is_empty()),
            logbook: logbook.map_or_else(
                || Ok(format!("sqlite:{}", default_dir("XDG_DATA_HOME", ".local/share", "waft/logbook.db")?.display())),
                Ok,
            )?,
            logbook_is_named,
            server: chosen_server.map_or_else(|| Server::BuiltIn(written.server.unwrap_or_default()), Server::Chosen),
            store: store.map_or_else(|| default_dir("XDG_DATA_HOME", ".local/share", "waft/store"), Ok)?,
            store_is_named,
            cache: cache.map_or_else(|| default_dir("XDG_CACHE_HOME", ".cache", "waft"), Ok)?,
            cache_size,
            slots: written.worker.slots.filter(|slots| *slots > 0),
            queues,
            grace,
            delivery_limit,
            listen,
            token: written.serve.token.filter(|token| !token.is_empty()),
            largest_request,
        })
    }
}

/// Parses settings one by one, and collects the errors. A setting with an error gets a replacement, which is never used.
#[derive(Default)]
struct Parser {
    errors: Vec<String>,
}

impl Parser {
    fn report(&mut self, key: &str, error: impl Display) {
        self.errors.push(format!("{key}: {error}"));
    }

    fn size(&mut self, key: &str, text: Option<String>) -> u64 {
        flow::parse_size(&text.unwrap_or_default()).unwrap_or_else(|error| {
            self.report(key, error);
            0
        })
    }

    fn duration(&mut self, key: &str, text: Option<String>) -> Duration {
        flow::parse_duration(&text.unwrap_or_default()).unwrap_or_else(|error| {
            self.report(key, error);
            Duration::ZERO
        })
    }

    fn address(&mut self, key: &str, text: Option<String>) -> SocketAddr {
        let text = text.unwrap_or_default();
        text.parse().unwrap_or_else(|_| {
            self.report(key, format!("{text:?} is no address and port, as in 127.0.0.1:7468"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn delivery_limit(&mut self, key: &str, limit: Option<u32>) -> NonZeroU32 {
        let limit = limit.unwrap_or(flow::DELIVERY_LIMIT.get());
        let valid = NonZeroU32::new(limit).filter(|limit| limit.get() <= MAX_DELIVERY_LIMIT);
        valid.unwrap_or_else(|| {
            self.report(key, format!("{limit} is not a number from 1 to {MAX_DELIVERY_LIMIT}"));
            flow::DELIVERY_LIMIT
        })
    }

    fn queues(&mut self, key: &str, names: Option<Vec<String>>) -> Vec<QueueName> {
        let mut queues = Vec::new();
        for name in names.unwrap_or_default() {
            match QueueName::new(name) {
                Ok(name) => queues.push(name),
                Err(error) => self.report(key, error),
            }
        }
        queues
    }

    /// All errors as one.
    fn finish(self) -> Result<(), CliError> {
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(CliError::invalid(anyhow!("{FILE} is not right:\n  {}", self.errors.join("\n  "))))
    }
}

fn parse(text: &str, name: &str) -> Result<RawSettings, CliError> {
    toml::from_str(text).with_context(|| format!("could not read the settings in {name}")).map_err(|error| {
        CliError::invalid(error)
            .hint("`waft.toml` knows broker, logbook, server, store, cache, cache_size, [worker] slots, queues, grace, delivery_limit and [serve] \
             listen, token, largest_request")
    })
}

fn default_dir(variable: &str, below_home: &str, name: &str) -> Result<PathBuf, CliError> {
    let base = match env::var_os(variable).filter(|value| Path::new(value).is_absolute()) {
        Some(base) => PathBuf::from(base),
        None => env::home_dir()
            .filter(|home| home.is_absolute())
            .ok_or_else(|| {
                let error = anyhow!("there is no home folder to store modules in");
                CliError::invalid(error).hint("set WAFT_STORE and WAFT_CACHE, or HOME")
            })?
            .join(below_home),
    };
    Ok(base.join(name))
}
