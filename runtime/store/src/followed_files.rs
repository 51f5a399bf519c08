//! Files that are read again when they change, without a restart.

use std::{
    convert::Infallible,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::sync::oneshot;
use tracing::warn;

/// What changes when one of some files is replaced, written or removed, or gets other rights: its number in the file system, its
/// size, its rights and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStates(Vec<Option<FileState>>);

type FileState = (u64, u64, u32, SystemTime);

impl FileStates {
    /// The states of files now. Blocks for as long as the file system takes.
    #[must_use]
    pub fn of<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        Self(files.into_iter().map(|file| state(file)).collect())
    }
}

fn state(file: &Path) -> Option<FileState> {
    let metadata = file.metadata().ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mode(), metadata.modified().ok()?))
}

/// Calls `check` regularly, for ever. It may block: it runs on a thread of the given name, and the end of the process does not
/// wait for that thread, since a file on a network may not answer.
pub async fn check_regularly<Files: Send + 'static>(
    thread: &'static str,
    interval: Duration,
    mut files: Files,
    check: fn(&mut Files),
) -> Infallible {
    loop {
        tokio::time::sleep(interval).await;
        let (tx, checked) = oneshot::channel();
        let work = move || {
            check(&mut files);
            // The process may be stopping.
            let _ = tx.send(files);
        };
        let started = std::thread::Builder::new().name(thread.into()).spawn(work);
        match (started, checked.await) {
            (Ok(_), Ok(checked)) => files = checked,
            (Err(error), _) => {
                warn!(%error, files = thread, "changed files are not read again");
                return std::future::pending().await;
            }
            (Ok(_), Err(_)) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_made_written_or_removed_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let files = vec![folder.path().join("settings")];
        let (tx, mut changes) = mpsc::unbounded_channel();
        let state = (files.clone(), FileStates::of(&files), tx);
        let check = |(files, seen, tx): &mut (Vec<PathBuf>, FileStates, mpsc::UnboundedSender<()>)| {
            let now = FileStates::of(&*files);
            if now != *seen {
                *seen = now;
                // The test may have ended.
                let _ = tx.send(());
            }
        };
        let following = check_regularly("test", Duration::from_millis(1), state, check);
        let changing = async {
            for text in ["one", "three"] {
                std::fs::write(&files[0], text).unwrap();
                changes.recv().await.unwrap();
            }
            std::fs::remove_file(&files[0]).unwrap();
            changes.recv().await.unwrap();
        };
        tokio::select! {
            never = following => match never {},
            () = changing => {}
        }
    }
}
