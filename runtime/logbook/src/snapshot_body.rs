//! The bytes of a snapshot, for the logbooks in SQL databases.

use machine::Snapshot;
use protocol::encode_snapshot;
use tokio::task::spawn_blocking;

use crate::AppendError;

/// Encodes a snapshot beside the threads that serve others: it may have a hundred megabytes.
///
/// # Errors
/// [`AppendError::Unavailable`] for a snapshot that nobody could read again.
pub(crate) async fn encode(snapshot: Snapshot) -> Result<Vec<u8>, AppendError> {
    let encoded = spawn_blocking(move || encode_snapshot(&snapshot)).await.expect("encoding does not panic");
    encoded.map_err(|error| AppendError::Unavailable { reason: error.to_string() })
}
