//! Renders diagnostics for people: the message, the place, the line itself, and the hint.
//!
//! There is one form of excerpt, the same in a terminal, in a log and in the answer of a server, so it needs no library.

use std::{fmt::Write, ops::Range};

use crate::{Diagnostic, Severity};

/// The widest excerpt of a line, in characters.
const MAX_EXCERPT_CHARS: usize = 120;

/// The lines of a text: finds the positions of many bytes, at little cost for each.
pub struct Lines<'t> {
    text: &'t str,
    /// Where each line starts.
    starts: Vec<usize>,
    /// The number of characters before each [`STRIDE`] of bytes, since a line may be as long as the text.
    chars_before: Vec<usize>,
}

/// The number of bytes in which characters are counted for one position, at most.
const STRIDE: usize = 1 << 10;

impl<'t> Lines<'t> {
    /// The lines of a text.
    #[must_use]
    pub fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        let counts = text.as_bytes().chunks(STRIDE).scan(0, |before, chunk| {
            *before += count_chars(chunk);
            Some(*before)
        });
        Self { text, starts, chars_before: std::iter::once(0).chain(counts).collect() }
    }

    /// Line and column of a byte, both from 1; columns count characters.
    #[must_use]
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        (line, self.chars_before(offset) - self.chars_before(self.starts[line - 1]) + 1)
    }

    /// The number of characters before a byte where a character starts.
    fn chars_before(&self, offset: usize) -> usize {
        let stride = offset / STRIDE;
        self.chars_before[stride] + count_chars(&self.text.as_bytes()[stride * STRIDE..offset])
    }

    /// A line, numbered from 1, without its line break.
    fn line(&self, number: usize) -> &'t str {
        let end = self.starts.get(number).map_or(self.text.len(), |next| next - 1);
        self.text[self.starts[number - 1]..end].trim_end_matches('\r')
    }
}

/// The number of characters that start in these bytes of UTF-8.
fn count_chars(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// The maximum number of diagnostics that are rendered: further ones mostly have the same cause.
const MAX_RENDERED: usize = 50;

/// Renders diagnostics with the lines that they concern: the first 50, and the number of the others. `file` is the name to
/// show, `text` the content of the file.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], file: &str, text: &str) -> String {
    let lines = Lines::of(text);
    let shown = diagnostics.iter().take(MAX_RENDERED).map(|diagnostic| render_one(diagnostic, file, &lines));
    let more = diagnostics.len().saturating_sub(MAX_RENDERED);
    let more = (more > 0).then(|| format!("{more} more are not shown: `waft check {file} --json` prints all\n"));
    shown.chain(more).collect::<Vec<_>>().join("\n")
}

fn render_one(diagnostic: &Diagnostic, file: &str, lines: &Lines<'_>) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut out = format!("{severity}: {}\n", diagnostic.message);
    match &diagnostic.span {
        Some(span) => excerpt(span, file, lines, &mut out),
        None => out.push_str(&format!(" --> {file}\n")),
    }
    if let Some(hint) = &diagnostic.hint {
        out.push_str(&format!("hint: {hint}\n"));
    }
    out
}

/// The first line of a span, underlined.
fn excerpt(span: &Range<usize>, file: &str, lines: &Lines<'_>, out: &mut String) {
    let (number, column) = lines.line_and_column(span.start);
    let (end_number, end_column) = lines.line_and_column(span.end);
    let line: Vec<char> = lines.line(number).chars().map(printable).collect();
    let end = if end_number == number { end_column - 1 } else { line.len() };
    // Of a very long line, only the part around the span is shown.
    let from = if line.len() <= MAX_EXCERPT_CHARS {
        0
    } else {
        (column - 1).saturating_sub(MAX_EXCERPT_CHARS / 4).min(line.len() - MAX_EXCERPT_CHARS)
    };
    let visible = &line[from..line.len().min(from + MAX_EXCERPT_CHARS)];
    let until = end.min(from + visible.len());
    let pad: String = visible[..(column - 1 - from).min(visible.len())]
        .iter()
        .map(|char| if *char == '\t' { '\t' } else { ' ' })
        .collect();
    let carets = "^".repeat(until.saturating_sub(column - 1).max(1));
    let margin = " ".repeat(number.to_string().len());
    let visible: String = visible.iter().collect();
    let _ = writeln!(out, "{margin}--> {file}:{number}:{column}");
    let _ = writeln!(out, "{margin} |\n{number} | {}\n{margin} | {pad}{carets}", visible.trim_end());
}

/// Replaces control characters: a file may contain terminal escape sequences.
fn printable(char: char) -> char {
    if char.is_control() && char != '\t' { '\u{FFFD}' } else { char }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_stay_within_the_text() {
        let text = "ä = 1\nbc\n";
        for (offset, position) in [(0, (1, 1)), (1, (1, 1)), (2, (1, 2)), (7, (2, 1)), (10, (3, 1)), (99, (3, 1))] {
            assert_eq!(Lines::of(text).line_and_column(offset), position, "{offset}");
        }
        assert_eq!(Lines::of("").line_and_column(0), (1, 1));
    }

    #[test]
    fn columns_of_a_long_line_count_characters() {
        let text = format!("x\n{}ab", "äö\u{1f469}".repeat(STRIDE));
        let lines = Lines::of(&text);
        for (index, (offset, _)) in text[2..].char_indices().enumerate() {
            assert_eq!(lines.line_and_column(offset + 2), (2, index + 1), "{offset}");
        }
        assert_eq!(lines.line_and_column(text.len()), (2, 3 * STRIDE + 3));
        let aligned = "a".repeat(2 * STRIDE);
        assert_eq!(Lines::of(&aligned).line_and_column(2 * STRIDE), (1, 2 * STRIDE + 1));
    }

    #[test]
    fn the_first_diagnostics_are_shown_and_the_others_counted() {
        let many = |count: usize| vec![Diagnostic::error(None, "it is bad"); count];
        assert_eq!(render(&many(50), "f.toml", "").matches("it is bad").count(), 50);
        let rendered = render(&many(2_000), "f.toml", "");
        assert_eq!(rendered.matches("it is bad").count(), 50);
        assert!(rendered.ends_with("\n1950 more are not shown: `waft check f.toml --json` prints all\n"), "{rendered}");
    }

    #[test]
    fn a_diagnostic_underlines_its_span() {
        let text = "a = 1\n\tbad\t= \"x\u{7}\"\n";
        let diagnostic = Diagnostic::error(Some(7..10), "it is bad").hint("make it good");
        let warning = Diagnostic::warning(None, "it is odd");
        let expected = "error: it is bad\n --> f.toml:2:2\n  |\n2 | \tbad\t= \"x\u{FFFD}\"\n  | \t^^^\nhint: make it good\n\nwarning: it is odd\n --> f.toml\n";
        assert_eq!(render(&[diagnostic, warning], "f.toml", text), expected);
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_span() {
        let text = format!("{}bad{}", "x".repeat(10_000), "y".repeat(10_000));
        let rendered = render(&[Diagnostic::error(Some(10_000..10_003), "bad")], "f", &text);
        assert!(rendered.len() < 400 && rendered.contains("xbady") && rendered.contains(" ^^^\n"), "{rendered}");
    }

    #[test]
    fn a_span_beyond_the_text_or_over_lines_is_shown_all_the_same() {
        for (text, span) in [("", 0..5), ("a", 9..12), ("a\nb", 0..3), ("a\n", 2..2), ("ä", 1..1)] {
            let rendered = render(&[Diagnostic::error(Some(span), "bad")], "f", text);
            assert!(rendered.contains('^'), "{rendered}");
        }
    }
}
