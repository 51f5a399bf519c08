//! One request with an event.

use std::time::Duration;

use api::WebhookDelivery;
use flow::WebhookName;
use gateway::{Gateway, HttpError, HttpRequest, Timeouts};
use tokio::time::Instant;

use super::{config::Webhook, signature};

/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long it may take for an event of a namespace of which it does not accept many others: few requests are sent at the same time, and
/// others need them.
const CROWD_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum size of what a server may send before the head of its answer ends, in bytes. Nobody reads the rest.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// An event as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// The same for each try, and for the same event from another server.
    pub(super) id: String,
    /// What it is about, for people.
    pub(super) subject: String,
    /// The body.
    pub(super) line: String,
}

/// One try to send an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// Its number, from 1.
    number: u32,
    /// How long the server may take to answer.
    timeout: Duration,
}

impl Attempt {
    pub(super) fn new(number: u32) -> Self {
        Self { number, timeout: ANSWER_TIMEOUT }
    }

    /// A try of an event of whose namespace many others wait for another try.
    pub(super) fn in_crowd(number: u32) -> Self {
        Self { number, timeout: CROWD_ANSWER_TIMEOUT }
    }
}

/// What a server says of an event, as far as it decides what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has the event.
    Accepted,
    /// It wants no events any more.
    Gone,
    /// It does not want this event, as it is.
    Refused,
    /// It could not take the event, and does not say whether it could take another one.
    Failed,
    /// It may take the event later, whatever it contains.
    Unavailable,
}

impl Verdict {
    /// What the answer to a try means.
    pub(super) fn of(tried: &WebhookDelivery) -> Self {
        match (&tried.failure, tried.status) {
            (None, _) => Self::Accepted,
            (Some(_), Some(410)) => Self::Gone,
            (Some(_), Some(400 | 413 | 415 | 422)) => Self::Refused,
            // Only this one is about the number of requests. A text in an event may be the reason for any other, even for a connection that
            // ends: it may kill the server behind a proxy, which answers 502, 503 or 504 then.
            (Some(_), Some(429)) => Self::Unavailable,
            (Some(_), _) => Self::Failed,
        }
    }
}

impl Outgoing {
    pub(super) fn new(subject: String, line: String) -> Self {
        let digest = store::digest_of(line.as_bytes()).hex();
        Self { id: format!("evt_{}", &digest[..32]), subject, line }
    }

    /// An event that shows whether the server of a webhook accepts any. No author of a flow has written a text in it.
    pub(super) fn test(name: &WebhookName) -> Self {
        let at = format!("{:.6}", jiff::Timestamp::now());
        let line = serde_json::json!({ "event": "test", "webhook": name.as_str(), "at": at });
        Self::new("test".to_owned(), line.to_string())
    }
}

/// Sends an event once.
pub(super) async fn post(gateway: &Gateway, webhook: &Webhook, event: &Outgoing, attempt: Attempt) -> WebhookDelivery {
    let Attempt { number: attempt, timeout } = attempt;
    let (now, begun) = (jiff::Timestamp::now(), Instant::now());
    let request = HttpRequest {
        target: webhook.target.clone(),
        headers: signature::headers(&webhook.secret, &event.id, now.as_second(), &event.line),
        body: event.line.clone().into(),
        timeouts: Timeouts { response: Some(timeout), between_bytes: None },
    };
    let answer = gateway.notify(request, webhook.reach.clone(), MAX_ANSWER_BYTES).await;
    let (status, failure) = match answer {
        Ok(status) if status.is_success() => (Some(status.as_u16()), None),
        // A redirect would take the event to an address that nobody has checked.
        Ok(status) => (Some(status.as_u16()), Some(format!("the server answered {status}"))),
        Err(error) => (None, Some(explained(&error))),
    };
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (id, subject) = (event.id.clone(), event.subject.clone());
    WebhookDelivery { id, subject, at: format!("{now:.6}"), took_ms, attempt, status, failure }
}

/// The text of an error. What the gateway says of guests is said of webhooks.
fn explained(error: &HttpError) -> String {
    error.to_string().replace("[[grant]]", "[[webhook]]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_another_try_can_help() {
        let tried = |status: Option<u16>| WebhookDelivery {
            id: String::new(),
            subject: String::new(),
            at: String::new(),
            took_ms: 0,
            attempt: 1,
            status,
            failure: status.is_none_or(|status| !(200..300).contains(&status)).then(String::new),
        };
        for (status, expected) in [
            (Some(204), Verdict::Accepted),
            (Some(410), Verdict::Gone),
            (Some(400), Verdict::Refused),
            (Some(422), Verdict::Refused),
            (Some(429), Verdict::Unavailable),
            (Some(302), Verdict::Failed),
            (Some(401), Verdict::Failed),
            (Some(403), Verdict::Failed),
            (Some(500), Verdict::Failed),
            (Some(503), Verdict::Failed),
            (None, Verdict::Failed),
        ] {
            assert_eq!(Verdict::of(&tried(status)), expected, "{status:?}");
        }
    }
}
