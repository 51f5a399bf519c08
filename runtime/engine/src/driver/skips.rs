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
                warn!(%run, %task, all, "times of a schedule fired nothing: nobody drove the run when they were due");
            }
            // The flow is defined that way, so this is no warning.
            SkipReason::Overlap | SkipReason::QueueFull | SkipReason::Missed => {
                debug!(%run, %task, reason = reason.as_str(), all, "a trigger fired nothing");
            }
        }
    }
}
