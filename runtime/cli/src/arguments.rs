//! The command line.

mod broker;
mod command;
mod edit;
mod events;
mod flags;
mod grants;
mod keys;
mod logs;
mod quarantine;
mod rehearse;
mod replay;
mod token;
mod top;
mod webhooks;
mod workers;

pub(crate) use broker::{BrokerCommand, PermissionsFlags, RoleName, SetupFlags};
use clap::Parser;
pub(crate) use command::{Command, Picture};
pub(crate) use edit::EditCommand;
pub(crate) use events::EventsFlags;
pub(crate) use flags::{
    BrokerFlag, FilterFlags, IsolateFlag, LabelFlags, ListFlags, RunsFlags, SchedulesFlags, Shared, SubmitFlags,
    TraceFlags, ValueFlags,
};
pub(crate) use grants::GrantsCommand;
pub(crate) use keys::{KeysCommand, ModulesCommand, SignFlags};
pub(crate) use logs::ExchangesFlags;
pub(crate) use quarantine::{MessageSelection, QuarantineCommand};
pub(crate) use rehearse::RehearseFlags;
pub(crate) use replay::{ReplayFlags, VerifyFlags};
pub(crate) use token::TokenCommand;
pub(crate) use top::TopFlags;
pub(crate) use webhooks::WebhooksCommand;
pub(crate) use workers::WorkersCommand;

/// Runs flows of sandboxed WebAssembly tasks, here or on workers that need no task code installed.
#[derive(Parser)]
#[command(name = "waft", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: Command,
}
