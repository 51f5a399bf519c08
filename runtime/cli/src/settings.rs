//! Settings: the defaults, then the files of the system, of the user and of the project, then the environment; flags override
//! them where commands have them.
//!
//! A project's file comes with a folder that anyone may have written. So it cannot choose where waft runs code from, where
//! it keeps data, or to which server it sends a token.
//!
//! The environment is read here and not by clap: it ranks between the files and the flags, also for commands without the flag.

mod admission;
mod limits;

use std::{
    env,
    fmt::Display,
    io::ErrorKind,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    time::Duration,
};

use ::server::LibraryLimits;
use anyhow::anyhow;
use clap::ValueEnum;
use flow::{LimitOverrides, Limits, MAX_DELIVERY_LIMIT, MAX_STACK_BYTES, QueueName, Size};
use serde::Deserialize;
use store::Admission;

pub(crate) use self::admission::follow as follow_admission;
use self::{admission::RawAdmission, limits::RawLimits};
use crate::{
    arguments::{IsolateFlag, Shared},
    exit::CliError,
};

/// The defaults, which also serve as reference.
const DEFAULT: &str = include_str!("../default.toml");

/// The settings file of a project, in the folder where waft runs.
const PROJECT_FILE: &str = "waft.toml";

/// The settings file of the system.
const SYSTEM_FILE: &str = "/etc/waft/config.toml";

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
    limits: RawLimits,
    admission: RawAdmission,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWorkerSettings {
    slots: Option<u16>,
    queues: Option<Vec<String>>,
    grace: Option<String>,
    delivery_limit: Option<u32>,
    isolate: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServeSettings {
    listen: Option<String>,
    token: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
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

/// Where guests are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolate {
    /// In the process of the worker
    None,
    /// In child processes without rights, on Linux
    Process,
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
    /// The file with the key of compiled code; `None` without a home folder, and then no code is kept.
    pub(crate) cache_key: Option<PathBuf>,
    /// The folder with the running calls of servers whose logbook is no file; `None` without a home folder.
    pub(crate) running_calls: Option<PathBuf>,
    pub(crate) cache_size: u64,
    pub(crate) slots: Option<u16>,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) grace: Duration,
    /// How often a job may be redelivered after workers were lost, unless the job sets its own limit.
    pub(crate) delivery_limit: NonZeroU32,
    /// Where guests are called.
    pub(crate) isolate: Isolate,
    pub(crate) listen: SocketAddr,
    /// The token; it is never shown.
    pub(crate) token: Option<String>,
    /// The files of the server's certificate and of its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) largest_request: u64,
    /// The maximum of each limit of a call.
    pub(crate) max_limits: Limits,
    /// The maximum of everything else: retries, modules, runs.
    pub(crate) limits: LibraryLimits,
    /// The maximum number of runs of one flow that have not ended; `None`: no maximum.
    pub(crate) max_open_runs: Option<NonZeroU64>,
    /// Which modules may run: a change of the files changes it while a command runs that calls guests.
    pub(crate) admission: Admission,
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
                isolate: text(self.worker.isolate, lower.worker.isolate),
            },
            serve: RawServeSettings {
                listen: text(self.serve.listen, lower.serve.listen),
                token: text(self.serve.token, lower.serve.token),
                certificate: text(self.serve.certificate, lower.serve.certificate),
                key: text(self.serve.key, lower.serve.key),
                largest_request: text(self.serve.largest_request, lower.serve.largest_request),
            },
            limits: self.limits.or(lower.limits),
            admission: self.admission.or(lower.admission),
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

    /// The settings of a file; `None` if it does not exist.
    fn from_file(path: &Path) -> Result<Option<Self>, CliError> {
        match std::fs::read_to_string(path) {
            Ok(text) => parse(&text, &path.display().to_string()).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(CliError::invalid(anyhow!(error).context(format!("could not read {}", path.display())))),
        }
    }

    /// The keys of these settings that a project must not set.
    fn private_keys(&self) -> Vec<String> {
        let Self { broker, logbook, server, store, cache, cache_size, worker, serve, limits, admission } = self;
        let RawWorkerSettings { slots: _, queues: _, grace: _, delivery_limit: _, isolate } = worker;
        let RawServeSettings { listen, token, certificate, key, largest_request } = serve;
        let keys = [
            ("broker", broker),
            ("logbook", logbook),
            ("server", server),
            ("store", store),
            ("cache", cache),
            ("cache_size", cache_size),
            ("worker.isolate", isolate),
            ("serve.listen", listen),
            ("serve.token", token),
            ("serve.certificate", certificate),
            ("serve.key", key),
            ("serve.largest_request", largest_request),
        ];
        let set = keys.into_iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key.to_owned());
        let mut limits = *limits;
        let limits = limits.entries().filter(|(_, limit)| limit.is_set()).map(|(name, _)| format!("limits.{name}"));
        set.chain(limits).chain(admission.keys().into_iter().map(str::to_owned)).collect()
    }
}

/// The settings files that exist, and their settings: the project's override the user's, and those override the system's.
struct SettingsFiles {
    names: Vec<String>,
    settings: RawSettings,
}

impl SettingsFiles {
    fn read() -> Result<Self, CliError> {
        let mut files = Self { names: Vec::new(), settings: RawSettings::default() };
        let project = PathBuf::from(PROJECT_FILE);
        for path in [Some(project.clone()), user_file(), Some(PathBuf::from(SYSTEM_FILE))].into_iter().flatten() {
            let Some(settings) = RawSettings::from_file(&path)? else { continue };
            if path == project {
                check_project(&settings)?;
            }
            files.names.push(path.display().to_string());
            files.settings = files.settings.or(settings);
        }
        Ok(files)
    }
}

/// Checks that a project sets nothing that belongs to the user.
fn check_project(settings: &RawSettings) -> Result<(), CliError> {
    let keys = settings.private_keys();
    if keys.is_empty() {
        return Ok(());
    }
    let error = anyhow!(
        "{PROJECT_FILE} in this folder sets {}: a folder must not choose where waft takes code from, keeps data or sends a token, which modules run, nor raise a limit or lower the protection",
        keys.join(", ")
    );
    let user = user_file().unwrap_or_else(|| PathBuf::from(SYSTEM_FILE));
    Err(CliError::invalid(error).hint(format!(
        "move the lines to {}, or use the environment or flags; a project may set [worker] slots, queues, grace and delivery_limit",
        user.display()
    )))
}

/// The folder with the keys of the user that sign modules; `None` without a home folder.
pub(crate) fn keys_folder() -> Option<PathBuf> {
    base_dir("XDG_CONFIG_HOME", ".config").map(|base| base.join("waft/keys"))
}

/// The settings file of the user; `None` without a home folder.
pub(crate) fn user_file() -> Option<PathBuf> {
    base_dir("XDG_CONFIG_HOME", ".config").map(|base| base.join("waft/config.toml"))
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
        let files = SettingsFiles::read()?;
        let chosen = from_flags.or(RawSettings::from_environment()).or(files.settings);
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
        let certificate = parser.certificate(folder(written.serve.certificate), folder(written.serve.key));
        let delivery_limit = parser.delivery_limit("worker.delivery_limit", written.worker.delivery_limit);
        let queues = parser.queues("worker.queues", written.worker.queues);
        let isolate = parser.isolate("worker.isolate", written.worker.isolate);
        let max_limits = parser.limits(&written.limits.call);
        let limits = parser.library_limits(&written.limits);
        let policy = written.admission.policy(|key, error| parser.report(key, error));
        parser.finish(&files.names)?;
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
            cache_key: base_dir("XDG_STATE_HOME", ".local/state").map(|base| base.join("waft/compiled-code.key")),
            running_calls: base_dir("XDG_STATE_HOME", ".local/state").map(|base| base.join("waft/running-calls")),
            cache_size,
            slots: written.worker.slots.filter(|slots| *slots > 0),
            queues,
            grace,
            delivery_limit,
            isolate,
            listen,
            token: written.serve.token.filter(|token| !token.is_empty()),
            certificate,
            largest_request,
            max_limits,
            limits,
            max_open_runs: written.limits.open_runs(),
            admission: Admission::new(policy),
        })
    }
}

impl Settings {
    /// These settings, with what a flag says about where guests are called.
    pub(crate) fn with(self, flag: &IsolateFlag) -> Self {
        Self { isolate: flag.isolate.unwrap_or(self.isolate), ..self }
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

    /// The maximum of everything that is no limit of a call.
    fn library_limits(&mut self, written: &RawLimits) -> LibraryLimits {
        let limits = written.library();
        if limits.retries.attempts == 0 {
            self.report("limits.attempts", "each task has one attempt at least");
        }
        if limits.run.firings == 0 {
            self.report("limits.firings", "a run of a flow that fires has one firing at least");
        }
        limits
    }

    /// The maximum of each limit.
    fn limits(&mut self, overrides: &LimitOverrides) -> Limits {
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

    fn address(&mut self, key: &str, text: Option<String>) -> SocketAddr {
        let text = text.unwrap_or_default();
        text.parse().unwrap_or_else(|_| {
            self.report(key, format!("{text:?} is no address and port, as in 127.0.0.1:7468"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    /// The files of the server's certificate and of its key.
    fn certificate(&mut self, certificate: Option<PathBuf>, key: Option<PathBuf>) -> Option<(PathBuf, PathBuf)> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                self.report("serve.certificate", "it belongs together with serve.key: set both or none");
                None
            }
        }
    }

    fn delivery_limit(&mut self, key: &str, limit: Option<u32>) -> NonZeroU32 {
        let limit = limit.unwrap_or(flow::DELIVERY_LIMIT.get());
        let valid = NonZeroU32::new(limit).filter(|limit| limit.get() <= MAX_DELIVERY_LIMIT);
        valid.unwrap_or_else(|| {
            self.report(key, format!("{limit} is not a number from 1 to {MAX_DELIVERY_LIMIT}"));
            flow::DELIVERY_LIMIT
        })
    }

    fn isolate(&mut self, key: &str, text: Option<String>) -> Isolate {
        let text = text.unwrap_or_default();
        Isolate::from_str(&text, false).unwrap_or_else(|_| {
            self.report(key, format!("{text:?} is neither \"none\" nor \"process\""));
            Isolate::None
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
    fn finish(self, files: &[String]) -> Result<(), CliError> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let (files, errors) = (files.join(" and "), self.errors.join("\n  "));
        Err(CliError::invalid(anyhow!("the settings in {files} are not right:\n  {errors}")))
    }
}

fn parse(text: &str, name: &str) -> Result<RawSettings, CliError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let place = error.span().map(|span| format!(", line {}", text[..span.start].matches('\n').count() + 1));
        let place = place.unwrap_or_default();
        let message = anyhow!("the settings in {name}{place} cannot be read: {}", error.message());
        CliError::invalid(message).hint(format!(
            "the settings are broker, logbook, server, store, cache, cache_size, [worker] slots, queues, grace, delivery_limit, isolate, [serve] \
             listen, token, certificate, key, largest_request, [limits] {}, [admission] modules, [[admission.allow]] signer, \
             digest, tags and [admission.deny] digests, signers",
            limits::names()
        ))
    })
}

fn default_dir(variable: &str, below_home: &str, name: &str) -> Result<PathBuf, CliError> {
    let base = base_dir(variable, below_home).ok_or_else(|| {
        let error = anyhow!("there is no home folder to store modules in");
        CliError::invalid(error).hint("set WAFT_STORE and WAFT_CACHE, or HOME")
    })?;
    Ok(base.join(name))
}

/// A base folder of the user: that of a variable, or else one below the home folder.
fn base_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|base| base.is_absolute());
    named.or_else(|| Some(env::home_dir().filter(|home| home.is_absolute())?.join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_setting_is_named_with_its_file_and_line() {
        let error = parse("[worker]\nslots = 2\n\n[limits]\nmemroy = \"\"\n", "/etc/w.toml").expect_err("it is wrong");
        let text = format!("{error:?}");
        assert!(text.contains("the settings in /etc/w.toml, line 5 cannot be read: there is no limit"), "{text}");
    }

    #[test]
    fn the_default_maximum_is_that_of_the_library() {
        let written = parse(DEFAULT, "the built-in settings").ok().unwrap();
        assert_eq!(written.limits.call, LimitOverrides::from(Limits::maximum()), "default.toml names each limit");
        assert!({ written.limits }.entries().all(|(_, limit)| limit.is_set()), "default.toml names each limit");
        let mut parser = Parser::default();
        assert_eq!(parser.limits(&written.limits.call), Limits::maximum());
        assert_eq!(parser.library_limits(&written.limits), LibraryLimits::default());
        assert_eq!(written.limits.open_runs(), None);
        assert_eq!(parser.errors, Vec::<String>::new());
    }
}
