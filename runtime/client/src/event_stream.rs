//! Parses server-sent events from a stream of bytes.

use crate::client::MAX_ANSWER_BYTES;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServerSentEvent {
    /// Its id, or the last id before it.
    pub(crate) id: String,
    /// Its data.
    pub(crate) data: String,
}

/// The maximum size of an event in bytes: the last event of a run holds all its values, as the answer for a run does.
pub(crate) const MAX_EVENT_BYTES: usize = MAX_ANSWER_BYTES;

/// An event is larger than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Assembles events from bytes.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    id: String,
    data: Option<String>,
    /// The id of a message without data, if no event came after it.
    position: Option<String>,
}

impl Parser {
    /// The position after the last event, if the server has sent one.
    pub(crate) fn take_position(&mut self) -> Option<String> {
        self.position.take()
    }

    /// Consumes some bytes, and returns the events that they complete.
    ///
    /// # Errors
    /// [`TooLarge`] when an event exceeds the maximum.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<ServerSentEvent>, TooLarge> {
        self.take_at_most(bytes, MAX_EVENT_BYTES)
    }

    fn take_at_most(&mut self, bytes: &[u8], max_bytes: usize) -> Result<Vec<ServerSentEvent>, TooLarge> {
        let mut messages = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // Its data may be in many lines.
            let data = self.data.as_ref().map_or(0, String::len);
            if data + self.line.len() + piece.len() > max_bytes {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                messages.extend(self.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])));
            }
        }
        Ok(messages)
    }

    fn line(&mut self, line: &str) -> Option<ServerSentEvent> {
        if line.is_empty() {
            let Some(data) = self.data.take() else {
                // Only now it is complete: the id of an event comes before its data.
                self.position = Some(self.id.clone()).filter(|id| !id.is_empty());
                return None;
            };
            self.position = None;
            return Some(ServerSentEvent { id: self.id.clone(), data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = value.into(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.into()),
            },
            // A comment has no field and only keeps the connection alive; other fields are not used here.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_from_any_chunking() {
        let text = ": hello\n\nid: 1\ndata: {\"a\":1}\n\ndata: one\ndata: two\r\n\r\n:\n\nid:3\ndata:x\n\n";
        let message = |id: &str, data: &str| ServerSentEvent { id: id.into(), data: data.into() };
        let expected = [message("1", "{\"a\":1}"), message("1", "one\ntwo"), message("3", "x")];
        for size in [1, 2, 7, text.len()] {
            let mut parser = Parser::default();
            let messages = text.as_bytes().chunks(size).flat_map(|bytes| parser.take(bytes).unwrap());
            assert_eq!(messages.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_message_without_data_is_a_position_once_it_is_complete() {
        let mut parser = Parser::default();
        let mut position = |text: &str| {
            parser.take(text.as_bytes()).unwrap();
            parser.take_position()
        };
        assert_eq!(position(":\n\n"), None, "there is no id yet");
        assert_eq!(position("id: 1\n"), None);
        assert_eq!(position("\n").as_deref(), Some("1"));
        assert_eq!(position("id: 2\n\nid: 3\n"), Some("2".to_owned()), "an event with the id 3 has not arrived");
        assert_eq!(position("data: x\n\n"), None, "the event has its id");
        assert_eq!(position("id: 4\ndata: x\n\nid: 5\n\n").as_deref(), Some("5"));
    }

    #[test]
    fn an_endless_event_is_refused() {
        let endless = |text: &str| {
            let mut parser = Parser::default();
            (0..100).find_map(|_| parser.take_at_most(text.as_bytes(), 64).err())
        };
        assert_eq!(endless("data: without an end"), Some(TooLarge), "of one line");
        assert_eq!(endless("data: more\n"), Some(TooLarge), "of many lines");
        assert_eq!(endless("data: more\n\n"), None, "many events are fine");
    }
}
