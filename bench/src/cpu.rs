//! The processor time of processes, as Linux counts it.

use anyhow::Context;

/// The unit of the times in `/proc`: `USER_HZ` is 100 on the machines that waft runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The seconds that a process has computed so far, in all its threads. The process is an id, or `self`.
pub(crate) fn seconds(process: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    // The name of the program stands in parentheses, and may have spaces. The times are the fields 14 and 15, and the third one follows it.
    let (_, fields) = text.rsplit_once(')').context("the kernel shows the name of the program")?;
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).collect::<Result<Vec<_>, _>>()?;
    Ok(times.iter().sum::<u64>() as f64 / TICKS_PER_SECOND)
}
