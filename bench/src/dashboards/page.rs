//! What an open page of the dashboard asks of its server, without a browser: `dashboard/src/screens/runs.tsx`,
//! `dashboard/src/screens/run/use-run.ts`, `dashboard/src/ui/hooks.ts` and `dashboard/src/api/stream.ts` have the same requests and pauses.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// The list without a filter.
const LIST: &str = "/v1/runs?limit=50";

/// The pause between two requests for the list.
pub(super) const LIST_INTERVAL: Duration = Duration::from_secs(3);

/// The pause between two requests for a run without events.
pub(super) const RUN_INTERVAL: Duration = Duration::from_secs(5);

/// The same for a run that has ended.
const ENDED_INTERVAL: Duration = Duration::from_secs(15);

/// The pause between an event and the request that shows the rest.
const AFTER_EVENT: Duration = Duration::from_millis(600);

/// What stands before the state of a run in an answer. The first one is that of the run, the others are those of its tasks.
const STATE: &str = r#""state":""#;

/// The states in which a run has ended.
const ENDED: [&str; 3] = ["success\"", "failure\"", "rolled-back\""];

/// The bytes of an answer that have the state of the run.
const BEGINNING: usize = 1 << 10;

/// The field of an event that a comment lacks.
const DATA: &[u8] = b"data:";

/// The end of a stream.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A server, and somebody who may read there.
#[derive(Clone)]
pub(super) struct Reader {
    /// Host and port.
    pub(super) address: String,
    pub(super) token: String,
}

impl Reader {
    async fn connect(&self) -> anyhow::Result<TcpStream> {
        TcpStream::connect(&self.address).await.with_context(|| format!("could not connect to {}", self.address))
    }

    fn request(&self, path: &str, accept: &str) -> String {
        let Self { address, token } = self;
        format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\naccept: {accept}\r\n\
             cache-control: no-cache\r\n\r\n"
        )
    }
}

/// The connection for the requests of a page, one after the other.
struct Connection<'a> {
    reader: &'a Reader,
    stream: Option<TcpStream>,
}

impl<'a> Connection<'a> {
    fn new(reader: &'a Reader) -> Self {
        Self { reader, stream: None }
    }

    /// The body of an answer.
    async fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = self.reader.request(path, "*/*");
        if let Some(mut stream) = self.stream.take() {
            // A server may have closed a connection without a request. A browser opens another one.
            if let Ok(body) = exchange(&mut stream, &request).await {
                self.stream = Some(stream);
                return Ok(body);
            }
        }
        let mut stream = self.reader.connect().await?;
        let body = exchange(&mut stream, &request).await.with_context(|| format!("could not read {path}"))?;
        self.stream = Some(stream);
        Ok(body)
    }
}

/// Sends a request, and reads the body of its answer.
async fn exchange(stream: &mut TcpStream, request: &str) -> anyhow::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(16 << 10);
    let head_length = loop {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the server has closed the connection");
        if let Some(length) = head_length(&answer) {
            break length;
        }
    };
    let head = String::from_utf8_lossy(&answer[..head_length]).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "the server refuses a page: {}", String::from_utf8_lossy(&answer));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("the answer has no length")?.trim().parse()?;
    let received = answer.len();
    ensure!(received <= head_length + length, "the answer is longer than its head says");
    answer.resize(head_length + length, 0);
    stream.read_exact(&mut answer[received..]).await?;
    Ok(answer.split_off(head_length))
}

/// The length of the head of an answer, if it is complete.
fn head_length(answer: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    answer.windows(END.len()).position(|bytes| bytes == END).map(|start| start + END.len())
}

/// Whether the newest run of the list is this one.
pub(super) async fn is_newest(reader: &Reader, run: &str) -> anyhow::Result<bool> {
    let body = Connection::new(reader).get("/v1/runs?limit=1").await?;
    Ok(String::from_utf8_lossy(&body).contains(&format!("\"{run}\"")))
}

/// Shows the list of runs until the future is dropped. Calls `opened` once the first answer is there.
pub(super) async fn show_list(reader: &Reader, opened: impl Fn()) -> anyhow::Result<()> {
    let mut connection = Connection::new(reader);
    loop {
        let asked_at = Instant::now();
        connection.get(LIST).await?;
        opened();
        // The page pauses at least as long as an answer took.
        sleep(LIST_INTERVAL.max(asked_at.elapsed())).await;
    }
}

/// Shows a run until the future is dropped. Calls `opened` after each answer.
pub(super) async fn show_run(reader: &Reader, run: &str, opened: impl Fn()) -> anyhow::Result<()> {
    let path = format!("/v1/runs/{run}");
    let (events, received) = watch::channel(());
    tokio::try_join!(follow_events(reader, &path, events), read_run(reader, &path, received, opened))?;
    Ok(())
}

/// Reads the events of a run, until they end.
async fn follow_events(reader: &Reader, run_path: &str, events: watch::Sender<()>) -> anyhow::Result<()> {
    let mut stream = reader.connect().await?;
    stream.write_all(reader.request(&format!("{run_path}/events"), "text/event-stream").as_bytes()).await?;
    let mut buffer = vec![0; 16 << 10];
    let mut is_first = true;
    loop {
        let count = stream.read(&mut buffer).await?;
        let piece = &buffer[..count];
        if is_first {
            ensure!(
                piece.starts_with(b"HTTP/1.1 200"),
                "the server refuses an event stream: {}",
                String::from_utf8_lossy(piece)
            );
            is_first = false;
        }
        if piece.windows(DATA.len()).any(|bytes| bytes == DATA) {
            events.send_replace(());
        }
        if count == 0 || piece.ends_with(LAST_CHUNK) {
            return Ok(());
        }
    }
}

/// Reads the graph of a run once, and the run again and again.
async fn read_run(
    reader: &Reader,
    run_path: &str,
    mut events: watch::Receiver<()>,
    opened: impl Fn(),
) -> anyhow::Result<()> {
    let mut connection = Connection::new(reader);
    connection.get(&format!("{run_path}/graph")).await?;
    let mut is_followed = true;
    loop {
        // The answer shows the events so far.
        events.mark_unchanged();
        let asked_at = Instant::now();
        let run = connection.get(run_path).await?;
        opened();
        let interval = if has_ended(&run)? { ENDED_INTERVAL } else { RUN_INTERVAL };
        let (now, took) = (Instant::now(), asked_at.elapsed());
        tokio::select! {
            () = sleep_until(now + interval.max(took)) => {}
            event = events.changed(), if is_followed => {
                match event {
                    Ok(()) => sleep(AFTER_EVENT).await,
                    // At the end of the stream, the page reads the run at once.
                    Err(_) => is_followed = false,
                }
                sleep_until(now + took).await;
            }
        }
    }
}

/// Whether a run has ended, by the JSON that shows it.
fn has_ended(run: &[u8]) -> anyhow::Result<bool> {
    let beginning = String::from_utf8_lossy(&run[..run.len().min(BEGINNING)]);
    let (_, state) = beginning.split_once(STATE).context("a run has a state")?;
    Ok(ENDED.iter().any(|ended| state.starts_with(ended)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_run_is_not_that_of_its_tasks() {
        let shown = |state: &str, task: &str| {
            format!(r#"{{"run":"r","flow":"f","state":"{state}","tasks":[{{"name":"t","state":"{task}"}}]}}"#)
        };
        assert!(!has_ended(shown("running", "success").as_bytes()).unwrap());
        assert!(has_ended(shown("rolled-back", "running").as_bytes()).unwrap());
        assert!(has_ended(b"{}").is_err());
    }

    #[test]
    fn the_head_of_an_answer_ends_with_an_empty_line() {
        assert_eq!(head_length(b"HTTP/1.1 200 OK\r\n\r\n{}"), Some(19));
        assert_eq!(head_length(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
