//! Words and marks of states, and times for people.

use std::time::Duration;

use api::{AttemptOutcome, NodeState, RunState};
use jiff::Timestamp;

use super::canvas::Tone;
use crate::{commands::top::model::FilterPart, display::state::Appearance};

/// The mark and the tone of a run.
pub(super) fn of_run(state: &RunState) -> (&'static str, Tone) {
    match state {
        RunState::Running => ("▸", Tone::Busy),
        RunState::Success => ("✓", Tone::Good),
        RunState::Failure => ("✗", Tone::Bad),
        RunState::RolledBack => ("↩", Tone::Caution),
        RunState::Suspending | RunState::Suspended => ("‖", Tone::Caution),
        // A newer server may know others.
        _ => ("·", Tone::Faint),
    }
}

/// The state of a node with its mark, and its tone.
pub(super) fn of_node(state: Option<&NodeState>) -> (String, Tone) {
    let Some(state) = state else { return (String::new(), Tone::Plain) };
    let appearance = Appearance::of(state);
    (format!("{} {state}", appearance.mark(false)), appearance.colour().into())
}

/// The mark and the tone of an attempt; without an outcome it is in progress.
pub(super) fn of_attempt(outcome: Option<&AttemptOutcome>) -> (&'static str, Tone) {
    match outcome {
        None => ("▸", Tone::Busy),
        Some(AttemptOutcome::Success | AttemptOutcome::Remembered) => ("✓", Tone::Good),
        Some(AttemptOutcome::Failure | AttemptOutcome::RollbackFailure) => ("✗", Tone::Bad),
        Some(AttemptOutcome::RolledBack) => ("↩", Tone::Caution),
        Some(AttemptOutcome::Lost) => ("?", Tone::Bad),
        // A newer server may know others.
        Some(_) => ("·", Tone::Plain),
    }
}

/// A duration in at most seven characters, up to some years.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64().min(9.9)),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A time of a server; `None` if it is none.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// The time from one time to another, or to now; empty if one is no time.
pub(super) fn lasted(from: Option<&str>, until: Option<&str>, now: Timestamp) -> String {
    let until = until.map_or(Some(now), time);
    let lasted = from.and_then(time).zip(until).map(|(from, until)| until.as_microsecond() - from.as_microsecond());
    // The clock of this machine may be behind.
    lasted.map(|micros| duration(Duration::from_micros(micros.max(0).unsigned_abs()))).unwrap_or_default()
}

/// The time of day of a time, in UTC.
pub(super) fn clock(text: &str) -> &str {
    text.get(11..19).unwrap_or(text)
}

/// What a person types for a part of the filter.
pub(super) const fn prompt(part: FilterPart) -> &'static str {
    match part {
        FilterPart::Flow => "only runs of the flow: ",
        FilterPart::State => "only runs in the states: ",
        FilterPart::Label => "only runs with the labels: ",
        FilterPart::Text => "only runs with the text: ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [0, 9_960, 10_000, 59_999, 60_000, 3_599_999, 3_600_000, 86_399_999, 86_400_000, 8_640_000_000];
        let shown = shown.map(|millis| duration(Duration::from_millis(millis)));
        let expected = ["0.0s", "9.9s", "10s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "100d00h"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_clock_that_is_behind_shows_no_negative_time() {
        let now = time("2026-01-31T08:00:00Z").unwrap();
        assert_eq!(lasted(Some("2026-01-31T08:00:05Z"), None, now), "0.0s");
        assert_eq!(lasted(Some("2026-01-31T07:58:55Z"), None, now), "1m05s");
        assert_eq!(lasted(Some("2026-01-31T07:00:00Z"), Some("2026-01-31T07:00:12.5Z"), now), "12s");
        assert_eq!(lasted(Some("yesterday"), None, now), "");
        assert_eq!((clock("2026-01-31T08:00:01.5Z"), clock("漢字")), ("08:00:01", "漢字"));
    }
}
