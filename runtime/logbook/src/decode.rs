//! Decodes what was read from a database, where it delays no other task.

use tokio::task::spawn_blocking;

use crate::row::RecordChunks;

/// The maximum bytes that are decoded in the thread of their reader: they take about a millisecond.
const MAX_INLINE_BYTES: usize = 256 << 10;

/// Decodes so many bytes, in a thread that may block if they are many.
pub(crate) async fn decode<Decoded: Send + 'static>(
    bytes: usize,
    decode: impl FnOnce() -> Decoded + Send + 'static,
) -> Decoded {
    match bytes > MAX_INLINE_BYTES {
        true => spawn_blocking(decode).await.expect("decoding does not panic"),
        false => decode(),
    }
}

impl RecordChunks {
    /// The bytes of its appends.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.body.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_bytes_are_decoded_in_another_thread() {
        let thread = async |bytes| decode(bytes, || std::thread::current().id()).await;
        let own = std::thread::current().id();
        assert!(thread(MAX_INLINE_BYTES).await == own);
        assert!(thread(MAX_INLINE_BYTES + 1).await != own);
    }
}
