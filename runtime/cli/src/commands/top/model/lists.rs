//! Places in lists: the selected row, the page, and the end that is followed.

use std::collections::VecDeque;

use crate::commands::top::keys::Movement;

/// The selected row of a list, and the first row on the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) selected: usize,
    pub(crate) top: usize,
}

impl Cursor {
    /// Moves in a list of `count` rows, of which `visible` fit on the screen.
    pub(crate) fn go(&mut self, movement: Movement, count: usize, visible: usize) {
        let target = match movement {
            Movement::Up => self.selected.saturating_sub(1),
            Movement::Down => self.selected.saturating_add(1),
            Movement::PageUp => self.selected.saturating_sub(visible),
            Movement::PageDown => self.selected.saturating_add(visible),
            Movement::First => 0,
            Movement::Last => usize::MAX,
        };
        self.select(target, count, visible);
    }

    /// Selects a row, or the last one if there are fewer, and brings it on the screen.
    pub(crate) fn select(&mut self, row: usize, count: usize, visible: usize) {
        self.selected = row.min(count.saturating_sub(1));
        let visible = visible.max(1);
        self.top = self.top.clamp((self.selected + 1).saturating_sub(visible), self.selected);
        self.top = self.top.min(count.saturating_sub(visible));
    }
}

/// The maximum number of pages that one can go back.
const MAX_TRAIL: usize = 10_000;

/// The page of a list that a server divides.
#[derive(Debug, Clone)]
pub(crate) struct Pages<Position> {
    /// Where the pages so far begin, without the first.
    trail: Vec<Position>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<Position>,
}

impl<Position> Default for Pages<Position> {
    fn default() -> Self {
        Self { trail: Vec::new(), next: None }
    }
}

impl<Position: Clone> Pages<Position> {
    /// Where the page begins; `None` for the first one.
    pub(crate) fn position(&self) -> Option<Position> {
        self.trail.last().cloned()
    }

    /// The number of the page, from 1.
    pub(crate) fn number(&self) -> usize {
        self.trail.len() + 1
    }

    /// Goes to the next page, if there is one.
    pub(crate) fn forward(&mut self) -> bool {
        let next = if self.trail.len() < MAX_TRAIL { self.next.take() } else { None };
        let moved = next.is_some();
        self.trail.extend(next);
        moved
    }

    /// Goes to the page before, if there is one.
    pub(crate) fn back(&mut self) -> bool {
        self.next = None;
        self.trail.pop().is_some()
    }

    /// Goes to the first page.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }
}

/// The last rows of a stream. It shows its end, until one moves up.
#[derive(Debug)]
pub(crate) struct Tail<Row> {
    pub(crate) rows: VecDeque<Row>,
    max: usize,
    /// The number of rows that were dropped.
    pub(crate) dropped: u64,
    /// The number of rows below the screen.
    pub(crate) below: usize,
    /// Whether nothing follows.
    pub(crate) is_complete: bool,
}

impl<Row> Tail<Row> {
    /// Keeps at most `max` rows.
    pub(crate) fn new(max: usize) -> Self {
        Self { rows: VecDeque::new(), max, dropped: 0, below: 0, is_complete: false }
    }

    pub(crate) fn push(&mut self, row: Row) {
        if self.rows.len() == self.max {
            self.rows.pop_front();
            self.dropped += 1;
        }
        self.rows.push_back(row);
        if self.below > 0 {
            // The rows on the screen stay where they are.
            self.below = (self.below + 1).min(self.rows.len());
        }
    }

    /// Forgets all rows.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.max);
    }

    pub(crate) fn go(&mut self, movement: Movement, visible: usize) {
        let most = self.rows.len().saturating_sub(visible);
        let below = match movement {
            Movement::Up => self.below.saturating_add(1),
            Movement::Down => self.below.saturating_sub(1),
            Movement::PageUp => self.below.saturating_add(visible),
            Movement::PageDown => self.below.saturating_sub(visible),
            Movement::First => most,
            Movement::Last => 0,
        };
        self.below = below.min(most);
    }

    /// The rows on a screen.
    pub(crate) fn shown(&self, visible: usize) -> impl Iterator<Item = &Row> {
        let below = self.below.min(self.rows.len().saturating_sub(visible));
        let end = self.rows.len() - below;
        self.rows.range(end.saturating_sub(visible)..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_always_on_the_screen() {
        let mut cursor = Cursor::default();
        let mut go = |movement| {
            cursor.go(movement, 10, 4);
            (cursor.selected, cursor.top)
        };
        assert_eq!(go(Movement::Up), (0, 0));
        assert_eq!(go(Movement::PageDown), (4, 1));
        assert_eq!(go(Movement::Up), (3, 1), "the screen moves only if it must");
        assert_eq!(go(Movement::Last), (9, 6));
        assert_eq!(go(Movement::Down), (9, 6));
        assert_eq!(go(Movement::First), (0, 0));
        let mut cursor = Cursor { selected: 9, top: 6 };
        cursor.select(9, 2, 4);
        assert_eq!(cursor, Cursor { selected: 1, top: 0 }, "a shorter list");
        cursor.select(5, 0, 0);
        assert_eq!(cursor, Cursor::default(), "an empty list on no screen");
    }

    #[test]
    fn pages_go_forward_and_back() {
        let mut pages = Pages { next: Some("b"), ..Pages::default() };
        assert!(pages.forward() && pages.position() == Some("b") && pages.number() == 2);
        assert!(!pages.forward(), "the next page is not known yet");
        pages.next = Some("c");
        assert!(pages.forward() && pages.back() && pages.position() == Some("b"));
        assert!(pages.back() && !pages.back() && pages.position().is_none());
    }

    #[test]
    fn a_stream_keeps_its_last_rows_and_what_is_read_stays() {
        let mut tail = Tail::new(5);
        (0..4).for_each(|row| tail.push(row));
        let shown = |tail: &Tail<u32>| tail.shown(2).copied().collect::<Vec<_>>();
        assert_eq!(shown(&tail), [2, 3]);
        tail.go(Movement::Up, 2);
        assert_eq!(shown(&tail), [1, 2]);
        (4..6).for_each(|row| tail.push(row));
        assert_eq!((shown(&tail), tail.dropped), (vec![1, 2], 1));
        (6..20).for_each(|row| tail.push(row));
        assert_eq!(shown(&tail), [15, 16], "what was read is gone");
        tail.go(Movement::Last, 2);
        assert_eq!(shown(&tail), [18, 19]);
    }
}
