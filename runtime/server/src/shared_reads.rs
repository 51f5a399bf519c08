//! Reads of the logbook that requests for the same share, such as those of many pages that show the same run.
//!
//! Unlike an answer of `shared_answers.rs`, the answer is never older than the request: a request shares only a read that begins after the
//! request has arrived. So a client that has changed something sees the change. The first request reads at once. The requests that arrive
//! meanwhile share the next read, which begins after a pause: a question that is asked all the time is read for a fifth of the time, or once in
//! a second if a read takes long.
//!
//! Nothing is in memory of a question that nobody asks, and each question in memory has a request in progress.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use crate::problem::Problem;

/// How many times as long as a read the pause after it takes, if somebody already waits for the next one.
const PAUSE_FACTOR: u32 = 4;

/// The maximum pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// An answer, or why there is none.
type Answered<Answer> = Result<Answer, Problem>;

/// Shared reads of one kind.
pub(crate) struct SharedReads<Question, Answer>(Mutex<BTreeMap<Question, Asked<Answer>>>);

/// A question that requests ask now.
struct Asked<Answer> {
    /// The number of requests.
    requests: usize,
    reads: Arc<Reads<Answer>>,
}

/// The reads for a question, one after the other.
struct Reads<Answer> {
    /// The number of reads that have begun. The numbers of reads begin at 1.
    begun: AtomicU64,
    /// One request reads at a time; the others get the turn in the order in which they arrived.
    turn: Semaphore,
    last: Mutex<Last<Answer>>,
}

/// The last read for a question.
struct Last<Answer> {
    /// Its number and its answer.
    answered: Option<(u64, Answered<Answer>)>,
    /// When the next read may begin.
    pause_ends: Option<Instant>,
}

/// A request for a question.
struct Asking<'a, Question: Ord, Answer> {
    all: &'a SharedReads<Question, Answer>,
    question: Question,
    reads: Arc<Reads<Answer>>,
}

impl<Question, Answer> Default for SharedReads<Question, Answer> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Question: Clone + Ord, Answer: Clone> SharedReads<Question, Answer> {
    /// The answer to a question: that of another request whose read begins from now on, or else that of `read`. Dropping the future is safe:
    /// then another request reads.
    ///
    /// # Errors
    /// Why there is no answer. `read` returns it inside: others get it too. An error that is only about the one who asks stands outside.
    pub(crate) async fn get(
        &self,
        question: Question,
        read: impl Future<Output = Result<Answered<Answer>, Problem>>,
    ) -> Answered<Answer> {
        let asking = self.ask(question);
        let reads = &*asking.reads;
        let begun_before = reads.begun.load(Ordering::SeqCst);
        let _turn = reads.turn.acquire().await.expect("nobody closes it");
        let pause_ends = {
            let last = lock(&reads.last);
            if let Some((number, answered)) = &last.answered
                && *number > begun_before
            {
                return answered.clone();
            }
            last.pause_ends
        };
        if let Some(pause_ends) = pause_ends {
            sleep_until(pause_ends).await;
        }
        let number = reads.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let began_at = Instant::now();
        let answered = read.await;
        let ended_at = Instant::now();
        let pause = ended_at.duration_since(began_at).saturating_mul(PAUSE_FACTOR).min(MAX_PAUSE);
        let mut last = lock(&reads.last);
        last.pause_ends = Some(ended_at + pause);
        let answered = answered?;
        last.answered = Some((number, answered.clone()));
        answered
    }

    fn ask(&self, question: Question) -> Asking<'_, Question, Answer> {
        let reads = {
            let mut all = lock(&self.0);
            let asked = all.entry(question.clone()).or_insert_with(Asked::new);
            asked.requests += 1;
            asked.reads.clone()
        };
        Asking { all: self, question, reads }
    }
}

impl<Answer> Asked<Answer> {
    fn new() -> Self {
        let last = Mutex::new(Last { answered: None, pause_ends: None });
        Self { requests: 0, reads: Arc::new(Reads { begun: AtomicU64::new(0), turn: Semaphore::new(1), last }) }
    }
}

impl<Question: Ord, Answer> Drop for Asking<'_, Question, Answer> {
    fn drop(&mut self) {
        let mut all = lock(&self.all.0);
        let Some(asked) = all.get_mut(&self.question) else { return };
        asked.requests -= 1;
        if asked.requests == 0 {
            all.remove(&self.question);
        }
    }
}

fn lock<Shared>(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Nothing between two changes panics.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
