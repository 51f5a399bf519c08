//! The identity of a call: deterministic, so that duplicate, late or out-of-order messages are recognized.

use std::fmt;

use crate::{NodeName, RunId};

/// The maximum size of a message about the progress of a call, in bytes: it is shown in one line.
pub const MAX_PROGRESS_BYTES: usize = 1 << 10;

macro_rules! count {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type($inner);

        impl $type {
            /// The first number.
            pub const FIRST: Self = Self(1);

            /// Creates the number from a count in a record or a message.
            #[must_use]
            pub const fn new(count: $inner) -> Self {
                Self(count)
            }

            /// The number as an integer.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The next number.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

count! {
    /// One attempt of a call of a task, numbered from 1. Numbers continue when a retry controller runs its flow again, so
    /// that no two calls of a firing share an identity.
    Attempt(u32)
}
count! {
    /// One firing of a task. Always 1 unless the flow is cyclic or persistent.
    Firing(u64)
}
count! {
    /// One execution of a call by a worker, with a unique number: a job that is delivered twice is executed twice, and each
    /// execution sends its own answer.
    Execution(u64)
}
count! {
    /// The revision of a run's flow: 1 at the start, and one more with every edit.
    Revision(u64)
}

/// The function of a task that a call executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Executes the task.
    Apply,
    /// Rolls the task back.
    Rollback,
}

impl Action {
    /// The action as a word for ids, headers and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Rollback => "rollback",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

/// The identity of a call: the id of its job and of its signal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: NodeName,
    /// The firing.
    pub firing: Firing,
    /// The attempt.
    pub attempt: Attempt,
    /// Apply or rollback.
    pub action: Action,
}

impl CallId {
    /// The idempotency key that a guest may pass to services: the same for every attempt of a firing.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}.{}.{}", self.run, self.task, self.firing)
    }
}

/// `run.task.firing.attempt.call`: no part can contain a dot.
impl fmt::Display for CallId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, task, firing, attempt, action } = self;
        write!(out, "{run}.{task}.{firing}.{attempt}.{action}")
    }
}
