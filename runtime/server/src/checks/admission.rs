//! Says which modules may run here, and whether those in use may.

use std::{collections::BTreeSet, path::Path};

use ::store::{Directory, Policy, Store as _};
use api::Check;
use flow::Digest;

use super::{QUERY_TIMEOUT, first_few, runs::OpenRun, within};
use crate::problem::chain;

/// The maximum number of modules to check.
const MAX_MODULES: usize = 1_000;

/// Checks the modules with a tag, and those of open runs.
pub(super) async fn check(policy: &Policy, store: &Path, runs: &[OpenRun]) -> Check {
    let described = policy.describe();
    if *policy == Policy::default() {
        return Check::ok("admission", described);
    }
    let of_run = |run: &OpenRun| run.machine.flow().tasks().map(|(_, _, task)| task.module).collect::<Vec<_>>();
    let of_runs: BTreeSet<Digest> = runs.iter().flat_map(of_run).collect();
    match within(QUERY_TIMEOUT, refusals(policy, store, of_runs)).await {
        Some(Ok(refusals)) if refusals.is_empty() => Check::ok(
            "admission",
            format!("{described}; it admits all modules with a tag, and all modules of open runs"),
        ),
        Some(Ok(refusals)) => {
            let detail = format!("{described}; it does not admit modules in use: {}", first_few(&refusals));
            let advice = "sign them with the key of an admitted signer (`waft modules sign`), add a rule, or expect their \
                          calls to fail; `waft modules` shows who signed them";
            Check::warn("admission", detail, advice)
        }
        Some(Err(reason)) => Check::skipped("admission", format!("{described}; the store cannot be read: {reason}")),
        None => {
            let detail = format!("{described}; the store has not answered for {} seconds", QUERY_TIMEOUT.as_secs());
            Check::skipped("admission", detail)
        }
    }
}

/// The modules that may not run, each with the tag by which it is found.
async fn refusals(policy: &Policy, store: &Path, of_runs: BTreeSet<Digest>) -> Result<Vec<String>, String> {
    let store = Directory::open_to_read(store.to_owned()).await.map_err(|error| chain(&error))?;
    let tags = store.tags().await.map_err(|error| chain(&error))?;
    // Those of runs first: they are in use for certain.
    let tagged = tags.into_iter().map(|(tag, digest)| (digest, Some(tag)));
    let modules = of_runs.into_iter().map(|digest| (digest, None)).chain(tagged);
    let mut refused = Vec::new();
    for (digest, tag) in modules.take(MAX_MODULES) {
        let decided = policy.check_stored(&store, &digest, tag.as_ref(), &[]).await;
        if decided.map_err(|error| chain(&error))?.is_err() {
            refused.push(tag.map_or_else(|| digest.to_string(), |tag| format!("{tag} ({digest})")));
        }
    }
    Ok(refused)
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
        let outcome = async |policy: &Policy| check(policy, folder.path(), &[]).await.outcome;
        assert_eq!(outcome(&listed(Vec::new())).await, Outcome::Ok, "content without a tag may be a value");
        store.tag(&"kitchen".parse().unwrap(), &digest).await.unwrap();
        assert_eq!(outcome(&listed(vec![Rule::Digest(digest)])).await, Outcome::Ok);
        assert_eq!(outcome(&Policy::default()).await, Outcome::Ok);
        let refused = check(&listed(Vec::new()), folder.path(), &[]).await;
        assert_eq!(refused.outcome, Outcome::Warn);
        assert!(refused.detail.contains(&format!("kitchen ({digest})")), "{}", refused.detail);
    }
}
