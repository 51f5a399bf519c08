//! The commands, one file each.

mod audit;
mod broker;
mod call;
mod check;
mod completions;
mod doctor;
mod edit;
mod engines;
mod events;
mod gc;
mod grants;
mod graph;
mod embedded_worker;
mod inspect;
mod keys;
mod list;
mod logs;
mod missing_workers;
mod modules;
mod new;
mod permits;
mod run_location;
mod push;
mod quarantine;
mod queues;
mod rehearse;
mod remote;
mod remote_grants;
mod replay;
mod run;
mod run_follower;
mod schedules;
mod serve;
mod several;
mod show;
mod source;
mod control;
mod submit;
mod token;
mod top;
mod watch;
mod webhooks;
mod worker;
mod workers;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ::broker::{Amqp, ConnectError, DeclareError, Options};
use anyhow::anyhow;
use api::BulkAction;
use credentials::ClientTls;
use gateway::Gateway;

use crate::{
    arguments::{BrokerFlag, Command, TraceFlags, ValueFlags},
    display::GuestLogs,
    exit::{CliError, Exit},
    otlp::{Exporter, with_parent_of_environment},
    settings::{Settings, follow_admission, follow_rules},
    signals::StopSignal,
};

/// Runs a command to its end. A command that only prints also ends once its output is lost: its reader has left, or the disk
/// is full.
pub(crate) async fn run(command: Command, settings: Settings) -> Result<Exit, CliError> {
    if command.executes_tasks() {
        let exporter = match TraceFlags::of(&command) {
            Some((service, flags)) => Exporter::start(&settings.traces, flags.otlp.as_deref(), service)?,
            None => None,
        };
        let following = follow_admission(settings.admission.clone(), settings.admission_read.clone());
        let following_rules = follow_rules(settings.rules.clone(), settings.rules_read.clone());
        // The files may be read again at any point, and reading them never ends.
        let result = tokio::select! {
            result = Box::pin(perform(command, settings)) => result,
            never = following => match never {},
            never = following_rules => match never {},
        };
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        return result;
    }
    if !command.only_prints() {
        return Box::pin(perform(command, settings)).await;
    }
    // A command that only prints may be dropped at any point.
    tokio::select! {
        result = perform(command, settings) => result,
        () = crate::output::wait_for_failure() => Ok(Exit::Success),
    }
}

async fn perform(command: Command, settings: Settings) -> Result<Exit, CliError> {
    match command {
        Command::New { name } => new::run(&name),
        Command::Push { files, tag, sign, json } => push::run(&settings, &files, tag.as_deref(), sign, json).await,
        Command::Inspect { module, json } => inspect::run(&settings, &module, json).await,
        Command::Modules { command, json } => modules::run(&settings, command, json).await,
        Command::Keys(command) => keys::run(command),
        Command::Check { flow, values, json } => check::run(&settings, &flow, &values, json).await,
        Command::Rehearse(flags) => rehearse::run(&settings, flags).await,
        Command::Grants(command) => grants::run(&settings, command).await,
        Command::Graph { flow, format, values } => graph::run(&settings, &flow, format, &values).await,
        Command::Run { flow, values, broker, isolate, labels, traces: _, run_id, resume, quiet, json } => {
            let (settings, shown) = (settings.with(&isolate), (json, guests(quiet)));
            match (flow, resume) {
                (_, Some(run)) => run::resume(&settings, &run, &broker, shown).await,
                (Some(flow), None) => {
                    let labels = with_parent_of_environment(labels.label);
                    let new = run::NewRun { id: run_id, labels };
                    run::run(&settings, &flow, &values, &broker, new, shown).await
                }
                (None, None) => unreachable!("clap requires one of them"),
            }
        }
        Command::Call { task, values, broker, provides, quiet, json } => {
            call::run(&settings, &task, &values, &broker, &provides, (json, guests(quiet))).await
        }
        Command::Worker { broker, isolate, traces: _, slots, waiting, queues, name, metrics } => {
            let settings = settings.with(&isolate).with_waiting(waiting).with_metrics(metrics);
            worker::run(settings, &broker, slots, queues, name).await
        }
        Command::Serve { broker, isolate, traces: _, listen, slots, waiting } => {
            // Boxed, since it is far larger than the others.
            Box::pin(serve::run(settings.with(&isolate).with_waiting(waiting), &broker, listen, slots)).await
        }
        Command::Submit(flags) => submit::run(&settings, flags).await,
        Command::List(flags) => list::run(&settings, flags).await,
        Command::Show { run, value: Some(value), .. } => show::value(&settings, &run, &value).await,
        Command::Show { run, revisions, value: None, json } => show::run(&settings, &run, revisions, json).await,
        Command::Watch { run, json } => watch::run(&settings, &run, json).await,
        Command::Top(flags) => Box::pin(top::run(&settings, flags)).await,
        Command::Events(flags) => events::run(&settings, flags).await,
        Command::Logs { run, task, http: true, exchanges, json, .. } => {
            logs::http(&settings, &run, task, exchanges, json).await
        }
        Command::Logs { run, task, follow: false, json, .. } => logs::run(&settings, &run, task.as_deref(), json).await,
        Command::Logs { run, task, follow: true, json, .. } => {
            logs::follow(&settings, &run, task.as_deref(), json).await
        }
        Command::Replay(flags) => Box::pin(replay::run(&settings, flags)).await,
        Command::Verify(flags) => Box::pin(replay::verify(&settings, flags)).await,
        Command::Cancel(runs) => Box::pin(several::run(&settings, BulkAction::Cancel, runs)).await,
        Command::Suspend(runs) => Box::pin(several::run(&settings, BulkAction::Suspend, runs)).await,
        Command::Resume(runs) => Box::pin(several::run(&settings, BulkAction::Resume, runs)).await,
        Command::Retry(runs) => Box::pin(several::run(&settings, BulkAction::Retry, runs)).await,
        Command::Skip { run, task, reason, json } => {
            Box::pin(control::run(&settings, &run, control::ControlCommand::Skip { task, reason }, json)).await
        }
        Command::Edit { run, if_revision, dry_run, json, edit } => {
            edit::run(&settings, &run, edit::EditRequest { edit, if_revision, dry_run }, json).await
        }
        Command::Notify { run, task, set, set_file, fail, key, json } => {
            let values = ValueFlags { set, set_file };
            let notify = control::ControlCommand::Notify { task, values, failure: fail, key };
            Box::pin(control::run(&settings, &run, notify, json)).await
        }
        Command::Workers { command: None, broker, calls, json } => {
            let shown = if json { workers::Shown::Json } else { workers::Shown::table(calls) };
            workers::list(&settings, &broker, shown).await
        }
        Command::Workers { command: Some(command), .. } => workers::tell(&settings, command).await,
        Command::Permits { flow, namespace, calls, json } => {
            let shown = if json { permits::Shown::Json } else { permits::Shown::table(calls) };
            permits::run(&settings, flow, namespace, shown).await
        }
        Command::Queues { queue, namespace, json } => queues::run(&settings, queue, namespace, json).await,
        Command::Schedules(flags) => schedules::run(&settings, flags).await,
        Command::Engines { json } => engines::run(&settings, json).await,
        Command::Doctor { broker, json } => doctor::run(&settings, &broker, json).await,
        Command::Broker(command) => broker::run(&settings, command).await,
        Command::Quarantine(command) => quarantine::run(&settings, command).await,
        Command::Token(command) => token::run(&settings, command).await,
        Command::Webhooks(command) => webhooks::run(&settings, command).await,
        Command::Audit { subject, limit, json } => audit::run(&settings, subject, limit, json).await,
        Command::Gc { older_than, audit_older_than, forget_results, dry_run } => {
            let results = if forget_results { gc::Forgotten::AllResults } else { gc::Forgotten::ExpiredResults };
            gc::run(&settings, &older_than, audit_older_than.as_deref(), results, dry_run).await
        }
        Command::Completions { shell } => Ok(completions::run(shell)),
    }
}

fn guests(quiet: bool) -> GuestLogs {
    if quiet { GuestLogs::Hide } else { GuestLogs::Show }
}

/// The broker from the flag, the environment or the file, if any.
fn broker_url(settings: &Settings, flag: &BrokerFlag) -> Option<String> {
    flag.broker.clone().filter(|url| !url.is_empty()).or_else(|| settings.broker.clone())
}

/// The broker of a command that requires one.
fn required_broker_url(settings: &Settings, flag: &BrokerFlag) -> Result<String, CliError> {
    broker_url(settings, flag).ok_or_else(|| {
        CliError::invalid(anyhow!("this command needs a broker"))
            .hint("give --broker amqp://user:password@host:5672, or set WAFT_BROKER or WAFT_BROKER_FILE")
    })
}

/// Connects to a broker, under a name that its list of connections shows.
async fn connect(url: String, tls_ca: Option<PathBuf>, name: &str) -> Result<Arc<Amqp>, CliError> {
    let options = Options { name: name.into(), tls_ca, ..Options::new(url) };
    match Amqp::connect(options).await {
        Ok(broker) => Ok(Arc::new(broker)),
        Err(error @ ConnectError::BadUrl { .. }) => Err(CliError::invalid(error).hint(
            "write amqp://user:password@host:5672/vhost, or amqps:// for TLS; the vhost / is written %2f or left out",
        )),
        Err(error) => Err(CliError::unreachable(error)),
    }
}

/// A name for this process: host and process id, in the characters of a name.
fn process_name() -> String {
    let host: String = host_name()
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '-' })
        .take(60)
        .collect();
    format!("{host}-{}", std::process::id())
}

/// The name of this host.
fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// The number of cores that this process may use.
fn core_count() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// How long running calls may continue after a stop request.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Stops an engine, and waits until it has sent its messages, or the person insists. Recorded messages stay durable, and
/// are sent when their runs continue.
async fn shut_down(engine: &engine::Engine, stop: &StopSignal) {
    // The first arm only waits: the engine continues to stop without it.
    tokio::select! {
        () = engine.stop() => {}
        () = stop.forced.cancelled() => engine.abort().await,
    }
}

/// The modules of a worker in this process.
async fn local_modules(
    settings: &Settings,
    sandbox: sandbox::Sandbox,
    broker: Arc<dyn ::broker::Broker>,
    name: &str,
) -> Result<::worker::ContentSource, CliError> {
    let folder = settings.cache.join("modules");
    let bytes = match store::Cache::open(folder.clone(), settings.cache_size).await {
        Ok(cache) => cache,
        // The cache only saves time.
        Err(error) => {
            let (folder, error) = (folder.display(), format!("{:#}", anyhow!(error)));
            tracing::warn!(%folder, error, "fetched modules are not kept on disk; WAFT_CACHE names another folder");
            store::Cache::none()
        }
    };
    let reply_queue = protocol::topology::reply_queue(&format!("{name}.{}", uuid::Uuid::now_v7()));
    let client = store::bus::Client::new(broker, reply_queue).await.map_err(|error| match &error {
        store::bus::StartError::Declare { source: DeclareError::AccessRefused { .. }, .. } => {
            CliError::unreachable(error).hint(broker::UNDECLARED_HINT)
        }
        _ => CliError::unreachable(error),
    })?;
    let (admission, module_size) = (settings.admission.clone(), settings.limits.module_size);
    let modules = ::worker::ContentSource::new(sandbox, bytes, client, admission, module_size);
    let gateway = Gateway::new(ClientTls::default()).with_trace_hosts(settings.traces.hosts.clone());
    if !settings.rules.now().grants.0.is_empty() {
        gateway.open().await.map_err(CliError::invalid)?;
    }
    Ok(modules.with_gateway(settings.rules.clone(), Arc::new(gateway)))
}

/// Opens the logbook that the settings name.
async fn open_logbook(settings: &Settings) -> Result<Arc<dyn logbook::Logbook>, CliError> {
    logbook::open(&settings.logbook).await.map_err(logbook_error)
}

/// Whether there may be runs in the logbook that a command reads; it is not created for that.
///
/// # Errors
/// A flag names a file that does not exist: its name is probably misspelt.
fn may_have_runs(settings: &Settings) -> Result<bool, CliError> {
    let may_exist = logbook::may_exist(&settings.logbook).map_err(logbook_error)?;
    let is_named_file = settings.logbook_is_named() && logbook::file(&settings.logbook).is_some();
    if is_named_file && !may_exist { Err(no_logbook(settings)) } else { Ok(may_exist) }
}

/// The error for a logbook that does not exist, of a command that must not create it.
fn no_logbook(settings: &Settings) -> CliError {
    CliError::invalid(anyhow!("there is no logbook {}", serve::without_password(&settings.logbook)))
        .hint("--logbook or WAFT_LOGBOOK names another one; the first `waft run` or `waft serve` creates it")
}

/// An error with a hint about a logbook that cannot be used.
fn logbook_error(error: logbook::OpenError) -> CliError {
    match error {
        error @ logbook::OpenError::Address { .. } => {
            CliError::invalid(error).hint("write sqlite:PATH, postgres://user:password@host/database, or memory:")
        }
        error @ logbook::OpenError::Newer { .. } => {
            CliError::unreachable(error).hint("upgrade waft, or name another logbook with --logbook")
        }
        error @ logbook::OpenError::Damaged { .. } => {
            CliError::unreachable(error).hint("restore it from a backup, or name another one with --logbook")
        }
        error @ logbook::OpenError::Unavailable { .. } => {
            CliError::unreachable(error).hint("name a logbook that can be used with --logbook or WAFT_LOGBOOK")
        }
        error @ logbook::OpenError::Locked { .. } => CliError::unreachable(error)
            .hint("stop that one, or let both share a broker with --broker: then they divide the runs"),
    }
}
