//! Tasks that behave correctly.

use std::{thread, time::Duration};

use waft_guest::prelude::*;

/// Does nothing.
#[task]
pub(crate) fn noop() {}

/// Provides its input, a JSON value.
#[task(provides = "value")]
pub(crate) fn echo(value: serde_json::Value) -> serde_json::Value {
    value
}

/// Provides its input, bytes.
#[task(provides = "bytes")]
pub(crate) fn echo_bytes(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Sleeps, then answers.
#[task(provides = "slept_ms")]
pub(crate) fn sleep(
    /// The duration in milliseconds.
    ms: u64,
) -> u64 {
    thread::sleep(Duration::from_millis(ms));
    ms
}

/// Fails with a message.
#[task]
pub(crate) fn fail(message: String, transient: Option<bool>) -> Result<(), Failure> {
    Err(if transient == Some(true) { Failure::transient(message) } else { Failure::permanent(message) })
}

/// Writes a text to each of a guest's outputs, sleeps, and writes it again.
#[task(provides = "said")]
pub(crate) fn say(
    text: String,
    /// The duration of the sleep in milliseconds.
    ms: u64,
) -> String {
    for pause in [ms, 0] {
        log::info!("{text}");
        println!("{text}");
        eprintln!("{text}");
        progress(0.5, &text);
        thread::sleep(Duration::from_millis(pause));
    }
    text
}

/// Fails before the given attempt, and succeeds from then on.
#[task(provides = "attempts")]
pub(crate) fn fail_until(
    call: &Call,
    /// The first attempt that succeeds.
    attempt: u32,
) -> Result<u32, Failure> {
    if call.attempt < attempt {
        return Err(Failure::transient(format!("attempt {} is before {attempt}", call.attempt)));
    }
    Ok(call.attempt)
}

/// Provides its input. Its rollback fails with a message about its arguments, until the given attempt.
#[task(provides = "value", rollback = fail_with_arguments)]
pub(crate) fn stubborn(value: serde_json::Value) -> serde_json::Value {
    value
}

#[rollback]
fn fail_with_arguments(
    call: &Call,
    value: serde_json::Value,
    outcome: Outcome<serde_json::Value>,
    failures: &Failures,
    /// The first attempt of the rollback that succeeds; by default none.
    rolls_back_at: Option<u32>,
) -> Result<(), Failure> {
    if rolls_back_at.is_some_and(|attempt| call.attempt >= attempt) {
        log::info!("let go of {value}");
        return Ok(());
    }
    let outcome = match outcome {
        Outcome::Provided(provided) => format!("provided {provided}"),
        Outcome::Failed(failure) => format!("failed with {failure}"),
        Outcome::Unknown => "unknown".into(),
    };
    let failed: Vec<String> = failures.iter().map(|(task, failure)| format!("{task} ({failure})")).collect();
    Err(Failure::transient(format!("holds on to {value}; {outcome}; failed: {}", failed.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fail_until_fails_before_its_attempt_only() {
        let third_try = Call { attempt: 3, ..Call::default() };
        assert_eq!(fail_until(&Call::default(), 3).unwrap_err().message(), "attempt 1 is before 3");
        assert_eq!(fail_until(&third_try, 3), Ok(3));
    }

    #[test]
    fn the_stubborn_rollback_reports_its_arguments() {
        let outcome = Outcome::Provided(7.into());
        let failure = fail_with_arguments(&Call::default(), 7.into(), outcome, &Failures::default(), None).unwrap_err();
        assert_eq!(failure.message(), "holds on to 7; provided 7; failed: ");
    }
}
