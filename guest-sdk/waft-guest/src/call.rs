//! Describes the current call.

use std::time::{Duration, SystemTime};

/// The current call. A function takes it by reference: `call: &Call`.
///
/// A test creates one from the default, the first attempt of a task called `task`:
///
/// ```
/// use waft_guest::Call;
/// let second_try = Call { attempt: 2, ..Call::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The run.
    pub run: String,
    /// The flow.
    pub flow: String,
    /// The task's name in the flow.
    pub task: String,
    /// How often the task has been triggered, from 1.
    pub firing: u64,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The same for every attempt of one firing: pass it to services that support idempotency keys.
    pub idempotency_key: String,
    /// When the call will be stopped.
    pub deadline: SystemTime,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            run: "run".into(),
            flow: "flow".into(),
            task: "task".into(),
            firing: 1,
            attempt: 1,
            idempotency_key: "run/task/1".into(),
            // A test must give the same result every time.
            deadline: SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800),
        }
    }
}
