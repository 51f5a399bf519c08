//! A notification about a task of another flow, and the other events that programs read.

use api::EventPayload;
use flow::{NotificationOutcome, StoredReferences, ValuesObject};

/// The input is the body of a message.
pub fn run(input: &[u8]) {
    match protocol::events::parse_notification(input) {
        Ok(Some(notification)) => {
            assert!(!notification.key.is_empty());
            if let NotificationOutcome::Success(values) = notification.outcome {
                let read = ValuesObject::from(&values).read(StoredReferences::Accept);
                assert_eq!(read, Ok(values), "the values of a notification are values");
            }
        }
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some(event) = std::str::from_utf8(input).ok().and_then(EventPayload::parse) {
        let line = event.to_line();
        assert!(!line.contains(['\n', '\r']), "an event is one line: {line:?}");
        assert_eq!(
            EventPayload::parse(&line).map(|event| event.to_line()),
            Some(line),
            "an event that is written twice"
        );
    }
}
