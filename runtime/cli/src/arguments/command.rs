//! The commands.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Subcommand, ValueEnum};

use super::{
    BrokerCommand, BrokerFlag, EditCommand, EventsFlags, ExchangesFlags, GrantsCommand, IsolateFlag, KeysCommand,
    LabelFlags, ListFlags, ModulesCommand, QuarantineCommand, RehearseFlags, ReplayFlags, RunsFlags, SchedulesFlags,
    SignFlags, SubmitFlags, TokenCommand, TopFlags, TraceFlags, ValueFlags, VerifyFlags, WebhooksCommand,
    WorkersCommand,
};

/// A command of waft.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a guest crate that builds unchanged, and a flow that runs it
    New {
        /// The name of the crate and of its folder
        name: String,
    },
    /// Convert modules to components, check and store them; print their digests
    Push {
        /// Core modules, components or WASI commands
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The tag for the module
        #[arg(long, value_name = "NAME")]
        tag: Option<String>,
        #[command(flatten)]
        sign: SignFlags,
        /// Print one JSON object per module
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
    /// List the contents of the store, and who signed them
    #[command(args_conflicts_with_subcommands = true)]
    Modules {
        #[command(subcommand)]
        command: Option<ModulesCommand>,
        /// Print one JSON object per module
        #[arg(long)]
        json: bool,
    },
    /// Make or list the keys with which you sign modules
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Report every error in a flow; run nothing
    Check {
        /// The flow file
        flow: PathBuf,
        #[command(flatten)]
        values: ValueFlags,
        /// Print one JSON object per error or warning
        #[arg(long)]
        json: bool,
    },
    /// Report what happens if a task of a flow fails, for each task; call no guest
    ///
    /// waft runs the flow without guests, time and broker: first without a failure, then with a failure of each task. Values that stand for
    /// the results of tasks are those of --results, or fit the JSON schemas of the modules.
    Rehearse(RehearseFlags),
    /// Explain what tasks may reach outside their sandbox
    #[command(subcommand)]
    Grants(GrantsCommand),
    /// Draw a flow
    Graph {
        /// The flow file
        flow: PathBuf,
        /// The format of the drawing
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
        #[command(flatten)]
        isolate: IsolateFlag,
        #[command(flatten)]
        labels: LabelFlags,
        #[command(flatten)]
        traces: TraceFlags,
        /// The run's id; a new one by default
        #[arg(long, value_name = "ID")]
        run_id: Option<String>,
        /// Continue an interrupted run from its records
        #[arg(long, value_name = "ID", conflicts_with_all = ["flow", "run_id", "set", "set_file", "label"])]
        resume: Option<String>,
        /// Do not show the output of guests; `waft logs` shows it
        #[arg(short, long)]
        quiet: bool,
        /// Print one JSON object per change
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
        /// The values that a WASI command provides; other modules describe this themselves
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        provides: Vec<String>,
        /// Do not show the output of the guest
        #[arg(short, long)]
        quiet: bool,
        /// Print one JSON object per change
        #[arg(long)]
        json: bool,
    },
    /// Run a worker: it handles jobs until it is asked to stop
    Worker {
        #[command(flatten)]
        broker: BrokerFlag,
        #[command(flatten)]
        isolate: IsolateFlag,
        #[command(flatten)]
        traces: TraceFlags,
        /// The maximum number of calls that compute at once; the number of cores by default
        #[arg(long)]
        slots: Option<u16>,
        /// The maximum number of calls that wait beside them, without a slot; 256 by default
        #[arg(long, value_name = "CALLS")]
        waiting: Option<u16>,
        /// The queues to consume jobs from. `ovens=4`: the queue has four slots of its own
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        queues: Option<Vec<String>>,
        /// The worker's name; host and process id by default
        #[arg(long)]
        name: Option<String>,
        /// The address at which it serves its metrics to Prometheus; with port 0 the system chooses a port
        #[arg(long, value_name = "ADDRESS:PORT")]
        metrics: Option<SocketAddr>,
    },
    /// Run a server: an engine with an HTTP API, and without a broker also a worker
    Serve {
        #[command(flatten)]
        broker: BrokerFlag,
        #[command(flatten)]
        isolate: IsolateFlag,
        #[command(flatten)]
        traces: TraceFlags,
        /// The address to listen on; with port 0 the system chooses a port
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Without a broker: the maximum number of calls that compute at once; the number of cores, and at least 4, by default
        #[arg(long)]
        slots: Option<u16>,
        /// Without a broker: the maximum number of calls that wait beside them, without a slot; 256 by default
        #[arg(long, value_name = "CALLS")]
        waiting: Option<u16>,
    },
    /// Start a run on a server
    Submit(SubmitFlags),
    /// List the runs of a server or of this machine, the youngest first
    List(ListFlags),
    /// Show a run with all its tasks
    Show {
        /// The run's id
        run: String,
        /// Also show the changes of its flow
        #[arg(long)]
        revisions: bool,
        /// Print only this value, completely: JSON, or raw bytes
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
        /// Print one JSON object per change
        #[arg(long)]
        json: bool,
    },
    /// Show the runs, workers and queues of a server in this terminal, live, and command them with keys
    ///
    /// It needs a terminal. The key ? shows all keys.
    Top(TopFlags),
    /// Print the states of all runs of a server and of their tasks, as they change
    Events(EventsFlags),
    /// Print what guests wrote during a run
    Logs {
        /// The run's id
        run: String,
        /// Print only the output of this task
        #[arg(long)]
        task: Option<String>,
        /// Print lines as they are written, until the run has ended
        #[arg(short, long)]
        follow: bool,
        /// Print the recorded HTTP requests and responses of the last attempts, in place of their lines
        #[arg(long, conflicts_with = "follow")]
        http: bool,
        #[command(flatten)]
        exchanges: ExchangesFlags,
        /// Print one JSON object per attempt; with --follow, one per line
        #[arg(long)]
        json: bool,
    },
    /// Run a recorded attempt again, here, and compare its outcome
    ///
    /// It calls the same module with the same inputs, limits, clock and random numbers, and shows the lines and the backtrace of the
    /// guest. It reaches nothing outside: HTTP requests are answered from the record of the attempt. It changes nothing in the
    /// run. The exit code is 0 if the outcome is the same as the recorded one, and 6 if it differs; with --module it is 0 in both
    /// cases.
    Replay(ReplayFlags),
    /// Run a recorded attempt again, and report whether its task is a function of its inputs
    Verify(VerifyFlags),
    /// Stop a run and roll it back, or all runs that a filter selects on a server
    Cancel(RunsFlags),
    /// Suspend a run, or all that a filter selects: it starts nothing new, and running calls may finish
    Suspend(RunsFlags),
    /// Resume a suspended run, or all that a filter selects
    Resume(RunsFlags),
    /// Retry failed rollbacks, or restart a run that was rolled back, or all that a filter selects
    Retry(RunsFlags),
    /// Mark a failed rollback as done, after you have settled it
    Skip {
        /// The run's id
        run: String,
        /// The task
        task: String,
        /// How it was settled; stored in the run's history
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
        /// Refuse the edit if the flow is at another revision
        #[arg(long, value_name = "N", global = true)]
        if_revision: Option<u64>,
        /// Only check whether the edit can be made
        #[arg(long, global = true)]
        dry_run: bool,
        /// Print one JSON object
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        edit: EditCommand,
    },
    /// Notify a task: a waiting task succeeds or fails, a task of a persistent flow fires with the values
    Notify {
        /// The run's id
        run: String,
        /// The task
        task: String,
        /// A value that the task provides, or fires with: JSON, or else a string
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// A file whose bytes are a value that the task provides, or fires with
        #[arg(long, value_name = "NAME=PATH")]
        set_file: Vec<String>,
        /// Make the task fail with this message
        #[arg(long, value_name = "MESSAGE", conflicts_with_all = ["set", "set_file"])]
        fail: Option<String>,
        /// The deduplication key: notifications with the same key fire once
        #[arg(long, value_name = "KEY", conflicts_with = "fail")]
        key: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the workers at a broker, or drain one
    #[command(args_conflicts_with_subcommands = true)]
    Workers {
        #[command(subcommand)]
        command: Option<WorkersCommand>,
        #[command(flatten)]
        broker: BrokerFlag,
        /// Also print the calls that each worker makes
        #[arg(long)]
        calls: bool,
        /// Print one JSON object per worker
        #[arg(long)]
        json: bool,
    },
    /// List the known queues of jobs of a server: how many jobs wait, and how many consumers and workers each has
    Queues {
        /// Only this queue
        queue: Option<String>,
        /// Only queues in this namespace
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        /// Print one JSON object per queue
        #[arg(long)]
        json: bool,
    },
    /// List the schedules of runs on a server that have not ended, those of the youngest run first
    Schedules(SchedulesFlags),
    /// List the tasks of a server with `max_running` or `rate` whose calls hold permits or wait for them
    Permits {
        /// Only tasks of this flow
        #[arg(long, value_name = "NAME")]
        flow: Option<String>,
        /// Only tasks of flows in this namespace
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        /// Also print some of the calls
        #[arg(long)]
        calls: bool,
        /// Print one JSON object per task
        #[arg(long)]
        json: bool,
    },
    /// List the engines that share the runs of a server, and the shards that each drives
    Engines {
        /// Print one JSON object per engine
        #[arg(long)]
        json: bool,
    },
    /// Check broker, queues, workers, logbook, runs, store and clocks, and report what to do. Changes nothing
    ///
    /// With --broker, --logbook or --store it checks from this machine, without a server. With --server (or WAFT_SERVER) the
    /// server checks its dependencies. It ends within 30 seconds. The exit code is 0 if everything works, and 5 otherwise.
    Doctor {
        #[command(flatten)]
        broker: BrokerFlag,
        /// Print one JSON object per check
        #[arg(long)]
        json: bool,
    },
    /// Prepare a RabbitMQ: declare exchanges and queues, and print the permissions of users
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// List, release or drop messages in quarantine: jobs that killed their workers, and unreadable messages
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Make, list or revoke the tokens with which others use a server
    #[command(subcommand)]
    Token(TokenCommand),
    /// List and test the webhooks of a server
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Print who asked a server for what, the youngest first
    Audit {
        /// Only what is about this run, module, tag or token: an id, sha256:… or a name
        subject: Option<String>,
        /// The maximum number of entries
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
        /// Print one JSON object per entry
        #[arg(long)]
        json: bool,
    },
    /// Delete runs that ended long ago, and stored contents that nothing needs any more
    Gc {
        /// The minimum age: the time since a run ended, and since a content was stored: 30d, 12h
        #[arg(long, value_name = "DURATION")]
        older_than: String,
        /// Also delete entries of the audit log of this age
        #[arg(long, value_name = "DURATION")]
        audit_older_than: Option<String>,
        /// Forget all results of tasks with `memo`, not only those that have expired
        #[arg(long, conflicts_with = "dry_run")]
        forget_results: bool,
        /// Only print what would be deleted
        #[arg(long)]
        dry_run: bool,
    },
    /// Print a script with which a shell completes waft's commands
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether it only prints what it reads, and so ends once its output is lost.
    pub(crate) const fn only_prints(&self) -> bool {
        match self {
            Self::Inspect { .. }
            | Self::Modules { command: None, .. }
            | Self::Keys(KeysCommand::List { .. } | KeysCommand::Show { .. })
            | Self::Check { .. }
            | Self::Rehearse(RehearseFlags { report: None, .. })
            | Self::Grants(GrantsCommand::Explain { .. })
            | Self::Graph { .. }
            | Self::List(_)
            | Self::Show { .. }
            | Self::Watch { .. }
            | Self::Events(_)
            | Self::Logs { .. }
            | Self::Workers { command: None, .. }
            | Self::Engines { .. }
            | Self::Queues { .. }
            | Self::Schedules(_)
            | Self::Permits { .. }
            | Self::Doctor { .. }
            | Self::Broker(BrokerCommand::Permissions(_))
            | Self::Quarantine(QuarantineCommand::List { .. })
            | Self::Token(TokenCommand::List { .. })
            | Self::Webhooks(WebhooksCommand::List { .. } | WebhooksCommand::Log { .. })
            | Self::Audit { .. }
            | Self::Completions { .. } => true,
            Self::New { .. }
            | Self::Push { .. }
            | Self::Modules { command: Some(_), .. }
            | Self::Keys(KeysCommand::Create { .. })
            | Self::Run { .. }
            | Self::Call { .. }
            | Self::Worker { .. }
            | Self::Serve { .. }
            | Self::Submit(_)
            // It sends commands to runs, too.
            | Self::Top(_)
            | Self::Cancel(_)
            | Self::Suspend(_)
            | Self::Resume(_)
            | Self::Retry(_)
            | Self::Skip { .. }
            | Self::Edit { .. }
            | Self::Notify { .. }
            | Self::Workers { command: Some(_), .. }
            | Self::Broker(BrokerCommand::Setup { .. })
            | Self::Quarantine(QuarantineCommand::Release { .. } | QuarantineCommand::Drop { .. })
            | Self::Token(TokenCommand::Create { .. } | TokenCommand::Revoke { .. })
            | Self::Webhooks(WebhooksCommand::Test { .. })
            | Self::Rehearse(RehearseFlags { report: Some(_), .. })
            | Self::Replay(_)
            | Self::Verify(_)
            | Self::Gc { .. } => false,
        }
    }

    /// Whether it ends in time even if a dependency such as a name server or a disk never answers.
    pub(crate) const fn abandons_blocked_threads(&self) -> bool {
        matches!(self, Self::Doctor { .. })
    }

    /// Whether it may drive runs or call guests in this process, and so uses several threads. A run command drives a run of
    /// `waft run` that no process drives.
    pub(crate) const fn executes_tasks(&self) -> bool {
        matches!(
            self,
            Self::Run { .. }
                | Self::Call { .. }
                | Self::Replay(_)
                | Self::Verify(_)
                | Self::Worker { .. }
                | Self::Serve { .. }
                | Self::Cancel(_)
                | Self::Suspend(_)
                | Self::Resume(_)
                | Self::Retry(_)
                | Self::Skip { .. }
                | Self::Notify { .. }
        )
    }

    /// Whether it draws on the whole terminal, where a log line would be in the way.
    pub(crate) const fn owns_terminal(&self) -> bool {
        matches!(self, Self::Top(_))
    }

    /// Whether it is a service, whose log a person watches.
    pub(crate) const fn is_service(&self) -> bool {
        matches!(self, Self::Worker { .. } | Self::Serve { .. })
    }
}

/// The format of a drawn flow.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Picture {
    Dot,
    Mermaid,
    Svg,
}
