//! The advice to start a worker for the queues of a run from which no worker takes jobs.

use std::collections::BTreeSet;

use crate::sanitize;

/// The maximum number of queues that are named.
const MAX_NAMED_QUEUES: usize = 10;

/// Names the queues from which no worker takes jobs; `None` if there are none. `served` are the queues of the workers that take
/// jobs: a drained worker still has its queues, and takes none.
pub(super) fn advice<'a>(mut queues: BTreeSet<&'a str>, served: impl Iterator<Item = &'a str>) -> Option<String> {
    for queue in served {
        queues.remove(queue);
    }
    let named: Vec<String> = queues.iter().take(MAX_NAMED_QUEUES).map(|queue| sanitize::one_line(queue)).collect();
    let (queue, others) = match queues.len() {
        0 => return None,
        1 => ("queue", String::new()),
        all if all == named.len() => ("queues", String::new()),
        all => ("queues", format!(" and {} more", all - named.len())),
    };
    let named = named.join(",");
    Some(format!(
        "no worker takes jobs from the {queue} {named}{others}: start one with `waft worker --broker URL --queues {named}`"
    ))
}
