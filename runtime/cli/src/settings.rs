//! Settings: the defaults, then the files of the system, of the user and of the project, then the environment; flags override
//! them where commands have them.
//!
//! A project's file comes with a folder that anyone may have written. So it cannot choose where waft runs code from, where
//! it keeps data, or to which server it sends a token.
//!
//! The environment is read here and not by clap: it ranks between the files and the flags, also for commands without the flag.

mod admission;
mod chosen_server;
mod files;
mod directories;
mod follow;
mod grants;
mod guest_secrets;
mod limits;
mod located;
mod metrics;
mod namespaces;
mod outside;
mod parser;
mod secrets;
mod storage;
mod traces;
mod webhooks;

use std::{
    env,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use ::server::LibraryLimits;
use clap::ValueEnum;
use credentials::{ClientTls, ServerTls, Trust};
use flow::Limits;
use gateway::{CurrentRules, Rules};
use logbook::MemoLimits;
use sandbox::WaitingLimits;
use serde::Deserialize;
use store::Admission;

pub(crate) use self::{
    admission::follow as follow_admission,
    chosen_server::Server,
    files::{keys_folder, writable_settings_file},
    located::Place,
    metrics::MetricsSettings,
    outside::follow as follow_rules,
    traces::TracesSettings,
};
use self::{
    admission::{LastRead, RawAdmission},
    files::{SettingsFiles, base_dir, default_dir, parse},
    grants::RawGrants,
    guest_secrets::RawGuestSecrets,
    limits::RawLimits,
    located::read_later,
    metrics::RawMetrics,
    namespaces::{NamespaceLimits, RawNamespaces},
    outside::LastTables,
    parser::Parser,
    secrets::text_or_file,
    storage::{StoragePlace, StoragePlaces},
    traces::RawTraces,
    webhooks::{ConfiguredWebhooks, RawWebhooks},
};
use crate::{
    arguments::{IsolateFlag, Shared},
    exit::CliError,
    queues::ServedQueues,
};

/// The defaults, which also serve as reference.
const DEFAULT: &str = include_str!("../default.toml");

/// Settings before they are checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSettings {
    broker: Option<String>,
    broker_file: Option<String>,
    logbook: Option<String>,
    logbook_file: Option<String>,
    server: Option<String>,
    store: Option<String>,
    cache: Option<String>,
    cache_size: Option<String>,
    worker: RawWorkerSettings,
    serve: RawServeSettings,
    client: RawClientSettings,
    metrics: RawMetrics,
    traces: RawTraces,
    limits: RawLimits,
    namespace: RawNamespaces,
    admission: RawAdmission,
    /// Read table by table: see `located.rs`.
    #[serde(deserialize_with = "read_later")]
    grant: RawGrants,
    #[serde(deserialize_with = "read_later")]
    secret: RawGuestSecrets,
    #[serde(deserialize_with = "read_later")]
    webhook: RawWebhooks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWorkerSettings {
    slots: Option<u16>,
    waiting: Option<u16>,
    waiting_memory: Option<String>,
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
    token_file: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    client_authority: Option<String>,
    largest_request: Option<String>,
    dashboard: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawClientSettings {
    authority: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
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
    pub(crate) server: Server,
    /// Whether a flag named the server.
    pub(crate) server_is_named: bool,
    pub(crate) store: PathBuf,
    /// Which places name the logbook and the store.
    pub(crate) storage: StoragePlaces,
    pub(crate) cache: PathBuf,
    /// The file with the key of compiled code; `None` without a home folder, and then no code is kept.
    pub(crate) cache_key: Option<PathBuf>,
    /// The folder with the running calls of servers whose logbook is no file; `None` without a home folder.
    pub(crate) running_calls: Option<PathBuf>,
    pub(crate) cache_size: u64,
    pub(crate) slots: Option<u16>,
    /// What calls may have at most that wait without a slot.
    pub(crate) waiting: WaitingLimits,
    pub(crate) queues: ServedQueues,
    pub(crate) grace: Duration,
    /// How often a job may be redelivered after workers were lost, unless the job sets its own limit.
    pub(crate) delivery_limit: NonZeroU32,
    /// Where guests are called.
    pub(crate) isolate: Isolate,
    pub(crate) listen: SocketAddr,
    /// The token; it is never shown.
    pub(crate) token: Option<String>,
    /// The file that the token comes from, if it comes from one.
    pub(crate) token_file: Option<PathBuf>,
    /// The TLS of `waft serve`, if its connections are encrypted.
    pub(crate) serve_tls: Option<ServerTls>,
    /// The TLS of the commands that connect to a server.
    pub(crate) client_tls: ClientTls,
    /// The files of settings that contain a token, or an address with a password.
    pub(crate) files_with_secrets: Vec<PathBuf>,
    pub(crate) largest_request: u64,
    /// Whether `waft serve` serves the dashboard.
    pub(crate) dashboard: bool,
    /// The metrics of this process.
    pub(crate) metrics: MetricsSettings,
    /// What this process does with traces.
    pub(crate) traces: TracesSettings,
    /// The maximum of each limit of a call.
    pub(crate) max_limits: Limits,
    /// The maximum of everything else: retries, modules, runs.
    pub(crate) limits: LibraryLimits,
    /// The maximum number of runs of one flow that have not ended; `None`: no maximum.
    pub(crate) max_open_runs: Option<NonZeroU64>,
    /// How much is remembered of each namespace.
    pub(crate) memo_limits: MemoLimits,
    /// What each namespace may have at most.
    pub(crate) namespaces: NamespaceLimits,
    /// Which modules may run: a change of the files changes it while a command runs that calls guests.
    pub(crate) admission: Admission,
    /// The tables and keys that the policy was made from.
    pub(crate) admission_read: LastRead,
    /// What calls may reach outside their sandbox: a change of the files changes it while a command runs that calls guests.
    pub(crate) rules: CurrentRules,
    /// The tables that the rules were made from.
    pub(crate) rules_read: LastTables,
    /// Where the table of each grant is, when the settings were read.
    pub(crate) grant_places: Vec<Place>,
    /// Who receives the events of all runs.
    pub(crate) webhooks: ConfiguredWebhooks,
}

impl RawSettings {
    /// These settings, with missing ones taken from `lower`. An empty text counts as missing.
    fn or(self, lower: Self) -> Self {
        let text = |upper: Option<String>, lower| upper.filter(|text| !text.is_empty()).or(lower);
        let (broker, broker_file) = text_or_file((self.broker, self.broker_file), (lower.broker, lower.broker_file));
        let (logbook, logbook_file) =
            text_or_file((self.logbook, self.logbook_file), (lower.logbook, lower.logbook_file));
        let (token, token_file) =
            text_or_file((self.serve.token, self.serve.token_file), (lower.serve.token, lower.serve.token_file));
        Self {
            broker,
            broker_file,
            logbook,
            logbook_file,
            server: text(self.server, lower.server),
            store: text(self.store, lower.store),
            cache: text(self.cache, lower.cache),
            cache_size: text(self.cache_size, lower.cache_size),
            worker: RawWorkerSettings {
                slots: self.worker.slots.or(lower.worker.slots),
                waiting: self.worker.waiting.or(lower.worker.waiting),
                waiting_memory: text(self.worker.waiting_memory, lower.worker.waiting_memory),
                queues: self.worker.queues.or(lower.worker.queues),
                grace: text(self.worker.grace, lower.worker.grace),
                delivery_limit: self.worker.delivery_limit.or(lower.worker.delivery_limit),
                isolate: text(self.worker.isolate, lower.worker.isolate),
            },
            serve: RawServeSettings {
                listen: text(self.serve.listen, lower.serve.listen),
                token,
                token_file,
                certificate: text(self.serve.certificate, lower.serve.certificate),
                key: text(self.serve.key, lower.serve.key),
                client_authority: text(self.serve.client_authority, lower.serve.client_authority),
                largest_request: text(self.serve.largest_request, lower.serve.largest_request),
                dashboard: self.serve.dashboard.or(lower.serve.dashboard),
            },
            client: RawClientSettings {
                authority: text(self.client.authority, lower.client.authority),
                certificate: text(self.client.certificate, lower.client.certificate),
                key: text(self.client.key, lower.client.key),
            },
            metrics: self.metrics.or(lower.metrics),
            traces: self.traces.or(lower.traces),
            limits: self.limits.or(lower.limits),
            namespace: self.namespace.or(lower.namespace),
            admission: self.admission.or(lower.admission),
            grant: self.grant.or(lower.grant),
            secret: self.secret.or(lower.secret),
            webhook: self.webhook.or(lower.webhook),
        }
    }

    /// The settings in the environment.
    fn from_environment() -> Self {
        let variable = |name| env::var(name).ok();
        Self {
            broker: variable("WAFT_BROKER"),
            broker_file: variable("WAFT_BROKER_FILE"),
            logbook: variable("WAFT_LOGBOOK"),
            logbook_file: variable("WAFT_LOGBOOK_FILE"),
            server: variable("WAFT_SERVER"),
            serve: RawServeSettings {
                token: variable("WAFT_TOKEN"),
                token_file: variable("WAFT_TOKEN_FILE"),
                ..RawServeSettings::default()
            },
            client: RawClientSettings {
                authority: variable("WAFT_SERVER_AUTHORITY"),
                certificate: variable("WAFT_CLIENT_CERTIFICATE"),
                key: variable("WAFT_CLIENT_KEY"),
            },
            metrics: RawMetrics {
                token: variable("WAFT_METRICS_TOKEN"),
                token_file: variable("WAFT_METRICS_TOKEN_FILE"),
                ..RawMetrics::default()
            },
            store: variable("WAFT_STORE"),
            cache: variable("WAFT_CACHE"),
            ..Self::default()
        }
    }

    /// The keys of these settings that a project must not set.
    fn private_keys(&self) -> Vec<String> {
        let Self {
            broker,
            broker_file,
            logbook,
            logbook_file,
            server,
            store,
            cache,
            cache_size,
            worker:
                RawWorkerSettings {
                    slots: _,
                    waiting: _,
                    waiting_memory: _,
                    queues: _,
                    grace: _,
                    delivery_limit: _,
                    isolate,
                },
            serve,
            client: RawClientSettings { authority, certificate: client_certificate, key: client_key },
            metrics,
            traces,
            limits,
            namespace,
            admission,
            grant,
            secret,
            webhook,
        } = self;
        let RawServeSettings {
            listen,
            token,
            token_file,
            certificate,
            key,
            client_authority,
            largest_request,
            dashboard,
        } = serve;
        let keys = [
            ("broker", broker),
            ("broker_file", broker_file),
            ("logbook", logbook),
            ("logbook_file", logbook_file),
            ("server", server),
            ("store", store),
            ("cache", cache),
            ("cache_size", cache_size),
            ("worker.isolate", isolate),
            ("serve.listen", listen),
            ("serve.token", token),
            ("serve.token_file", token_file),
            ("serve.certificate", certificate),
            ("serve.key", key),
            ("serve.client_authority", client_authority),
            ("serve.largest_request", largest_request),
            ("client.authority", authority),
            ("client.certificate", client_certificate),
            ("client.key", client_key),
        ];
        let set = keys.into_iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key.to_owned());
        let mut limits = *limits;
        let limits = limits.entries().filter(|(_, limit)| limit.is_set()).map(|(name, _)| format!("limits.{name}"));
        let dashboard = dashboard.map(|_| "serve.dashboard".to_owned());
        set.chain(dashboard)
            .chain(limits)
            .chain(metrics.keys().chain(traces.keys()).map(str::to_owned))
            .chain(namespace.keys())
            .chain(grant.keys())
            .chain(secret.keys())
            .chain(webhook.keys())
            .chain(admission.keys().into_iter().map(str::to_owned))
            .collect()
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
        let server_is_named = flags.server.as_ref().is_some_and(|url| !url.is_empty());
        let (flags, logbook) = (flags.store.clone(), flags.logbook.clone());
        let named = StoragePlace::flags(logbook.is_some(), flags.is_some());
        let mut files = SettingsFiles::read()?;
        let environment = RawSettings::from_environment();
        environment.check_secrets("the environment")?;
        let storage = StoragePlaces::new(named, StoragePlace::of("the environment", &environment), files.storage);
        let chosen = from_flags.or(environment).or(files.settings);
        let chosen_server = chosen.server.clone().filter(|url| !url.is_empty());
        let written = chosen.or(parse(DEFAULT, "the built-in settings")?);
        let folder = |text: Option<String>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
        let store = flags.or_else(|| folder(written.store));
        let cache = folder(written.cache);
        // A flag that names the logbook makes its file unnecessary.
        let logbook_file = written.logbook_file.filter(|_| logbook.is_none());
        let logbook = logbook.or(secrets::read("the address of the logbook", written.logbook, logbook_file)?);
        let broker = secrets::read("the address of the broker", written.broker, written.broker_file)?;
        let token_file = folder(written.serve.token_file.clone());
        let token = secrets::read("the token", written.serve.token, written.serve.token_file)?;
        let mut parser = Parser::default();
        let cache_size = parser.size("cache_size", written.cache_size);
        let waiting_memory = parser.size("worker.waiting_memory", written.worker.waiting_memory);
        let grace = parser.duration("worker.grace", written.worker.grace);
        let largest_request = parser.size("serve.largest_request", written.serve.largest_request);
        let listen = parser.address("serve.listen", written.serve.listen);
        let metrics = written.metrics.read(&mut parser);
        let traces = written.traces.read(&mut parser);
        let identity = parser.identity("serve", folder(written.serve.certificate), folder(written.serve.key));
        let serve_tls = parser.serve_tls(identity, folder(written.serve.client_authority));
        let identity = parser.identity("client", folder(written.client.certificate), folder(written.client.key));
        let trust = folder(written.client.authority).map_or(Trust::Machine, Trust::Only);
        let delivery_limit = parser.delivery_limit("worker.delivery_limit", written.worker.delivery_limit);
        let queues = parser.queues("worker.queues", written.worker.queues);
        let isolate = parser.isolate("worker.isolate", written.worker.isolate);
        let max_limits = parser.limits(&written.limits.call);
        let limits = parser.limits_beside_calls(&written.limits);
        let namespaces = written.namespace.limits(&mut parser);
        let policy = written.admission.policy(&mut files.admission, |key, error| parser.report(key, error));
        let grant_places = written.grant.places();
        let webhooks = written.webhook.check(&mut parser);
        let rules = Rules { grants: written.grant.grants(&mut parser), secrets: written.secret.secrets(&mut parser) };
        parser.finish(&files.names)?;
        Ok(Self {
            broker,
            logbook: logbook.map_or_else(
                || Ok(format!("sqlite:{}", default_dir("XDG_DATA_HOME", ".local/share", "waft/logbook.db")?.display())),
                Ok,
            )?,
            server: chosen_server.map_or_else(|| Server::BuiltIn(written.server.unwrap_or_default()), Server::Chosen),
            server_is_named,
            store: store.map_or_else(|| default_dir("XDG_DATA_HOME", ".local/share", "waft/store"), Ok)?,
            storage,
            cache: cache.map_or_else(|| default_dir("XDG_CACHE_HOME", ".cache", "waft"), Ok)?,
            cache_key: base_dir("XDG_STATE_HOME", ".local/state").map(|base| base.join("waft/compiled-code.key")),
            running_calls: base_dir("XDG_STATE_HOME", ".local/state").map(|base| base.join("waft/running-calls")),
            cache_size,
            slots: written.worker.slots.filter(|slots| *slots > 0),
            waiting: WaitingLimits { calls: written.worker.waiting.unwrap_or_default(), memory: waiting_memory },
            queues,
            grace,
            delivery_limit,
            isolate,
            listen,
            token,
            token_file,
            serve_tls,
            client_tls: ClientTls { trust, identity },
            files_with_secrets: files.with_secrets,
            largest_request,
            dashboard: written.serve.dashboard.unwrap_or(true),
            metrics,
            traces,
            max_limits,
            limits,
            max_open_runs: written.limits.open_runs(),
            memo_limits: written.limits.memo_limits(),
            namespaces,
            admission: Admission::new(policy),
            admission_read: files.admission,
            rules: CurrentRules::new(rules),
            rules_read: files.outside,
            grant_places,
            webhooks,
        })
    }

    /// These settings, with what a flag says about where guests are called.
    pub(crate) fn with(self, flag: &IsolateFlag) -> Self {
        Self { isolate: flag.isolate.unwrap_or(self.isolate), ..self }
    }

    /// These settings, with what a flag says about how many calls may wait.
    pub(crate) fn with_waiting(self, flag: Option<u16>) -> Self {
        let waiting = WaitingLimits { calls: flag.unwrap_or(self.waiting.calls), ..self.waiting };
        Self { waiting, ..self }
    }
}

#[cfg(test)]
mod tests;
