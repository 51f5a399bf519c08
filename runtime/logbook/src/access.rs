//! Who may use the servers that share a logbook.

use async_trait::async_trait;
use flow::{Digest, Timestamp, TokenName};

use crate::{AppendError, LoadError};

/// A token with which a program or a person uses a server. The logbook has no token itself, only its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Its name, which is unique.
    pub name: TokenName,
    /// The hash of the token.
    pub hash: Digest,
    /// What it allows, as words of the server.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None` for one that is valid until it is revoked.
    pub expires_at: Option<Timestamp>,
}

/// The tokens of a logbook.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// Adds a token; returns false if its name or its hash is taken.
    ///
    /// # Errors
    /// [`AppendError`] when it was not added, or may have been.
    async fn add_token(&self, token: &AccessToken) -> Result<bool, AppendError>;

    /// Finds a token by its hash, whether it has expired or not.
    ///
    /// # Errors
    /// [`LoadError`] when the tokens cannot be read.
    async fn token(&self, hash: &Digest) -> Result<Option<AccessToken>, LoadError>;

    /// All tokens, in order of name.
    ///
    /// # Errors
    /// [`LoadError`] when the tokens cannot be read.
    async fn tokens(&self) -> Result<Vec<AccessToken>, LoadError>;

    /// Removes a token; returns false if there is none of that name.
    ///
    /// # Errors
    /// [`AppendError`] when it was not removed, or may have been.
    async fn remove_token(&self, name: &TokenName) -> Result<bool, AppendError>;
}

/// A token as a row of a database.
pub(crate) struct TokenRow {
    pub(crate) name: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) scopes: String,
    pub(crate) created_at: i64,
    pub(crate) expires_at: Option<i64>,
}

impl TokenRow {
    /// The token of a row.
    ///
    /// # Errors
    /// [`LoadError`] when another program wrote the row.
    pub(crate) fn into_token(self) -> Result<AccessToken, LoadError> {
        let damaged = |reason: String| LoadError::Unavailable { reason: format!("a token is damaged: {reason}") };
        let time = |column: i64| {
            let micros = u64::try_from(column).map_err(|_| damaged(format!("{column} is not a time")))?;
            Ok(Timestamp::from_micros(micros))
        };
        Ok(AccessToken {
            name: TokenName::new(&self.name).map_err(|error| damaged(error.to_string()))?,
            hash: crate::row::digest(&self.hash)?,
            scopes: self.scopes.split_whitespace().map(str::to_owned).collect(),
            created_at: time(self.created_at)?,
            expires_at: self.expires_at.map(time).transpose()?,
        })
    }
}

impl From<&AccessToken> for TokenRow {
    fn from(token: &AccessToken) -> Self {
        let time = |at: Timestamp| crate::row::column(at.as_micros());
        Self {
            name: token.name.to_string(),
            hash: token.hash.as_bytes().to_vec(),
            scopes: token.scopes.join(" "),
            created_at: time(token.created_at),
            expires_at: token.expires_at.map(time),
        }
    }
}
