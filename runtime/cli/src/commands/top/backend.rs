//! Writes the cells of a screen that have changed to the terminal. All of it goes through `output.rs`, in one write for a frame.

use std::{convert::Infallible, fmt::Write as _};

use crossterm::terminal;
use ratatui::{
    backend::{Backend, ClearType, WindowSize},
    buffer::Cell,
    layout::{Position, Size},
    style::{Color, Modifier},
};

use crate::output;

/// The size of a terminal that does not say it.
const DEFAULT_SIZE: Size = Size { width: 80, height: 24 };

/// The terminal of standard output. What is drawn is written by [`Backend::flush`].
#[derive(Debug, Default)]
pub(crate) struct OutputBackend {
    frame: String,
}

/// The foreground and the weights of a cell.
type Look = (Color, Modifier);

/// Selects the look of the cells that follow.
fn select(frame: &mut String, (colour, modifier): Look) {
    frame.push_str("\x1b[0");
    for (flag, code) in [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::REVERSED, ";7")] {
        if modifier.contains(flag) {
            frame.push_str(code);
        }
    }
    // The view uses no other colours.
    frame.push_str(match colour {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Blue => ";34",
        _ => "",
    });
    frame.push('m');
}

impl Backend for OutputBackend {
    type Error = Infallible;

    fn draw<'a, I>(&mut self, content: I) -> Result<(), Infallible>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let (mut cursor, mut look) = (None, None);
        for (x, y, cell) in content {
            if cursor != Some((x, y)) {
                // Writing to a string cannot fail.
                let _ = write!(self.frame, "\x1b[{};{}H", y + 1, x + 1);
            }
            let wanted = (cell.fg, cell.modifier);
            if look != Some(wanted) {
                select(&mut self.frame, wanted);
                look = Some(wanted);
            }
            self.frame.push_str(cell.symbol());
            // Terminals differ in the width of other characters.
            cursor = cell.symbol().is_ascii().then_some((x + 1, y));
        }
        if look.is_some() {
            self.frame.push_str("\x1b[0m");
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> Result<(), Infallible> {
        self.frame.push_str("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> Result<(), Infallible> {
        self.frame.push_str("\x1b[?25h");
        Ok(())
    }

    /// The cursor is hidden, so its position does not matter.
    fn get_cursor_position(&mut self) -> Result<Position, Infallible> {
        Ok(Position { x: 0, y: 0 })
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> Result<(), Infallible> {
        let Position { x, y } = position.into();
        let _ = write!(self.frame, "\x1b[{};{}H", y + 1, x + 1);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Infallible> {
        self.frame.push_str("\x1b[0m\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, region: ClearType) -> Result<(), Infallible> {
        self.frame.push_str(match region {
            ClearType::All => "\x1b[0m\x1b[2J",
            ClearType::AfterCursor => "\x1b[0m\x1b[J",
            ClearType::BeforeCursor => "\x1b[0m\x1b[1J",
            ClearType::CurrentLine => "\x1b[0m\x1b[2K",
            ClearType::UntilNewLine => "\x1b[0m\x1b[K",
        });
        Ok(())
    }

    fn size(&self) -> Result<Size, Infallible> {
        Ok(match terminal::size() {
            Ok((width, height)) if width > 0 && height > 0 => Size { width, height },
            Ok(_) | Err(_) => DEFAULT_SIZE,
        })
    }

    fn window_size(&mut self) -> Result<WindowSize, Infallible> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size { width: 0, height: 0 } })
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        output::bytes(std::mem::take(&mut self.frame).as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{buffer::Buffer, layout::Rect, style::Style};

    use super::*;

    #[test]
    fn only_changed_cells_are_written() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 2));
        buffer.set_stringn(0, 0, "ab漢c", 6, Style::new());
        buffer.set_stringn(0, 1, "red", 3, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        let cells = [(0_u16, 0_u16), (1, 0), (2, 0), (4, 0), (0, 1), (1, 1)].map(|(x, y)| (x, y, &buffer[(x, y)]));
        let mut backend = OutputBackend::default();
        let Ok(()) = backend.draw(cells.into_iter());
        let drawn = "\x1b[1;1H\x1b[0mab漢\x1b[1;5Hc\x1b[2;1H\x1b[0;1;31mre\x1b[0m";
        assert_eq!(backend.frame, drawn);
        backend.frame.clear();
        let Ok(()) = backend.draw(std::iter::empty());
        assert_eq!(backend.frame, "", "nothing is written without a change");
    }
}
