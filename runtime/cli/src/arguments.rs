//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs flows of sandboxed WebAssembly tasks, here or on workers that need no task code installed.
#[derive(Debug, Parser)]
#[command(name = "waft", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command has.
#[derive(Debug, Args)]
pub(crate) struct Shared {
    /// Where modules are kept [env: WAFT_STORE]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) store: Option<PathBuf>,
    /// Say more about what happens: -v, -vv, -vvv
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The broker, where a command can do without.
#[derive(Debug, Args)]
pub(crate) struct BrokerFlag {
    /// Use the workers at this broker: amqp://user:password@host:port/vhost [env: WAFT_BROKER]
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Trust the certificates in this PEM file too, for amqps://
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
}

/// Values that a run starts with.
#[derive(Debug, Args)]
pub(crate) struct ValueFlags {
    /// Start with this value; JSON, or else taken as a string
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Start with the bytes of this file as a value
    #[arg(long = "set-file", value_name = "NAME=PATH")]
    pub(crate) set_file: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a guest crate that builds as it is, with a flow to run it
    New {
        /// The name of the crate and of its folder
        name: String,
    },
    /// Turn modules into components, check and store them; print their digests
    Push {
        /// Core modules, components or WASI commands
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Let this name stand for the module
        #[arg(long, value_name = "NAME")]
        tag: Option<String>,
        /// Print one JSON object a module
        #[arg(long)]
        json: bool,
    },
    /// Show the tasks of a module, what they require and provide, and what the module imports
    Inspect {
        /// A file, a tag, or sha256:…
        module: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List what the store holds
    Modules {
        /// Print one JSON object a module
        #[arg(long)]
        json: bool,
    },
    /// Find every mistake in a flow; run nothing
    Check {
        /// The flow file
        flow: PathBuf,
        #[command(flatten)]
        values: ValueFlags,
        /// Print one JSON object a mistake
        #[arg(long)]
        json: bool,
    },
    /// Draw a flow
    Graph {
        /// The flow file
        flow: PathBuf,
        /// What to draw it as
        #[arg(long, value_enum, default_value = "dot")]
        format: Picture,
        #[command(flatten)]
        values: ValueFlags,
    },
    /// Run a flow and wait for its end
    Run {
        /// The flow file
        flow: PathBuf,
        #[command(flatten)]
        values: ValueFlags,
        #[command(flatten)]
        broker: BrokerFlag,
        /// The run's id; chosen when not given
        #[arg(long, value_name = "ID")]
        run_id: Option<String>,
        /// Print one JSON object for every change
        #[arg(long)]
        json: bool,
    },
    /// Call one task, now
    Call {
        /// MODULE#TASK; the module is a file, a tag, or sha256:…
        task: String,
        #[command(flatten)]
        values: ValueFlags,
        #[command(flatten)]
        broker: BrokerFlag,
        /// What a WASI command leaves: modules that describe themselves need no such flag
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        provides: Vec<String>,
        /// Print one JSON object for every change
        #[arg(long)]
        json: bool,
    },
    /// Be a worker: answer jobs until told to stop
    Worker {
        #[command(flatten)]
        broker: BrokerFlag,
        /// Calls at once; as many as the machine has cores when not given
        #[arg(long)]
        slots: Option<u16>,
        /// The queues to take jobs from
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        queues: Option<Vec<String>>,
        /// The worker's name; host and process when not given
        #[arg(long)]
        name: Option<String>,
    },
    /// List the workers at a broker
    Workers {
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object a worker
        #[arg(long)]
        json: bool,
    },
    /// Print what makes a shell complete waft's commands
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether its log is what a person watches.
    pub(crate) const fn is_service(&self) -> bool {
        matches!(self, Self::Worker { .. })
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Picture {
    Dot,
    Mermaid,
    Svg,
}
