//! Reports the result of all steps.

use std::{fmt::Write, time::Duration};

use xtask::process::Transcript;

use super::{Step, count::Count};

/// The number of output lines of a failed step that are shown again at the end.
const TAIL: usize = 40;

/// How a step ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed {
        took: Duration,
    },
    Failed {
        took: Duration,
        transcript: Transcript,
    },
    /// A step that it needs has failed.
    Skipped,
}

/// The outcome of every step.
#[derive(Debug, Default)]
pub(super) struct TestReport {
    steps: Vec<(Step, Outcome)>,
}

impl TestReport {
    pub(super) fn add(&mut self, step: Step, outcome: Outcome) {
        self.steps.push((step, outcome));
    }

    /// Whether no step has failed.
    pub(super) fn is_good(&self) -> bool {
        self.failed().next().is_none()
    }

    /// Whether the remaining steps cannot work.
    pub(super) fn must_stop(&self) -> bool {
        self.failed().any(|(step, _)| step.is_required_by_later_steps())
    }

    fn failed(&self) -> impl Iterator<Item = (Step, &Transcript)> {
        self.steps.iter().filter_map(|(step, outcome)| match outcome {
            Outcome::Failed { transcript, .. } => Some((*step, transcript)),
            Outcome::Passed { .. } | Outcome::Skipped => None,
        })
    }

    /// The summary: the steps, then the test count on success, or else the failures and how to repeat them.
    pub(super) fn summary(&self, count: Count) -> String {
        let mut text = String::from("\n");
        for (step, outcome) in &self.steps {
            let (status, duration) = match outcome {
                Outcome::Passed { took } => ("ok", format!("{:>8.1} s", took.as_secs_f64())),
                Outcome::Failed { took, .. } => ("failed", format!("{:>8.1} s", took.as_secs_f64())),
                Outcome::Skipped => ("skipped", String::new()),
            };
            put(&mut text, format!("{:<12} {status:<8}{duration}", step.name()).trim_end());
        }
        for (step, transcript) in self.failed() {
            put(&mut text, &format!("\n{} failed; its output ends with:\n\n{}", step.name(), transcript.tail(TAIL)));
        }
        put(&mut text, "");
        if self.is_good() && count.passed > 0 {
            put(&mut text, &format!("{} passed, {} failed", count.passed, count.failed));
        }
        for (step, _) in self.failed() {
            let name = step.name();
            put(&mut text, &format!("{name} failed: `cargo xtask test --only {name}` repeats it"));
        }
        text
    }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(1250);

    fn failed(line: &str) -> Outcome {
        let transcript = Transcript::new();
        transcript.print(line);
        Outcome::Failed { took: TOOK, transcript }
    }

    #[test]
    fn a_successful_run_prints_the_count() {
        let mut report = TestReport::default();
        report.add(Step::Format, Outcome::Passed { took: TOOK });
        report.add(Step::Tests, Outcome::Passed { took: TOOK });
        assert!(report.is_good());
        let closing = report.summary(Count { passed: 7, failed: 0 });
        assert_eq!(
            closing,
            "\nfmt          ok           1.2 s\ntests        ok           1.2 s\n\n7 passed, 0 failed\n"
        );
    }

    #[test]
    fn a_failed_run_lists_failures_and_how_to_repeat_them() {
        let mut report = TestReport::default();
        report.add(Step::Clippy, failed("a lint"));
        assert!(!report.is_good() && !report.must_stop());
        report.add(Step::Guests, failed("no toolchain"));
        assert!(report.must_stop());
        report.add(Step::Tests, Outcome::Skipped);
        let closing = report.summary(Count::default());
        assert_eq!(
            closing,
            "
clippy       failed       1.2 s
guests       failed       1.2 s
tests        skipped

clippy failed; its output ends with:

a lint

guests failed; its output ends with:

no toolchain

clippy failed: `cargo xtask test --only clippy` repeats it
guests failed: `cargo xtask test --only guests` repeats it
"
        );
    }
}
