//! Interprets a lapin error: the broker refused one operation, or a channel or connection was lost.

use lapin::ErrorKind;

pub(super) const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
pub(super) const PRECONDITION_FAILED: u16 = 406;
pub(super) const NOT_ALLOWED: u16 = 530;

/// Connection errors that are unrelated to the failed operation: the broker stops, lacks a resource, or rejects other frames
/// of the connection.
const CONNECTION_CODES: [u16; 5] = [320, 501, 504, 505, 506];

/// The broker's refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    /// AMQP's reply code.
    pub(super) code: u16,
    /// The broker's message.
    pub(super) reason: String,
}

impl Refusal {
    /// `None` when the channel or the connection was lost, so that the operation can be retried.
    pub(super) fn of(error: &lapin::Error) -> Option<Self> {
        let ErrorKind::ProtocolError(protocol_error) = error.kind() else { return None };
        let code = protocol_error.get_id();
        (!CONNECTION_CODES.contains(&code)).then(|| Self { code, reason: protocol_error.get_message().to_string() })
    }

    /// The connection has as many consumers as it may have.
    pub(super) fn no_channel(channel_max: u16) -> Self {
        let reason = format!(
            "this connection has too many consumers for the {channel_max} channels that the broker grants it: raise channel_max of \
             the broker, or let fewer tasks with max_running or rate run at once"
        );
        Self { code: NOT_ALLOWED, reason }
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.code == NOT_FOUND
    }
}
