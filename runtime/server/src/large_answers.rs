//! The memory for large answers, such as values, recorded attempts and lists of runs with long labels. A slow reader keeps its
//! answer in memory until it has received it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;

use crate::{
    problem::Problem,
    shares::{Exhausted, Sender, Share, Shares},
};

/// The maximum memory for large answers together: 1 GiB, four times the default maximum of one value. A sender has half of it at
/// most.
const MAX_KIB: usize = 1 << 20;
const MAX_KIB_OF_SENDER: usize = MAX_KIB / 2;

/// The largest answer of [`LargeAnswers::json`] that needs no part of this memory.
const SMALL: usize = 64 << 10;

/// How many times the bytes of its JSON an answer takes as a value: each task of a run has some hundred bytes besides its texts.
const VALUE_FACTOR: usize = 4;

/// The bytes of an answer that are passed on at once. A connection takes few of them before its peer has received them.
const CHUNK: usize = 64 << 10;

/// The memory for large answers.
pub(crate) struct LargeAnswers(Arc<Shares>);

/// The memory of one answer. Dropping it gives the memory back.
pub(crate) struct AnswerMemory(Share);

impl Default for LargeAnswers {
    fn default() -> Self {
        Self(Shares::new(MAX_KIB, MAX_KIB_OF_SENDER))
    }
}

impl LargeAnswers {
    /// Takes the memory for an answer, before it is made. The sender of a request for more than its part gets it alone.
    ///
    /// # Errors
    /// [`Problem`] when the answers that are being sent leave too little.
    pub(crate) fn take(&self, sender: &Sender, size: usize) -> Result<AnswerMemory, Problem> {
        self.0.take(sender, kib(size)).map(AnswerMemory).map_err(refused)
    }

    /// Takes the memory for an answer that is in memory and is not whole yet. `size` are the bytes of its JSON so far; as a value it takes
    /// some times as many. One with little JSON needs none.
    ///
    /// # Errors
    /// As [`LargeAnswers::take`].
    pub(crate) fn hold(&self, sender: &Sender, size: usize) -> Result<Option<AnswerMemory>, Problem> {
        match size <= SMALL {
            true => Ok(None),
            false => self.take(sender, VALUE_FACTOR * size).map(Some),
        }
    }

    /// The memory for JSON that is made, of which only a few are made at the same time, given the memory that is held for it already. Little
    /// JSON needs none.
    ///
    /// # Errors
    /// As [`LargeAnswers::take`].
    pub(crate) fn hold_json(
        &self,
        sender: &Sender,
        held: Option<AnswerMemory>,
        json: &[u8],
    ) -> Result<Option<AnswerMemory>, Problem> {
        match held {
            Some(mut memory) => {
                memory.0.resize(kib(json.len())).map_err(refused)?;
                Ok(Some(memory))
            }
            None if json.len() <= SMALL => Ok(None),
            None => self.take(sender, json.len()).map(Some),
        }
    }

    /// An answer with JSON that is made, of which only a few are made at the same time. A large one takes memory until it is sent.
    ///
    /// # Errors
    /// As [`LargeAnswers::take`].
    pub(crate) fn json(&self, sender: &Sender, json: impl Into<Bytes>) -> Result<Response, Problem> {
        let json = json.into();
        let headers = json_headers(json.len());
        if json.len() <= SMALL {
            return Ok((headers, json).into_response());
        }
        let memory = self.take(sender, json.len())?;
        Ok((headers, memory.body(json)).into_response())
    }
}

fn refused(exhausted: Exhausted) -> Problem {
    let detail = match exhausted {
        Exhausted::All => "the server sends as many large answers as it has memory for",
        Exhausted::OfSender => {
            "the server sends as many large answers to the token or its namespace as a half of its memory for them allows"
        }
    };
    Problem::unavailable(detail).hint("try again later: an answer is sent when others have been received")
}

/// The headers of an answer with JSON.
fn json_headers(size: usize) -> [(header::HeaderName, String); 2] {
    [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, size.to_string())]
}

fn kib(size: usize) -> usize {
    size.div_ceil(1 << 10).clamp(1, MAX_KIB_OF_SENDER)
}

impl AnswerMemory {
    /// An answer with JSON that is made. It keeps the memory for its bytes, which may be more than was taken, until they are sent.
    ///
    /// # Errors
    /// As [`LargeAnswers::take`].
    pub(crate) fn json(mut self, json: impl Into<Bytes>) -> Result<Response, Problem> {
        let json = json.into();
        self.0.resize(kib(json.len())).map_err(refused)?;
        Ok((json_headers(json.len()), self.body(json)).into_response())
    }

    /// The body of an answer that is made. It keeps the memory for its bytes until they are sent, and gives back the rest.
    pub(crate) fn body(mut self, bytes: Bytes) -> Body {
        self.0.shrink_to(kib(bytes.len()));
        let chunks = stream::unfold((bytes, self), async |(mut bytes, memory)| {
            let chunk = bytes.split_to(CHUNK.min(bytes.len()));
            (!chunk.is_empty()).then_some((Ok::<_, Infallible>(chunk), (bytes, memory)))
        });
        Body::from_stream(chunks)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn sender(name: &str) -> Sender {
        Sender::Token(name.into())
    }

    const MAX: usize = MAX_KIB_OF_SENDER << 10;

    #[tokio::test]
    async fn answers_are_limited_and_leave_their_memory_when_they_are_received() {
        let (answers, ann) = (LargeAnswers::default(), sender("ann"));
        let rest = answers.take(&ann, MAX - 2 * CHUNK).expect("there is room");
        let memory = answers.take(&ann, 2 * CHUNK).expect("there is room");
        let mut body = memory.body(vec![1; 2 * CHUNK].into()).into_data_stream();
        let refused = answers.take(&ann, 1).err().expect("all of its part is taken").into_document();
        assert!(refused.status == 503 && refused.detail.contains("the token or its namespace"), "{refused:?}");
        assert_eq!(body.next().await.unwrap().unwrap().len(), CHUNK);
        assert!(answers.take(&ann, 1).is_err(), "half of it is not received");
        assert_eq!(body.next().await.unwrap().unwrap().len(), CHUNK);
        assert!(body.next().await.is_none());
        drop(body);
        assert!(answers.take(&ann, 2 * CHUNK).is_ok());
        drop(rest);
        assert!(answers.take(&ann, 2 * MAX).is_ok(), "a larger one is sent alone");
    }

    #[test]
    fn a_made_answer_keeps_only_the_memory_of_its_bytes() {
        let (answers, ann) = (LargeAnswers::default(), sender("ann"));
        let most = MAX - (8 << 10);
        let slow: Vec<Body> = (0..8)
            .map(|_| answers.take(&ann, most).expect("the others gave theirs back").body(vec![1; 1024].into()))
            .collect();
        assert!(answers.take(&ann, most).is_ok());
        drop(slow);
    }

    #[test]
    fn only_large_json_takes_memory_until_it_is_sent() {
        let (answers, ann) = (LargeAnswers::default(), sender("ann"));
        let rest = answers.take(&ann, MAX - 2 * SMALL).expect("there is room");
        let small = answers.json(&ann, vec![b' '; SMALL]).expect("it needs none");
        let large = answers.json(&ann, vec![b' '; 2 * SMALL]).expect("there is room");
        for answer in [&small, &large] {
            assert_eq!(answer.headers()["content-type"], "application/json");
        }
        assert_eq!(large.headers()["content-length"], (2 * SMALL).to_string());
        let refused = answers.json(&ann, vec![b' '; SMALL + 1]).expect_err("all of its part is taken");
        assert_eq!(refused.into_document().status, 503);
        assert!(answers.json(&ann, vec![b' '; SMALL]).is_ok(), "a small one is answered nevertheless");
        drop(large);
        assert!(answers.json(&ann, vec![b' '; 2 * SMALL]).is_ok());
        drop(rest);
    }

    #[test]
    fn an_answer_that_waits_for_its_rest_has_its_memory_if_it_is_large() {
        let (answers, ann) = (LargeAnswers::default(), sender("ann"));
        let held = answers.hold(&ann, MAX / VALUE_FACTOR).expect("there is room");
        let held = answers.hold_json(&ann, held, &vec![b' '; 2 * CHUNK]).expect("it is less").expect("it is large");
        let _rest = answers.take(&ann, MAX - 2 * CHUNK).expect("only the bytes of its JSON are held");
        assert!(answers.hold_json(&ann, None, &vec![b' '; SMALL]).expect("it needs none").is_none());
        assert!(answers.hold_json(&ann, None, &vec![b' '; SMALL + 1]).is_err(), "all is taken");
        assert!(answers.hold(&ann, SMALL).expect("it needs none").is_none());
        assert_eq!(answers.hold(&ann, SMALL + 1).err().expect("all is taken").into_document().status, 503);
        let sent = held.json(vec![b' '; CHUNK]).expect("it has the memory");
        assert!(answers.take(&ann, CHUNK).is_ok(), "only its bytes are in memory");
        drop(sent);
    }

    #[test]
    fn json_of_which_only_a_part_was_taken_takes_the_rest() {
        let (answers, ann) = (LargeAnswers::default(), sender("ann"));
        let json = || vec![b' '; 4 * CHUNK];
        let rest = answers.take(&ann, MAX - 4 * CHUNK).expect("there is room");
        let small = answers.take(&ann, CHUNK).expect("there is room").json(json()).expect("there is as much");
        let refused = answers.take(&ann, 1).err().expect("all of its part is taken").into_document();
        assert_eq!(refused.status, 503);
        drop(small);
        let part = answers.take(&ann, CHUNK).expect("the answer gave it back");
        let _other = answers.take(&ann, CHUNK).expect("there is room");
        assert_eq!(part.json(json()).expect_err("the rest is taken").into_document().status, 503);
        drop(rest);
        let large = answers.take(&ann, 1).expect("there is room").json(json()).expect("there is room");
        assert_eq!(large.headers()["content-length"], (4 * CHUNK).to_string());
    }

    #[test]
    fn a_sender_leaves_memory_for_another() {
        let answers = LargeAnswers::default();
        let _of_ann = answers.take(&sender("ann"), MAX).expect("there is room");
        let _of_bob = answers.take(&sender("bob"), MAX).expect("half is left");
        let refused = answers.take(&sender("eve"), 1).err().expect("all is taken").into_document();
        assert!(refused.detail.ends_with("as it has memory for"), "{refused:?}");
    }
}
