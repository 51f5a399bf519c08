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
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures::{FutureExt as _, future::join_all};
    use tokio::time::sleep;

    use super::*;

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
}
