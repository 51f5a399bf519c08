//! Says which modules may run here, and whether those in use may.

use std::{collections::BTreeSet, path::Path};

use ::store::{Directory, Policy, Store as _, Tag};
use api::Check;
use flow::Digest;

use super::{QUERY_TIMEOUT, count, first_few, runs::OpenRuns, within};
use crate::problem::chain;

/// The maximum number of modules to check.
const MAX_MODULES: usize = 1_000;

/// What was found out about modules in use.
#[derive(Debug, Default, PartialEq, Eq)]
struct Checked {
    /// The modules that may not run, each with the tag by which it is found.
    refused: Vec<String>,
    /// The number of modules that were not checked.
    left_out: usize,
}

/// Checks the modules with a tag, and those of open runs.
pub(super) async fn check(policy: &Policy, store: &Path, open_runs: &OpenRuns) -> Check {
    let described = policy.describe();
    if *policy == Policy::default() {
        return Check::ok("admission", described);
    }
    let of_runs: BTreeSet<Digest> = open_runs.runs.iter().flat_map(|run| &run.facts.modules).copied().collect();
    let checked = match within(QUERY_TIMEOUT, check_modules(policy, store, of_runs, MAX_MODULES)).await {
        Some(Ok(checked)) => checked,
        Some(Err(reason)) => {
            return Check::skipped("admission", format!("{described}; the store cannot be read: {reason}"));
        }
        None => {
            let detail = format!("{described}; the store has not answered for {} seconds", QUERY_TIMEOUT.as_secs());
            return Check::skipped("admission", detail);
        }
    };
    let left_out = left_out(&checked, open_runs.not_read());
    if !checked.refused.is_empty() {
        let refused = first_few(&checked.refused);
        let detail = format!("{described}; it does not admit modules in use: {refused}{left_out}");
        let advice = "sign them with the key of an admitted signer (`waft modules sign`), add a rule, or expect their \
                      calls to fail; `waft modules` shows who signed them";
        return Check::warn("admission", detail, advice);
    }
    let admitted = match left_out.is_empty() {
        true => "it admits all modules with a tag, and all modules of open runs",
        false => "it admits all modules with a tag or of an open run that were checked",
    };
    Check::ok("admission", format!("{described}; {admitted}{left_out}"))
}

/// What the check did not look at; empty if it has looked at everything.
fn left_out(checked: &Checked, unread_runs: usize) -> String {
    let mut text = String::new();
    if checked.left_out > 0 {
        text.push_str(&format!("; {} not checked", count(checked.left_out as u64, "more module")));
    }
    if unread_runs > 0 {
        text.push_str(&format!("; the modules of {} not known", count(unread_runs as u64, "more open run")));
    }
    text
}

/// Checks at most `max` modules.
async fn check_modules(
    policy: &Policy,
    store: &Path,
    of_runs: BTreeSet<Digest>,
    max: usize,
) -> Result<Checked, String> {
    let store = Directory::open_to_read(store.to_owned()).await.map_err(|error| chain(&error))?;
    let tags = store.tags().await.map_err(|error| chain(&error))?;
    // Those of runs first: they are in use for certain.
    let tagged = tags.into_iter().map(|(tag, digest)| (digest, Some(tag)));
    let modules: Vec<(Digest, Option<Tag>)> = of_runs.into_iter().map(|digest| (digest, None)).chain(tagged).collect();
    let mut checked = Checked { left_out: modules.len().saturating_sub(max), ..Checked::default() };
    for (digest, tag) in modules.into_iter().take(max) {
        let decided = policy.check_stored(&store, &digest, tag.as_ref(), &[]).await;
        if decided.map_err(|error| chain(&error))?.is_err() {
            checked.refused.push(tag.map_or_else(|| digest.to_string(), |tag| format!("{tag} ({digest})")));
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use ::store::{Modules, Rule};
    use api::Outcome;

    use super::*;

    #[tokio::test]
    async fn a_tagged_module_that_may_not_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Directory::open(folder.path().into()).await.unwrap();
        let digest = store.put("pan".into()).await.unwrap();
        let listed = |rules| Policy { modules: Modules::Listed(rules), ..Policy::default() };
        let outcome = async |policy: &Policy| check(policy, folder.path(), &OpenRuns::default()).await.outcome;
        assert_eq!(outcome(&listed(Vec::new())).await, Outcome::Ok, "content without a tag may be a value");
        store.tag(&"kitchen".parse().unwrap(), &digest).await.unwrap();
        assert_eq!(outcome(&listed(vec![Rule::Digest(digest)])).await, Outcome::Ok);
        assert_eq!(outcome(&Policy::default()).await, Outcome::Ok);
        let refused = check(&listed(Vec::new()), folder.path(), &OpenRuns::default()).await;
        assert_eq!(refused.outcome, Outcome::Warn);
        assert!(refused.detail.contains(&format!("kitchen ({digest})")), "{}", refused.detail);
    }
    #[tokio::test]
    async fn modules_that_were_not_checked_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Directory::open(folder.path().into()).await.unwrap();
        let digest = store.put("pan".into()).await.unwrap();
        for tag in ["a", "b", "c"] {
            store.tag(&tag.parse().unwrap(), &digest).await.unwrap();
        }
        let policy = Policy { modules: Modules::Listed(vec![Rule::Digest(digest)]), ..Policy::default() };
        let checked = async |max| check_modules(&policy, folder.path(), BTreeSet::new(), max).await.unwrap();
        assert_eq!(checked(3).await, Checked { refused: Vec::new(), left_out: 0 });
        let some = checked(1).await;
        assert_eq!(some, Checked { refused: Vec::new(), left_out: 2 });
        assert_eq!(left_out(&some, 0), "; 2 more modules not checked");
        assert_eq!(left_out(&Checked::default(), 1), "; the modules of 1 more open run not known");
        assert_eq!(left_out(&Checked::default(), 0), "");
    }
}
