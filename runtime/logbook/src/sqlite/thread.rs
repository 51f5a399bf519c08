//! Threads that each own a connection, and their request queues.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    append::{self, AppendRequest},
    failure::Failure,
    write_ahead_log::WriteAheadLog,
};
use crate::{AppendOutcome, OpenError, row::AppendRow};

/// The maximum number of waiting requests, and so of appends per commit. It is large enough that a slow disk serves many
/// with one commit, and small enough that a transaction takes milliseconds. Later callers wait until the queue has room.
const QUEUE_CAPACITY: usize = 64;

/// The number of instructions of SQLite's machine between two looks at the clock and at the caller: they take about a millisecond.
const INSTRUCTIONS_PER_LOOK: i32 = 100_000;

enum ThreadJob {
    Append(AppendRequest),
    Other(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// A handle to one or several threads that each own a connection and take their work from one queue. Dropping the last clone ends each
/// thread after its current request.
#[derive(Clone)]
pub(super) struct ConnectionThreads {
    jobs: mpsc::Sender<ThreadJob>,
    /// The time limit for a read.
    limit: Option<Duration>,
    /// The log that a read empties before it begins, if it is large.
    log: Option<Arc<WriteAheadLog>>,
}

impl ConnectionThreads {
    /// Starts a thread that opens its own connection.
    pub(super) async fn start<Open>(name: &str, open: Open) -> Result<Self, OpenError>
    where
        Open: FnOnce() -> Result<Connection, OpenError> + Send + 'static,
    {
        let (jobs_tx, jobs_rx) = mpsc::channel(QUEUE_CAPACITY);
        start_one(name, open, Arc::new(Mutex::new(jobs_rx)), QUEUE_CAPACITY).await?;
        Ok(Self { jobs: jobs_tx, limit: None, log: None })
    }

    /// Starts threads that each open a connection to read. They do as many requests at the same time.
    pub(super) async fn start_readers<Open>(name: &str, threads: usize, open: Open) -> Result<Self, OpenError>
    where
        Open: FnOnce() -> Result<Connection, OpenError> + Clone + Send + 'static,
    {
        let (jobs_tx, jobs_rx) = mpsc::channel(QUEUE_CAPACITY);
        let jobs = Arc::new(Mutex::new(jobs_rx));
        for _ in 0..threads {
            // Each takes one request: a second one would wait for the first while another thread has nothing to do.
            start_one(name, open.clone(), jobs.clone(), 1).await?;
        }
        Ok(Self { jobs: jobs_tx, limit: None, log: None })
    }

    /// A handle whose reads fail if they take longer.
    pub(super) fn limited(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// A handle whose reads keep the write-ahead log from growing. They are not to be those of an engine, since they may wait for each other.
    pub(super) fn emptying(self, log: WriteAheadLog) -> Self {
        Self { log: Some(Arc::new(log)), ..self }
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

    /// Reads on a connection within the time limit. If the caller drops its future, the work does not begin, or SQLite interrupts it.
    pub(super) async fn read<Answer, Work>(&self, work: Work) -> Result<Answer, Failure>
    where
        Answer: Send + 'static,
        Work: FnOnce(&mut Connection) -> rusqlite::Result<Answer> + Send + 'static,
    {
        let (answer_tx, answer_rx) = oneshot::channel();
        let (limit, log) = (self.limit, self.log.clone());
        // It lives as long as the future of the caller.
        let caller = Arc::new(());
        let is_awaited = Arc::downgrade(&caller);
        let job = move |connection: &mut Connection| {
            if is_awaited.strong_count() > 0 {
                let _reading = log.as_ref().map(|log| log.begin_read(connection));
                // The caller may have dropped its future meanwhile.
                let _ = answer_tx.send(within(limit, is_awaited, connection, work));
            }
        };
        self.send(ThreadJob::Other(Box::new(job))).await?;
        let answer = answer_rx.await;
        drop(caller);
        Ok(answer.map_err(|_| ended())??)
    }

    async fn send(&self, job: ThreadJob) -> Result<(), Failure> {
        self.jobs.send(job).await.map_err(|_| ended())
    }
}

/// Does work that SQLite interrupts once it takes too long, or nobody awaits it any more.
fn within<Answer>(
    limit: Option<Duration>,
    is_awaited: Weak<()>,
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<Answer>,
) -> rusqlite::Result<Answer> {
    let started_at = Instant::now();
    let is_over = move || is_awaited.strong_count() == 0 || limit.is_some_and(|limit| started_at.elapsed() >= limit);
    connection.progress_handler(INSTRUCTIONS_PER_LOOK, Some(is_over))?;
    let answer = work(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    answer
}

/// The error for a thread that ended while its handle exists, which only a bug can cause.
fn ended() -> Failure {
    Failure::Unavailable("the thread that owns its connection has ended".to_owned())
}

/// Starts a thread that opens a connection, and does up to so many waiting requests together.
async fn start_one<Open>(
    name: &str,
    open: Open,
    jobs: Arc<Mutex<mpsc::Receiver<ThreadJob>>>,
    together: usize,
) -> Result<(), OpenError>
where
    Open: FnOnce() -> Result<Connection, OpenError> + Send + 'static,
{
    let (opened_tx, opened_rx) = oneshot::channel();
    let body = move || match open() {
        Ok(connection) => {
            // If the opener was dropped, the queue is closed too, and `serve` ends at once.
            let _ = opened_tx.send(Ok(()));
            serve(connection, &jobs, together);
        }
        Err(error) => {
            let _ = opened_tx.send(Err(error));
        }
    };
    let unavailable = |reason: String| OpenError::Unavailable { location: name.to_owned(), reason };
    let spawned = thread::Builder::new().name("waft-logbook".to_owned()).spawn(body);
    spawned.map_err(|error| unavailable(format!("no thread could be started: {error}")))?;
    opened_rx.await.map_err(|_| unavailable("its thread has ended".to_owned()))?
}

fn serve(mut connection: Connection, jobs: &Mutex<mpsc::Receiver<ThreadJob>>, together: usize) {
    let mut received = Vec::with_capacity(together);
    // A thread that waits for requests has the lock. The others wait for the lock meanwhile.
    while jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv_many(&mut received, together) > 0 {
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
