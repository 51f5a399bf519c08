//! Secret keys that sign modules, in the files of minisign.

use std::io::Cursor;

use flow::{Digest, Timestamp};
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};

use crate::{
    Signature, Signer, Tag,
    signature::{InvalidSignature, Statement},
};

/// A secret key that signs modules. It has no `Debug`.
pub struct SigningKey {
    key: SecretKey,
    signer: Signer,
}

/// Why a secret key cannot be made, read or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The system has no random numbers, or minisign failed.
    #[error("a key cannot be made: {reason}")]
    Make {
        /// The reason.
        reason: String,
    },
    /// The text is not a secret key, or the password is not its password.
    #[error("it is no secret key of minisign that can be used: {reason}")]
    Read {
        /// The reason.
        reason: String,
    },
    /// Signing failed.
    #[error("a signature cannot be made: {reason}")]
    Sign {
        /// The reason.
        reason: String,
    },
}

/// How a secret key is protected in its file.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// Only the mode of the file protects it.
    FileMode,
    /// It is encrypted with a password.
    Password(&'a str),
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`SigningKeyError::Make`] when the system has no random numbers.
    pub fn generate() -> Result<Self, SigningKeyError> {
        let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().map_err(make)?;
        Ok(Self { key: sk, signer: Signer::of_key(pk) })
    }

    /// Makes a new key; returns also the text of its file.
    ///
    /// # Errors
    /// [`SigningKeyError::Make`] when the system has no random numbers.
    pub fn generate_file(protection: Protection<'_>) -> Result<(Signer, String), SigningKeyError> {
        let pair = match protection {
            Protection::FileMode => KeyPair::generate_unencrypted_keypair(),
            Protection::Password(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
        };
        let KeyPair { pk, sk } = pair.map_err(make)?;
        let comment = match protection {
            Protection::FileMode => "minisign secret key, without a password",
            Protection::Password(_) => "minisign encrypted secret key",
        };
        Ok((Signer::of_key(pk), sk.to_box(Some(comment)).map_err(make)?.into_string()))
    }

    /// Reads a key from the text of its file.
    ///
    /// # Errors
    /// [`SigningKeyError::Read`] when it is no secret key, or is protected in another way.
    pub fn read(text: &str, protection: Protection<'_>) -> Result<Self, SigningKeyError> {
        let read = |error: minisign::PError| SigningKeyError::Read { reason: error.to_string() };
        let file = SecretKeyBox::from_string(text).map_err(read)?;
        // Without a password here, minisign would ask for one on the terminal.
        let key = match protection {
            Protection::FileMode => file.into_unencrypted_secret_key(),
            Protection::Password(password) => file.into_secret_key(Some(password.to_owned())),
        };
        let key = key.map_err(read)?;
        let signer = Signer::of_key(PublicKey::from_secret_key(&key).map_err(read)?);
        Ok(Self { key, signer })
    }

    /// Who signs with this key.
    #[must_use]
    pub fn signer(&self) -> Signer {
        self.signer.clone()
    }

    /// Signs a module, for one tag or for any use. The time is in whole seconds.
    ///
    /// # Errors
    /// [`SigningKeyError::Sign`] when the system has no random numbers, or the key does not fit its public key.
    pub fn sign(&self, digest: Digest, tag: Option<Tag>, at: Timestamp) -> Result<Signature, SigningKeyError> {
        let statement = Statement { digest, tag, second: at.as_micros() / 1_000_000 };
        let text = self.sign_text(&Signature::comment(&self.signer), &statement.to_string())?;
        // Checked, since another program may have made the file of the key.
        text.parse().map_err(|InvalidSignature { reason }| SigningKeyError::Sign { reason })
    }

    /// Signs any statement.
    pub(crate) fn sign_text(&self, comment: &str, statement: &str) -> Result<String, SigningKeyError> {
        let signed = Cursor::new(format!("{statement}\n"));
        let signature = minisign::sign(None, &self.key, signed, Some(statement), Some(comment));
        let sign = |error: minisign::PError| SigningKeyError::Sign { reason: error.to_string() };
        signature.map(minisign::SignatureBox::into_string).map_err(sign)
    }
}

fn make(error: minisign::PError) -> SigningKeyError {
    SigningKeyError::Make { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest_of;

    #[test]
    fn a_key_is_read_from_its_file() {
        let (signer, text) = SigningKey::generate_file(Protection::FileMode).unwrap();
        let key = SigningKey::read(&text, Protection::FileMode).unwrap();
        assert_eq!(key.signer(), signer);
        let signature = key.sign(digest_of(b"module"), None, Timestamp::from_micros(7)).unwrap();
        assert_eq!(signature.signer(), &signer);
        assert!(SigningKey::read(&text, Protection::Password("x")).is_err(), "it has no password");
        assert!(SigningKey::read(&signer.to_file(), Protection::FileMode).is_err(), "it is the public key");
        assert!(SigningKey::read("", Protection::FileMode).is_err());
    }

    #[test]
    fn a_key_with_a_password_is_read_only_with_it() {
        let (signer, text) = SigningKey::generate_file(Protection::Password("eggs")).unwrap();
        assert_eq!(SigningKey::read(&text, Protection::Password("eggs")).unwrap().signer(), signer);
        for wrong in [Protection::FileMode, Protection::Password("ham")] {
            assert!(SigningKey::read(&text, wrong).is_err());
        }
    }
}
