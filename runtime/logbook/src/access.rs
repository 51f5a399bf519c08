//! Who may use the servers that share a logbook, and what they asked for.

use async_trait::async_trait;
use flow::{Digest, Namespace, Timestamp, TokenName};

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
    /// The namespace that it is limited to; `None` for a token for all of them.
    pub namespace: Option<Namespace>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None` for one that is valid until it is revoked.
    pub expires_at: Option<Timestamp>,
}

/// A request that did more than read, or was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was answered.
    pub at: Timestamp,
    /// Who sent it: the name of a token, or words in parentheses; and the subject of a certificate in parentheses.
    pub caller: String,
    /// The address it came from.
    pub peer: String,
    /// What it asked for, as a word of the server.
    pub action: String,
    /// The id of the run, the digest of the module, the tag or the name of the token that it is about, if it is known.
    pub subject: Option<String>,
    /// The status of the answer, as in HTTP.
    pub status: u16,
    /// What has changed, if the subject does not say it: the digests of a tag before and after it was moved. Or the number of
    /// requests that the entry stands for, if there are several.
    pub detail: Option<String>,
}

/// The position of an entry: later entries have higher ones.
pub type AuditPosition = u64;

/// A filter for audit entries. All given conditions must hold.
#[derive(Debug, Clone)]
pub struct AuditFilter {
    /// Only entries about this subject.
    pub subject: Option<String>,
    /// Only entries before this position.
    pub before: Option<AuditPosition>,
    /// The maximum number of entries.
    pub limit: usize,
}

/// The tokens and the audit log of a logbook.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// Adds a token; returns false if its name or its hash is taken. A token of its name that expired before the new one was
    /// made is replaced: it leaves its name to the next one.
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

    /// Adds entries to the audit log, in their order: all or none.
    ///
    /// # Errors
    /// [`AppendError`] when they were not added, or may have been.
    async fn add_audit(&self, entries: &[AuditEntry]) -> Result<(), AppendError>;

    /// Reads entries of the audit log, the youngest first.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<(AuditPosition, AuditEntry)>, LoadError>;

    /// Deletes the entries of the audit log before a time; returns their number.
    ///
    /// # Errors
    /// [`AppendError`] when they were not deleted, or may have been.
    async fn delete_audit(&self, before: Timestamp) -> Result<u64, AppendError>;
}

/// An audit entry as a row of a database.
pub(crate) struct AuditRow {
    pub(crate) key: i64,
    pub(crate) at: i64,
    pub(crate) caller: String,
    pub(crate) peer: String,
    pub(crate) action: String,
    pub(crate) subject: Option<String>,
    pub(crate) status: i32,
    pub(crate) detail: Option<String>,
}

impl AuditRow {
    /// The entry of a row.
    ///
    /// # Errors
    /// [`LoadError`] when another program wrote the row.
    pub(crate) fn into_entry(self) -> Result<(AuditPosition, AuditEntry), LoadError> {
        let damaged = || LoadError::Unavailable { reason: "an entry of the audit log is damaged".into() };
        let Self { key, at, caller, peer, action, subject, status, detail } = self;
        let at = Timestamp::from_micros(u64::try_from(at).map_err(|_| damaged())?);
        let status = u16::try_from(status).map_err(|_| damaged())?;
        let position = u64::try_from(key).map_err(|_| damaged())?;
        Ok((position, AuditEntry { at, caller, peer, action, subject, status, detail }))
    }
}

/// A token as a row of a database.
pub(crate) struct TokenRow {
    pub(crate) name: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) scopes: String,
    pub(crate) namespace: Option<String>,
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
        let namespace = self.namespace.map(Namespace::new).transpose();
        Ok(AccessToken {
            name: TokenName::new(&self.name).map_err(|error| damaged(error.to_string()))?,
            hash: crate::row::digest(&self.hash)?,
            scopes: self.scopes.split_whitespace().map(str::to_owned).collect(),
            namespace: namespace.map_err(|error| damaged(error.to_string()))?,
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
            namespace: token.namespace.as_ref().map(ToString::to_string),
            created_at: time(token.created_at),
            expires_at: token.expires_at.map(time),
        }
    }
}
