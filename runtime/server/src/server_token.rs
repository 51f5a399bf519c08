//! The token of a server. One that is replaced in its file is used without a restart.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use credentials::read_secret;
use store::{FileStates, check_regularly};
use tracing::{info, warn};

/// How often the file is compared with what was read.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The token that requests must carry. It is never shown.
pub struct Token {
    text: Arc<RwLock<Box<[u8]>>>,
    file: Option<PathBuf>,
}

impl Token {
    /// A token; `None` if the text is empty.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self { text: Arc::new(RwLock::new(text.as_bytes().into())), file: None })
    }

    /// This token was read from a file. While the server runs, it reads the file again whenever it changes. A pipe can be read only
    /// once.
    #[must_use]
    pub fn of_file(self, file: &Path) -> Self {
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        Self { file: is_file.then(|| file.to_owned()), ..self }
    }

    /// Whether a text equals the token. The duration reveals nothing but the length.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        let token = self.text.read().unwrap_or_else(PoisonError::into_inner);
        let differing = |sum, (one, other): (&u8, &u8)| black_box(sum | (one ^ other));
        token.len() == text.len() && token.iter().zip(text).fold(0, differing) == 0
    }

    /// The file to follow, if the token comes from one.
    pub(crate) fn take_file(&mut self) -> Option<TokenFile> {
        // The file may have been replaced since the token was read.
        Some(TokenFile { file: self.file.take()?, read: None, text: self.text.clone() })
    }
}

/// The file of a token that a server uses.
pub(crate) struct TokenFile {
    file: PathBuf,
    /// The state that was read last.
    read: Option<FileStates>,
    text: Arc<RwLock<Box<[u8]>>>,
}

impl TokenFile {
    /// Reads the file again whenever it changes, for ever. A file that cannot be used changes nothing.
    pub(crate) async fn follow(self) {
        match check_regularly("token", CHECK_INTERVAL, self, Self::check).await {}
    }

    fn check(&mut self) {
        let state = Some(FileStates::of([&self.file]));
        if state == self.read {
            return;
        }
        self.read = state;
        match read_secret("the token", &self.file) {
            Ok(token) if token.as_bytes() == &**self.text.read().unwrap_or_else(PoisonError::into_inner) => {}
            Ok(token) => {
                let file = self.file.display();
                info!(%file, "the token has changed: the one before it is not accepted any more");
                *self.text.write().unwrap_or_else(PoisonError::into_inner) = token.into_bytes().into();
            }
            Err(error) => warn!(%error, "the token has changed: the one before it stays in use"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::*;

    #[test]
    fn a_token_matches_only_itself() {
        let token = Token::new("secret").unwrap();
        assert!(token.is(b"secret"));
        for other in [&b""[..], b"secre", b"secrets", b"Secret", b"sEcret"] {
            assert!(!token.is(other));
        }
        assert!(Token::new("").is_none());
    }

    #[test]
    fn a_replaced_token_is_used_once_it_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let replace = |text: &str, mode: u32| {
            // Another file of the same name has another number.
            let new = folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
            fs::rename(new, &file).unwrap();
        };
        replace("first\n", 0o600);
        let mut token = Token::new("first").unwrap().of_file(&file);
        let mut followed = token.take_file().expect("it has a file");
        followed.check();
        assert!(token.is(b"first"));
        assert!(Token::new("t").unwrap().of_file(Path::new("/dev/null")).take_file().is_none(), "it is no file");
        replace("second\n", 0o644);
        followed.check();
        assert!(token.is(b"first"), "every user may read the second");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        followed.check();
        assert!(token.is(b"second") && !token.is(b"first"));
        replace("", 0o600);
        followed.check();
        assert!(token.is(b"second") && !token.is(b""), "an empty file is no token");
    }
}
