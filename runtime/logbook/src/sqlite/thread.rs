//! Threads that each own a connection, and their request queues.

use std::{
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    append::{self, AppendRequest},
    failure::Failure,
};
use crate::{AppendOutcome, OpenError, row::AppendRow};

/// The maximum number of waiting requests, and so of appends per commit. It is large enough that a slow disk serves many
/// with one commit, and small enough that a transaction takes milliseconds. Later callers wait until the queue has room.
const QUEUE_CAPACITY: usize = 64;

/// The number of instructions of SQLite's machine between two looks at the clock: they take about a millisecond.
const INSTRUCTIONS_PER_LOOK: i32 = 100_000;

enum ThreadJob {
    Append(AppendRequest),
    Other(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// A handle to a thread that owns a connection. Dropping the last clone ends the thread after its current request.
#[derive(Clone)]
pub(super) struct ConnectionThread {
    jobs: mpsc::Sender<ThreadJob>,
    /// The time limit for a read.
    limit: Option<Duration>,
}

impl ConnectionThread {
    /// Starts a thread that opens its own connection.
    pub(super) async fn start<Open>(name: &str, open: Open) -> Result<Self, OpenError>
    where
        Open: FnOnce() -> Result<Connection, OpenError> + Send + 'static,
    {
        let (jobs_tx, jobs_rx) = mpsc::channel(QUEUE_CAPACITY);
        let (opened_tx, opened_rx) = oneshot::channel();
        let body = move || match open() {
            Ok(connection) => {
                // If the opener was dropped, the queue is closed too, and `serve` ends at once.
                let _ = opened_tx.send(Ok(()));
                serve(connection, jobs_rx);
            }
            Err(error) => {
                let _ = opened_tx.send(Err(error));
            }
        };
        let unavailable = |reason: String| OpenError::Unavailable { location: name.to_owned(), reason };
        let spawned = thread::Builder::new().name("waft-logbook".to_owned()).spawn(body);
        spawned.map_err(|error| unavailable(format!("no thread could be started: {error}")))?;
        opened_rx.await.map_err(|_| unavailable("its thread has ended".to_owned()))??;
        Ok(Self { jobs: jobs_tx, limit: None })
    }

    /// A handle whose reads fail if they take longer.
    pub(super) fn limited(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Appends in one transaction with all other waiting appends.
    pub(super) async fn append(&self, rows: Vec<AppendRow>) -> Result<Vec<AppendOutcome>, Failure> {
        let (answer_tx, answer_rx) = oneshot::channel();
        self.send(ThreadJob::Append(AppendRequest { rows, answer: answer_tx })).await?;
        answer_rx.await.map_err(|_| ended())?
    }

    /// Runs other work on the connection.
    pub(super) async fn run<Answer, Work>(&self, work: Work) -> Result<Answer, Failure>
    where
        Answer: Send + 'static,
        Work: FnOnce(&mut Connection) -> rusqlite::Result<Answer> + Send + 'static,
    {
        let (answer_tx, answer_rx) = oneshot::channel();
        let job = move |connection: &mut Connection| {
            // The caller may have dropped its future; the work is done nevertheless.
            let _ = answer_tx.send(work(connection));
        };
        self.send(ThreadJob::Other(Box::new(job))).await?;
        Ok(answer_rx.await.map_err(|_| ended())??)
    }

    /// Reads on the connection within the time limit, unless the caller has dropped its future before it is its turn.
    pub(super) async fn read<Answer, Work>(&self, work: Work) -> Result<Answer, Failure>
    where
        Answer: Send + 'static,
        Work: FnOnce(&mut Connection) -> rusqlite::Result<Answer> + Send + 'static,
    {
        let (answer_tx, answer_rx) = oneshot::channel();
        let limit = self.limit;
        let job = move |connection: &mut Connection| {
            if !answer_tx.is_closed() {
                // The caller may have dropped its future meanwhile.
                let _ = answer_tx.send(within(limit, connection, work));
            }
        };
        self.send(ThreadJob::Other(Box::new(job))).await?;
        Ok(answer_rx.await.map_err(|_| ended())??)
    }

    async fn send(&self, job: ThreadJob) -> Result<(), Failure> {
        self.jobs.send(job).await.map_err(|_| ended())
    }
}

/// Does work that SQLite interrupts once it takes too long.
fn within<Answer>(
    limit: Option<Duration>,
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<Answer>,
) -> rusqlite::Result<Answer> {
    let Some(limit) = limit else { return work(connection) };
    let started_at = Instant::now();
    connection.progress_handler(INSTRUCTIONS_PER_LOOK, Some(move || started_at.elapsed() >= limit))?;
    let answer = work(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    answer
}

/// The error for a thread that ended while its handle exists, which only a bug can cause.
fn ended() -> Failure {
    Failure::Unavailable("the thread that owns its connection has ended".to_owned())
}

fn serve(mut connection: Connection, mut jobs: mpsc::Receiver<ThreadJob>) {
    let mut received = Vec::with_capacity(QUEUE_CAPACITY);
    while jobs.blocking_recv_many(&mut received, QUEUE_CAPACITY) > 0 {
        // None of the waiting callers has an answer yet, so any order among them is correct.
        let mut requests = Vec::new();
        let mut other_work = Vec::new();
        for job in received.drain(..) {
            match job {
                ThreadJob::Append(request) => requests.push(request),
                ThreadJob::Other(work) => other_work.push(work),
            }
        }
        append::append(&mut connection, requests);
        for work in other_work {
            work(&mut connection);
        }
    }
}
