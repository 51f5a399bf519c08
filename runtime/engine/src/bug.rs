//! Panics of the machine: a bug of waft stops only the run that triggers it.

use flow::RunId;
use tracing::error;

/// The message for a run that a bug of waft stopped.
pub(crate) const BUG_MESSAGE: &str =
    "the run is damaged, or triggers a bug of waft: it is stopped until another version of waft can drive it";

/// Runs `work` on a run's machine and catches a panic, so that a bug of waft stops only that run. The error contains
/// `doing` and the panic message, which names the record that caused it.
pub(crate) fn catch_bug<T>(run: &RunId, doing: &str, work: impl FnOnce() -> T) -> Result<T, String> {
    // The values that the work borrowed are not used again after a panic.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let reason = format!("{doing}: {}", machine::panic_message(&*panic));
        error!(%run, reason, "{BUG_MESSAGE}");
        reason
    })
}

#[cfg(test)]
mod tests {
    use machine::Event;

    use super::*;
    use crate::captured_logs::CapturedLogs;

    #[test]
    fn a_panic_stops_only_its_run_and_names_the_event() {
        let run = RunId::new("r").unwrap();
        assert_eq!(catch_bug(&run, "tick", || 7), Ok(7));
        let event = Event::Notify {
            task: "ask".parse().unwrap(),
            result: flow::TaskResult::Succeeded(flow::Values::new()),
            key: None,
        };
        let logs = CapturedLogs::start();
        let caught = catch_bug(&run, &event.summary(), || panic!("the machine accepts what it decided: record x"));
        assert_eq!(caught, Err("notification of \"ask\": the machine accepts what it decided: record x".to_owned()));
        let line = logs.take_one();
        let message = format!("message={BUG_MESSAGE}");
        for part in ["ERROR", &message, "run=r", "the machine accepts what it decided: record x"] {
            assert!(line.contains(part), "{part} is missing in: {line}");
        }
    }
}
