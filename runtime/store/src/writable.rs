//! Checks whether a folder can be written, without leaving anything there.

use std::{io, io::Write as _, path::PathBuf};

use crate::blocking::blocking;

/// The bytes to write: more than a file system stores inline with a file's name, so that a full disk is detected.
const TEST_BYTES: usize = 64 * 1024;

/// Writes to an unnamed file in a folder, so that nothing remains even if this process dies. Takes as long as the file
/// system takes; if the future is dropped, the attempt still runs to its end.
///
/// # Errors
/// The operating system's error.
pub async fn try_writing(folder: PathBuf) -> io::Result<()> {
    blocking(move || {
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(&[0; TEST_BYTES])?;
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
