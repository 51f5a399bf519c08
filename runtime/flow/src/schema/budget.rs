//! The cost of checks: a schema may have alternatives of alternatives, and values may be large.

use std::cell::Cell;

use serde_json::Value as Tree;

use crate::Json;

/// The maximum number of steps of a check, or of all checks of a flow; beyond it the rest is accepted. A million steps take less
/// than a second.
const MAX_STEPS: usize = 1_000_000;

/// The same for a notification where an engine decides about it, and all its runs wait: some milliseconds. The server has checked it
/// with [`MAX_STEPS`] before, if it could.
const MAX_NOTIFICATION_STEPS: usize = 8_000;

/// The number of compared or counted bytes that cost a step.
const BYTES_PER_STEP: usize = 64;

/// The steps that are left for one or more checks.
#[derive(Debug)]
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(Cell::new(MAX_STEPS))
    }

    /// The steps for a notification where an engine decides about it.
    pub(crate) fn of_notification() -> Self {
        Self(Cell::new(MAX_NOTIFICATION_STEPS))
    }

    /// Takes some steps. Returns whether there were as many; else none is left.
    pub(crate) fn spend(&self, steps: usize) -> bool {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Takes a step, and those for bytes.
    pub(super) fn spend_bytes(&self, bytes: usize) -> bool {
        self.spend(1 + bytes / BYTES_PER_STEP)
    }

    /// Whether no step is left.
    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.get()
    }

    /// Reads a JSON text, if as many steps are left as its size in memory costs. What is too large costs little.
    pub(super) fn read(&self, text: &Json) -> Option<Tree> {
        let steps = |bytes: usize| 1 + bytes / BYTES_PER_STEP;
        let text_steps = steps(text.as_str().len());
        if text_steps > self.0.get() {
            return None;
        }
        let tree_steps = steps(tree_bytes(text.as_str()));
        if tree_steps > self.0.get() {
            self.spend(text_steps);
            return None;
        }
        self.spend(tree_steps);
        text.to_tree().ok()
    }
}

/// About the size that a JSON text has in memory as a tree, in bytes: the tree of `{"":0}` is a hundred times as large.
pub(crate) fn tree_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        // The smallest allocation for the fields of an object, and for the elements of a list.
        b'{' => 640,
        b'[' => 128,
        // An element or a field, and the text of its name.
        b',' => 56,
        b':' => 32,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}
