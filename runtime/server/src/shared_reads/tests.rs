//! Tests how many reads requests cause.

use std::sync::atomic::AtomicU32;

use axum::{
    Router,
    body::{self, Body},
    http::{Request, StatusCode},
};
use futures::{FutureExt as _, future::join_all};
use logbook::{
    Append, AppendError, LoadError,
    intercepted::{AppendInterceptor, InterceptedLogbook},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::*;
use crate::{Dependencies, Token, auth::peer::Peer, server};

/// How long a read takes.
const READING: Duration = Duration::from_millis(100);

/// Something that is read. It counts the reads.
#[derive(Default)]
struct Content {
    reads: AtomicU32,
    value: AtomicU32,
}

impl Content {
    async fn read(&self) -> Result<Answered<u32>, Problem> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // The value is that of the beginning.
        let value = self.value.load(Ordering::Relaxed);
        sleep(READING).await;
        Ok(Ok(value))
    }

    fn count(&self) -> u32 {
        self.reads.load(Ordering::Relaxed)
    }
}

fn is_empty<Question, Answer>(shared: &SharedReads<Question, Answer>) -> bool {
    lock(&shared.0).is_empty()
}

#[tokio::test(start_paused = true)]
async fn two_hundred_pages_that_ask_at_once_cause_two_reads() {
    let (shared, content) = (SharedReads::default(), Content::default());
    let answers = join_all((0..200).map(|_| shared.get("run", content.read()))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 0));
    assert_eq!(content.count(), 2, "one began before the others arrived");
    assert!(is_empty(&shared), "nobody asks");
}

#[tokio::test(start_paused = true)]
async fn pages_that_ask_all_the_time_leave_most_of_it_to_others() {
    let (shared, content) = (SharedReads::default(), Content::default());
    let until = Instant::now() + 50 * READING;
    let page = async || {
        while Instant::now() < until {
            shared.get("run", content.read()).await.unwrap();
        }
    };
    join_all((0..200).map(|_| page())).await;
    let most = 50 / (1 + PAUSE_FACTOR) + 1;
    assert!((2..=most).contains(&content.count()), "{} reads", content.count());
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_never_older_than_its_request() {
    let (shared, content) = (SharedReads::default(), Content::default());
    let mut before = Box::pin(shared.get("run", content.read()));
    assert!(before.as_mut().now_or_never().is_none(), "it is being read");
    content.value.store(1, Ordering::Relaxed);
    let after = join_all((0..10).map(|_| shared.get("run", content.read())));
    let (before, after) = tokio::join!(before, after);
    assert_eq!(before.unwrap(), 0);
    assert!(after.into_iter().all(|answer| answer.unwrap() == 1), "the change was made before they arrived");
    assert_eq!(content.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_client_after_the_other_waits_for_no_pause() {
    let (shared, content, began_at) = (SharedReads::default(), Content::default(), Instant::now());
    for _ in 0..10 {
        shared.get("run", content.read()).await.unwrap();
    }
    // Time passes only while all wait.
    assert_eq!((content.count(), began_at.elapsed().as_millis() / READING.as_millis()), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn another_request_reads_when_the_first_one_has_left() {
    let (shared, content) = (SharedReads::default(), Content::default());
    let mut first = Box::pin(shared.get("run", content.read()));
    assert!(first.as_mut().now_or_never().is_none(), "it is being read");
    let mut second = Box::pin(shared.get("run", content.read()));
    assert!(second.as_mut().now_or_never().is_none(), "it waits");
    drop(first);
    assert_eq!((second.await.unwrap(), content.count()), (0, 2));
    assert!(is_empty(&shared));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_shared_unless_it_is_about_the_one_who_asks() {
    let (shared, reads) = (SharedReads::<_, u32>::default(), AtomicU32::new(0));
    let read = async |answered: Result<Answered<u32>, Problem>| {
        reads.fetch_add(1, Ordering::Relaxed);
        sleep(READING).await;
        answered
    };
    let no = || Problem::bad_request("no");
    let of_all = join_all((0..10).map(|_| shared.get("run", read(Ok(Err(no())))))).await;
    assert!(of_all.into_iter().all(|answer| answer.is_err()));
    assert_eq!(reads.swap(0, Ordering::Relaxed), 2);
    let of_each = join_all((0..10).map(|_| shared.get("run", read(Err(no()))))).await;
    assert!(of_each.into_iter().all(|answer| answer.is_err()));
    assert_eq!(reads.load(Ordering::Relaxed), 10);
}

#[tokio::test(start_paused = true)]
async fn different_questions_do_not_wait_for_each_other() {
    let (shared, content, began_at) = (SharedReads::default(), Content::default(), Instant::now());
    join_all((0..20).map(|run| shared.get(run, content.read()))).await;
    assert_eq!((content.count(), began_at.elapsed().as_millis() / READING.as_millis()), (20, 1));
}

/// Counts the reads of a logbook, each of which takes a while.
#[derive(Default)]
struct SlowReads(AtomicU32);

impl SlowReads {
    /// The number of reads since the last call.
    fn take_count(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[async_trait::async_trait]
impl AppendInterceptor for SlowReads {
    async fn before(&self, _appends: &[Append]) -> Result<(), AppendError> {
        Ok(())
    }

    async fn after(&self) -> Result<(), AppendError> {
        Ok(())
    }

    async fn before_load(&self) -> Result<(), LoadError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        sleep(READING).await;
        Ok(())
    }
}

/// A server with the run `r`, which waits. Its token is `secret`. The reads of its engine are not counted.
async fn started() -> (Router, Arc<SlowReads>) {
    let sandbox = sandbox::Sandbox::new(sandbox::Config::default()).unwrap();
    let (logbook, store) = (Arc::new(logbook::Memory::new()), Arc::new(store::Memory::new()));
    let mut dependencies = Dependencies::in_memory(logbook.clone(), store, sandbox).await.unwrap();
    let reads = Arc::new(SlowReads::default());
    dependencies.logbook = Arc::new(InterceptedLogbook::new(logbook, reads.clone()));
    let router = server::parts(dependencies, (Token::new("secret"), None), 10_000, CancellationToken::new()).router;
    let run = r#"{"run":"r","flow":"name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n"}"#;
    assert_eq!(send(&router, ("POST", "/v1/runs"), "secret", run).await.0, StatusCode::CREATED);
    (router, reads)
}

async fn send(router: &Router, (method, path): (&str, &str), token: &str, body: &str) -> (StatusCode, Vec<u8>) {
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
    let request = request.header("content-type", "application/json").extension(Arc::new(Peer::unconnected()));
    let response = router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status();
    (status, body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
}

async fn token(router: &Router, new: &str) -> String {
    let (_, created) = send(router, ("POST", "/v1/tokens"), "secret", new).await;
    serde_json::from_slice::<api::CreatedToken>(&created).unwrap().secret
}

/// The answers to a hundred requests for a path at the same time, of some senders in turn.
async fn ask_at_once(router: &Router, path: &str, tokens: &[String]) -> Vec<String> {
    let requests = (0..100).map(|number| send(router, ("GET", path), &tokens[number % tokens.len()], ""));
    let answers = join_all(requests).await;
    let body = |(status, body): (StatusCode, Vec<u8>)| {
        assert_eq!(status, StatusCode::OK, "{path}");
        String::from_utf8(body).unwrap()
    };
    answers.into_iter().map(body).collect()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_pages_read_as_much_as_two() {
    let (router, reads) = started().await;
    let tokens = [
        token(&router, r#"{"name":"ann","scopes":["read"]}"#).await,
        token(&router, r#"{"name":"bob","scopes":["read"]}"#).await,
    ];
    for path in ["/v1/runs?limit=50", "/v1/runs/r"] {
        reads.take_count();
        let (status, alone) = send(&router, ("GET", path), &tokens[0], "").await;
        let of_one = reads.take_count();
        assert!(status == StatusCode::OK && of_one > 0, "{path}: {of_one} reads");
        let answers = ask_at_once(&router, path, &tokens).await;
        assert!(answers.iter().all(|answer| answer.as_bytes() == alone), "{path}");
        assert_eq!(reads.take_count(), 2 * of_one, "{path}: one began before the others arrived");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_shares_no_list_with_others() {
    let (router, reads) = started().await;
    let ann = [token(&router, r#"{"name":"ann","scopes":["read"]}"#).await];
    let shop = [token(&router, r#"{"name":"shop","scopes":["read"],"namespace":"shop"}"#).await];
    reads.take_count();
    let path = "/v1/runs?limit=50";
    let (all, of_shop) = tokio::join!(ask_at_once(&router, path, &ann), ask_at_once(&router, path, &shop));
    assert!(all.iter().all(|answer| answer.contains(r#""run":"r""#)), "{all:?}");
    assert!(of_shop.iter().all(|answer| answer.contains(r#""runs":[]"#)), "{of_shop:?}");
    assert_eq!(reads.take_count(), 4, "two for each");
}
