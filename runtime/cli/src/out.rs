//! Data on standard output. A closed pipe ends nobody's command: what is written to it is lost.

use std::io::Write;

/// Writes a line and lets it be seen.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a line of data, as `println!` would.
macro_rules! say {
    ($($text:tt)*) => { $crate::out::line(&format!($($text)*)) };
}
pub(crate) use say;
