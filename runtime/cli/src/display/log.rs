//! What guests wrote, line by line, with the call that each line is of.

use client::api::AttemptLog;

use crate::clean;

/// The lines of an attempt as people read them.
pub(crate) fn lines(log: &AttemptLog) -> Vec<String> {
    let title = title(log);
    let line = |line: &client::api::LogLine| {
        format!("{title} | {:6} {}", clean::one_line(&line.level), clean::one_line(&line.text))
    };
    let cut = log.cut.then(|| format!("{title} | … there was more than is kept"));
    log.lines.iter().map(line).chain(cut).collect()
}

/// The call that an attempt's lines are of.
fn title(log: &AttemptLog) -> String {
    let mut title = log.task.clone();
    if log.call == "rollback" {
        title.push_str(" rollback");
    }
    if log.firing > 1 {
        title.push_str(&format!(" firing {}", log.firing));
    }
    if log.attempt > 1 {
        title.push_str(&format!(" attempt {}", log.attempt));
    }
    title
}
