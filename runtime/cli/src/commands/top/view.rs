//! Draws the model into the cells of a screen. It changes nothing.

mod canvas;
mod overlay;
mod queues;
mod run;
mod runs;
mod table;
mod timeline;
mod words;
mod workers;

#[cfg(test)]
mod tests;

use ratatui::buffer::Buffer;

pub(crate) use canvas::Palette;

use self::{
    canvas::{Canvas, Tone},
    words::duration,
};
use super::model::{Connection, Cursor, Dialog, Loaded, Model, Pane, Screen, Size};

/// Draws the dashboard.
pub(crate) fn draw(model: &Model, palette: Palette, cells: &mut Buffer) {
    let mut canvas = Canvas::new(cells, palette);
    let size = Size { columns: canvas.width(), rows: canvas.height() };
    if !size.is_enough() {
        let Size { columns, rows } = Size::LEAST;
        canvas.line(0, 0, &format!("too small: {columns} columns and {rows} lines are needed; q quits"), Tone::Plain);
        return;
    }
    title(model, &mut canvas);
    match (model.help, model.screen, &model.run) {
        (Some(top), _, _) => overlay::help(&mut canvas, top, model.size.list()),
        (None, Screen::Run, Some(run)) => run::draw(model, run, &mut canvas),
        (None, Screen::Runs | Screen::Run, _) => runs::draw(model, &mut canvas),
        (None, Screen::Workers, _) => workers::draw(model, &mut canvas),
        (None, Screen::Queues, _) => queues::draw(model, &mut canvas),
    }
    footer(model, &mut canvas);
    if let Some(Dialog::Confirm(confirmation)) = &model.dialog {
        overlay::confirm(&mut canvas, confirmation);
    }
}

/// The first line: the screens, the server, and the connection.
fn title(model: &Model, canvas: &mut Canvas<'_>) {
    let mut x = canvas.line(0, 0, "waft top", Tone::Strong) + 2;
    for (name, is_shown) in [
        ("1 Runs", matches!(model.screen, Screen::Runs | Screen::Run)),
        ("2 Workers", model.screen == Screen::Workers),
        ("3 Queues", model.screen == Screen::Queues),
    ] {
        x = tab(canvas, x, 0, name, is_shown);
    }
    let (state, tone) = match &model.connection {
        Connection::Connecting => ("connecting".to_owned(), Tone::Faint),
        Connection::Live => ("live".to_owned(), Tone::Good),
        Connection::Lost { since, .. } => {
            (format!("lost for {}", duration(model.now.elapsed.saturating_sub(*since))), Tone::Bad)
        }
        Connection::Denied { .. } => ("token refused".to_owned(), Tone::Bad),
    };
    let width = canvas.width();
    // The space parts it from the names of the screens where there is no room.
    canvas.put_right(width, 0, width, &format!(" {state}"), tone);
    let taken = u16::try_from(state.len()).unwrap_or(width).saturating_add(2);
    canvas.put(x + 1, 0, width.saturating_sub(x + 1 + taken), &model.server, Tone::Faint);
}

/// A name in a row of names, of which one is shown. Returns the column after it.
fn tab(canvas: &mut Canvas<'_>, x: u16, y: u16, name: &str, is_shown: bool) -> u16 {
    let (text, tone) = if is_shown { (format!("[{name}]"), Tone::Selected) } else { (format!(" {name}"), Tone::Plain) };
    let end = canvas.line(x, y, &text, tone);
    // The bracket that is not there.
    if is_shown { end + 1 } else { end + 2 }
}

/// The last line: what is being typed, a message, or the keys.
fn footer(model: &Model, canvas: &mut Canvas<'_>) {
    let y = canvas.height() - 1;
    match &model.dialog {
        Some(Dialog::Filter { part, line }) => return overlay::prompt(canvas, words::prompt(*part), line),
        Some(Dialog::Reason { task, line, .. }) => {
            return overlay::prompt(canvas, &format!("how you have settled {task}: "), line);
        }
        Some(Dialog::Confirm(_)) | None => {}
    }
    if let Some(message) = &model.message {
        let tone = if message.is_error { Tone::Bad } else { Tone::Strong };
        canvas.line(0, y, &message.text, tone);
        return;
    }
    match &model.connection {
        Connection::Lost { reason, .. } => {
            canvas.line(0, y, &format!("trying again: {reason}"), Tone::Bad);
        }
        Connection::Denied { reason } => {
            canvas.line(0, y, &format!("Ctrl-R asks again, another token needs another start: {reason}"), Tone::Bad);
        }
        Connection::Connecting | Connection::Live => {
            canvas.line(0, y, keys(model), Tone::Faint);
        }
    }
}

/// The most important keys of a screen.
fn keys(model: &Model) -> &'static str {
    if model.help.is_some() {
        return "any key closes the help";
    }
    match (model.screen, model.run.as_ref().map(|run| run.pane)) {
        (Screen::Run, Some(Pane::Graph)) => "Enter open  Tab view  Esc list  C S R T K commands  ? help  q quit",
        (Screen::Run, Some(Pane::Timeline)) => {
            "Enter output  [ ] page  Tab view  Esc list  C S R T commands  ? help  q quit"
        }
        (Screen::Run, Some(Pane::Events)) => "up down scroll  Tab view  Esc list  C S R T commands  ? help  q quit",
        (Screen::Run, Some(Pane::Logs)) => "a all tasks  Tab view  Esc list  C S R T commands  ? help  q quit",
        (Screen::Runs | Screen::Run, _) => {
            "Enter open  / text  f flow  s state  l label  x all  [ ] page  ? help  q quit"
        }
        (Screen::Workers, _) => "D drain  A activate  ? help  q quit",
        (Screen::Queues, _) => "Tab other list  [ ] page  ? help  q quit",
    }
}

/// Says why there are no rows, if there are none. Returns whether it did.
fn nothing<T>(canvas: &mut Canvas<'_>, y: u16, loaded: &Loaded<T>, is_empty: bool, empty: &str) -> bool {
    let (text, tone) = match (&loaded.error, &loaded.value) {
        (Some(error), _) => (error.as_str(), Tone::Bad),
        (None, None) => ("loading", Tone::Faint),
        (None, Some(_)) if is_empty => (empty, Tone::Faint),
        (None, Some(_)) => return false,
    };
    canvas.line(table::INDENT, y, text, tone);
    true
}

/// The rows of a list on the screen, each with its line and whether it is selected.
fn on_screen<T>(rows: &[T], cursor: Cursor, first: u16, visible: usize) -> impl Iterator<Item = (u16, bool, &T)> {
    let shown = rows.iter().enumerate().skip(cursor.top).take(visible);
    shown.zip(first..).map(move |((index, row), y)| (y, index == cursor.selected, row))
}
