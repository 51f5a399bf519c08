//! Columns of a table, as many as fit.

use super::canvas::{Canvas, Tone};

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// The width that it would like to have, and the least that is of use.
    pub(super) wanted: usize,
    pub(super) least: usize,
    pub(super) align: Align,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

impl Column {
    pub(super) const fn left(title: &'static str, wanted: usize, least: usize) -> Self {
        Self { title, wanted, least, align: Align::Left }
    }

    pub(super) const fn right(title: &'static str, width: usize) -> Self {
        Self { title, wanted: width, least: width, align: Align::Right }
    }
}

/// The columns of a table with their places.
pub(super) struct Table<const N: usize> {
    columns: [Column; N],
    /// Where each column begins, and its width; `None` if it does not fit.
    places: [Option<(u16, u16)>; N],
}

/// The column in which rows begin, after the mark of the selected one.
pub(super) const INDENT: u16 = 2;

impl<const N: usize> Table<N> {
    /// Gives each column the width that it wants, from left to right, as long as there is room. The last one gets the rest.
    pub(super) fn new(columns: [Column; N], width: u16) -> Self {
        let (mut places, mut x) = ([None; N], INDENT);
        for (index, column) in columns.iter().enumerate() {
            let room = width.saturating_sub(x);
            if usize::from(room) < column.least {
                continue;
            }
            let wanted = u16::try_from(column.wanted.max(column.least)).unwrap_or(u16::MAX);
            let taken = if index + 1 == N { room } else { wanted.min(room) };
            places[index] = Some((x, taken));
            x = x.saturating_add(taken).saturating_add(1);
        }
        Self { columns, places }
    }

    /// Writes the titles.
    pub(super) fn head(&self, canvas: &mut Canvas<'_>, y: u16) {
        self.row(canvas, y, self.columns.map(|column| (column.title.to_owned(), Tone::Faint)));
    }

    /// Writes a row.
    pub(super) fn row(&self, canvas: &mut Canvas<'_>, y: u16, cells: [(String, Tone); N]) {
        for ((column, place), (text, tone)) in self.columns.iter().zip(self.places).zip(cells) {
            let Some((x, width)) = place else { continue };
            match column.align {
                Align::Left => {
                    canvas.put(x, y, width, &text, tone);
                }
                Align::Right => canvas.put_right(x + width, y, width, &text, tone),
            }
        }
    }
}

/// The width of the longest text, within bounds.
pub(super) fn longest<'a>(texts: impl Iterator<Item = &'a str>, least: usize, most: usize) -> usize {
    texts.map(|text| text.chars().take(most).count()).max().unwrap_or(0).clamp(least, most)
}
