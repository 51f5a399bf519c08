//! A secret text in a file: a token, or an address with a password.

use std::path::Path;

use crate::file::{self, FileError, Readers};

/// Reads a secret of one line from a regular file. One newline at its end is removed. `part` says what the secret is, for the error:
/// `the token`.
///
/// # Errors
/// [`FileError`] when the file is no regular file, cannot be read, is empty, has several lines, or may be opened by every user of this
/// machine.
pub fn read_secret(part: &'static str, file: &Path) -> Result<String, FileError> {
    parse_secret(file::read(part, file, Readers::Few)?).map_err(|reason| FileError::new(part, file, reason))
}

/// Reads a secret like [`read_secret`], when a process starts: the file may also be a pipe, as in `<(pass show waft)`. It waits for the
/// writer of a pipe, perhaps for ever.
///
/// # Errors
/// Those of [`read_secret`], but for a pipe.
pub fn read_secret_once(part: &'static str, file: &Path) -> Result<String, FileError> {
    parse_secret(file::read_waiting(part, file, Readers::Few)?).map_err(|reason| FileError::new(part, file, reason))
}

/// The secret in some bytes: a text of one line, without one newline at its end.
///
/// # Errors
/// Why it is none, as a sentence about `it`.
pub fn parse_secret(bytes: Vec<u8>) -> Result<String, &'static str> {
    let text = String::from_utf8(bytes).map_err(|_| "it is no text in UTF-8")?;
    let secret = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    if secret.is_empty() {
        return Err("it is empty");
    }
    if secret.contains(char::is_control) {
        return Err("it has more than one line, or control characters");
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::*;

    #[test]
    fn a_secret_is_the_only_line_of_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let read = |content: &[u8], mode: u32| {
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            read_secret("the token", &file).map_err(|error| error.to_string())
        };
        for content in ["s e:cret", "s e:cret\n", "s e:cret\r\n"] {
            assert_eq!(read(content.as_bytes(), 0o600), Ok("s e:cret".to_owned()), "{content:?}");
        }
        assert_eq!(read(b"secret", 0o440), Ok("secret".to_owned()), "systemd's credentials have this mode");
        for (content, mode, reason) in [
            (&b"secret"[..], 0o644, "every user of this machine may open it: chmod o= "),
            (b"secret", 0o602, "every user of this machine may open it"),
            (b"", 0o600, "it is empty"),
            (b"\n", 0o600, "it is empty"),
            (b"secret\n\n", 0o600, "more than one line"),
            (b"secret\xff", 0o600, "no text in UTF-8"),
            (&vec![b'x'; 5 << 20], 0o600, "it has more than 4 MiB"),
        ] {
            let error = read(content, mode).unwrap_err();
            assert!(error.contains(reason) && error.contains(&file.display().to_string()), "{error}");
            assert!(error.starts_with("the token in ") && !error.contains("secret\n"), "{error}");
        }
        let missing = read_secret("the token", &folder.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing cannot be used: No such file"), "{missing}");
        // Nobody writes into it, so this would wait for ever.
        assert!(
            std::process::Command::new("mkfifo")
                .args(["-m", "600"])
                .arg(folder.path().join("pipe"))
                .status()
                .unwrap()
                .success()
        );
        let is_pipe = read_secret("the token", &folder.path().join("pipe")).unwrap_err().to_string();
        assert!(is_pipe.ends_with("pipe cannot be used: it is no regular file"), "{is_pipe}");
        let is_folder = read_secret("the token", folder.path()).unwrap_err().to_string();
        assert!(is_folder.contains("cannot be used"), "{is_folder}");
    }

    #[test]
    fn a_secret_that_is_read_once_may_come_from_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
        let written = pipe.clone();
        let writer = std::thread::spawn(move || fs::write(written, "s3cret\n").unwrap());
        assert_eq!(read_secret_once("the token", &pipe).unwrap(), "s3cret");
        writer.join().unwrap();
    }
}
