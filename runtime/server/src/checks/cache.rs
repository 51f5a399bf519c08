//! Checks whether this machine can cache compiled code and fetched modules, and who owns the cache.

use std::{io, path::Path};

use api::Check;
use sandbox::CacheOwner;

use super::{QUERY_TIMEOUT, nearest, on_disk, within};

/// The folders in the cache: compiled code, and fetched modules.
const SUBFOLDERS: [&str; 2] = ["compiled", "modules"];

/// Checks the module cache.
pub(super) async fn check(cache: &Path) -> Check {
    let shown = cache.display();
    let advice = "name a folder of this user with WAFT_CACHE; without a cache every start compiles and fetches again";
    let Some(result) = within(QUERY_TIMEOUT, inspect(cache)).await else {
        let detail = format!("{shown} has not answered for {} seconds", QUERY_TIMEOUT.as_secs());
        return Check::warn("module-cache", detail, "the disk or the network file system below it hangs");
    };
    match result {
        Ok(0) => Check::ok("module-cache", format!("{shown} is created when a module is first used")),
        Ok(_) => Check::ok("module-cache", format!("{shown} can be written, and is this user's")),
        Err(reason) => Check::warn("module-cache", format!("{shown} cannot be used: {reason}"), advice),
    }
}

/// The number of folders that exist.
///
/// # Errors
/// What is wrong with one of them.
async fn inspect(cache: &Path) -> Result<usize, String> {
    let mut existing = 0;
    for subfolder in SUBFOLDERS {
        let folder = cache.join(subfolder);
        let path = folder.clone();
        match on_disk(move || CacheOwner::of(&path)).await {
            Ok(CacheOwner { owner, us }) if owner != us && subfolder == "compiled" => {
                return Err(format!(
                    "{subfolder} belongs to user {owner}, and this is user {us}: its code is not trusted"
                ));
            }
            Ok(_) => {
                store::try_writing(folder).await.map_err(|error| format!("{subfolder} cannot be written: {error}"))?;
                existing += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{subfolder}: {error}")),
        }
    }
    if existing == 0 {
        let base = nearest(cache).await;
        let written = store::try_writing(base.clone()).await;
        written.map_err(|error| format!("nothing can be made in {}: {error}", base.display()))?;
    }
    Ok(existing)
}

#[cfg(test)]
mod tests {
    use api::Outcome;

    use super::*;

    #[tokio::test]
    async fn a_missing_cache_is_healthy_and_a_file_in_its_place_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("a/b");
        assert_eq!(check(&cache).await.outcome, Outcome::Ok);
        assert!(!folder.path().join("a").exists(), "nothing is created");
        std::fs::create_dir_all(cache.join("compiled")).unwrap();
        assert_eq!(check(&cache).await.outcome, Outcome::Ok);
        std::fs::write(cache.join("modules"), "").unwrap();
        let found = check(&cache).await;
        assert_eq!(found.outcome, Outcome::Warn);
        assert!(found.detail.contains("modules cannot be written"), "{found:?}");
    }
}
