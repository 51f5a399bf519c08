//! The host's own work for a call that may take long, such as parsing its outputs: a thread of the runtime that did it would serve no
//! timer, no interrupt and no other call meanwhile.

use tokio::{sync::Semaphore, task::JoinError};

use crate::run::Watchdog;

/// The maximum number of bytes that a thread of the runtime parses: this takes less than a millisecond.
const MAX_INLINE_BYTES: usize = 64 << 10;

/// The maximum number of bytes that a parser parses without a place: this takes some milliseconds.
const MAX_BYTES_WITHOUT_PLACE: usize = 1 << 20;

/// The maximum number of places of a process. A parser goes on, and keeps its place and its memory, when its call was stopped.
const MAX_PARSERS: usize = 4;

static PLACES: Semaphore = Semaphore::const_new(MAX_PARSERS);

/// Parses this many bytes, in a thread of its own if they are many. Few parse at once: others wait for a place. Dropping the future does not
/// end the parser.
///
/// # Errors
/// When the parser panics.
pub async fn parsed<T: Send + 'static>(
    bytes: usize,
    parse: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if bytes <= MAX_INLINE_BYTES {
        return Ok(parse());
    }
    let place = match bytes <= MAX_BYTES_WITHOUT_PLACE {
        true => None,
        // It is never closed.
        false => PLACES.acquire().await.ok(),
    };
    let parsing = move || {
        let _place = place;
        parse()
    };
    tokio::task::spawn_blocking(parsing).await
}

impl Watchdog {
    /// Parses this many bytes for the guest as [`parsed`] does, so that the guest can be stopped meanwhile. The call computes, and
    /// keeps its slot. A process without further threads parses here: its parent ends it.
    ///
    /// # Errors
    /// When the parser panics.
    pub(crate) async fn parse<T: Send + 'static>(
        &self,
        bytes: usize,
        parse: impl FnOnce() -> T + Send + 'static,
    ) -> wasmtime::Result<T> {
        if !self.has_threads() {
            return Ok(parse());
        }
        Ok(self.yielding().clone().until(parsed(bytes, parse)).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::run::StopReason;

    fn watch(interrupt: CancellationToken) -> Watchdog {
        Watchdog::start(Duration::from_secs(600), [interrupt, CancellationToken::new()])
    }

    #[tokio::test]
    async fn other_tasks_of_the_thread_run_while_much_is_parsed() {
        let watch = watch(CancellationToken::new());
        let (tx, rx) = mpsc::channel();
        // The runtime has one thread: a parser on it would wait for ever.
        let parsing = watch.parse(MAX_INLINE_BYTES + 1, move || rx.recv().unwrap());
        let other = async {
            assert!(watch.yielding().is_set(), "the call computes, and keeps its slot");
            tx.send(7).unwrap();
        };
        assert_eq!(tokio::join!(parsing, other).0.unwrap(), 7);
        assert!(!watch.yielding().is_set());
    }

    #[tokio::test]
    async fn a_call_is_stopped_while_its_outputs_are_parsed() {
        let interrupt = CancellationToken::new();
        let watch = watch(interrupt.clone());
        let (tx, rx) = mpsc::channel::<()>();
        let parsing = watch.run(watch.parse(MAX_INLINE_BYTES + 1, move || rx.recv()));
        let stopping = async { interrupt.cancel() };
        let (stopped, ()) = tokio::join!(parsing, stopping);
        let reason = stopped.unwrap_err().downcast::<StopReason>().unwrap();
        assert_eq!(reason, StopReason::Interrupt);
        // The parser goes on until now.
        drop(tx);
    }

    #[tokio::test]
    async fn parsers_that_go_on_keep_their_places() {
        let watch = watch(CancellationToken::new());
        let mut ends = Vec::new();
        for _ in 0..MAX_PARSERS {
            let (tx, rx) = mpsc::channel::<()>();
            let (started, has_started) = tokio::sync::oneshot::channel();
            let parser = watch.parse(MAX_BYTES_WITHOUT_PLACE + 1, move || {
                started.send(()).unwrap();
                rx.recv()
            });
            tokio::select! {
                _ = parser => panic!("nobody has ended it"),
                started = has_started => started.unwrap(),
            }
            ends.push(tx);
        }
        let next = watch.parse(MAX_BYTES_WITHOUT_PLACE + 1, || ());
        let small = async {
            watch.parse(MAX_BYTES_WITHOUT_PLACE, || ()).await.unwrap();
            // The places are all taken until here.
            assert_eq!(PLACES.available_permits(), 0);
            ends.clear();
        };
        let (next, ()) = tokio::join!(next, small);
        next.unwrap();
    }

    #[tokio::test]
    async fn little_is_parsed_at_once_and_a_child_has_no_other_thread() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        let watch = watch(CancellationToken::new());
        assert_eq!(watch.parse(MAX_INLINE_BYTES, thread).await.unwrap(), here);
        assert_ne!(watch.parse(MAX_INLINE_BYTES + 1, thread).await.unwrap(), here);
        assert_eq!(watch.without_threads().parse(MAX_INLINE_BYTES + 1, thread).await.unwrap(), here);
    }
}
