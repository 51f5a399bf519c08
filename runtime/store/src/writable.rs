//! Whether a folder can be written, tried without leaving anything.

use std::{io, io::Write as _, path::PathBuf};

use crate::blocking::blocking;

/// How many bytes are tried: more than a file system keeps beside a file's name, so that a full disk shows.
const TRIED: usize = 64 * 1024;

/// Writes to a file without a name in a folder, so that nothing is left, whatever becomes of this process. It takes as long as
/// the file system takes; dropped, the attempt still goes to its end.
///
/// # Errors
/// What the system says.
pub async fn try_writing(folder: PathBuf) -> io::Result<()> {
    blocking(move || {
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(&[0; TRIED])?;
        file.sync_all()
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_can_be_written_stays_empty_and_a_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        try_writing(folder.path().into()).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        try_writing(file).await.unwrap_err();
    }
}
