//! Answers to questions that cost workers, engines or the broker something. Requests that ask the same within a second share one answer.
//!
//! A question that has begun goes on until its answer is there, and has its turn until then, also if its client leaves. So clients that open
//! and close connections cause no more questions than clients that wait. A turn lasts for a while even if the answer comes at once, so that
//! different questions are not asked as quickly as they are answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sandbox::{Owner, Permits};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;

use crate::{
    problem::Problem,
    turns::{self, Turn},
};

/// How long an answer is given again.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// The minimum time that a turn lasts. It is less than [`SHARED_FOR`], so an answer is given again for some time after its turn.
const MIN_TURN: Duration = Duration::from_millis(250);

/// The maximum number of answers that are in memory to be given again. The oldest one makes room.
const MAX_ANSWERS: usize = 8;

/// An answer, or why there is none.
type Answered<Answer> = Result<Answer, Problem>;

/// Answers to questions of one kind.
pub(crate) struct SharedAnswers<Question, Answer> {
    /// The requests that wait are not counted: each has a connection, and a sender has a share of those.
    turns: Permits,
    min_turn: Duration,
    asked: Arc<Mutex<Asked<Question, Answer>>>,
    tasks: TaskTracker,
}

/// The questions that are being asked, and those with an answer that is given again.
struct Asked<Question, Answer> {
    /// The number of the next question.
    next: u64,
    answers: BTreeMap<Question, Pending<Answer>>,
}

/// Receives an answer; `None` until it is there.
type Receiver<Answer> = watch::Receiver<Option<Answered<Answer>>>;

/// The answer to a question.
struct Pending<Answer> {
    number: u64,
    answer: Receiver<Answer>,
}

impl<Question, Answer> SharedAnswers<Question, Answer>
where
    Question: Clone + Ord + Send + 'static,
    Answer: Clone + Send + Sync + 'static,
{
    /// `max_at_once` questions are asked at the same time. An owner has at most all but one.
    pub(crate) fn new(max_at_once: usize) -> Self {
        let asked = Asked { next: 0, answers: BTreeMap::new() };
        let turns = Permits::new(max_at_once, usize::MAX);
        Self { turns, min_turn: MIN_TURN, asked: Arc::new(Mutex::new(asked)), tasks: TaskTracker::new() }
    }

    /// Lets the turns at these questions be as short as the answers are quick: for questions that each ask little.
    pub(crate) fn with_short_turns(self) -> Self {
        Self { min_turn: Duration::ZERO, ..self }
    }

    /// The answer to a question. It is asked by `asking`, when it is the turn of the owner, unless another request asks the same now, or has
    /// asked it within the last second. Dropping the future gives up the place in the queue, but does not end a question that has begun.
    /// The turns that `asking` waits for are of the owner.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn get(
        &self,
        question: Question,
        owner: Owner,
        asking: impl Future<Output = Answered<Answer>> + Send + 'static,
    ) -> Answered<Answer> {
        let known = self.lock().find(&question);
        let mut answer = match known {
            Some(answer) => answer,
            None => {
                let turn = self.turns.acquire(owner.clone()).await.expect("any number of questions may wait");
                // It is asked in a task of its own, which does not know the sender of the request.
                self.ask_once(question, turn, turns::of_sender(owner, asking))
            }
        };
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().expect("it was waited for"),
            Err(_) => Err(Problem::unavailable("the question was cut off").hint("try again")),
        }
    }

    /// The next request asks anew: something was changed that an answer may not show yet.
    pub(crate) fn forget(&self) {
        self.lock().answers.clear();
    }

    /// Asks a question, unless somebody else has asked it meanwhile.
    fn ask_once(
        &self,
        question: Question,
        turn: Turn,
        asking: impl Future<Output = Answered<Answer>> + Send + 'static,
    ) -> Receiver<Answer> {
        let (tx, answer) = watch::channel(None);
        let number = {
            let mut asked = self.lock();
            if let Some(known) = asked.find(&question) {
                return known;
            }
            asked.add(question.clone(), answer.clone())
        };
        let min_turn = self.min_turn;
        let shown = Shown { asked: self.asked.clone(), question, number };
        self.tasks.spawn(async move {
            // Dropped at the end, also if asking panics.
            let _shown = shown;
            let turn_ends = Instant::now() + min_turn;
            let answered = asking.await;
            tx.send_replace(Some(answered));
            // Only the answers that are shown, and the requests that send one, have it in memory.
            drop(tx);
            let shown_until = Instant::now() + SHARED_FOR;
            sleep_until(turn_ends).await;
            drop(turn);
            sleep_until(shown_until).await;
        });
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Asked<Question, Answer>> {
        lock(&self.asked)
    }
}

impl<Question: Clone + Ord, Answer> Asked<Question, Answer> {
    fn find(&self, question: &Question) -> Option<Receiver<Answer>> {
        // One that was cut off is asked again.
        let pending = self.answers.get(question).map(|pending| pending.answer.clone())?;
        let may_be_had = pending.borrow().is_some() || pending.has_changed().is_ok();
        may_be_had.then_some(pending)
    }

    /// Adds a question; returns its number.
    fn add(&mut self, question: Question, answer: Receiver<Answer>) -> u64 {
        if self.answers.len() >= MAX_ANSWERS {
            let answered = self.answers.iter().filter(|(_, pending)| pending.answer.borrow().is_some());
            let oldest = answered.min_by_key(|(_, pending)| pending.number).map(|(question, _)| question.clone());
            if let Some(oldest) = oldest {
                self.answers.remove(&oldest);
            }
        }
        let number = self.next;
        self.next += 1;
        self.answers.insert(question, Pending { number, answer });
        number
    }
}

/// An answer that is given again until this is dropped.
struct Shown<Question: Ord, Answer> {
    asked: Arc<Mutex<Asked<Question, Answer>>>,
    question: Question,
    number: u64,
}

impl<Question: Ord, Answer> Drop for Shown<Question, Answer> {
    fn drop(&mut self) {
        let mut asked = lock(&self.asked);
        // Another one may be there since this one was forgotten, or has made room.
        if asked.answers.get(&self.question).is_some_and(|pending| pending.number == self.number) {
            asked.answers.remove(&self.question);
        }
    }
}

fn lock<Question, Answer>(asked: &Mutex<Asked<Question, Answer>>) -> MutexGuard<'_, Asked<Question, Answer>> {
    // A panic in another thread leaves at worst an answer that is not given again.
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::{FutureExt as _, future::join_all};
    use tokio::time::sleep;

    use super::*;

    /// How long it takes to get an answer.
    const ASKING: Duration = Duration::from_secs(5);

    /// Counts the questions that were asked. The answer is their number.
    #[derive(Clone, Default)]
    struct Counter(Arc<AtomicU32>);

    impl Counter {
        fn ask(&self) -> impl Future<Output = Answered<u32>> + Send + use<> {
            let asked = self.0.clone();
            async move {
                let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(ASKING).await;
                Ok(number)
            }
        }

        fn count(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    async fn fail() -> Answered<u32> {
        panic!("a bug")
    }

    fn owner(name: &str) -> Owner {
        Some(flow::Namespace::new(name).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_ask_the_same_cause_one_question_also_if_they_leave() {
        let (answers, counter) = (SharedAnswers::new(4), Counter::default());
        for _ in 0..100 {
            assert!(answers.get("q", owner("a"), counter.ask()).now_or_never().is_none(), "it takes a while");
            tokio::task::yield_now().await;
        }
        let all = join_all((0..100).map(|_| answers.get("q", owner("b"), counter.ask()))).await;
        assert!(all.into_iter().all(|answer| answer.unwrap() == 1));
        assert_eq!(answers.get("q", None, counter.ask()).await.unwrap(), 1, "it is given again");
        answers.forget();
        assert_eq!(answers.get("q", None, counter.ask()).await.unwrap(), 2, "something has changed");
        sleep(2 * SHARED_FOR).await;
        assert_eq!(answers.get("q", None, counter.ask()).await.unwrap(), 3, "the one before is old");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_has_its_turn_until_its_answer_is_there() {
        let (answers, counter) = (SharedAnswers::new(2), Counter::default());
        for question in 0..100 {
            assert!(answers.get(question, owner("leaves"), counter.ask()).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(counter.count(), 1, "an owner has at most all turns but one");
        assert_eq!(answers.get(200, owner("other"), counter.ask()).await.unwrap(), 2);
        assert_eq!(answers.get(201, owner("leaves"), counter.ask()).await.unwrap(), 3, "its turn is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn different_questions_are_not_asked_as_quickly_as_they_are_answered() {
        let (answers, began) = (SharedAnswers::new(2), Instant::now());
        for question in 0..40 {
            assert_eq!(answers.get(question, owner("a"), async move { Ok(question) }).await.unwrap(), question);
        }
        // Time passes only while all wait.
        assert_eq!(began.elapsed().as_millis() / MIN_TURN.as_millis(), 39);
        let other = answers.get(100, owner("b"), async { Ok(0) }).await;
        assert_eq!(
            (other.unwrap(), began.elapsed().as_millis() / MIN_TURN.as_millis()),
            (0, 39),
            "it waits for nobody"
        );
    }

    #[tokio::test]
    async fn the_turns_of_a_question_are_of_whoever_asks_whatever_it_names() {
        let answers = SharedAnswers::new(2);
        let names = |name: &'static str| async move { Ok::<_, Problem>(turns::sender_or(owner(name)) == owner("a")) };
        assert!(answers.get(1, owner("a"), names("b")).await.unwrap());
        let of_all = async { Ok(turns::sender_or(owner("b")).is_none()) };
        assert!(answers.get(2, None, of_all).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn few_answers_are_in_memory() {
        let answers = SharedAnswers::new(2);
        for question in 0..100 {
            assert_eq!(answers.get(question, None, async move { Ok(question) }).await.unwrap(), question);
            assert!(answers.lock().answers.len() <= MAX_ANSWERS);
        }
        assert_eq!(answers.get(99, None, async { Ok(0) }).await.unwrap(), 99, "the latest are given again");
        sleep(2 * SHARED_FOR).await;
        assert!(answers.lock().answers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_an_answer_and_a_panic_leaves_the_turn_to_others() {
        let answers = SharedAnswers::<_, u32>::new(2);
        let refused = answers.get(1, None, async { Err(Problem::bad_request("no")) }).await.unwrap_err();
        let again = answers.get(1, None, async { Ok(1) }).await.unwrap_err();
        assert_eq!((refused.into_document().status, again.into_document().status), (400, 400));
        let cut = answers.get(2, None, fail()).await.unwrap_err();
        assert_eq!(cut.into_document().status, 503);
        assert_eq!(answers.get(2, None, async { Ok(2) }).await.unwrap(), 2);
    }
}
