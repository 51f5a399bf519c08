//! The memory for the bodies of requests.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};

use super::*;

/// The maximum request size of the servers here, in bytes. A sender has memory for four such requests, and a server for eight.
const LARGE: usize = 1 << 20;

async fn started(logbook: Arc<dyn Logbook>) -> Harness {
    let config = Config { max_request_bytes: LARGE as u64, ..config(None) };
    Harness::over(config, dependencies_over(logbook).await).await
}

async fn token(harness: &Harness, name: &str) -> String {
    let new = NewToken { name: name.into(), scopes: vec![Scope::Submit], namespace: None, expires_in: None };
    harness.client().create_token(&new).await.unwrap().secret
}

/// Sends the head of a submission.
async fn begin(harness: &Harness, token: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         {headers}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Sends the head of a large submission, whose body is to follow when the server asks for it.
async fn begin_large(harness: &Harness, token: &str) -> TcpStream {
    begin(harness, token, &format!("expect: 100-continue\r\ncontent-length: {LARGE}")).await
}

/// The head of the next answer.
async fn answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

const ASKED: &str = "HTTP/1.1 100 Continue\r\n\r\n";

fn assert_busy(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn large_bodies_are_limited_and_leave_memory_for_others_and_for_small_ones() {
    let harness = started(Arc::new(Memory::new())).await;
    let [greedy, other, third] = ["greedy", "other", "third"].map(|name| token(&harness, name));
    let (greedy, other, third) = (greedy.await, other.await, third.await);
    let mut reading = Vec::new();
    for token in [&greedy, &greedy, &greedy, &greedy] {
        reading.push(begin_large(&harness, token).await);
        assert_eq!(answer(reading.last_mut().unwrap()).await, ASKED);
    }
    assert_busy(&answer(&mut begin_large(&harness, &greedy).await).await);
    // A small body is invalid JSON here; one whose size is not known is small until it is not.
    let mut small = begin(&harness, &greedy, "content-length: 2").await;
    small.write_all(b"{}").await.unwrap();
    assert!(answer(&mut small).await.starts_with("HTTP/1.1 400"));
    let mut chunked = begin(&harness, &greedy, "transfer-encoding: chunked").await;
    chunked.write_all(b"2\r\n{}\r\n0\r\n\r\n").await.unwrap();
    assert!(answer(&mut chunked).await.starts_with("HTTP/1.1 400"));
    let mut chunked = begin(&harness, &greedy, "transfer-encoding: chunked").await;
    chunked.write_all(format!("{:x}\r\n{}\r\n", 70_000, " ".repeat(70_000)).as_bytes()).await.unwrap();
    assert_busy(&answer(&mut chunked).await);
    let mut of_other = Vec::new();
    for token in [&other, &other, &other, &other] {
        of_other.push(begin_large(&harness, token).await);
        assert_eq!(answer(of_other.last_mut().unwrap()).await, ASKED);
    }
    assert_busy(&answer(&mut begin_large(&harness, &third).await).await);
    // A client that leaves before its body has arrived gives its memory back.
    reading.pop();
    while answer(&mut begin_large(&harness, &third).await).await != ASKED {}
}

/// Appends wait until the test lets them pass.
struct Waits {
    arrived: Arc<Semaphore>,
    pass: Arc<Semaphore>,
}

#[async_trait]
impl AppendInterceptor for Waits {
    async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
        self.arrived.add_permits(1);
        self.pass.acquire().await.unwrap().forget();
        Ok(())
    }

    async fn after(&self) -> Result<(), AppendError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_request_whose_client_has_left_has_its_memory_until_it_ends() {
    let (arrived, pass) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let waits = Waits { arrived: arrived.clone(), pass: pass.clone() };
    let logbook = Arc::new(InterceptedLogbook::new(Arc::new(Memory::new()), Arc::new(waits)));
    let harness = started(logbook).await;
    let secret = token(&harness, "leaver").await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(begin_large(&harness, &secret).await);
        assert_eq!(answer(others.last_mut().unwrap()).await, ASKED);
    }
    let submission = format!(r#"{{"run":"r","flow":{}}}"#, serde_json::to_string(WAITS).unwrap());
    let mut leaver = begin_large(&harness, &secret).await;
    assert_eq!(answer(&mut leaver).await, ASKED);
    leaver.write_all((submission.clone() + &" ".repeat(LARGE - submission.len())).as_bytes()).await.unwrap();
    arrived.acquire().await.unwrap().forget();
    drop(leaver);
    // The client has left by now, and its request is still in progress.
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        assert_busy(&answer(&mut begin_large(&harness, &secret).await).await);
    }
    pass.add_permits(Semaphore::MAX_PERMITS);
    while answer(&mut begin_large(&harness, &secret).await).await != ASKED {}
    let run = harness.client().run("r").await.unwrap();
    assert_eq!(run.state, RunState::Running, "a request is completed although its client has left");
}
