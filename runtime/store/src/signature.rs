//! Signatures of modules: who vouches for a digest, and for which tag.
//!
//! A signature is a file of minisign with four lines. The first line names the public key of its signer, so that everybody can
//! check the file alone. The third line is the statement: time, digest and tag. The signed text is the statement and a line
//! feed, so `minisign -V` checks the same file. `docs/format.md` has an example.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    io::Cursor,
    str::FromStr,
    sync::Arc,
};

use flow::{Digest, Timestamp};
use minisign::{PublicKey, SignatureBox};

use crate::Tag;

/// The maximum number of signatures of one module: some signers with some tags each.
pub const MAX_SIGNATURES: usize = protocol::fetch::MAX_REPLY_SIGNATURES;

/// The maximum number of signatures of one module for tags of one namespace. Whoever may push in a namespace can sign with any
/// number of keys, and others need room for their signatures.
pub const MAX_NAMESPACE_SIGNATURES: usize = MAX_SIGNATURES / 4;

/// The maximum size of a signature, in bytes. One with the longest tag has about 600.
pub const MAX_SIGNATURE_BYTES: usize = protocol::fetch::MAX_REPLY_SIGNATURE_BYTES;

/// How the comment in the first line begins; the signer follows.
const SIGNED_BY: &str = "waft signature by ";

/// How the statement begins: what it is about, and its version.
const STATEMENT: &str = "waft-module:1";

/// What stands in the statement for no tag. A tag begins with a letter or digit.
const NO_TAG: &str = "-";

/// The length of the last line: 64 bytes in base64.
const LAST_LINE: usize = 88;

/// The first bytes of a public key: the algorithm, which is Ed25519.
const ALGORITHM: &[u8] = b"Ed";

/// Who signs modules: a public key of minisign.
///
/// Two signers are the same if they have the same Ed25519 key. The key id beside it is only a number that its owner can choose.
#[derive(Debug, Clone)]
pub struct Signer(PublicKey);

/// Why a text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a public key of minisign: {reason}")]
pub struct InvalidSigner {
    /// The rejected text, shortened.
    pub text: String,
    /// The reason.
    pub reason: String,
}

/// A checked signature: its signer did sign this statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    signer: Signer,
    statement: Statement,
    text: Arc<str>,
}

/// Why a text is not a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a signature of a module: {reason}")]
pub struct InvalidSignature {
    /// The reason.
    pub reason: String,
}

/// What a signer states: that a module is the signer's, for a tag or for any use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) digest: Digest,
    pub(crate) tag: Option<Tag>,
    /// In whole seconds since 1970.
    pub(crate) second: u64,
}

impl Signer {
    pub(crate) fn of_key(key: PublicKey) -> Self {
        Self(key)
    }

    /// The short name of the key, as minisign shows it: 16 hex digits. It does not identify the key.
    #[must_use]
    pub fn key_id(&self) -> String {
        self.0.keynum().iter().rev().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The file with the public key, as minisign writes it.
    #[must_use]
    pub fn to_file(&self) -> String {
        format!("untrusted comment: minisign public key: {}\n{self}\n", self.key_id())
    }

    /// The Ed25519 key in hex digits.
    pub(crate) fn key_hex(&self) -> String {
        self.key().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn key(&self) -> Vec<u8> {
        self.0.to_bytes().split_off(ALGORITHM.len() + self.0.keynum().len())
    }
}

impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Signer {}

impl PartialOrd for Signer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Signer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Signer {
    fn hash<State: Hasher>(&self, state: &mut State) {
        self.key().hash(state);
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0.to_base64())
    }
}

impl FromStr for Signer {
    type Err = InvalidSigner;

    /// Reads a public key: the line that begins with RW, alone or in its file.
    fn from_str(text: &str) -> Result<Self, InvalidSigner> {
        let invalid = |reason: &str| InvalidSigner { text: text.chars().take(100).collect(), reason: reason.into() };
        let is_key = |line: &&str| !line.is_empty() && !line.starts_with("untrusted comment:");
        let mut lines = text.lines().map(str::trim).filter(is_key);
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(invalid("it has one line that begins with RW, and perhaps a comment before it"));
        };
        let key = PublicKey::from_base64(line).map_err(|error| invalid(&error.to_string()))?;
        if !key.to_bytes().starts_with(ALGORITHM) {
            return Err(invalid("it begins with RW"));
        }
        Ok(Self(key))
    }
}

impl Signature {
    /// The comment in the first line.
    pub(crate) fn comment(signer: &Signer) -> String {
        format!("{SIGNED_BY}{signer}")
    }

    /// Who signed.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The digest of the signed module.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.statement.digest
    }

    /// The only tag under which the signer wants the module to be found; `None` for any use.
    #[must_use]
    pub fn tag(&self) -> Option<&Tag> {
        self.statement.tag.as_ref()
    }

    /// When the module was signed, by the clock of the signer. A signature does not expire.
    #[must_use]
    pub fn signed_at(&self) -> Timestamp {
        Timestamp::from_micros(self.statement.second.saturating_mul(1_000_000))
    }

    /// The four lines of the signature.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this one takes the place of another: the same signer signed the same for the same tag.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        (&self.signer, self.digest(), self.tag()) == (&other.signer, other.digest(), other.tag())
            && self.statement.second >= other.statement.second
    }
}

impl FromStr for Signature {
    type Err = InvalidSignature;

    /// Reads and checks a signature.
    fn from_str(text: &str) -> Result<Self, InvalidSignature> {
        check(text).map_err(|reason| InvalidSignature { reason })
    }
}

fn check(text: &str) -> Result<Signature, String> {
    if text.len() > MAX_SIGNATURE_BYTES {
        return Err(format!("it has {} bytes, and at most {MAX_SIGNATURE_BYTES} are allowed", text.len()));
    }
    // minisign takes the length of this line for granted.
    if text.lines().count() != 4 || text.lines().last().is_none_or(|line| line.len() != LAST_LINE) {
        return Err("it does not have the four lines that `waft push --sign` makes".into());
    }
    let read = SignatureBox::from_string(text).map_err(|error| error.to_string())?;
    let (comment, statement) = (read.untrusted_comment(), read.trusted_comment());
    let (comment, stated) = comment.and_then(|comment| Ok((comment, statement?))).map_err(|error| error.to_string())?;
    let signer = comment.strip_prefix(SIGNED_BY).ok_or("its first line does not name its signer")?;
    let signer: Signer = signer.parse().map_err(|error: InvalidSigner| error.to_string())?;
    let statement: Statement = stated.parse()?;
    // One signature has one text, so that a store does not hold it twice.
    if read.to_string() != text || Signature::comment(&signer) != comment {
        return Err("it is not written as minisign writes it".into());
    }
    minisign::verify(&signer.0, &read, Cursor::new(statement.signed_text()), true, false, false)
        .map_err(|error| format!("{signer} did not sign it: {error}"))?;
    Ok(Signature { signer, statement, text: text.into() })
}

impl Statement {
    /// The bytes that are signed.
    pub(crate) fn signed_text(&self) -> String {
        format!("{self}\n")
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, tag, second } = self;
        let tag = tag.as_ref().map_or(NO_TAG, Tag::as_str);
        write!(out, "{STATEMENT} timestamp:{second} digest:{digest} tag:{tag}")
    }
}

impl FromStr for Statement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [STATEMENT, second, digest, tag] = parts[..] else {
            return Err(format!("its statement does not begin with {STATEMENT}, or has other parts"));
        };
        let part = |text: &'_ str, name: &str| {
            text.strip_prefix(name).map(str::to_owned).ok_or_else(|| format!("its statement lacks {name}"))
        };
        let (second, digest, tag) = (part(second, "timestamp:")?, part(digest, "digest:")?, part(tag, "tag:")?);
        let statement = Self {
            digest: digest.parse().map_err(|_| format!("{digest:?} is no digest"))?,
            tag: if tag == NO_TAG { None } else { Some(tag.parse::<Tag>().map_err(|error| error.to_string())?) },
            second: second.parse().map_err(|_| format!("{second:?} is no time"))?,
        };
        if statement.to_string() != text {
            return Err("its statement is not written as waft writes it".into());
        }
        Ok(statement)
    }
}

#[cfg(test)]
mod tests;
