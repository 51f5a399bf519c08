//! The queues to which a request may ask for its reply.

use std::fmt;

use flow::WorkerName;

use crate::topology::{CONTROL_PREFIX, REPLY_PREFIX};

/// The maximum length of the name of a reply queue, in bytes: a routing key has no more.
const MAX_BYTES: usize = 255;

/// The maximum number of words behind the prefix: the name of a receiver, and a unique id.
const MAX_WORDS: usize = 2;

/// A queue for replies: `waft.reply.<receiver>`, with at most one more word, or `waft.control.<worker>`.
///
/// Whoever sends a request chooses where its reply goes, and may bind exchanges of its own to the exchange of replies. A topic
/// exchange takes exponential time for a key of many words, so a receiver of requests sends no reply to any other name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyQueue(String);

impl ReplyQueue {
    /// Parses a name; `None` if no reply may go there.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let is_valid = match name.strip_prefix(REPLY_PREFIX) {
            Some(receiver) => receiver.split('.').count() <= MAX_WORDS && receiver.split('.').all(is_word),
            None => name.strip_prefix(CONTROL_PREFIX).is_some_and(|worker| WorkerName::new(worker).is_ok()),
        };
        (is_valid && name.len() <= MAX_BYTES).then(|| Self(name.to_owned()))
    }

    /// The name of the queue.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ReplyQueue> for String {
    fn from(queue: ReplyQueue) -> Self {
        queue.0
    }
}

impl fmt::Display for ReplyQueue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_reply_queues_and_of_workers_are_accepted() {
        for name in ["waft.reply.e", "waft.reply.doctor.0197-a", "waft.control.oven-1"] {
            assert_eq!(ReplyQueue::parse(name).map(String::from).as_deref(), Some(name));
        }
        let many_words = format!("waft.reply{}", ".a".repeat(122));
        let long = format!("waft.reply.{}", "a".repeat(MAX_BYTES));
        let refused =
            ["", "a.a.a", "waft.reply.", "waft.reply.a.b.c", "waft.reply.a..b", "waft.control.a.b", "waft.reply.#"];
        for name in refused.into_iter().chain([&*many_words, &long, "waft.engine.0", "waft.reply", "waft.control."]) {
            assert_eq!(ReplyQueue::parse(name), None, "{name}");
        }
    }
}
