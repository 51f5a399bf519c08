//! The threads that own a connection each, and their queues.

use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{append, failure::Failure};
use crate::{AppendOutcome, OpenError, row::AppendRow};

/// How many requests wait at most, which is also how many appends share one commit: enough that a slow disk is asked once
/// for many, and few enough that a transaction stays in the milliseconds. Whoever comes later waits for a place.
const QUEUE_CAPACITY: usize = 64;

/// The appends of one caller, who waits for the answer.
pub(super) struct AppendRequest {
    pub(super) rows: Vec<AppendRow>,
    pub(super) answer: oneshot::Sender<Result<Vec<AppendOutcome>, Failure>>,
}

enum ThreadJob {
    Append(AppendRequest),
    Other(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// A handle to a thread that owns a connection. The thread ends after what it has begun when the handle is dropped.
pub(super) struct ConnectionThread {
    jobs: mpsc::Sender<ThreadJob>,
}

impl ConnectionThread {
    /// Starts a thread with a connection that is opened on it.
    pub(super) async fn start<Open>(name: &str, open: Open) -> Result<Self, OpenError>
    where
        Open: FnOnce() -> Result<Connection, OpenError> + Send + 'static,
    {
        let (jobs, waiting) = mpsc::channel(QUEUE_CAPACITY);
        let (opened_tx, opened_rx) = oneshot::channel();
        let body = move || match open() {
            Ok(connection) => {
                // Whoever opened it has gone: the queue is closed as well, and serving ends at once.
                let _ = opened_tx.send(Ok(()));
                serve(connection, waiting);
            }
            Err(error) => {
                let _ = opened_tx.send(Err(error));
            }
        };
        let unavailable = |reason: String| OpenError::Unavailable { place: name.to_owned(), reason };
        let spawned = thread::Builder::new().name("waft-logbook".to_owned()).spawn(body);
        spawned.map_err(|error| unavailable(format!("no thread could be started: {error}")))?;
        opened_rx.await.map_err(|_| unavailable("its thread has ended".to_owned()))??;
        Ok(Self { jobs })
    }

    /// Appends in one transaction with whatever else waits.
    pub(super) async fn append(&self, rows: Vec<AppendRow>) -> Result<Vec<AppendOutcome>, Failure> {
        let (answer, answered) = oneshot::channel();
        self.send(ThreadJob::Append(AppendRequest { rows, answer })).await?;
        answered.await.map_err(|_| ended())?
    }

    /// Does something else with the connection.
    pub(super) async fn run<Answer, Work>(&self, work: Work) -> Result<Answer, Failure>
    where
        Answer: Send + 'static,
        Work: FnOnce(&mut Connection) -> rusqlite::Result<Answer> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = move |connection: &mut Connection| {
            // The caller may have gone; what was asked for is done all the same.
            let _ = answer.send(work(connection));
        };
        self.send(ThreadJob::Other(Box::new(job))).await?;
        Ok(answered.await.map_err(|_| ended())??)
    }

    async fn send(&self, job: ThreadJob) -> Result<(), Failure> {
        self.jobs.send(job).await.map_err(|_| ended())
    }
}

/// Only a bug ends the thread while there is a handle to it.
fn ended() -> Failure {
    Failure::Unavailable("the thread that owns its connection has ended".to_owned())
}

fn serve(mut connection: Connection, mut jobs: mpsc::Receiver<ThreadJob>) {
    let mut waiting = Vec::with_capacity(QUEUE_CAPACITY);
    while jobs.blocking_recv_many(&mut waiting, QUEUE_CAPACITY) > 0 {
        // None of those that wait has seen an answer, so their order among each other is free.
        let mut requests = Vec::new();
        let mut others = Vec::new();
        for job in waiting.drain(..) {
            match job {
                ThreadJob::Append(request) => requests.push(request),
                ThreadJob::Other(work) => others.push(work),
            }
        }
        append::append(&mut connection, requests);
        for work in others {
            work(&mut connection);
        }
    }
}
