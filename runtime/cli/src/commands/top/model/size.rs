//! The size of the screen, and how many rows its lists have.

/// The size of the screen, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
}

/// The lines for the calls of the selected worker, and for engines, each with a heading.
pub(crate) const WORKER_CALLS: u16 = 5;
pub(crate) const ENGINES: u16 = 5;

/// The lines about the selected row of a graph or a timeline.
pub(crate) const DETAILS: u16 = 3;

impl Size {
    /// The smallest screen that shows something useful.
    pub(crate) const LEAST: Self = Self { columns: 40, rows: 16 };

    pub(crate) const fn is_enough(self) -> bool {
        self.columns >= Self::LEAST.columns && self.rows >= Self::LEAST.rows
    }

    /// The rows below the title, the filter and the heading, and above the keys. The lines of a stream have as many: a run has its name and
    /// its views in place of the filter and the heading.
    pub(crate) fn list(self) -> usize {
        self.without(4)
    }

    /// The rows of a list of a run with details about one of them.
    pub(crate) fn list_with_details(self) -> usize {
        self.without(4 + DETAILS)
    }

    pub(crate) fn workers(self) -> usize {
        self.without(3 + WORKER_CALLS + ENGINES)
    }

    /// The rows of the queues, above the permits.
    pub(crate) fn queues(self) -> usize {
        self.without(4) / 2
    }

    pub(crate) fn permits(self) -> usize {
        self.without(4) - self.queues()
    }

    fn without(self, rows: u16) -> usize {
        usize::from(self.rows.saturating_sub(rows))
    }
}
