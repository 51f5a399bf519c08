//! Holds the answer of a worker to the limits of its task. A worker that follows the rules has applied them before, but the holder of
//! a job can send anything, and an answer becomes a record.

use std::borrow::Cow;

use flow::{Action, Failure, FailureKind, MAX_INLINE_TOTAL_BYTES, Signal, Size, Task, TaskResult, Values};

/// The answer, within the limits of the task. An apply with values that are too large has failed, and a failure is cut.
pub(super) fn bounded_answer<'a>(task: &Task, signal: &'a Signal) -> Cow<'a, TaskResult> {
    match (signal.call.action, &signal.answer) {
        (Action::Apply, TaskResult::Succeeded(values)) => match check_values(task, values) {
            Ok(()) => Cow::Borrowed(&signal.answer),
            Err(failure) => Cow::Owned(TaskResult::Failed(failure)),
        },
        // The values of a rollback are not recorded.
        (Action::Rollback, TaskResult::Succeeded(_)) => Cow::Borrowed(&signal.answer),
        (_, TaskResult::Failed(failure)) if failure.is_within_bounds() => Cow::Borrowed(&signal.answer),
        (_, TaskResult::Failed(failure)) => Cow::Owned(TaskResult::Failed(failure.clone().bounded())),
    }
}

fn check_values(task: &Task, values: &Values) -> Result<(), Failure> {
    let bytes =
        |sizes: &mut dyn Iterator<Item = usize>| sizes.fold(0, |sum: u64, size| sum.saturating_add(size as u64));
    // The size of a value in the store is what its message says.
    let sizes = values.iter().map(|(name, value)| name.as_str().len().saturating_add(value.size()));
    task.limits.check_output(bytes(&mut { sizes }))?;
    let inline = bytes(&mut values.values().filter(|value| value.digest().is_none()).map(flow::Value::size));
    let limit = MAX_INLINE_TOTAL_BYTES as u64;
    if inline <= limit {
        return Ok(());
    }
    let message = format!("it returned {inline} bytes of values outside the store, the limit is {}", Size(limit));
    Err(Failure::new(FailureKind::OutputLimit, message))
}
