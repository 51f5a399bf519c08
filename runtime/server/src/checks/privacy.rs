//! Checks who else on this machine may read the store, the logbook and the settings.

use std::path::{Path, PathBuf};

use api::Check;
use credentials::is_open_to_others;

use super::{Locations, QUERY_TIMEOUT, on_disk, within};

/// Checks the modes of the store's folder, of the logbook's file and of settings with secrets; `None` if none exists, or they do
/// not answer: other checks report that. waft itself refuses files that contain only a secret.
pub(super) async fn check(locations: &Locations) -> Option<Check> {
    let Locations { logbook, store, files_with_secrets, .. } = locations;
    let logbook = ::logbook::file(logbook);
    let beside = |suffix: &str| logbook.as_ref().map(|file| PathBuf::from(format!("{}{suffix}", file.display())));
    // SQLite's other files hold values too.
    let files = [Some(store.to_owned()), beside(""), beside("-wal"), beside("-shm")];
    let paths: Vec<PathBuf> = files.into_iter().flatten().chain(files_with_secrets.iter().cloned()).collect();
    let found = on_disk(move || paths.into_iter().filter_map(with_openness).collect::<Vec<_>>());
    let found = within(QUERY_TIMEOUT, found).await.filter(|found| !found.is_empty())?;
    let open: Vec<&Path> = found.iter().filter(|(_, is_open)| *is_open).map(|(path, _)| path.as_path()).collect();
    if open.is_empty() {
        let detail =
            "no other user of this machine may open the store, the logbook, or settings with a token or a password";
        return Some(Check::ok("privacy", detail));
    }
    let has_secrets = open.iter().any(|path| files_with_secrets.iter().any(|file| file == path));
    let content = if has_secrets { "tokens or passwords may be there" } else { "values of runs are there" };
    let open = open.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
    let detail = format!("every user of this machine may open {open}: {content}");
    Some(Check::warn("privacy", detail, format!("take the rights of others away: chmod -R o= {open}")))
}

fn with_openness(path: PathBuf) -> Option<(PathBuf, bool)> {
    let is_open = is_open_to_others(&path.metadata().ok()?);
    Some((path, is_open))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use api::Outcome;

    use super::*;

    #[tokio::test]
    async fn data_that_others_may_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        let (store, file) = (root.path().join("store"), root.path().join("logbook.db"));
        let settings = root.path().join("config.toml");
        let logbook = format!("sqlite:{}", file.display());
        let locations = Locations {
            files_with_secrets: vec![settings.clone()],
            ..Locations::of_one_process(logbook, store.clone(), root.path().to_owned())
        };
        assert!(check(&locations).await.is_none(), "nothing exists yet");
        fs::create_dir(&store).unwrap();
        fs::write(&file, "").unwrap();
        for (mode, outcome) in [(0o600, Outcome::Ok), (0o660, Outcome::Ok), (0o644, Outcome::Warn)] {
            fs::set_permissions(&store, Permissions::from_mode(0o700)).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let found = check(&locations).await.unwrap();
            assert_eq!(found.outcome, outcome, "{mode:o}");
            assert_eq!(
                outcome == Outcome::Warn,
                found.detail.contains(&file.display().to_string()),
                "{}",
                found.detail
            );
        }
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        fs::write(&settings, "").unwrap();
        fs::set_permissions(&settings, Permissions::from_mode(0o644)).unwrap();
        let found = check(&locations).await.unwrap();
        assert!(found.detail.contains("config.toml: tokens or passwords may be there"), "{}", found.detail);
    }
}
