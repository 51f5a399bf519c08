//! `waft broker`: prepares a broker, and prints the permissions of its users.

use anyhow::anyhow;
use broker::{
    DeclareError,
    roles::{Permissions, Role, RoleLimits},
    topology,
};
use flow::{FlowName, NodeName, QueueName, invalid::InvalidName};
use serde_json::json;

use super::{connect, process_name, required_broker_url};
use crate::{
    arguments::{BrokerCommand, PermissionsFlags, RoleName, SetupFlags},
    exit::{CliError, Exit},
    output,
    settings::Settings,
};

/// The hint for a user that may not declare what is missing.
pub(super) const UNDECLARED_HINT: &str = "start an engine first, or let it declare the exchanges with `waft broker setup`; `waft \
    broker permissions` prints the commands that give users the permissions of their roles";

/// The hint for a user without the permissions of an engine.
const PERMISSIONS_HINT: &str = "use the address of an engine's user; `waft broker permissions --role engine` prints the \
    command that gives it its permissions";

pub(super) async fn run(settings: &Settings, command: BrokerCommand) -> Result<Exit, CliError> {
    match command {
        BrokerCommand::Setup(flags) => setup(settings, flags).await?,
        BrokerCommand::Permissions(flags) => permissions(&flags)?,
    }
    Ok(Exit::Success)
}

async fn setup(settings: &Settings, flags: SetupFlags) -> Result<(), CliError> {
    let queues: Vec<QueueName> = match flags.queues {
        Some(names) => parse(&names, "--queues default,ovens")?,
        None => settings.queues.names.clone(),
    };
    let listener: Option<Listener> = flags.listener.map(|name| Listener::parse(&name, &flags.to)).transpose()?;
    let url = required_broker_url(settings, &flags.broker)?;
    let broker = connect(url, flags.broker.tls_ca.clone(), &format!("waft broker setup {}", process_name())).await?;
    let declared = async {
        topology::declare_shared(&*broker).await?;
        for queue in &queues {
            topology::declare_jobs(&*broker, queue).await?;
        }
        if let Some(Listener { name, patterns }) = &listener {
            topology::declare_listener(&*broker, name, patterns).await?;
        }
        Ok(())
    };
    let result: Result<(), DeclareError> = declared.await;
    broker::Broker::close(&*broker).await;
    result.map_err(|error| match error {
        error @ DeclareError::AccessRefused { .. } => CliError::unreachable(error).hint(PERMISSIONS_HINT),
        error @ DeclareError::Mismatch { .. } => CliError::unreachable(error).hint(
            "it was declared otherwise, perhaps by an earlier version of waft: stop the programs that use it, and delete it with \
             `rabbitmqctl delete_queue`",
        ),
        error => CliError::unreachable(error),
    })?;
    crate::output::note!("the exchanges of waft and the queue waft.quarantine are there");
    for queue in &queues {
        crate::output::note!("the queue {} is there", protocol::topology::job_queue(queue));
    }
    if let Some(Listener { name, patterns }) = &listener {
        let (queue, patterns) = (protocol::topology::listener_queue(name), patterns.join(" and "));
        crate::output::note!("the queue {queue} is there, and receives the notifications {patterns}");
    }
    Ok(())
}

/// A listener to set up.
struct Listener {
    name: QueueName,
    /// The patterns of the notifications that it receives.
    patterns: Vec<String>,
}

impl Listener {
    fn parse(name: &str, to: &[String]) -> Result<Self, CliError> {
        let [name] =
            <[QueueName; 1]>::try_from(parse(&[name.to_owned()], "--listener dashboard")?).expect("one gives one");
        let pattern = |source: &String| {
            let (flow, task) =
                source.split_once('.').map_or((source.as_str(), None), |(flow, task)| (flow, Some(task)));
            let flow: FlowName = flow.parse()?;
            let task: Option<NodeName> = task.map(str::parse).transpose()?;
            Ok(protocol::topology::listener_pattern(&flow, task.as_ref()))
        };
        let patterns: Result<Vec<String>, InvalidName> = to.iter().map(pattern).collect();
        let hint = "give --to bake-cake for all tasks of a flow, or --to bake-cake.oven for one";
        let patterns = patterns.map_err(|error| CliError::invalid(error).hint(hint))?;
        Ok(Self { name, patterns })
    }
}

fn permissions(flags: &PermissionsFlags) -> Result<(), CliError> {
    let limits = RoleLimits {
        queues: parse(&flags.queues, "--queues default,ovens")?,
        listeners: parse(&flags.listeners, "--listeners dashboard")?,
    };
    let roles = match flags.role {
        Some(role) => vec![Role::from(role)],
        None => Role::ALL.to_vec(),
    };
    let misplaced = [
        ("--queues", Role::Worker, limits.queues.is_empty()),
        ("--listeners", Role::Listener, limits.listeners.is_empty()),
    ];
    for (flag, role, is_empty) in misplaced {
        if !is_empty && !roles.contains(&role) {
            let (role, given) = (role.as_str(), roles[0].as_str());
            let error = anyhow!("{flag} limits the role {role}, and not the role {given}");
            return Err(CliError::invalid(error).hint(format!("leave {flag} out, or give --role {role}")));
        }
    }
    for role in roles {
        let user = flags.user.as_deref().unwrap_or(role.as_str());
        let permissions = Permissions::of(role, &limits);
        if flags.json {
            print_json(role, user, &flags.vhost, &permissions);
        } else {
            print_commands(role, user, &flags.vhost, &permissions);
        }
    }
    Ok(())
}

fn print_commands(role: Role, user: &str, vhost: &str, permissions: &Permissions) {
    let Permissions { configure, write, read } = permissions;
    output::line(&format!("# {}", role.can()));
    output::line(&format!("# {}", role.cannot()));
    let place = format!("--vhost {} {}", quoted(vhost), quoted(user));
    output::line(&format!(
        "rabbitmqctl set_permissions {place} {} {} {}",
        quoted(configure),
        quoted(write),
        quoted(read)
    ));
}

fn print_json(role: Role, user: &str, vhost: &str, permissions: &Permissions) {
    let Permissions { configure, write, read } = permissions;
    output::json(json!({
        "role": role.as_str(), "user": user, "vhost": vhost, "configure": configure, "write": write, "read": read,
        "can": role.can(), "cannot": role.cannot(),
    }));
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./@".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn parse<Name>(names: &[String], example: &str) -> Result<Vec<Name>, CliError>
where
    Name: std::str::FromStr,
    Name::Err: std::error::Error + Send + Sync + 'static,
{
    let names: Result<Vec<Name>, _> = names.iter().map(|name| name.trim().parse()).collect();
    names.map_err(|error| CliError::invalid(error).hint(format!("give {example}")))
}

impl From<RoleName> for Role {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Engine => Self::Engine,
            RoleName::Worker => Self::Worker,
            RoleName::Listener => Self::Listener,
            RoleName::Operator => Self::Operator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_each_text_as_one_word() {
        assert_eq!(quoted("/"), "/");
        assert_eq!(quoted(r"^waft\..+$"), r"'^waft\..+$'");
        assert_eq!(quoted("eve's"), r"'eve'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
