//! Logs triggers that started no firing.

use flow::SkipReason;
use machine::{Fact, Machine, Record};
use tracing::{debug, warn};

/// Logs the triggers that a run's new records skip. It logs the first of each kind, and then each time their number
/// has doubled. So many skips cause few log lines.
pub(super) fn log(machine: &Machine, records: &[Record]) {
    for record in records {
        let Fact::TriggerSkipped { entry, reason, count, .. } = &record.fact else { continue };
        let skips = machine.skips().find(|(task, of, _)| (task, of) == (entry, reason));
        let all = skips.map_or(*count, |(_, _, skips)| skips.count);
        let has_doubled = all.checked_ilog2() != all.saturating_sub(*count).checked_ilog2();
        let (run, task) = (machine.run(), &machine.flow().node(*entry).name);
        match reason {
            SkipReason::QueueFull if has_doubled => {
                warn!(%run, %task, all, "a trigger fired nothing: the run has as many open firings as it may have");
            }
            SkipReason::Missed if has_doubled => {
                let at_least = reason.is_lower_bound(all);
                let message = "times of a schedule fired nothing: nobody drove the run when they were due";
                warn!(%run, %task, all, at_least, "{message}");
            }
            // The flow is defined that way, so this is no warning.
            SkipReason::Overlap | SkipReason::QueueFull | SkipReason::Missed => {
                debug!(%run, %task, reason = reason.as_str(), all, "a trigger fired nothing");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flow::{Digest, Flow, ModuleContent, ModuleInfo, Timestamp, Values};
    use machine::{Event, Trigger};

    use super::*;
    use crate::captured_logs::CapturedLogs;

    /// A task that fires each minute.
    fn flow() -> Arc<Flow> {
        let text = "name = \"f\"\npersistent = true\n[[task]]\nname = \"clean\"\nuse = \"g\"\n\
            [[schedule]]\ncron = \"* * * * *\"\nto = \"clean\"\n[modules]\ng = \"g.wasm\"\n";
        let draft = flow::file::parse(text).unwrap();
        let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Command };
        let (flow, _) = flow::wire(&draft, &[("g".to_owned(), info)].into(), &Values::new()).unwrap();
        Arc::new(flow)
    }

    /// A run that skips triggers, as a test wants it.
    struct Skipping {
        machine: Machine,
        logs: CapturedLogs,
    }

    impl Skipping {
        fn new() -> Self {
            let mut machine = Machine::new("r".parse().unwrap(), flow());
            machine.step(Timestamp::from_micros(1), &Event::Start);
            Self { machine, logs: CapturedLogs::start() }
        }

        /// The log lines for so many skipped triggers in one record.
        fn skip(&mut self, reason: SkipReason, count: u64) -> Vec<String> {
            let entry = self.machine.flow().tasks().next().unwrap().0;
            let fact = Fact::TriggerSkipped { entry, by: Trigger::Schedule(0), reason, count };
            let record = Record { at: Timestamp::from_micros(2), firing: None, fact };
            self.machine.evolve(&record).unwrap();
            log(&self.machine, &[record]);
            self.logs.take()
        }
    }

    #[test]
    fn dropped_times_are_logged_at_first_and_when_their_number_has_doubled() {
        let mut run = Skipping::new();
        let mut skip_one = || run.skip(SkipReason::Missed, 1).len();
        let lines: Vec<usize> = (0..9).map(|_| skip_one()).collect();
        assert_eq!(lines, [1, 1, 0, 1, 0, 0, 0, 1, 0], "at one, two, four and eight");
        let many = run.skip(SkipReason::Missed, 1_000);
        let [line] = &many[..] else { panic!("{many:?}") };
        let message = "times of a schedule fired nothing: nobody drove the run when they were due";
        for part in ["WARN", message, "run=r", "task=clean", "all=1009", "at_least=true"] {
            assert!(line.contains(part), "{part} is missing in: {line}");
        }
    }

    #[test]
    fn each_reason_is_counted_and_logged_for_itself() {
        let mut run = Skipping::new();
        assert_eq!(run.skip(SkipReason::Missed, 3).len(), 1);
        let full = run.skip(SkipReason::QueueFull, 1);
        let [line] = &full[..] else { panic!("{full:?}") };
        let message = "a trigger fired nothing: the run has as many open firings as it may have";
        assert!(line.contains("WARN") && line.contains(message) && line.contains("all=1"), "{line}");
        let overlaps = run.skip(SkipReason::Overlap, 1);
        assert!(overlaps.is_empty(), "the flow is defined that way: {overlaps:?}");
    }
}
