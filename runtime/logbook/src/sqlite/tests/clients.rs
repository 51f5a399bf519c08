//! What reads of clients delay, and what ends them.

use std::sync::{Mutex, mpsc};

use tokio::{sync::oneshot, time::timeout};

use super::*;

/// How long a read that waits for nobody may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A query that only an interrupt ends.
const ENDLESS: &str = "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers)
    SELECT count(*) FROM numbers";

/// Occupies some of the threads for clients until the sender is dropped.
fn occupy(logbook: &Sqlite, threads: usize) -> (mpsc::Sender<()>, impl Future<Output = Vec<bool>> + use<>) {
    let (go_on, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let reads = (0..threads).map(|_| {
        let (clients, blocked) = (logbook.clients.reads.clone(), blocked.clone());
        // It reads until nobody can send any more.
        async move { clients.read(move |_| Ok(blocked.lock().unwrap().recv().is_err())).await.unwrap() }
    });
    (go_on, futures::future::join_all(reads.collect::<Vec<_>>()))
}

#[tokio::test]
async fn clients_delay_no_read_of_an_engine_and_what_they_left_is_not_read() {
    let folder = TempDir::new().unwrap();
    let engine = Arc::new(open(folder.path().join("logbook.db")).await);
    engine.append(vec![append("r", 0, [1])]).await.unwrap();
    let clients = engine.clone().for_clients();
    let (go_on, slow) = occupy(&engine, CLIENT_THREADS);
    let mut slow = Box::pin(slow);
    assert!(futures::poll!(&mut slow).is_pending());
    let run = RunId::new("r").unwrap();
    let (read, was_read) = mpsc::channel::<()>();
    let mut left = Box::pin(engine.clients.reads.read(move |_| {
        let _ = read.send(());
        Ok(())
    }));
    assert!(futures::poll!(&mut left).is_pending());
    let mut load = clients.load(&run);
    assert!(futures::poll!(&mut load).is_pending(), "it waits for other clients");
    assert_eq!(engine.load(&run).await.unwrap().version(), Version::new(1));
    drop(left);
    drop(go_on);
    assert_eq!(slow.await, [true; CLIENT_THREADS]);
    assert_eq!(load.await.unwrap().version(), Version::new(1));
    assert!(was_read.recv().is_err(), "its work was dropped");
}

#[tokio::test]
async fn slow_reads_of_clients_delay_no_token_and_no_summary_however_many_there_are() {
    let folder = TempDir::new().unwrap();
    let logbook = Arc::new(open(folder.path().join("logbook.db")).await);
    logbook.append(vec![append("r", 0, [1])]).await.unwrap();
    let clients = logbook.clone().for_clients();
    let (go_on, slow) = occupy(&logbook, 10 * CLIENT_THREADS);
    let mut slow = Box::pin(slow);
    assert!(futures::poll!(&mut slow).is_pending());
    let (hash, run) = (Digest::from_bytes([1; 32]), RunId::new("r").unwrap());
    let quick = async { (clients.token(&hash).await.unwrap(), clients.summary(&run).await.unwrap().version) };
    let quick = timeout(PATIENCE, quick).await;
    drop(go_on);
    assert_eq!(quick, Ok((None, Version::new(1))));
    assert_eq!(slow.await, [true; 10 * CLIENT_THREADS]);
}

/// Otherwise whoever hangs up and asks again occupies all threads.
#[tokio::test]
async fn a_read_that_nobody_awaits_any_more_is_interrupted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("logbook.db");
    drop(open(&path).await);
    let reader = ConnectionThreads::start("logbook.db", move || open_reader(&path)).await.unwrap();
    let (begins, begun) = oneshot::channel();
    let mut endless = Box::pin(reader.read(move |connection| {
        let _ = begins.send(());
        connection.query_row(ENDLESS, [], |row| row.get::<_, i64>(0))
    }));
    assert!(futures::poll!(&mut endless).is_pending());
    begun.await.unwrap();
    drop(endless);
    let read = reader.read(|connection| connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)));
    assert_eq!(timeout(PATIENCE, read).await, Ok(Ok(1)), "the one thread is free");
}

#[tokio::test]
async fn a_read_of_a_client_that_takes_long_ends_and_leaves_the_thread_to_others() {
    let folder = TempDir::new().unwrap();
    let logbook = open(folder.path().join("logbook.db")).await;
    let clients = logbook.clients.reads.clone().limited(Duration::from_millis(20));
    let failure = clients.read(|connection| connection.query_row(ENDLESS, [], |row| row.get::<_, i64>(0))).await;
    assert!(failure.unwrap_err().to_string().contains("took longer"));
    let read = clients.read(|connection| connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))).await;
    assert_eq!(read, Ok(1));
    assert!(logbook.list(&Filter::default()).await.unwrap().is_empty(), "an engine's reads have no limit");
}
