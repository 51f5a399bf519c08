//! A part of what the server says: its value, and when to ask for it again.

use std::time::Duration;

use super::connection::{Failure, FailureKind};

/// The minimum time between two questions for the same part, however often it changes.
pub(super) const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The time after which a refused question is asked again.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// A part of what the server says.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    /// The last answer. It stays while the server cannot be reached.
    pub(crate) value: Option<T>,
    /// Why the server refused the last question.
    pub(crate) error: Option<String>,
    /// Whether something has changed since the last question.
    is_stale: bool,
    /// Whether a question is under way.
    is_asked: bool,
    asked_at: Option<Duration>,
    /// The minimum time between two questions.
    min_pause: Duration,
    /// The time after which it is asked for without a known change.
    every: Duration,
    /// The number of the question: an answer to an earlier one is not taken.
    serial: u64,
}

impl<T> Loaded<T> {
    pub(crate) fn new(min_pause: Duration, every: Duration) -> Self {
        Self { value: None, error: None, is_stale: true, is_asked: false, asked_at: None, min_pause, every, serial: 0 }
    }

    /// Something has changed: ask again.
    pub(crate) fn expire(&mut self) {
        self.is_stale = true;
    }

    /// Another question takes the place of the one before, whose answer is not wanted any more. The value stays until the answer.
    pub(crate) fn restart(&mut self) {
        (self.is_stale, self.is_asked, self.asked_at, self.error) = (true, false, None, None);
        self.serial += 1;
    }

    /// The number of a question that has to be asked now; then it counts as asked.
    pub(crate) fn ask(&mut self, now: Duration) -> Option<u64> {
        let pause = match (&self.error, self.is_stale) {
            (Some(_), _) => REFUSED_PAUSE,
            (None, true) => self.min_pause,
            (None, false) => self.every,
        };
        let is_due = self.asked_at.is_none_or(|at| now.saturating_sub(at) >= pause);
        if self.is_asked || !is_due {
            return None;
        }
        (self.is_stale, self.is_asked, self.asked_at) = (false, true, Some(now));
        Some(self.serial)
    }

    /// Takes the answer to a question. Returns whether there is a new value.
    pub(crate) fn answer(&mut self, serial: u64, answer: Result<T, Failure>) -> bool {
        if serial != self.serial {
            return false;
        }
        self.is_asked = false;
        match answer {
            Ok(value) => {
                (self.value, self.error) = (Some(value), None);
                true
            }
            Err(failure) => {
                self.is_stale = true;
                if failure.kind == FailureKind::Refused {
                    self.error = Some(failure.text);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_part_is_asked_for_once_at_a_time_and_not_too_often() {
        let mut part = Loaded::new(MIN_PAUSE, at(10_000));
        assert_eq!(part.ask(at(0)), Some(0));
        assert_eq!(part.ask(at(60_000)), None, "the answer is awaited");
        part.expire();
        assert!(part.answer(0, Ok("one")));
        assert_eq!(part.ask(at(999)), None, "a changing part does not load the server");
        assert_eq!(part.ask(at(1_000)), Some(0));
        assert!(part.answer(0, Ok("two")));
        assert_eq!((part.ask(at(10_999)), part.ask(at(11_000))), (None, Some(0)), "it is fetched now and then");
    }

    #[test]
    fn an_answer_to_an_earlier_question_is_not_taken() {
        let mut part = Loaded::new(MIN_PAUSE, at(10_000));
        assert_eq!(part.ask(at(0)), Some(0));
        part.restart();
        assert_eq!(part.ask(at(1)), Some(1), "another question waits for nothing");
        assert!(!part.answer(0, Ok("old")) && part.value.is_none());
        assert!(part.answer(1, Ok("new")));
        assert_eq!(part.value, Some("new"));
    }

    #[test]
    fn a_refusal_is_shown_and_tried_again() {
        let mut part: Loaded<()> = Loaded::new(MIN_PAUSE, at(60_000));
        part.ask(at(0));
        let refused = Failure { kind: FailureKind::Refused, text: "no".into() };
        assert!(!part.answer(0, Err(refused)));
        assert_eq!(part.error.as_deref(), Some("no"));
        assert_eq!((part.ask(at(4_999)), part.ask(at(5_000))), (None, Some(0)));
    }
}
