//! The files of a folder, for everybody to read.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::problem::Problem;

/// A folder of files. Files in folders below are not served.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        let folder =
            folder.canonicalize().with_context(|| format!("could not open the folder {}", folder.display()))?;
        ensure!(folder.is_dir(), "{} is not a folder", folder.display());
        Ok(Self { folder })
    }

    /// The contents of a file.
    pub(crate) async fn read(self, name: String) -> Result<Vec<u8>, Problem> {
        let missing = || Problem::not_found(format!("there is no file {name}"));
        // Hidden files, and everything that leads out of the folder: a separator, "..", and a link.
        if name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(missing());
        }
        let path = self.folder.join(&name);
        let is_file = tokio::fs::symlink_metadata(&path).await.is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            return Err(missing());
        }
        tokio::fs::read(&path).await.map_err(|_| missing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_files_of_the_folder_itself_are_served() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("folder");
        std::fs::create_dir_all(folder.join("below")).unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::write(folder.join("text"), "t").unwrap();
        std::fs::write(folder.join(".hidden"), "h").unwrap();
        std::fs::write(folder.join("below/text"), "b").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.join("link")).unwrap();
        let files = Files::open(folder).unwrap();
        assert_eq!(files.clone().read("text".into()).await.unwrap(), b"t");
        for name in ["", "..", "../secret", "link", ".hidden", "below", "below/text", "missing"] {
            assert_eq!(files.clone().read(name.into()).await.unwrap_err().status(), 404, "{name}");
        }
    }
}
