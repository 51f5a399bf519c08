//! Parses server-sent events from a stream of bytes.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServerSentEvent {
    /// Its id, or the last id before it.
    pub(crate) id: String,
    /// Its data.
    pub(crate) data: String,
}

/// The maximum length of a line in bytes: a run's last line holds all its values.
const MAX_LINE_BYTES: usize = 1 << 30;

/// Assembles events from bytes.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    id: String,
    data: Option<String>,
}

impl Parser {
    /// Consumes some bytes, and returns the events that they complete; `None` when a line exceeds the maximum.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<Vec<ServerSentEvent>> {
        let mut messages = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MAX_LINE_BYTES {
                return None;
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                messages.extend(self.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])));
            }
        }
        Some(messages)
    }

    fn line(&mut self, line: &str) -> Option<ServerSentEvent> {
        if line.is_empty() {
            let data = self.data.take()?;
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
}
