//! Makes text from outside harmless for a terminal: guests, people and other processes supply text that is printed here.
//!
//! The printers of `output.rs` clean everything they print, so no caller can forget it. Code that builds a line cleans its
//! parts with [`one_line`], so that they cannot break it. Code that draws in place cuts text with [`cut`].

use unicode_width::UnicodeWidthChar;

/// Whether text keeps the colour codes that waft itself added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColourCodes {
    /// The stream shows colours. A guest may write the same codes; each line ends with a reset.
    Keep,
    /// The text contains no colours.
    Strip,
}

/// Makes text harmless: it writes control characters, escape sequences, and characters that reverse the reading order as
/// escapes like `\x1b`. Line ends and tabs stay.
pub(crate) fn sanitize(text: &str, colours: ColourCodes) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut is_coloured = false;
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        if colours == ColourCodes::Keep
            && let Some(code) = colour_code(rest)
        {
            is_coloured = code != RESET;
            cleaned.push_str(code);
            rest = &rest[code.len()..];
            continue;
        }
        rest = &rest[char.len_utf8()..];
        match char {
            '\r' if rest.starts_with('\n') => {}
            '\n' => {
                cleaned.push_str(if std::mem::take(&mut is_coloured) { "\x1b[0m\n" } else { "\n" });
            }
            '\t' => cleaned.push(char),
            char if is_control(char) => cleaned.push_str(&escape(char)),
            char => cleaned.push(char),
        }
    }
    if is_coloured {
        cleaned.push_str(RESET);
    }
    cleaned
}

/// Like [`sanitize`], for text that must not start another line, which it could present as one of waft's.
pub(crate) fn one_line(text: &str) -> String {
    without_line_ends(&sanitize(text.trim_end(), ColourCodes::Strip))
}

/// Shows line ends as characters, so that the text stays on its line.
pub(crate) fn without_line_ends(text: &str) -> String {
    text.replace('\n', " ⏎ ")
}

/// Like [`sanitize`], for text of several lines below a heading of waft's: it indents all lines but the first.
pub(crate) fn indented(text: &str, columns: usize) -> String {
    sanitize(text.trim_end(), ColourCodes::Strip).replace('\n', &format!("\n{:columns$}", ""))
}

/// Makes JSON harmless without changing its meaning: it escapes characters that a terminal might obey.
pub(crate) fn sanitize_json(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            // JSON escapes these within strings, so here they stand between values.
            '\n' | '\r' | '\t' => cleaned.push(' '),
            char if is_control(char) => cleaned.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => cleaned.push(char),
        }
    }
    cleaned
}

/// The number of terminal columns that a line without colours takes.
pub(crate) fn columns(line: &str) -> usize {
    line.chars().map(|char| char.width().unwrap_or(0)).sum()
}

/// Cuts a line to a number of columns; colour codes take none, and wide characters two. No colour goes beyond the line.
pub(crate) fn cut(line: &str, columns: usize) -> String {
    let mut cut = String::new();
    let (mut remaining, mut is_full, mut is_coloured, mut rest) = (columns, false, false, line);
    while let Some(char) = rest.chars().next() {
        if let Some(code) = colour_code(rest) {
            is_coloured = code != RESET;
            cut.push_str(code);
            rest = &rest[code.len()..];
            continue;
        }
        rest = &rest[char.len_utf8()..];
        let char = if is_control(char) || char.is_control() { ' ' } else { char };
        let width = char.width().unwrap_or(0);
        is_full |= width > remaining;
        if !is_full {
            remaining -= width;
            cut.push(char);
        }
    }
    if is_coloured {
        cut.push_str(RESET);
    }
    cut
}

/// Whether a terminal may do more with a character than display it.
fn is_control(char: char) -> bool {
    let reorders = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_line = matches!(char, '\u{2028}' | '\u{2029}');
    char.is_control() && char != '\n' && char != '\t' || reorders || ends_line
}

fn escape(char: char) -> String {
    match u32::from(char) {
        code @ ..=0xff => format!("\\x{code:02x}"),
        code => format!("\\u{{{code:x}}}"),
    }
}

const RESET: &str = "\x1b[0m";

/// The code at the start of a text that only sets colours or weights, as waft and its log lines use them.
fn colour_code(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let length = parameters.find('m')?;
    let known = |code: &str| matches!(code, "0" | "1" | "2" | "3" | "4" | "31" | "32" | "33" | "34" | "35" | "36");
    parameters[..length].split(';').all(known).then(|| &text[.."\x1b[".len() + length + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Titles, clipboards (OSC 52), cursor moves, 8-bit codes, reversed text, and a line that imitates one of waft's.
    const EVIL: &str =
        "\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[8mhidden\u{9b}2A\u{202e}txt\u{2028}\rt success\nt success";

    #[test]
    fn terminal_commands_are_escaped() {
        let written = "\\x1b]0;title\\x07\\x1b]52;c;ZXZpbA==\\x07\\x1b[2J\\x1b[8mhidden\\x9b2A\\u{202e}txt\\u{2028}\\x0dt success";
        assert_eq!(sanitize(EVIL, ColourCodes::Strip), format!("{written}\nt success"));
        assert_eq!(sanitize(EVIL, ColourCodes::Keep), format!("{written}\nt success"));
        assert_eq!(one_line(EVIL), format!("{written} ⏎ t success"));
        assert_eq!(indented("a\n\x1bb\n", 2), "a\n  \\x1bb");
        assert_eq!(sanitize("ä\t漢 🎂\r\n", ColourCodes::Strip), "ä\t漢 🎂\n", "other text is unchanged");
    }

    #[test]
    fn colours_never_leak_beyond_their_line() {
        let painted = "\x1b[1;31mred\x1b[0m";
        assert_eq!(sanitize(painted, ColourCodes::Keep), painted);
        assert_eq!(sanitize(painted, ColourCodes::Strip), "\\x1b[1;31mred\\x1b[0m");
        assert_eq!(
            sanitize("\x1b[31mred\nplain\x1b[32mgreen", ColourCodes::Keep),
            "\x1b[31mred\x1b[0m\nplain\x1b[32mgreen\x1b[0m"
        );
    }

    #[test]
    fn sanitized_json_keeps_its_meaning() {
        let text = serde_json::to_string(EVIL).unwrap();
        let cleaned = sanitize_json(&format!("[{text},\r\n\t1]"));
        assert!(!cleaned.chars().any(is_control) && !cleaned.contains('\n'), "{cleaned}");
        assert_eq!(serde_json::from_str::<(String, u8)>(&cleaned).unwrap(), (EVIL.into(), 1));
    }

    #[test]
    fn a_line_is_cut_to_a_number_of_columns_and_keeps_its_colour_codes() {
        assert_eq!(cut("\x1b[31mabcdef\x1b[0m", 3), "\x1b[31mabc\x1b[0m");
        assert_eq!(cut("\x1b[31;4mabc", 2), "\x1b[31;4mab\x1b[0m", "the next line has no colour");
        assert_eq!(cut("漢字字", 5), "漢字", "each takes two columns");
        assert_eq!(cut("a\tb\u{7}c\x1b]0;t", 20), "a b c ]0;t", "control characters of a guest move nothing");
    }
}
