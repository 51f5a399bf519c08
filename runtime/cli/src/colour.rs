//! Colour, used only on a terminal that supports it and only where it is enabled (<https://no-color.org>).
//!
//! `anstream` wraps the streams of the standard library; `output.rs` writes to the descriptors, so that no print can panic.

use std::sync::OnceLock;

use crate::stream::Stream;

/// Whether to use colour on a stream. It is found out once: every printed line depends on it.
pub(crate) fn on(stream: Stream) -> bool {
    static ON: [OnceLock<bool>; 2] = [const { OnceLock::new() }; 2];
    *ON[stream as usize]
        .get_or_init(|| is_interactive(stream) && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()))
}

/// Whether a stream is a terminal that supports control codes: `TERM=dumb` says that it does not, as in an editor's window.
pub(crate) fn is_interactive(stream: Stream) -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    stream.is_terminal() && !is_dumb
}

/// A colour or weight, with its ECMA-48 (SGR) code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Blue => "34",
        }
    }

    /// The text in this colour, if `on`.
    pub(crate) fn text(self, text: &str, on: bool) -> String {
        if on { format!("\x1b[{}m{text}\x1b[0m", self.code()) } else { text.into() }
    }
}
