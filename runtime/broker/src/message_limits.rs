//! What AMQP carries of a message beside its body: short names, keys and ids, and headers that fit into one frame. All brokers have these
//! limits, so that what works in one process works with RabbitMQ.

use protocol::topology as names;

use crate::{Message, Properties};

/// The maximum bytes of a name, a key or an id in AMQP.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// The maximum bytes of all headers together: they are sent in one frame, and the smallest common frame limit of brokers is
/// larger.
const MAX_HEADERS_BYTES: usize = 100 * 1024;

/// The bytes that the copy of a message leaves free for headers that waft adds to it.
const ADDED_HEADERS_BYTES: usize = 8 * 1024;

/// The bytes that a header takes beside its name and its text.
const HEADER_OVERHEAD: usize = 8;

/// Checks that AMQP can carry a message, apart from the size of its body, which the broker limits. The error says what is too large.
pub(crate) fn check(message: &Message) -> Result<(), String> {
    let Properties { message_id, reply_to, correlation_id, content_type, headers } = &message.properties;
    let texts = [
        ("exchange", Some(&message.exchange)),
        ("routing key", Some(&message.key)),
        ("message id", message_id.as_ref()),
        ("reply queue", reply_to.as_ref()),
        ("correlation id", correlation_id.as_ref()),
        ("content type", content_type.as_ref()),
    ];
    let texts = texts.into_iter().filter_map(|(what, text)| Some((what, text?)));
    let names = headers.keys().map(|name| ("name of a header", name));
    for (what, text) in texts.chain(names) {
        if text.len() > MAX_NAME_BYTES {
            return Err(format!("its {what} has {} bytes, and AMQP allows {MAX_NAME_BYTES}", text.len()));
        }
    }
    let bytes = bytes_of_headers(&message.properties);
    if bytes > MAX_HEADERS_BYTES {
        return Err(format!("its headers have {bytes} bytes, and the maximum is {MAX_HEADERS_BYTES}"));
    }
    Ok(())
}

fn bytes_of_headers(properties: &Properties) -> usize {
    properties.headers.iter().map(bytes_of_header).sum()
}

fn bytes_of_header((name, text): (&String, &String)) -> usize {
    name.len() + text.len() + HEADER_OVERHEAD
}

impl Properties {
    /// Leaves out the largest headers until a message can carry the rest and some more, and notes in a header how many are left out.
    ///
    /// A broker delivers larger headers than a message of waft may have: their sender decides. A copy with all of them could never be
    /// sent.
    pub fn cut_headers(&mut self) {
        let mut bytes = bytes_of_headers(self);
        if bytes <= MAX_HEADERS_BYTES - ADDED_HEADERS_BYTES {
            return;
        }
        let mut by_size: Vec<(usize, String)> =
            self.headers.iter().map(|header| (bytes_of_header(header), header.0.clone())).collect();
        by_size.sort_unstable();
        let (mut left_out, mut left_out_bytes) = (0, 0);
        while bytes > MAX_HEADERS_BYTES - ADDED_HEADERS_BYTES
            && let Some((size, name)) = by_size.pop()
        {
            self.headers.remove(&name);
            bytes -= size;
            left_out += 1;
            left_out_bytes += size;
        }
        let note = format!("{left_out} with {left_out_bytes} bytes are left out");
        self.headers.insert(names::HEADERS_CUT.to_owned(), note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_headers_are_cut_and_the_rest_stays() {
        let headers = [("run", 1), ("large", 60_000), ("larger", 60_001), ("task", 2)];
        let mut properties = Properties {
            headers: headers.map(|(name, length)| (name.to_owned(), "x".repeat(length))).into(),
            ..Properties::default()
        };
        properties.cut_headers();
        let names: Vec<&str> = properties.headers.keys().map(String::as_str).collect();
        assert_eq!(names, [names::HEADERS_CUT, "large", "run", "task"]);
        assert_eq!(properties.headers[names::HEADERS_CUT], "1 with 60015 bytes are left out");
        let cut = properties.clone();
        properties.cut_headers();
        assert_eq!(properties, cut, "there is nothing more to cut");
    }

    #[test]
    fn many_headers_are_cut_to_what_a_message_may_have() {
        let header = |number: usize| (format!("h{number}"), "x".repeat(1_000));
        let mut properties = Properties { headers: (0..256).map(header).collect(), ..Properties::default() };
        properties.cut_headers();
        let bytes = bytes_of_headers(&properties);
        assert!(bytes <= MAX_HEADERS_BYTES - ADDED_HEADERS_BYTES + 100 && bytes > 90_000, "{bytes}");
    }
}
