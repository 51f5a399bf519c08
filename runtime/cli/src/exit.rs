//! The exit codes of the process.

use flow::RunState;

use crate::{output, sanitize};

/// The exit codes, as the design defines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Success,
    /// The run failed and was rolled back.
    RolledBack,
    /// Wrong usage, or an invalid flow or module.
    Invalid,
    /// The run needs a person: a rollback failed.
    NeedsAttention,
    /// A dependency of the runtime could not be reached.
    Unreachable,
    /// A person has to act: `waft doctor` found a problem, or `waft quarantine` could not read all messages.
    Unwell,
    /// A replayed attempt has another outcome than the recorded one.
    Differs,
    /// Interrupted: the run is suspended.
    Interrupted,
    /// The reader of standard output left before all data was written: a shell reports SIGPIPE (13) with this code.
    ReaderGone,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::RolledBack => 1,
            Self::Invalid => 2,
            Self::NeedsAttention => 3,
            Self::Unreachable => 4,
            Self::Unwell => 5,
            Self::Differs => 6,
            Self::Interrupted => 130,
            Self::ReaderGone => 141,
        }
    }

    /// The exit code for the end of a run.
    pub(crate) const fn of(state: RunState) -> Self {
        match state {
            RunState::Success => Self::Success,
            RunState::RolledBack => Self::RolledBack,
            RunState::Failure => Self::NeedsAttention,
            RunState::Pending | RunState::Running | RunState::Suspending | RunState::Suspended => Self::Interrupted,
        }
    }
}

/// An error, with the exit code and a hint.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
    pub(crate) hint: Option<String>,
}

impl CliError {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hint: None }
    }

    /// The person's input is invalid.
    pub(crate) fn invalid(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Invalid, error)
    }

    /// A dependency of the runtime is unavailable.
    pub(crate) fn unreachable(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Unreachable, error)
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Prints the chain of causes, then a blank line and the hint.
    pub(crate) fn print(&self) {
        if self.error.to_string().is_empty() {
            return;
        }
        // Quoted text must not start a line of its own. Lines of waft are indented already.
        let mut text = String::from("error: ");
        for (number, line) in format!("{:#}", self.error).lines().enumerate() {
            let indent = if line.starts_with(' ') { "" } else { "       " };
            text.push_str(&if number == 0 { line.to_owned() } else { format!("\n{indent}{line}") });
        }
        output::diagnostic(&text);
        if let Some(hint) = &self.hint {
            // It may be the text of a server.
            output::note!("\nhint: {}", sanitize::indented(hint, 6));
        }
    }
}
