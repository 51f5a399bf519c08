//! The identity of a call: deterministic, so that whatever arrives twice, late or out of order is known again.

use std::fmt;

use crate::{NodeName, RunId};

macro_rules! count {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type($inner);

        impl $type {
            /// The first one.
            pub const FIRST: Self = Self(1);

            /// Takes a count that came from a record or a message.
            #[must_use]
            pub const fn new(count: $inner) -> Self {
                Self(count)
            }

            /// The count.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The one after.
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
    /// One try at one call of a task, from 1. It goes on counting when a retry controller runs its flow again,
    /// so that no two calls of a firing share an identity.
    Attempt(u32)
}
count! {
    /// One time a task is triggered. Always 1 unless the flow is cyclic or persistent.
    Firing(u64)
}
count! {
    /// One time a worker made a call, by a number that no other time has: a job that is delivered twice is executed twice,
    /// and each execution answers for itself.
    Execution(u64)
}
count! {
    /// What a run's flow looked like: 1 as it was started, and one more with every edit.
    Revision(u64)
}

/// Which of its two functions a task is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Do what the task is for.
    Apply,
    /// Take it back.
    Rollback,
}

impl Action {
    /// The word for ids, headers and logs.
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

/// Which call of which run: the id of its job and of its signal.
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
    /// What a guest may hand to services that know idempotency keys: the same for every attempt of a firing.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}.{}.{}", self.run, self.task, self.firing)
    }
}

/// `run.task.firing.attempt.call`: no part can hold a dot.
impl fmt::Display for CallId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, task, firing, attempt, action } = self;
        write!(out, "{run}.{task}.{firing}.{attempt}.{action}")
    }
}
