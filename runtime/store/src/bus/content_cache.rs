//! The contents that were served last: a content is requested range by range, but read and verified once.

use std::collections::VecDeque;

use bytes::Bytes;
use flow::Digest;

/// The maximum bytes in the cache: the modules of some flows. The last content stays even if it alone is larger.
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

    pub(super) fn keep(&mut self, digest: Digest, bytes: Bytes) {
        self.contents.push_front((digest, bytes));
        let mut kept = 0;
        let mut fitting = self.contents.iter().take_while(|(_, bytes)| {
            kept += bytes.len();
            kept <= MAX_BYTES
        });
        let fit = fitting.by_ref().count().max(1);
        self.contents.truncate(fit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_served_content_is_evicted() {
        let [a, b, c] = [1, 2, 3].map(|byte| Digest::from_bytes([byte; 32]));
        let mut recent = ContentCache::default();
        recent.keep(a, vec![0; MAX_BYTES / 2].into());
        recent.keep(b, vec![0; MAX_BYTES / 2].into());
        assert!(recent.get(a).is_some(), "both fit");
        recent.keep(c, vec![0; 1].into());
        assert_eq!(recent.get(b), None, "a was served after it");
        assert!(recent.get(a).is_some() && recent.get(c).is_some());
        recent.keep(b, vec![0; MAX_BYTES + 1].into());
        assert!(recent.get(b).is_some(), "it is the last");
        assert_eq!((recent.get(a), recent.get(c)), (None, None));
    }
}
