//! The pages of a timeline, from the last attempts to the first. All elements of a list may start at the same time, so a time alone does not say
//! where a page ends.

use api::{Timeline, TimelineQuery};
use jiff::Timestamp;

/// The number of attempts on a page.
const PAGE_ATTEMPTS: usize = 500;

/// The maximum number of attempts that a server answers with.
const MAX_ATTEMPTS: usize = 10_000;

/// Where an earlier page ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageEnd {
    /// Its attempts started before this time.
    before: String,
    /// The number of the last ones of these that later pages show.
    shown: usize,
}

/// The question for the page with this end, or for the last attempts.
pub(crate) fn query(end: Option<PageEnd>) -> TimelineQuery {
    let shown = end.as_ref().map_or(0, |end| end.shown);
    let query = TimelineQuery { before: end.map(|end| end.before), ..TimelineQuery::default() };
    query.limit((PAGE_ATTEMPTS + shown).min(MAX_ATTEMPTS))
}

/// Removes from an answer what later pages show, and returns the end of the page before, if there is one.
pub(crate) fn cut(timeline: &mut Timeline, end: Option<&PageEnd>) -> Option<PageEnd> {
    let shown = end.map_or(0, |end| end.shown);
    // The failures of a server's answer are limited, so it may have fewer than were asked for.
    let new = timeline.attempts.len().saturating_sub(shown);
    if new > 0 {
        timeline.attempts.truncate(new);
    }
    let first = timeline.attempts.first().filter(|_| timeline.earlier > 0)?.started_at.as_str();
    let same = timeline.attempts.iter().filter(|attempt| attempt.started_at == first).count();
    let next = just_after(first).filter(|_| new > 0).map(|before| {
        let shown = end.filter(|end| end.before == before).map_or(0, |end| end.shown);
        PageEnd { before, shown: same + shown }
    });
    // A server shows no more of those that started at this time.
    let earlier = || PageEnd { before: first.to_owned(), shown: 0 };
    Some(next.filter(|next| next.shown < MAX_ATTEMPTS).unwrap_or_else(earlier))
}

/// The next time that a server can tell from a time.
fn just_after(time: &str) -> Option<String> {
    let time: Timestamp = time.parse().ok()?;
    let next = Timestamp::from_microsecond(time.as_microsecond() + 1).ok()?;
    Some(format!("{next:.6}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const FIRST: &str = "2026-01-31T07:59:00.000000Z";
    const LIST: &str = "2026-01-31T07:59:59.999999Z";
    const LAST: &str = "2026-01-31T08:00:00.000000Z";

    /// What a server answers of attempts with these times: at most so many as it gives.
    fn answer(times: &[&str], query: &TimelineQuery, most: usize) -> Timeline {
        let is_before = |time: &str| query.before.as_deref().is_none_or(|before| time < before);
        let matching: Vec<(usize, &&str)> = times.iter().enumerate().filter(|(_, time)| is_before(time)).collect();
        let skipped = matching.len().saturating_sub(query.limit.unwrap().min(most));
        let attempt = |(number, time): &(usize, &&str)| {
            let task = format!("slices[{number}]");
            json!({"task": task, "firing": 1, "attempt": 1, "call": "apply", "started_at": time})
        };
        let attempts: Vec<Value> = matching[skipped..].iter().map(attempt).collect();
        serde_json::from_value(json!({"run": "r1", "attempts": attempts, "earlier": skipped})).unwrap()
    }

    /// The tasks of all pages, in the order of their start; at most a hundred pages.
    fn all_pages(times: &[&str], most: usize) -> Vec<String> {
        let (mut end, mut tasks) = (None, Vec::new());
        for _ in 0..100 {
            let mut timeline = answer(times, &query(end.clone()), most);
            end = cut(&mut timeline, end.as_ref());
            drop(tasks.splice(0..0, timeline.attempts.into_iter().map(|attempt| attempt.task)));
            if end.is_none() {
                return tasks;
            }
        }
        panic!("the pages do not end");
    }

    /// Times, each so many times.
    fn repeated(times: &[(&'static str, usize)]) -> Vec<&'static str> {
        times.iter().flat_map(|(time, count)| vec![*time; *count]).collect()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("slices[{number}]")).collect()
    }

    #[test]
    fn all_elements_that_start_at_the_same_time_are_on_a_page_each_once() {
        let times = repeated(&[(FIRST, 3), (LIST, 3_200), (LAST, 7)]);
        assert_eq!(all_pages(&times, MAX_ATTEMPTS), names(times.len()));
    }

    #[test]
    fn a_server_that_answers_with_less_does_not_keep_the_first_attempts_away() {
        let tasks = all_pages(&repeated(&[(FIRST, 3), (LIST, 2_000)]), 700);
        assert_eq!(tasks[..3], names(3));
        let tasks = all_pages(&repeated(&[(FIRST, 3), (LIST, MAX_ATTEMPTS + 5)]), MAX_ATTEMPTS);
        assert_eq!((tasks.len(), &tasks[..3]), (MAX_ATTEMPTS + 3, &names(3)[..]));
    }
}
