//! Checks who else on this machine may read the store and the logbook.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use api::Check;

use super::{QUERY_TIMEOUT, on_disk, within};

/// The rights of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// Checks the modes of the store's folder and of the logbook's file; `None` if neither exists, or they do not answer:
/// other checks report that.
pub(super) async fn check(store: &Path, logbook: &str) -> Option<Check> {
    let logbook = ::logbook::file(logbook);
    let beside = |suffix: &str| logbook.as_ref().map(|file| PathBuf::from(format!("{}{suffix}", file.display())));
    // SQLite's other files hold values too.
    let files = [Some(store.to_owned()), beside(""), beside("-wal"), beside("-shm")];
    let paths: Vec<PathBuf> = files.into_iter().flatten().collect();
    let modes = on_disk(move || paths.into_iter().filter_map(with_mode).collect::<Vec<_>>());
    let modes = within(QUERY_TIMEOUT, modes).await.filter(|modes| !modes.is_empty())?;
    let open: Vec<String> =
        modes.iter().filter(|(_, mode)| mode & OTHERS != 0).map(|(path, _)| path.display().to_string()).collect();
    if open.is_empty() {
        return Some(Check::ok("privacy", "no other user of this machine may open the store or the logbook"));
    }
    let open = open.join(" ");
    let detail = format!("every user of this machine may open {open}: values of runs are there");
    Some(Check::warn("privacy", detail, format!("take the rights of others away: chmod -R o= {open}")))
}

fn with_mode(path: PathBuf) -> Option<(PathBuf, u32)> {
    let mode = path.metadata().ok()?.permissions().mode();
    Some((path, mode))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use api::Outcome;

    use super::*;

    #[tokio::test]
    async fn data_that_others_may_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        let (store, file) = (root.path().join("store"), root.path().join("logbook.db"));
        let address = format!("sqlite:{}", file.display());
        assert!(check(&store, &address).await.is_none(), "nothing exists yet");
        fs::create_dir(&store).unwrap();
        fs::write(&file, "").unwrap();
        for (mode, outcome) in [(0o600, Outcome::Ok), (0o660, Outcome::Ok), (0o644, Outcome::Warn)] {
            fs::set_permissions(&store, Permissions::from_mode(0o700)).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let found = check(&store, &address).await.unwrap();
            assert_eq!(found.outcome, outcome, "{mode:o}");
            assert_eq!(
                outcome == Outcome::Warn,
                found.detail.contains(&file.display().to_string()),
                "{}",
                found.detail
            );
        }
    }
}
