//! The values of labels that have a few fixed ones.

/// How an attempt of a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It provided its values.
    Success,
    /// It failed.
    Failure,
    /// Its worker was lost.
    Lost,
    /// No guest was called: the result was remembered.
    Remembered,
}

impl AttemptOutcome {
    pub(crate) const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Lost, Self::Remembered];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Lost => "lost",
            Self::Remembered => "remembered",
        }
    }
}

/// How a rollback of a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackOutcome {
    /// The effects of the task are undone.
    Success,
    /// It failed. Another attempt may follow.
    Failure,
}

impl RollbackOutcome {
    pub(crate) const ALL: [Self; 2] = [Self::Success, Self::Failure];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// What is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// A task, by its retry policy.
    Task,
    /// The rollback of a task.
    Rollback,
    /// A flow or nested flow, by its retry controller.
    Flow,
}

impl Retried {
    pub(crate) const ALL: [Self; 3] = [Self::Task, Self::Rollback, Self::Flow];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Rollback => "rollback",
            Self::Flow => "flow",
        }
    }
}

/// Where a compiled module was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// In the memory of this process.
    Memory,
    /// On the disk of this machine.
    Disk,
}

impl Cache {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// What became of a span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanOutcome {
    /// The collector has it.
    Sent,
    /// The queue was full, or the collector did not take it.
    Dropped,
}

impl SpanOutcome {
    pub(crate) const ALL: [Self; 2] = [Self::Sent, Self::Dropped];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
        }
    }
}
