//! What the dashboard asks a server, and the answers.

use api::{
    BulkAction, DrainOptions, Elements, ElementsQuery, Engines, GraphQuery, JobQueues, ListQuery, Permits,
    PermitsQuery, QueuesQuery, Run, RunCounts, RunFilter, RunGraph, RunStateResponse, Runs, SkipRollback, Timeline,
    TimelineQuery, WorkerStateResponse, Workers,
};
use client::{Client, ClientError};

use super::model::Failure;

/// A question to the server. The answer has its number.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) serial: u64,
    pub(crate) about: About,
}

/// What a question is about.
#[derive(Debug, Clone)]
pub(crate) enum About {
    Runs(ListQuery),
    Counts(RunFilter),
    Run(String),
    Graph(String),
    Timeline(String, TimelineQuery),
    Elements(String, String, ElementsQuery),
    Workers,
    Engines,
    Queues(QueuesQuery),
    Permits(PermitsQuery),
    Command(Command),
}

/// A command that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// A command to a run.
    Run { run: String, action: BulkAction },
    /// Marks a failed rollback as done.
    Skip { run: String, task: String, reason: String },
    /// Lets a worker take no new jobs.
    Drain { worker: String },
    /// Lets a drained worker take jobs again.
    Activate { worker: String },
}

impl Command {
    /// The run or the worker that it is for.
    pub(crate) fn target(&self) -> &str {
        match self {
            Self::Run { run, .. } | Self::Skip { run, .. } => run,
            Self::Drain { worker } | Self::Activate { worker } => worker,
        }
    }
}

/// The answer to a question.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) serial: u64,
    pub(crate) answer: Answer,
}

/// The content of an answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Runs(Result<Runs, Failure>),
    Counts(Result<RunCounts, Failure>),
    Run(String, Result<Box<Run>, Failure>),
    Graph(String, Result<Box<RunGraph>, Failure>),
    Timeline(String, Result<Timeline, Failure>),
    Elements(String, String, Result<Elements, Failure>),
    Workers(Result<Workers, Failure>),
    Engines(Result<Engines, Failure>),
    Queues(Result<JobQueues, Failure>),
    Permits(Result<Permits, Failure>),
    /// What a command did, for people.
    Command(Command, Result<String, Failure>),
}

impl Answer {
    /// Why the request failed, if it did.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Runs(result) => result.as_ref().err(),
            Self::Counts(result) => result.as_ref().err(),
            Self::Run(_, result) => result.as_ref().err(),
            Self::Graph(_, result) => result.as_ref().err(),
            Self::Timeline(_, result) => result.as_ref().err(),
            Self::Elements(_, _, result) => result.as_ref().err(),
            Self::Workers(result) => result.as_ref().err(),
            Self::Engines(result) => result.as_ref().err(),
            Self::Queues(result) => result.as_ref().err(),
            Self::Permits(result) => result.as_ref().err(),
            Self::Command(_, result) => result.as_ref().err(),
        }
    }
}

/// Asks the server. Dropping the future is safe; a command may or may not have taken effect.
pub(crate) async fn ask(client: Client, Question { serial, about }: Question) -> Answered {
    let answer = match about {
        About::Runs(query) => Answer::Runs(client.list(&query).await.map_err(Failure::from)),
        About::Counts(filter) => Answer::Counts(client.counts(&filter).await.map_err(Failure::from)),
        About::Run(run) => {
            let shown = client.run(&run).await.map(Box::new).map_err(Failure::from);
            Answer::Run(run, shown)
        }
        About::Graph(run) => {
            let graph = client.graph(&run, &GraphQuery::default()).await.map(Box::new).map_err(Failure::from);
            Answer::Graph(run, graph)
        }
        About::Timeline(run, query) => {
            let timeline = client.timeline(&run, &query).await.map_err(Failure::from);
            Answer::Timeline(run, timeline)
        }
        About::Elements(run, task, query) => {
            let elements = client.elements(&run, &task, &query).await.map_err(Failure::from);
            Answer::Elements(run, task, elements)
        }
        About::Workers => Answer::Workers(client.workers().await.map_err(Failure::from)),
        About::Engines => Answer::Engines(client.engines().await.map_err(Failure::from)),
        About::Queues(query) => Answer::Queues(client.queues(&query).await.map_err(Failure::from)),
        About::Permits(query) => Answer::Permits(client.permits(&query).await.map_err(Failure::from)),
        About::Command(command) => {
            let done = send(&client, &command).await.map_err(Failure::from);
            Answer::Command(command, done)
        }
    };
    Answered { serial, answer }
}

/// Sends a command, and says what the server answered.
async fn send(client: &Client, command: &Command) -> Result<String, ClientError> {
    let of_run = |response: RunStateResponse| {
        let state = if response.cancelling { "cancelling" } else { response.state.as_str() };
        format!("{} is {state}", response.run)
    };
    let of_worker = |WorkerStateResponse { worker, state, busy }: WorkerStateResponse| {
        format!("{worker} is {state}, and makes {busy} calls")
    };
    Ok(match command {
        Command::Run { run, action: BulkAction::Cancel } => of_run(client.cancel(run).await?),
        Command::Run { run, action: BulkAction::Suspend } => of_run(client.suspend(run).await?),
        Command::Run { run, action: BulkAction::Resume } => of_run(client.resume(run).await?),
        Command::Run { run, action: BulkAction::Retry } => of_run(client.retry(run).await?),
        Command::Skip { run, task, reason } => of_run(client.skip(run, &SkipRollback::new(task, reason)).await?),
        Command::Drain { worker } => of_worker(client.drain_worker(worker, &DrainOptions::default()).await?),
        Command::Activate { worker } => of_worker(client.resume_worker(worker).await?),
    })
}
