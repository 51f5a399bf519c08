//! The subcommands of `waft broker`.

use clap::{Args, Subcommand, ValueEnum};

use super::BrokerFlag;

/// An action that prepares a broker.
#[derive(Debug, Subcommand)]
pub(crate) enum BrokerCommand {
    /// Declare waft's exchanges, the quarantine and queues of jobs, as an engine does. It needs the permissions of an engine
    Setup(SetupFlags),
    /// Print the rabbitmqctl commands that give users the permissions of their roles, and no others. Connects to no broker
    Permissions(PermissionsFlags),
}

/// What to declare.
#[derive(Debug, Args)]
pub(crate) struct SetupFlags {
    /// The queues of jobs; those of [worker] in the settings by default
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) queues: Option<Vec<String>>,
    /// Also declare the queue listen.NAME, for a program that receives notifications
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(crate) listener: Option<String>,
    /// The flows, or single tasks of flows, whose notifications the listener receives
    #[arg(long, value_delimiter = ',', value_name = "FLOW[.TASK]", requires = "listener")]
    pub(crate) to: Vec<String>,
    #[command(flatten)]
    pub(crate) broker: BrokerFlag,
}

/// The users whose permissions to print.
#[derive(Debug, Args)]
pub(crate) struct PermissionsFlags {
    /// Print the permissions of one role
    #[arg(long, value_enum)]
    pub(crate) role: Option<RoleName>,
    /// The name of the user; that of the role by default
    #[arg(long, value_name = "NAME", requires = "role")]
    pub(crate) user: Option<String>,
    /// The virtual host
    #[arg(long, default_value = "/", value_name = "NAME")]
    pub(crate) vhost: String,
    /// The queues that a worker may take jobs from; all by default
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) queues: Vec<String>,
    /// The listeners whose queues a program may consume; all by default
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) listeners: Vec<String>,
    /// Print one JSON object per role
    #[arg(long)]
    pub(crate) json: bool,
}

/// A role of the broker's users.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    /// `waft serve` and `waft run`
    Engine,
    /// `waft worker`
    Worker,
    /// A program that receives notifications
    Listener,
    /// `waft workers`, `waft quarantine` and `waft doctor`
    Operator,
}
