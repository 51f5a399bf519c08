//! The signatures in a folder: one file of minisign for each signer and tag.
//!
//! ```text
//! signatures/DIGEST/KEY.minisig        for any use; KEY is the Ed25519 key of the signer in hex digits
//! signatures/DIGEST/KEY.TAG.minisig    for one tag; `tag_names.rs` has the names
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use flow::Digest;
use tracing::warn;

use super::{Folder, list, tag_names};
use crate::{ListError, MAX_SIGNATURE_BYTES, MAX_SIGNATURES, Policy, SignError, Signature};

impl Folder {
    /// The folder of all signatures.
    pub(super) fn signatures(&self) -> PathBuf {
        self.root.join("signatures")
    }

    fn signature_folder(&self, digest: &Digest) -> PathBuf {
        self.signatures().join(digest.hex())
    }

    /// Stores a signature, unless there is a younger one of its signer for its tag. If there is no more room, it may replace
    /// another one by the policy.
    pub(crate) fn sign(&self, signature: &Signature, policy: &Policy) -> Result<(), SignError> {
        let digest = *signature.digest();
        let folder = self.signature_folder(&digest);
        let path = folder.join(file_name(signature));
        let failed = |source: io::Error| SignError::Write { digest, path: path.clone(), source };
        // The content cannot be removed meanwhile, and the number of signatures stays.
        let _exclusive = self.lock_exclusively();
        if !self.contains(&digest).map_err(failed)? {
            return Err(SignError::Missing { digest });
        }
        if let Some(known) = read(&path)
            && known.replaces(signature)
        {
            return Ok(());
        }
        let files = list(&folder).map_err(|error| failed(io::Error::other(error)))?;
        let others: Vec<&fs::DirEntry> = files.iter().filter(|file| file.path() != path).collect();
        // A person may have given a file another name.
        let read = |file: &&fs::DirEntry| Some((file.path(), read(&file.path())?));
        let stored: Vec<(PathBuf, Signature)> = others.iter().filter_map(read).collect();
        let signatures: Vec<Signature> = stored.iter().map(|(_, signature)| signature.clone()).collect();
        if let Some(replaced) = policy.make_room(&signatures, others.len(), signature)? {
            warn!(%digest, signer = %replaced.signer(), "a signature makes room for another");
            let replaced = stored.iter().filter(|(_, signature)| signature == replaced);
            replaced.map(|(file, _)| file).try_for_each(fs::remove_file).map_err(failed)?;
        }
        self.write_atomic(&path, signature.as_str().as_bytes()).map_err(failed)
    }

    /// The signatures of a content, in order of signer.
    pub(crate) fn signatures_of(&self, digest: &Digest) -> Result<Vec<Signature>, ListError> {
        let files = list(&self.signature_folder(digest))?;
        let read = |file: &fs::DirEntry| read(&file.path()).filter(|signature| signature.digest() == digest);
        let mut signatures: Vec<Signature> = files.iter().take(MAX_SIGNATURES).filter_map(read).collect();
        signatures.sort_by(|one, other| (one.signer(), one.tag()).cmp(&(other.signer(), other.tag())));
        Ok(signatures)
    }

    /// Removes the signatures of a content. One that cannot be removed does no harm.
    pub(super) fn remove_signatures(&self, digest: &Digest) {
        match fs::remove_dir_all(self.signature_folder(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%digest, %error, "the signatures of a removed module are still there");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn file_name(signature: &Signature) -> String {
    let key = signature.signer().key_hex();
    match signature.tag() {
        Some(tag) => format!("{key}.{}.minisig", tag_names::of(tag)),
        None => format!("{key}.minisig"),
    }
}

/// The signature in a file; `None` if there is none that is valid.
fn read(path: &Path) -> Option<Signature> {
    let size = path.metadata().ok()?.len();
    let text = if size <= MAX_SIGNATURE_BYTES as u64 { fs::read_to_string(path).ok() } else { None };
    let signature = text.map(|text| text.parse::<Signature>());
    match signature {
        Some(Ok(signature)) => Some(signature),
        Some(Err(error)) => {
            warn!(path = %path.display(), %error, "a signature is left out");
            None
        }
        None => {
            warn!(path = %path.display(), size, "a signature cannot be read, and is left out");
            None
        }
    }
}
