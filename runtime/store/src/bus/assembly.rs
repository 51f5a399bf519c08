//! Assembles content from chunks that arrive in any order, any number of times. No I/O.

use std::ops::Range;

use bytes::Bytes;
use flow::Digest;
use protocol::fetch::CHUNK;

use crate::FetchError;

/// The number of chunks per request: large enough that requests are rare, small enough that a lost request costs little.
pub(super) const RANGE_CHUNKS: u32 = 4;

/// The maximum number of chunks in flight. 4 MiB keep a fast broker busy, and are little for a worker that fetches for all
/// its slots at once.
pub(super) const WINDOW_CHUNKS: u32 = 16;

/// A content that is being assembled.
pub(super) struct ChunkAssembly {
    digest: Digest,
    max_bytes: u64,
    /// The next chunk to request: all earlier chunks were requested.
    next: u32,
    arrived: Option<PartialContent>,
}

/// The received part of a content, once the first chunk has given the size.
struct PartialContent {
    bytes: Vec<u8>,
    chunks: Vec<Chunk>,
    missing: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Missing,
    Present,
}

/// The use of a received chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkOutcome {
    /// The chunk was missing.
    New,
    /// The chunk had already arrived.
    Duplicate,
    /// The chunk cannot belong to this content: its index, its length or its total size is wrong.
    Invalid,
}

impl ChunkAssembly {
    pub(super) fn new(digest: Digest, max_bytes: u64) -> Self {
        Self { digest, max_bytes, next: 0, arrived: None }
    }

    /// Adds a chunk; `size` is the size of the whole content, according to the chunk.
    pub(super) fn take(&mut self, size: u64, index: u32, chunk: &[u8]) -> Result<ChunkOutcome, FetchError> {
        if size > self.max_bytes {
            return Err(FetchError::TooLarge { digest: self.digest, size, largest: self.max_bytes });
        }
        if index >= chunks_of(size) || chunk.len() != byte_range(index, size).len() {
            return Ok(ChunkOutcome::Invalid);
        }
        let arrived = self.arrived.get_or_insert_with(|| PartialContent::new(size));
        if arrived.bytes.len() as u64 != size {
            return Ok(ChunkOutcome::Invalid);
        }
        let chunk_state = &mut arrived.chunks[index as usize];
        if *chunk_state == Chunk::Present {
            return Ok(ChunkOutcome::Duplicate);
        }
        *chunk_state = Chunk::Present;
        arrived.bytes[byte_range(index, size)].copy_from_slice(chunk);
        arrived.missing -= 1;
        Ok(ChunkOutcome::New)
    }

    /// The next chunks to request, if any remain and the window has room.
    pub(super) fn advance(&mut self) -> Option<Range<u32>> {
        let end = match &self.arrived {
            // Until the size is known, only the first range is requested.
            None => RANGE_CHUNKS,
            Some(arrived) => arrived.chunks.len() as u32,
        };
        if self.next >= end || self.in_flight() + RANGE_CHUNKS > WINDOW_CHUNKS {
            return None;
        }
        let range = self.next..end.min(self.next + RANGE_CHUNKS);
        self.next = range.end;
        Some(range)
    }

    /// The chunks that were requested and have not arrived, as ranges to request again.
    pub(super) fn outstanding(&self) -> Vec<Range<u32>> {
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for index in (0..self.next).filter(|index| !self.is_present(*index)) {
            match ranges.last_mut() {
                Some(range) if range.end == index && range.len() < RANGE_CHUNKS as usize => range.end += 1,
                Some(_) | None => ranges.push(index..index + 1),
            }
        }
        ranges
    }

    /// The whole content, not yet verified; `None` while chunks are missing.
    pub(super) fn take_complete(&mut self) -> Option<Bytes> {
        let complete = self.arrived.take_if(|arrived| arrived.missing == 0)?;
        Some(complete.bytes.into())
    }

    fn is_present(&self, index: u32) -> bool {
        let Some(arrived) = &self.arrived else { return false };
        // Chunks behind the end were requested before the size was known, and never arrive.
        arrived.chunks.get(index as usize).is_none_or(|chunk| *chunk == Chunk::Present)
    }

    fn in_flight(&self) -> u32 {
        let Some(arrived) = &self.arrived else { return self.next };
        let requested = &arrived.chunks[..arrived.chunks.len().min(self.next as usize)];
        requested.iter().filter(|chunk| **chunk == Chunk::Missing).count() as u32
    }
}

impl PartialContent {
    /// The caller has checked that `size` is at most the requester's maximum.
    fn new(size: u64) -> Self {
        let chunks = chunks_of(size);
        Self { bytes: vec![0; size as usize], chunks: vec![Chunk::Missing; chunks as usize], missing: chunks }
    }
}

/// The number of chunks of a content. Empty content has one, so that there is a reply. A size whose chunks cannot be counted
/// is rejected as too large before.
pub(super) fn chunks_of(size: u64) -> u32 {
    u32::try_from(size.div_ceil(CHUNK as u64).max(1)).unwrap_or(u32::MAX)
}

/// The byte range of a chunk in a content of this size.
pub(super) fn byte_range(index: u32, size: u64) -> Range<usize> {
    let start = index as usize * CHUNK;
    start..(start + CHUNK).min(size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 40 * CHUNK + 5;

    fn chunk(index: u32) -> Vec<u8> {
        vec![index as u8; byte_range(index, SIZE as u64).len()]
    }

    fn assembly() -> ChunkAssembly {
        ChunkAssembly::new(Digest::from_bytes([7; 32]), SIZE as u64)
    }

    fn add(assembly: &mut ChunkAssembly, index: u32) -> ChunkOutcome {
        assembly.take(SIZE as u64, index, &chunk(index)).unwrap()
    }

    #[test]
    fn chunks_in_any_order_and_any_number_of_times_become_the_content() {
        let mut assembly = assembly();
        for index in (0..41).rev() {
            assert_eq!(assembly.take_complete(), None);
            assert_eq!(add(&mut assembly, index), ChunkOutcome::New);
            assert_eq!(add(&mut assembly, index), ChunkOutcome::Duplicate);
        }
        assert!(assembly.take_complete().unwrap() == (0..41).flat_map(chunk).collect::<Vec<_>>());
    }

    #[test]
    fn no_more_than_a_window_is_ever_in_flight() {
        let mut assembly = assembly();
        assert_eq!(assembly.advance(), Some(0..4));
        assert_eq!(assembly.advance(), None, "the size is not known yet");
        add(&mut assembly, 2);
        let mut requested = 4;
        while let Some(range) = assembly.advance() {
            assert_eq!(range.start, requested);
            requested = range.end;
        }
        assert_eq!(requested, 16, "four more would exceed the window");
        add(&mut assembly, 0);
        assert_eq!(assembly.in_flight(), 14);
        assert_eq!(assembly.advance(), None);
        add(&mut assembly, 1);
        add(&mut assembly, 7);
        assert_eq!(assembly.advance(), Some(16..20));
    }

    #[test]
    fn missing_chunks_are_requested_again_in_ranges() {
        let mut assembly = assembly();
        assembly.advance();
        assert_eq!(assembly.outstanding().first(), Some(&(0..4)));
        add(&mut assembly, 1);
        while assembly.advance().is_some() {}
        add(&mut assembly, 5);
        assert_eq!(assembly.outstanding(), [0..1, 2..5, 6..10, 10..14, 14..16]);
    }

    #[test]
    fn requests_end_with_the_content() {
        let mut small = ChunkAssembly::new(Digest::from_bytes([7; 32]), 100);
        assert_eq!(small.advance(), Some(0..4));
        small.take(3, 0, b"egg").unwrap();
        assert_eq!((small.advance(), small.outstanding()), (None, vec![]));
        assert_eq!(small.take_complete().unwrap(), "egg");
    }

    #[test]
    fn an_invalid_chunk_changes_nothing() {
        let mut assembly = assembly();
        let (size, chunk) = (SIZE as u64, [0; CHUNK]);
        for (index, chunk) in [(0, &chunk[1..]), (0, &[]), (40, &chunk), (41, &[]), (u32::MAX, &chunk)] {
            assert_eq!(
                assembly.take(size, index, chunk).unwrap(),
                ChunkOutcome::Invalid,
                "{index} with {}",
                chunk.len()
            );
        }
        assert_eq!(add(&mut assembly, 0), ChunkOutcome::New);
        assert_eq!(
            assembly.take(size - 1, 1, &chunk).unwrap(),
            ChunkOutcome::Invalid,
            "its size differs from that of the first chunk"
        );
        assert_eq!(add(&mut assembly, 1), ChunkOutcome::New);
    }

    #[test]
    fn a_too_large_content_is_rejected_before_allocation() {
        let mut small = ChunkAssembly::new(Digest::from_bytes([7; 32]), 100);
        let error = small.take(u64::MAX, 0, b"egg").unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { size: u64::MAX, largest: 100, .. }), "{error}");
    }
}
