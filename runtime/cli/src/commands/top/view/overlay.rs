//! What lies over a screen or in place of it: the help, a question, and a line that is being typed.

use super::canvas::{Canvas, Tone, wrapped};
use crate::{
    commands::top::{
        help,
        model::{Confirmation, Line},
    },
    sanitize,
};

/// The maximum width of a question, and of its text.
const BOX_COLUMNS: u16 = 64;

/// The help, from a line on.
pub(super) fn help(canvas: &mut Canvas<'_>, top: usize, visible: usize) {
    for (line, y) in help::LINES.iter().skip(top).take(visible).zip(2..) {
        let tone = if line.starts_with(' ') { Tone::Plain } else { Tone::Strong };
        canvas.line(2, y, line, tone);
    }
    if top + visible < help::LINES.len() {
        let y = canvas.height() - 2;
        canvas.line(2, y, "more: down", Tone::Faint);
    }
}

/// A question whether to send a command, in the middle.
pub(super) fn confirm(canvas: &mut Canvas<'_>, Confirmation { title, effect, .. }: &Confirmation) {
    let width = BOX_COLUMNS.min(canvas.width() - 4);
    let inner = usize::from(width) - 4;
    // The question and the answers are always there; a longer text is cut.
    let most = usize::from(canvas.height()).saturating_sub(8);
    let titles: Vec<String> = wrapped(title, inner).into_iter().take(3).collect();
    let effects: Vec<String> = wrapped(effect, inner).into_iter().take(most.saturating_sub(titles.len())).collect();
    let rows = titles.len() + effects.len() + 5;
    let height = u16::try_from(rows).unwrap_or(u16::MAX).min(canvas.height());
    let (x, mut y) = ((canvas.width() - width) / 2, (canvas.height() - height) / 2);
    canvas.clear(x, y, width, height);
    let edge = "─".repeat(usize::from(width) - 2);
    canvas.line(x, y, &format!("┌{edge}┐"), Tone::Plain);
    for side in y + 1..y + height - 1 {
        canvas.line(x, side, "│", Tone::Plain);
        canvas.line(x + width - 1, side, "│", Tone::Plain);
    }
    canvas.line(x, y + height - 1, &format!("└{edge}┘"), Tone::Plain);
    let answers = [String::new(), "y  yes, do it     n  no, do nothing".to_owned()];
    let strong = titles.into_iter().map(|line| (line, Tone::Strong));
    let plain = std::iter::once(String::new()).chain(effects).map(|line| (line, Tone::Plain));
    for (line, tone) in strong.chain(plain).chain(answers.into_iter().map(|line| (line, Tone::Strong))) {
        y += 1;
        canvas.put(x + 2, y, width - 4, &line, tone);
    }
}

/// A line that is being typed, in the last line of the screen. Of a long one, its end is shown.
pub(super) fn prompt(canvas: &mut Canvas<'_>, prompt: &str, Line(text): &Line) {
    let y = canvas.height() - 1;
    let most = canvas.width() / 2;
    let x = canvas.put(0, y, most, prompt, Tone::Strong) + 1;
    let room = usize::from(canvas.width().saturating_sub(x));
    // The cursor. It also keeps spaces at the end.
    let mut text = sanitize::one_line(&format!("{text}_")).replace('\t', " ");
    while sanitize::columns(&text) > room {
        text.remove(0);
    }
    canvas.line(x, y, &text, Tone::Plain);
}
