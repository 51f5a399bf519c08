//! `waft cancel`, `suspend`, `resume`, `retry`, `skip` and `notify`: the run commands.
//!
//! A run at a server receives the command and continues there. An interrupted run of `waft run` has no process: this command
//! drives it to its end, as `waft run --resume` does.

use anyhow::anyhow;
use api::{Notification, SkipRollback, ValuesObject};
use flow::NodeName;
use serde_json::json;

use super::{
    remote,
    run::continue_run,
    run_location::{LocalRun, RunLocation, locate},
};
use crate::{
    arguments::{BrokerFlag, ValueFlags},
    display::GuestLogs,
    exit::{CliError, Exit},
    flow_file::parse_values,
    settings::Settings,
};

/// The command for the run.
pub(super) enum ControlCommand {
    Cancel,
    Suspend,
    Resume,
    Retry,
    Skip { task: String, reason: String },
    Notify { task: String, values: ValueFlags, failure: Option<String>, key: Option<String> },
}

pub(super) async fn run(
    settings: &Settings,
    run: &str,
    command: ControlCommand,
    as_json: bool,
) -> Result<Exit, CliError> {
    let client = match locate(settings, run).await? {
        RunLocation::Server(client) => client,
        RunLocation::Local(local) => return control_local(settings, local, command, as_json).await,
    };
    let response = match command {
        ControlCommand::Cancel => client.cancel(run).await,
        ControlCommand::Suspend => client.suspend(run).await,
        ControlCommand::Resume => client.resume(run).await,
        ControlCommand::Retry => client.retry(run).await,
        ControlCommand::Skip { task, reason } => client.skip(run, &SkipRollback { task, reason }).await,
        ControlCommand::Notify { task, values, failure, key } => {
            let values = ValuesObject::from(&parse_values(&values)?);
            client.notify(run, &Notification { task, values, failure, key }).await
        }
    };
    let response = response.map_err(remote::cli_error)?;
    if as_json {
        let mut object = json!({"run": response.run, "state": response.state});
        if response.cancelling {
            object["cancelling"] = true.into();
        }
        crate::output::json(object);
    } else {
        let state = if response.cancelling { "cancelling" } else { response.state.as_str() };
        crate::output::say!("{} {state}", response.run);
    }
    Ok(Exit::Success)
}

/// Drives an interrupted run of `waft run`.
async fn control_local(
    settings: &Settings,
    local: LocalRun,
    command: ControlCommand,
    as_json: bool,
) -> Result<Exit, CliError> {
    let command = match command {
        ControlCommand::Cancel => protocol::RunCommand::Cancel,
        ControlCommand::Suspend => protocol::RunCommand::Suspend,
        ControlCommand::Resume => protocol::RunCommand::Resume,
        ControlCommand::Retry => protocol::RunCommand::Retry,
        ControlCommand::Skip { reason, .. } if reason.trim().is_empty() => {
            let hint = "describe how the rollback was settled: it is stored in the run's history";
            return Err(CliError::invalid(anyhow!("the reason is empty")).hint(hint));
        }
        ControlCommand::Skip { task, reason } => {
            protocol::RunCommand::Skip { task: NodeName::new(task).map_err(CliError::invalid)?, reason }
        }
        ControlCommand::Notify { .. } => {
            let error = anyhow!("run {} is one of `waft run`, where nothing waits to be notified", local.run);
            return Err(CliError::invalid(error).hint("start `waft serve`, and give the flow to it with `waft submit`"));
        }
    };
    continue_run(settings, local, command, &BrokerFlag { broker: None, tls_ca: None }, (as_json, GuestLogs::Show)).await
}
