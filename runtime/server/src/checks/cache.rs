//! Checks whether this machine can cache compiled code and fetched modules, and who owns the cache.

use std::{io, path::Path};

use client::api::Check;
use sandbox::CacheOwner;

use super::{LOOK, nearest, on_disk, within};

/// The folders in the cache: compiled code, and fetched modules.
const PARTS: [&str; 2] = ["compiled", "modules"];

/// Checks the module cache.
pub(super) async fn check(cache: &Path) -> Check {
    let shown = cache.display();
    let advice = "name a folder of this user with WAFT_CACHE; without a cache every start compiles and fetches anew";
    let Some(looked) = within(LOOK, look(cache)).await else {
        let detail = format!("{shown} has not answered for {} seconds", LOOK.as_secs());
        return Check::warn("module-cache", detail, "the disk or the network file system below it hangs");
    };
    match looked {
        Ok(0) => Check::ok("module-cache", format!("{shown} is made when a module is first used")),
        Ok(_) => Check::ok("module-cache", format!("{shown} can be written, and is this user's")),
        Err(reason) => Check::warn("module-cache", format!("{shown} cannot be used: {reason}"), advice),
    }
}

/// The number of folders that exist.
///
/// # Errors
/// What is wrong with one of them.
async fn look(cache: &Path) -> Result<usize, String> {
    let mut there = 0;
    for part in PARTS {
        let folder = cache.join(part);
        let looked = folder.clone();
        match on_disk(move || CacheOwner::of(&looked)).await {
            Ok(CacheOwner { owner, us }) if owner != us && part == "compiled" => {
                return Err(format!("{part} belongs to user {owner}, and this is user {us}: its code is not trusted"));
            }
            Ok(_) => {
                store::try_writing(folder).await.map_err(|error| format!("{part} cannot be written: {error}"))?;
                there += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{part}: {error}")),
        }
    }
    if there == 0 {
        let base = nearest(cache).await;
        let tried = store::try_writing(base.clone()).await;
        tried.map_err(|error| format!("nothing can be made in {}: {error}", base.display()))?;
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use client::api::Outcome;

    use super::*;

    #[tokio::test]
    async fn a_cache_that_is_not_there_yet_is_well_and_one_that_is_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("a/b");
        assert_eq!(check(&cache).await.outcome, Outcome::Ok);
        assert!(!folder.path().join("a").exists(), "nothing is made");
        std::fs::create_dir_all(cache.join("compiled")).unwrap();
        assert_eq!(check(&cache).await.outcome, Outcome::Ok);
        std::fs::write(cache.join("modules"), "").unwrap();
        let found = check(&cache).await;
        assert_eq!(found.outcome, Outcome::Warn);
        assert!(found.detail.contains("modules cannot be written"), "{found:?}");
    }
}
