//! The contents that were served last: a content is requested range by range, but read and verified once.

use std::collections::VecDeque;

use bytes::Bytes;
use flow::Digest;

/// The maximum bytes in the cache: the modules of some flows. The newest content stays even if it is larger.
const MAX_BYTES: usize = 64 << 20;

/// The contents that were served last, the most recent first.
#[derive(Debug, Default)]
pub(super) struct ContentCache {
    contents: VecDeque<(Digest, Bytes)>,
}

impl ContentCache {
    pub(super) fn get(&mut self, digest: Digest) -> Option<Bytes> {
        let at = self.contents.iter().position(|(known, _)| *known == digest)?;
        let content = self.contents.remove(at)?;
        let bytes = content.1.clone();
        self.contents.push_front(content);
        Some(bytes)
    }

    pub(super) fn insert(&mut self, digest: Digest, bytes: Bytes) {
        self.contents.push_front((digest, bytes));
        let mut total = 0;
        let mut fitting = self.contents.iter().take_while(|(_, bytes)| {
            total += bytes.len();
            total <= MAX_BYTES
        });
        let count = fitting.by_ref().count().max(1);
        self.contents.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_served_content_is_evicted() {
        let [a, b, c] = [1, 2, 3].map(|byte| Digest::from_bytes([byte; 32]));
        let mut recent = ContentCache::default();
        recent.insert(a, vec![0; MAX_BYTES / 2].into());
        recent.insert(b, vec![0; MAX_BYTES / 2].into());
        assert!(recent.get(a).is_some(), "both fit");
        recent.insert(c, vec![0; 1].into());
        assert_eq!(recent.get(b), None, "a was served after it");
        assert!(recent.get(a).is_some() && recent.get(c).is_some());
        recent.insert(b, vec![0; MAX_BYTES + 1].into());
        assert!(recent.get(b).is_some(), "the newest content stays");
        assert_eq!((recent.get(a), recent.get(c)), (None, None));
    }
}
