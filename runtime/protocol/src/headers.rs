//! Ids in plain text headers, so that an operator can read a queue.

use std::collections::BTreeMap;

use flow::{Action, Attempt, CallId, Firing, NodeName, RunId};

/// The message id of a call: the same each time its messages are sent.
#[must_use]
pub fn message_id(call: &CallId) -> String {
    call.to_string()
}

/// The headers of a call's messages.
#[must_use]
pub fn headers(call: &CallId) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("run".into(), call.run.to_string()),
        ("task".into(), call.task.to_string()),
        ("firing".into(), call.firing.to_string()),
        ("attempt".into(), call.attempt.to_string()),
        ("call".into(), call.action.to_string()),
    ])
}

/// The call that the headers name; `None` if they are not the headers of a call.
#[must_use]
pub fn call_of(headers: &BTreeMap<String, String>) -> Option<CallId> {
    let header = |name: &str| headers.get(name).map(String::as_str);
    let action = match header("call")? {
        name if name == Action::Apply.as_str() => Action::Apply,
        name if name == Action::Rollback.as_str() => Action::Rollback,
        _ => return None,
    };
    Some(CallId {
        run: RunId::new(header("run")?).ok()?,
        task: NodeName::new(header("task")?).ok()?,
        firing: Firing::new(header("firing")?.parse().ok()?),
        attempt: Attempt::new(header("attempt")?.parse().ok()?),
        action,
    })
}

/// The header that counts earlier redeliveries of a job. An engine sets it when it sends an unstarted job again.
const RETURNED: &str = "returned";

/// Records in the headers how often a job was redelivered before it is sent again. Nobody started that delivery, but earlier
/// ones may have been executed.
pub fn set_returned(headers: &mut BTreeMap<String, String>, times: u32) {
    match times {
        0 => headers.remove(RETURNED),
        times => headers.insert(RETURNED.into(), times.to_string()),
    };
}

/// How often a job was redelivered before it was sent again; the broker counts only later redeliveries.
#[must_use]
pub fn returned(headers: &BTreeMap<String, String>) -> u32 {
    headers.get(RETURNED).and_then(|times| times.parse().ok()).unwrap_or(0)
}

/// The header that counts the questions about a job that no engine has answered.
const UNANSWERED: &str = "unanswered";

/// Records in the headers how many questions about the job no engine has answered.
pub fn set_unanswered(headers: &mut BTreeMap<String, String>, times: u32) {
    match times {
        0 => headers.remove(UNANSWERED),
        times => headers.insert(UNANSWERED.into(), times.to_string()),
    };
}

/// How many questions about a job no engine has answered.
#[must_use]
pub fn unanswered(headers: &BTreeMap<String, String>) -> u32 {
    headers.get(UNANSWERED).and_then(|times| times.parse().ok()).unwrap_or(0)
}

/// Identifies one of the messages that send the job of a call. A worker that returns the job names the message that it
/// received, so the engine sends the job again only once for each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendingId(u64);

impl SendingId {
    /// The id of the messages that send a job which no worker has returned.
    pub const FIRST: Self = Self(0);

    /// The id with this number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number of the id.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The header with the [`SendingId`] of a job.
const SENDING: &str = "sending";

/// Records in the headers which message sends the job.
pub fn set_sending(headers: &mut BTreeMap<String, String>, id: SendingId) {
    match id {
        SendingId::FIRST => headers.remove(SENDING),
        SendingId(id) => headers.insert(SENDING.into(), id.to_string()),
    };
}

/// Which message sends the job.
#[must_use]
pub fn sending(headers: &BTreeMap<String, String>) -> SendingId {
    headers.get(SENDING).and_then(|id| id.parse().ok()).map_or(SendingId::FIRST, SendingId)
}

/// The header with the span of the attempt, as W3C Trace Context writes it. Nothing is decided by it.
const TRACEPARENT: &str = "traceparent";

/// The maximum length of the header, in bytes: a later version of the standard may have a longer one.
const MAX_TRACEPARENT_BYTES: usize = 128;

/// Records in the headers which span a message belongs to.
pub fn set_traceparent(headers: &mut BTreeMap<String, String>, traceparent: impl ToString) {
    headers.insert(TRACEPARENT.into(), traceparent.to_string());
}

/// The span that a message belongs to, as its sender wrote it.
#[must_use]
pub fn traceparent(headers: &BTreeMap<String, String>) -> Option<&str> {
    headers.get(TRACEPARENT).map(String::as_str).filter(|text| text.len() <= MAX_TRACEPARENT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_round_trips_through_headers() {
        let call = CallId {
            run: "r".parse().unwrap(),
            task: "bake".parse().unwrap(),
            firing: Firing::new(7),
            attempt: Attempt::new(3),
            action: Action::Rollback,
        };
        assert_eq!(call_of(&headers(&call)), Some(call.clone()));
        for missing in ["run", "task", "firing", "attempt", "call"] {
            let mut headers = headers(&call);
            headers.remove(missing);
            assert_eq!(call_of(&headers), None, "without {missing}");
        }
    }

    #[test]
    fn the_longest_id_of_a_call_is_an_id_of_a_message() {
        let task = flow::NodeName::new("t".repeat(100)).unwrap();
        let call = CallId {
            run: flow::RunId::new("r".repeat(100)).unwrap(),
            task: task.element(u32::MAX),
            firing: Firing::new(u64::MAX),
            attempt: Attempt::new(u32::MAX),
            action: Action::Rollback,
        };
        assert!(message_id(&call).len() <= 255, "AMQP carries no longer one");
    }

    #[test]
    fn a_job_names_the_message_that_sends_it() {
        let mut headers = BTreeMap::new();
        for id in [SendingId::FIRST, SendingId::new(u64::MAX)] {
            set_sending(&mut headers, id);
            assert_eq!(sending(&headers), id);
        }
        headers.insert(SENDING.into(), "-1".into());
        assert_eq!(sending(&headers), SendingId::FIRST, "headers of other programs are not trusted");
    }

    #[test]
    fn a_span_travels_beside_the_ids_of_a_call() {
        let mut headers = BTreeMap::new();
        assert_eq!(traceparent(&headers), None);
        set_traceparent(&mut headers, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert!(traceparent(&headers).is_some_and(|text| text.starts_with("00-4bf9")));
        set_traceparent(&mut headers, "0".repeat(1 << 20));
        assert_eq!(traceparent(&headers), None, "headers of other programs are not trusted");
    }

    #[test]
    fn unanswered_questions_are_counted() {
        let mut headers = BTreeMap::new();
        assert_eq!(unanswered(&headers), 0);
        set_unanswered(&mut headers, 2);
        assert_eq!(unanswered(&headers), 2);
        set_unanswered(&mut headers, 0);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_job_that_is_sent_again_keeps_its_return_count() {
        let mut headers = BTreeMap::new();
        assert_eq!(returned(&headers), 0);
        set_returned(&mut headers, 3);
        assert_eq!(returned(&headers), 3);
        set_returned(&mut headers, 0);
        assert!(headers.is_empty());
        headers.insert(RETURNED.into(), "many".into());
        assert_eq!(returned(&headers), 0, "headers of other programs are not trusted");
    }
}
