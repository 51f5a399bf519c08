//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs flows of sandboxed WebAssembly tasks, here or on workers that need no task code installed.
#[derive(Parser)]
#[command(name = "waft", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command has. They may hold a token, and are never shown.
#[derive(Args)]
pub(crate) struct Shared {
    /// Where modules are kept [env: WAFT_STORE]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) store: Option<PathBuf>,
    /// Where the records of runs are kept: sqlite:PATH, postgres://… or memory: [env: WAFT_LOGBOOK]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) logbook: Option<String>,
    /// The server to speak with: http://host:port [env: WAFT_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The token that the server asks for, or is to ask for; others see flags: better set it in [env: WAFT_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
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

/// A run for a server.
#[derive(Debug, Args)]
pub(crate) struct SubmitFlags {
    /// The flow file
    pub(crate) flow: PathBuf,
    #[command(flatten)]
    pub(crate) values: ValueFlags,
    /// The run's id; chosen when not given. A run that is there already is not started again
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Wait for the end of the run, and end with its exit code
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print one JSON object; with --wait, one for every change
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which runs to list.
#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    /// Of this flow only
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,
    /// In one of these states: running, success, failure, rolled-back, suspended and their like
    #[arg(long, value_name = "STATES", value_delimiter = ',')]
    pub(crate) state: Vec<String>,
    /// Started since: a time such as 2026-01-31T08:00:00Z, or a duration ago such as 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
    /// Print one JSON object a run
    #[arg(long)]
    pub(crate) json: bool,
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
        #[arg(required_unless_present = "resume")]
        flow: Option<PathBuf>,
        #[command(flatten)]
        values: ValueFlags,
        #[command(flatten)]
        broker: BrokerFlag,
        /// The run's id; chosen when not given
        #[arg(long, value_name = "ID")]
        run_id: Option<String>,
        /// Go on with a run that was interrupted, from its records
        #[arg(long, value_name = "ID", conflicts_with_all = ["flow", "run_id", "set", "set_file"])]
        resume: Option<String>,
        /// Show no lines that guests write; `waft logs` does
        #[arg(short, long)]
        quiet: bool,
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
        /// Show no lines that the guest writes
        #[arg(short, long)]
        quiet: bool,
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
    /// Be a server: an engine with an HTTP API; without a broker, a whole waft in one process
    Serve {
        #[command(flatten)]
        broker: BrokerFlag,
        /// Where to listen; port 0 lets the system choose one
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Without a broker: calls at once; as many as the machine has cores, and at least 4, when not given
        #[arg(long)]
        slots: Option<u16>,
    },
    /// Start a run on a server
    Submit(SubmitFlags),
    /// List the runs that a server knows, or those of this machine, the youngest first
    List(ListFlags),
    /// Show a run with all its tasks
    Show {
        /// The run's id
        run: String,
        /// Show the changes of its flow too
        #[arg(long)]
        revisions: bool,
        /// Print the whole of this value and nothing else: JSON, or bytes as they are
        #[arg(long, value_name = "NAME", conflicts_with_all = ["revisions", "json"])]
        value: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Watch a run from its start to its end, and end with its exit code
    Watch {
        /// The run's id
        run: String,
        /// Print one JSON object for every change
        #[arg(long)]
        json: bool,
    },
    /// Print what guests wrote during a run
    Logs {
        /// The run's id
        run: String,
        /// Of this task only
        #[arg(long)]
        task: Option<String>,
        /// Print lines as they are written, until the run has ended
        #[arg(short, long)]
        follow: bool,
        /// Print one JSON object an attempt; with --follow, one a line
        #[arg(long)]
        json: bool,
    },
    /// Stop a run and roll it back
    Cancel {
        /// The run's id
        run: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Let a run start nothing new; what runs may finish
    Suspend {
        /// The run's id
        run: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Let a suspended run go on
    Resume {
        /// The run's id
        run: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Try the rollbacks that failed again; start a run anew that was rolled back
    Retry {
        /// The run's id
        run: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Take a rollback that failed as done: you have settled it
    Skip {
        /// The run's id
        run: String,
        /// The task
        task: String,
        /// How it was settled; kept in the run's history
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Change the flow of a run while it runs
    Edit {
        /// The run's id
        run: String,
        /// Refuse where the flow is at another revision
        #[arg(long, value_name = "N", global = true)]
        if_revision: Option<u64>,
        /// Only say whether it can be done
        #[arg(long, global = true)]
        dry_run: bool,
        /// Print one JSON object
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        edit: EditCommand,
    },
    /// Notify a task: one that waits succeeds or fails, one of a persistent flow fires with these values
    Notify {
        /// The run's id
        run: String,
        /// The task
        task: String,
        /// A value that the task provides, or fires with; JSON, or else taken as a string
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// The bytes of this file as a value that the task provides, or fires with
        #[arg(long, value_name = "NAME=PATH")]
        set_file: Vec<String>,
        /// Let the task fail, and say why
        #[arg(long, value_name = "MESSAGE", conflicts_with_all = ["set", "set_file"])]
        fail: Option<String>,
        /// What tells this from other notifications: the same key twice fires once
        #[arg(long, value_name = "KEY", conflicts_with = "fail")]
        key: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the workers at a broker
    Workers {
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object a worker
        #[arg(long)]
        json: bool,
    },
    /// Check all that waft stands on, and say what to do: broker, queues, workers, logbook, runs, store, clocks. Changes nothing
    ///
    /// With --broker, --logbook or --store it looks from here, without a server; with --server (or WAFT_SERVER) the server looks
    /// at what it stands on. It ends within 30 seconds; the exit code is 0 when all is well, and 5 otherwise.
    Doctor {
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object a check
        #[arg(long)]
        json: bool,
    },
    /// See and decide about what no worker could take: jobs that killed their workers, messages that are no jobs
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Forget runs that ended long ago, and remove from the store what nothing needs any more
    Gc {
        /// How long ago they ended, and how long what goes has been in the store: 30d, 12h
        #[arg(long, value_name = "DURATION")]
        older_than: String,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Print what makes a shell complete waft's commands
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EditCommand {
    /// Add the tasks, nested flows and links of a file, written as a flow file without its name
    Add {
        /// The file
        file: PathBuf,
    },
    /// Remove a task and its links; one that has run stays to be rolled back
    Remove {
        /// The task
        task: String,
    },
    /// Link two nodes; a link of theirs that is there already is replaced
    Link {
        /// The source
        from: String,
        /// Who listens
        to: String,
        /// What of the source it waits for: success, failure or any
        #[arg(long)]
        on: Option<String>,
        /// A condition: a no leaves the listener out
        #[arg(long, value_name = "CONDITION")]
        when: Option<String>,
        /// How far a no reaches: all, flow, neighbors or task
        #[arg(long)]
        reach: Option<String>,
        /// How it joins the others into the listener: all, or any
        #[arg(long)]
        join: Option<String>,
    },
    /// Take the links between two nodes away
    Unlink {
        /// The source
        from: String,
        /// Who listens
        to: String,
    },
    /// Let a task that has not run call something else
    Use {
        /// The task
        task: String,
        /// MODULE#TASK; the module is an alias of the flow, a tag, a digest or a file
        module: String,
    },
    /// Give a task a constant
    Set {
        /// The task
        task: String,
        /// PARAMETER=VALUE; the value is JSON, or else taken as a string
        value: String,
    },
    /// Let a task take a value from elsewhere
    Require {
        /// The task
        task: String,
        /// PARAMETER=VALUE, the value by its name in the flow
        value: String,
    },
    /// Make all the edits of a file in one step: TOML, with a table `edit` for each
    Apply {
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List what is in quarantine; it stays there
    List {
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object a message
        #[arg(long)]
        json: bool,
    },
    /// Hand messages out again, to the queue they came from
    Release {
        #[command(flatten)]
        which: MessageSelection,
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object a message
        #[arg(long)]
        json: bool,
    },
    /// Forget messages
    Drop {
        #[command(flatten)]
        which: MessageSelection,
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object a message
        #[arg(long)]
        json: bool,
    },
}

/// Which messages.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct MessageSelection {
    /// The id that `list` shows
    pub(crate) id: Option<String>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

impl Command {
    /// Whether it does nothing but print what it reads, so that it is of no use once nobody reads that.
    pub(crate) const fn only_prints(&self) -> bool {
        match self {
            Self::Inspect { .. }
            | Self::Modules { .. }
            | Self::Check { .. }
            | Self::Graph { .. }
            | Self::List(_)
            | Self::Show { .. }
            | Self::Watch { .. }
            | Self::Logs { .. }
            | Self::Workers { .. }
            | Self::Doctor { .. }
            | Self::Quarantine(QuarantineCommand::List { .. })
            | Self::Completions { .. } => true,
            Self::New { .. }
            | Self::Push { .. }
            | Self::Run { .. }
            | Self::Call { .. }
            | Self::Worker { .. }
            | Self::Serve { .. }
            | Self::Submit(_)
            | Self::Cancel { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Retry { .. }
            | Self::Skip { .. }
            | Self::Edit { .. }
            | Self::Notify { .. }
            | Self::Quarantine(QuarantineCommand::Release { .. } | QuarantineCommand::Drop { .. })
            | Self::Gc { .. } => false,
        }
    }

    /// Whether it ends in time although something that it asked has never answered: a name server, a disk.
    pub(crate) const fn leaves_what_hangs(&self) -> bool {
        matches!(self, Self::Doctor { .. })
    }

    /// Whether it drives runs or calls guests in this process, and so uses several threads.
    pub(crate) const fn does_work(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Call { .. } | Self::Worker { .. } | Self::Serve { .. })
    }

    /// Whether its log is what a person watches.
    pub(crate) const fn is_service(&self) -> bool {
        matches!(self, Self::Worker { .. } | Self::Serve { .. })
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Picture {
    Dot,
    Mermaid,
    Svg,
}
