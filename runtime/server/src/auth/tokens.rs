//! Finds the stored token of a request.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use engine::{Clock as _, SystemClock};
use flow::Digest;
use logbook::{AccessToken, LoadError, Logbook};

/// The start of each token, by which people and scanners recognize a leaked one.
const PREFIX: &str = "waft_";

/// The number of random bytes in a token.
const SECRET_BYTES: usize = 32;

/// How long a token that was found is trusted without another look: a revoked one works no longer than that.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Maximum number of tokens that are trusted without another look.
const MAX_TRUSTED: usize = 1_000;

/// The tokens that were found recently.
#[derive(Default)]
pub(crate) struct RecentTokens {
    found: Mutex<BTreeMap<Digest, (AccessToken, Instant)>>,
}

impl RecentTokens {
    /// Finds the token with this text, unless it has expired.
    ///
    /// # Errors
    /// [`LoadError`] when the logbook cannot be read.
    pub(crate) async fn find(&self, logbook: &dyn Logbook, text: &str) -> Result<Option<AccessToken>, LoadError> {
        // Other texts need no look into the logbook.
        if text.len() != PREFIX.len() + 2 * SECRET_BYTES || !text.starts_with(PREFIX) {
            return Ok(None);
        }
        let hash = store::digest_of(text.as_bytes());
        let found = match self.trusted(&hash) {
            Some(token) => Some(token),
            None => logbook.token(&hash).await?.inspect(|token| self.trust(token.clone())),
        };
        Ok(found.filter(|token| token.expires_at.is_none_or(|at| SystemClock.now() < at)))
    }

    fn trusted(&self, hash: &Digest) -> Option<AccessToken> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|_, (_, at)| at.elapsed() < TRUSTED_FOR);
        found.get(hash).map(|(token, _)| token.clone())
    }

    fn trust(&self, token: AccessToken) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < MAX_TRUSTED {
            found.insert(token.hash, (token, Instant::now()));
        }
    }

    /// A token was revoked here: it is trusted no longer.
    pub(crate) fn forget(&self, name: &str) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (token, _)| token.name.as_str() != name);
    }
}

/// A new token.
///
/// # Errors
/// Why the operating system gives no random bytes.
pub(crate) fn generate() -> Result<String, String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("the operating system gives no random bytes: {error}"))?;
    Ok(format!("{PREFIX}{}", hex::encode(bytes)))
}
