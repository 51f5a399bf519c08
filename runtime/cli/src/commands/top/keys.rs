//! Turns the bytes that a terminal sends into keys. A pasted text is one key, so its characters are no commands.

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character.
    Char(char),
    /// A letter together with Ctrl.
    Control(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Left,
    Right,
    /// A key that moves a selection.
    Move(Movement),
    /// A text that was pasted.
    Paste(String),
}

/// A move in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Movement {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

impl Key {
    /// The move in a list, if the key is one: an arrow, or `j` and `k` as in vi.
    pub(crate) const fn movement(&self) -> Option<Movement> {
        match self {
            Self::Move(movement) => Some(*movement),
            Self::Char('j') => Some(Movement::Down),
            Self::Char('k') => Some(Movement::Up),
            Self::Char(_)
            | Self::Control(_)
            | Self::Enter
            | Self::Escape
            | Self::Backspace
            | Self::Tab
            | Self::BackTab
            | Self::Left
            | Self::Right
            | Self::Paste(_) => None,
        }
    }
}

const ESCAPE: u8 = 0x1b;

/// The end of a pasted text.
const PASTE_END: &[u8] = b"\x1b[201~";

/// The maximum length of a control sequence, in bytes. A longer one is dropped.
const MAX_SEQUENCE: usize = 64;

/// The maximum length of a pasted text, in bytes. More is dropped: it is for one line of input.
const MAX_PASTE: usize = 4_096;

/// Reads keys from bytes, however they are divided.
#[derive(Debug, Default)]
pub(crate) struct KeyParser {
    /// The bytes of an incomplete key.
    pending: Vec<u8>,
    /// The text so far, while one is being pasted.
    pasted: Option<Vec<u8>>,
}

/// A key, if the bytes are one, and the number of its bytes.
type First = (Option<Key>, usize);

impl KeyParser {
    /// Consumes some bytes, and returns the keys that they complete.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let (mut keys, mut rest) = (Vec::new(), &pending[..]);
        while !rest.is_empty() {
            let Some((key, length)) = self.first(rest) else { break };
            keys.extend(key);
            rest = &rest[length..];
        }
        self.pending = rest.to_vec();
        keys
    }

    /// Whether the bytes so far may be a key, or the start of a longer one: the caller then waits for a short time.
    pub(crate) fn is_undecided(&self) -> bool {
        !self.pending.is_empty() && self.pasted.is_none()
    }

    /// Decides about an incomplete key after nothing has followed: an escape alone is the key Esc, the rest is dropped.
    pub(crate) fn decide(&mut self) -> Option<Key> {
        let pending = std::mem::take(&mut self.pending);
        (pending == [ESCAPE]).then_some(Key::Escape)
    }

    /// The key at the start of bytes; `None` if more bytes are needed. The bytes are not empty.
    fn first(&mut self, bytes: &[u8]) -> Option<First> {
        if let Some(pasted) = self.pasted.take() {
            return self.paste(pasted, bytes);
        }
        match bytes[0] {
            ESCAPE => self.escape(bytes),
            b'\r' | b'\n' => Some((Some(Key::Enter), 1)),
            b'\t' => Some((Some(Key::Tab), 1)),
            0x7f | 0x08 => Some((Some(Key::Backspace), 1)),
            byte @ 0x01..=0x1a => Some((Some(Key::Control(char::from(byte - 1 + b'a'))), 1)),
            0x00 | 0x1c..=0x1f => Some((None, 1)),
            _ => character(bytes),
        }
    }

    /// A key that begins with an escape.
    fn escape(&mut self, bytes: &[u8]) -> Option<First> {
        match bytes.get(1)? {
            b'[' if *bytes.get(2)? == b'[' => {
                // A function key of the Linux console, such as `ESC [ [ A`. waft uses none.
                bytes.get(3)?;
                Some((None, 4))
            }
            b'[' => {
                let Some(end) = bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
                    return (bytes.len() > MAX_SEQUENCE).then_some((None, bytes.len()));
                };
                let (parameters, last) = (&bytes[2..2 + end], bytes[2 + end]);
                if parameters == b"200" && last == b'~' {
                    self.pasted = Some(Vec::new());
                    return Some((None, end + 3));
                }
                Some((sequence(parameters, last), end + 3))
            }
            b'O' => Some((sequence(b"", *bytes.get(2)?), 3)),
            _ => Some((Some(Key::Escape), 1)),
        }
    }

    /// Adds bytes to a pasted text, up to its end.
    fn paste(&mut self, mut pasted: Vec<u8>, bytes: &[u8]) -> Option<First> {
        let end = bytes.windows(PASTE_END.len()).position(|window| window == PASTE_END);
        // Without the end, its first bytes may be at the end of these.
        let length = end.unwrap_or_else(|| bytes.len().saturating_sub(PASTE_END.len() - 1));
        let room = MAX_PASTE.saturating_sub(pasted.len());
        pasted.extend_from_slice(&bytes[..length.min(room)]);
        if end.is_some() {
            let text = String::from_utf8_lossy(&pasted).into_owned();
            return Some((Some(Key::Paste(text)), length + PASTE_END.len()));
        }
        self.pasted = Some(pasted);
        (length > 0).then_some((None, length))
    }
}

/// The key of a control sequence.
fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    Some(match (last, parameters) {
        (b'A', _) => Key::Move(Movement::Up),
        (b'B', _) => Key::Move(Movement::Down),
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Move(Movement::First),
        (b'F', _) | (b'~', b"4" | b"8") => Key::Move(Movement::Last),
        (b'~', b"5") => Key::Move(Movement::PageUp),
        (b'~', b"6") => Key::Move(Movement::PageDown),
        (b'M', b"") => Key::Enter,
        (b'Z', _) => Key::BackTab,
        _ => return None,
    })
}

/// A character in UTF-8. Bytes that are none are dropped.
fn character(bytes: &[u8]) -> Option<First> {
    let length = match bytes[0] {
        ..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some((None, 1)),
    };
    let text = std::str::from_utf8(bytes.get(..length)?).ok();
    let Some(char) = text.and_then(|text| text.chars().next()) else { return Some((None, 1)) };
    Some(((!char.is_control()).then_some(Key::Char(char)), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed_from_any_chunking() {
        let bytes = "q\r\x1b[A\x1bOB\x1b[5~\x1b[1;5C\x03\x7f漢\t\x1b[Z\x1b[200~C\x1b[y\n\x1b[201~x".as_bytes();
        let expected = [
            Key::Char('q'),
            Key::Enter,
            Key::Move(Movement::Up),
            Key::Move(Movement::Down),
            Key::Move(Movement::PageUp),
            Key::Right,
            Key::Control('c'),
            Key::Backspace,
            Key::Char('漢'),
            Key::Tab,
            Key::BackTab,
            Key::Paste("C\u{1b}[y\n".into()),
            Key::Char('x'),
        ];
        for size in [1, 2, 3, 7, bytes.len()] {
            let mut parser = KeyParser::default();
            let keys: Vec<Key> = bytes.chunks(size).flat_map(|bytes| parser.take(bytes)).collect();
            assert_eq!(keys, expected, "in chunks of {size}");
            assert!(!parser.is_undecided());
        }
    }

    #[test]
    fn an_escape_alone_is_a_key_once_nothing_follows() {
        let mut parser = KeyParser::default();
        assert_eq!(parser.take(b"\x1b"), []);
        assert!(parser.is_undecided());
        assert_eq!(parser.decide(), Some(Key::Escape));
        assert_eq!(parser.take(b"\x1bq"), [Key::Escape, Key::Char('q')]);
        assert_eq!((parser.take(b"\x1b["), parser.decide()), (Vec::new(), None), "the rest of a lost key is dropped");
        assert_eq!(parser.take(b"A"), [Key::Char('A')]);
    }

    #[test]
    fn function_keys_are_no_commands() {
        let mut parser = KeyParser::default();
        assert_eq!(parser.take(b"\x1b[[A\x1b[15~\x1bOP\x1b[24;2~\x1b[<0;1;1M"), []);
        assert!(!parser.is_undecided());
    }

    #[test]
    fn hostile_input_stays_small() {
        let mut parser = KeyParser::default();
        for _ in 0..1_000 {
            assert_eq!(parser.take(b"\x1b[0000000000000000000000000000000000000000000000000000000000000000"), []);
            assert!(parser.pending.len() <= 2 * MAX_SEQUENCE + 8, "{}", parser.pending.len());
            parser.decide();
        }
        parser.take(b"\x1b[200~");
        for _ in 0..1_000 {
            assert_eq!(parser.take(&[b'x'; 1_000]), []);
        }
        let keys = parser.take(PASTE_END);
        assert!(matches!(&keys[..], [Key::Paste(text)] if text.len() == MAX_PASTE), "{}", keys.len());
        assert_eq!(parser.take(&[0xff, 0xc3, 0x28, 0x00]), [Key::Char('(')]);
    }
}
