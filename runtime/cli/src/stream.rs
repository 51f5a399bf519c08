//! The two streams of the process.

use std::{io::IsTerminal, os::fd::BorrowedFd};

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output: data.
    Out,
    /// Standard error: diagnostics, and the live table.
    Err,
}

impl Stream {
    pub(crate) fn descriptor(self) -> BorrowedFd<'static> {
        match self {
            Self::Out => rustix::stdio::stdout(),
            Self::Err => rustix::stdio::stderr(),
        }
    }

    /// Whether the stream is a terminal.
    pub(crate) fn is_terminal(self) -> bool {
        self.descriptor().is_terminal()
    }
}
