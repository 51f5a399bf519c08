//! Rules of the published version, and of the list of runs with unpublished changes.

use flow::RunState;

use super::{append, append_as, info, run, shard, write};
use crate::{Append, Logbook, Version};

async fn published(logbook: &impl Logbook, name: &str) -> u64 {
    logbook.load(&run(name)).await.expect("the run is there").published.get()
}

async fn mark_published(logbook: &impl Logbook, versions: &[(&str, u64)]) {
    let versions: Vec<_> = versions.iter().map(|(name, version)| (run(name), Version::new(*version))).collect();
    logbook.mark_published(&versions).await.expect("the logbook can be written");
}

async fn unpublished(logbook: &impl Logbook, name: &str, limit: usize) -> Vec<String> {
    let mut runs = logbook.unpublished_runs(&shard(name), limit).await.expect("the logbook can be read");
    runs.sort();
    runs.iter().map(ToString::to_string).collect()
}

pub(super) async fn the_publish_cursor_is_saved_with_an_append_or_alone(logbook: impl Logbook) {
    write(&logbook, vec![append("a", 0, [1, 2]), append("b", 0, [1])]).await;
    assert_eq!(published(&logbook, "a").await, 0);
    write(&logbook, vec![Append { published: Version::new(2), ..append("a", 2, [3]) }]).await;
    assert_eq!(published(&logbook, "a").await, 2);
    // Neither a lower version nor a conflicting append has an effect.
    write(&logbook, vec![Append { published: Version::new(1), ..append("a", 3, [4]) }]).await;
    write(&logbook, vec![Append { published: Version::new(3), ..append("a", 3, [4]) }]).await;
    assert_eq!(published(&logbook, "a").await, 2);
    mark_published(&logbook, &[("a", 4), ("b", 1), ("missing", 7)]).await;
    assert_eq!((published(&logbook, "a").await, published(&logbook, "b").await), (4, 1));
    mark_published(&logbook, &[("a", 3), ("b", 2)]).await;
    assert_eq!(
        (published(&logbook, "a").await, published(&logbook, "b").await),
        (4, 1),
        "an earlier version, and one beyond its records, change nothing"
    );
    mark_published(&logbook, &[]).await;
}

pub(super) async fn unpublished_runs_are_listed(logbook: impl Logbook) {
    for state in RunState::ALL {
        write(&logbook, vec![append_as(state.as_str(), 0, [1, 2], info("s", "f", state))]).await;
    }
    write(&logbook, vec![append_as("other", 0, [1], info("t", "f", RunState::Success))]).await;
    // Open runs are loaded in any case.
    let all = ["failure", "pending", "rolled-back", "success", "suspended"];
    assert_eq!(unpublished(&logbook, "s", 9).await, all);
    assert_eq!(unpublished(&logbook, "s", 2).await.len(), 2);
    assert_eq!(unpublished(&logbook, "t", 9).await, ["other"]);
    mark_published(&logbook, &[("failure", 2), ("pending", 2), ("success", 1), ("suspended", 2)]).await;
    assert_eq!(unpublished(&logbook, "s", 9).await, ["rolled-back", "success"], "one of them is partly published");
    // The run continues, and ends.
    write(&logbook, vec![append("suspended", 2, [3])]).await;
    assert_eq!(unpublished(&logbook, "s", 9).await, ["rolled-back", "success"]);
    let ended =
        Append { published: Version::new(3), ..append_as("suspended", 3, [4], info("s", "f", RunState::Success)) };
    write(&logbook, vec![ended]).await;
    assert_eq!(unpublished(&logbook, "s", 9).await, ["rolled-back", "success", "suspended"]);
    mark_published(&logbook, &[("suspended", 4), ("success", 2), ("rolled-back", 2)]).await;
    assert_eq!(unpublished(&logbook, "s", 9).await, Vec::<String>::new());
}
