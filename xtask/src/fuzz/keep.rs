//! Adds inputs that the engine has found to the corpus in the repository: few and small ones, which every test run reads.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use xtask::project;

use super::{engine, run_shown, target::Target};

/// The maximum number of files of a corpus. A test checks it.
const MAX_FILES: usize = 50;

/// The maximum size of a corpus, in bytes. A test checks it.
const MAX_BYTES: u64 = 200 << 10;

/// Adds the smallest inputs that reach code which the corpus does not reach.
pub(super) fn keep(target: &Target, program: &Path) -> Result<()> {
    let merged = super::target_folder().join("merged").join(&target.name);
    // What an earlier merge has left.
    let _ = fs::remove_dir_all(&merged);
    copy_all(&target.corpus(), &merged)?;
    let mut merge = engine(program, &target.artifacts());
    merge.args(["-merge=1"]).arg(&merged).args(target.seeds()).arg(target.found());
    run_shown(&mut merge)?;
    let (mut count, mut bytes) = size(&target.corpus())?;
    for (name, size) in by_size(&merged)? {
        let to = target.corpus().join(&name);
        if to.exists() {
            continue;
        }
        if count == MAX_FILES || bytes + size > MAX_BYTES {
            break;
        }
        fs::copy(merged.join(&name), &to).with_context(|| format!("could not write {}", to.display()))?;
        (count, bytes) = (count + 1, bytes + size);
    }
    println!("{} now has {count} files with {bytes} bytes", project::short(&target.corpus()));
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for folder in [from, to] {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    for (name, _) in by_size(from)? {
        fs::copy(from.join(&name), to.join(&name)).with_context(|| format!("could not copy {name}"))?;
    }
    Ok(())
}

/// The number and the size of the files of a folder.
fn size(folder: &Path) -> Result<(usize, u64)> {
    let files = by_size(folder)?;
    Ok((files.len(), files.iter().map(|(_, size)| size).sum()))
}

/// The files of a folder with their sizes, the smallest first.
fn by_size(folder: &Path) -> Result<Vec<(String, u64)>> {
    let context = || format!("could not read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata().with_context(context)?.len()));
    }
    files.sort_by_key(|(name, size)| (*size, name.clone()));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_files_come_first() {
        let folder = project::target().join("xtask-tests/by-size");
        fs::create_dir_all(&folder).unwrap();
        for (name, size) in [("b", 3), ("a", 3), ("c", 1)] {
            fs::write(folder.join(name), vec![0; size]).unwrap();
        }
        assert_eq!(by_size(&folder).unwrap(), [("c".into(), 1), ("a".into(), 3), ("b".into(), 3)]);
        assert_eq!(size(&folder).unwrap(), (3, 7));
    }
}
