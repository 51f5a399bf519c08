//! The secret of the engines that share a logbook.

use protocol::EngineSecret;

/// The size of a secret in bytes.
const SECRET_BYTES: usize = 32;

/// Random bytes for a new secret.
///
/// # Errors
/// Why the operating system gives none.
pub(crate) fn new_secret() -> Result<[u8; SECRET_BYTES], String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("the operating system gives no random bytes: {error}"))?;
    Ok(bytes)
}

/// The secret with the stored bytes.
///
/// # Errors
/// Why they are no secret.
pub(crate) fn read_secret(bytes: &[u8]) -> Result<EngineSecret, String> {
    let bytes =
        bytes.try_into().map_err(|_| format!("the stored secret has {} bytes, not {SECRET_BYTES}", bytes.len()))?;
    Ok(EngineSecret::new(bytes))
}
