//! Whether the server answers, and when it may be asked again.

use std::time::Duration;

use client::ClientError;

/// Why a request or a stream of events failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What happened, for people.
    pub(crate) text: String,
}

/// What a failure means for the requests that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The server, or a proxy before it, cannot be reached.
    Unavailable,
    /// The server wants a token, or does not accept the one it got.
    Token,
    /// The server answers, and refused this request.
    Refused,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let ClientError::Refused { problem, .. } = &error {
            let kind = match problem.status {
                401 => FailureKind::Token,
                502 | 504 => FailureKind::Unavailable,
                _ => FailureKind::Refused,
            };
            let text = match &problem.hint {
                Some(hint) => format!("{}; {hint}", problem.message()),
                None => problem.message(),
            };
            return Self { kind, text };
        }
        Self { kind: FailureKind::Unavailable, text: format!("{:#}", anyhow::Error::new(error)) }
    }
}

/// The pause after the first failed try; it doubles up to the maximum.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The connection to the server. Times are those since the start of the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Nothing has been answered yet.
    Connecting,
    Live,
    /// The server was asked in vain.
    Lost {
        since: Duration,
        pause: Duration,
        retry_at: Duration,
        reason: String,
    },
    /// The server does not accept the token. It is asked again only when a person says so.
    Denied {
        reason: String,
    },
}

impl Connection {
    /// Whether the server may be asked something now.
    pub(crate) fn may_ask(&self, now: Duration) -> bool {
        match self {
            Self::Connecting | Self::Live => true,
            Self::Lost { retry_at, .. } => now >= *retry_at,
            Self::Denied { .. } => false,
        }
    }

    /// The server has answered a request, whatever the answer is.
    pub(crate) fn answered(&mut self) {
        match self {
            Self::Connecting | Self::Live | Self::Lost { .. } => *self = Self::Live,
            // It answered an earlier request.
            Self::Denied { .. } => {}
        }
    }

    /// A request has failed.
    pub(crate) fn failed(&mut self, now: Duration, failure: &Failure) {
        let reason = failure.text.clone();
        match failure.kind {
            FailureKind::Refused => self.answered(),
            FailureKind::Token => *self = Self::Denied { reason },
            FailureKind::Unavailable => {
                let (since, pause) = match self {
                    Self::Connecting | Self::Live => (now, FIRST_PAUSE),
                    Self::Lost { since, pause, retry_at, .. } if now >= *retry_at => {
                        (*since, (*pause * 2).min(MAX_PAUSE))
                    }
                    // One of several requests that were sent together.
                    Self::Lost { .. } | Self::Denied { .. } => return,
                };
                *self = Self::Lost { since, pause, retry_at: now + pause, reason };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure { kind, text: "why".into() }
    }

    #[test]
    fn a_lost_server_is_asked_with_growing_pauses() {
        let mut connection = Connection::Connecting;
        let mut at = seconds(100);
        for pause in [1, 2, 4, 8, 10, 10] {
            assert!(connection.may_ask(at));
            connection.failed(at, &failure(FailureKind::Unavailable));
            connection.failed(at, &failure(FailureKind::Unavailable));
            assert!(!connection.may_ask(at + seconds(pause) - Duration::from_millis(1)));
            at += seconds(pause);
        }
        assert!(matches!(connection, Connection::Lost { since, .. } if since == seconds(100)));
        connection.answered();
        assert_eq!(connection, Connection::Live);
        connection.failed(at, &failure(FailureKind::Refused));
        assert_eq!(connection, Connection::Live, "a refusal is an answer");
    }

    #[test]
    fn a_revoked_token_is_not_tried_again() {
        let mut connection = Connection::Live;
        connection.failed(seconds(1), &failure(FailureKind::Token));
        connection.answered();
        connection.failed(seconds(2), &failure(FailureKind::Unavailable));
        assert_eq!(connection, Connection::Denied { reason: "why".into() });
        assert!(!connection.may_ask(seconds(1_000_000)));
    }
}
