//! Writes text into the cells of a screen. It cleans each text, since guests, people and other processes supply parts of it.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use crate::{colour::Colour, sanitize};

/// What a text stands out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Busy,
    Caution,
    Bad,
    /// The selected row, or the shown screen.
    Selected,
}

impl From<Colour> for Tone {
    fn from(colour: Colour) -> Self {
        match colour {
            Colour::Bold => Self::Strong,
            Colour::Dim => Self::Faint,
            Colour::Red => Self::Bad,
            Colour::Green => Self::Good,
            Colour::Yellow => Self::Caution,
            Colour::Blue => Self::Busy,
        }
    }
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    Colours,
    /// Only weights and reversed cells.
    None,
}

impl Palette {
    fn style(self, tone: Tone) -> Style {
        let (style, is_coloured) = (Style::new(), self == Self::Colours);
        match tone {
            Tone::Plain => style,
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Selected => style.add_modifier(Modifier::REVERSED),
            Tone::Bad if !is_coloured => style.add_modifier(Modifier::BOLD),
            Tone::Faint | Tone::Good | Tone::Busy | Tone::Caution if !is_coloured => style,
            Tone::Faint => style.add_modifier(Modifier::DIM),
            Tone::Good => style.fg(Color::Green),
            Tone::Busy => style.fg(Color::Blue),
            Tone::Caution => style.fg(Color::Yellow),
            Tone::Bad => style.fg(Color::Red),
        }
    }
}

/// The cells of a screen.
pub(crate) struct Canvas<'a> {
    cells: &'a mut Buffer,
    palette: Palette,
}

impl<'a> Canvas<'a> {
    pub(crate) fn new(cells: &'a mut Buffer, palette: Palette) -> Self {
        Self { cells, palette }
    }

    pub(crate) fn width(&self) -> u16 {
        self.cells.area.width
    }

    pub(crate) fn height(&self) -> u16 {
        self.cells.area.height
    }

    /// Writes a text into at most `width` columns, and returns the column after it. A text that does not fit ends with `…`.
    pub(crate) fn put(&mut self, x: u16, y: u16, width: u16, text: &str, tone: Tone) -> u16 {
        if y >= self.height() || x >= self.width() {
            return x;
        }
        let width = usize::from(width.min(self.width() - x));
        let (end, _) = self.cells.set_stringn(x, y, fitted(text, width), width, self.palette.style(tone));
        end
    }

    /// Writes a text that ends at a column, in at most `width` columns.
    pub(crate) fn put_right(&mut self, end: u16, y: u16, width: u16, text: &str, tone: Tone) {
        let text = fitted(text, usize::from(width));
        let taken = u16::try_from(sanitize::columns(&text)).unwrap_or(width);
        self.put(end.saturating_sub(taken), y, width, &text, tone);
    }

    /// Writes a text from a column to the end of the line.
    pub(crate) fn line(&mut self, x: u16, y: u16, text: &str, tone: Tone) -> u16 {
        self.put(x, y, self.width(), text, tone)
    }

    /// Marks a row as selected. Its `>` shows it where nothing else can.
    pub(crate) fn select(&mut self, y: u16) {
        self.put(0, y, 1, ">", Tone::Selected);
        let (area, style) = (Rect::new(0, y, self.width(), 1), self.palette.style(Tone::Selected));
        self.cells.set_style(area, style);
    }

    /// Empties a part of the screen.
    pub(crate) fn clear(&mut self, x: u16, y: u16, width: u16, height: u16) {
        for y in y..y.saturating_add(height).min(self.height()) {
            for x in x..x.saturating_add(width).min(self.width()) {
                self.cells[(x, y)].reset();
            }
        }
    }
}

/// A text of others on one line, cut to a number of columns.
pub(super) fn fitted(text: &str, columns: usize) -> String {
    // Most of a long text is not shown, so it is not cleaned either.
    let start: String = text.chars().take(columns.saturating_mul(4) + 16).collect();
    let is_cut = start.len() < text.len();
    let line = sanitize::one_line(&start).replace('\t', " ");
    if !is_cut && sanitize::columns(&line) <= columns {
        return line;
    }
    match columns {
        0 => String::new(),
        _ => sanitize::cut(&line, columns - 1) + "…",
    }
}

/// A text as lines of at most so many columns, divided at spaces where possible.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let text = sanitize::one_line(text).replace('\t', " ");
    let columns = columns.max(1);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let with_word = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if sanitize::columns(&with_word) <= columns {
            line = with_word;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        line = word.to_owned();
        while sanitize::columns(&line) > columns {
            let start = sanitize::cut(&line, columns);
            if start.is_empty() {
                // A character that is wider than the line.
                break;
            }
            line = line[start.len()..].to_owned();
            lines.push(start);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_is_one_harmless_line() {
        assert_eq!(fitted("a\x1b[2J\tb\nc", 40), r"a\x1b[2J b ⏎ c");
        assert_eq!(fitted("漢字漢字", 5), "漢字…");
        assert_eq!(fitted("漢字漢字", 6), "漢字…", "a wide character is not divided");
        assert_eq!(fitted("abc", 3), "abc");
        assert_eq!((fitted("abc", 1), fitted("abc", 0)), ("…".to_owned(), String::new()));
        assert_eq!(fitted(&"x".repeat(1 << 20), 4), "xxx…");
    }

    #[test]
    fn a_text_is_divided_at_spaces() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("0123456789 a", 4), ["0123", "4567", "89 a"]);
        assert_eq!(wrapped("漢字漢", 4), ["漢字", "漢"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
