//! The memory cache of the most recently called modules. It is limited by bytes and by count together, which `lru` does
//! not offer.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use flow::Digest;

use crate::compiled::Compiled;

/// The maximum bytes of cached code. Beyond it the least recently used module is evicted; the last used module always stays.
const MAX_CODE_BYTES: usize = 512 << 20;

/// The maximum number of cached modules: each uses memory maps of the operating system, whose number is limited too.
const MAX_MODULES: usize = 256;

/// Compiled modules by digest.
#[derive(Debug, Default)]
pub(crate) struct MemoryCache(Mutex<CacheState>);

#[derive(Debug, Default)]
struct CacheState {
    /// Counts uses: a larger number is a later use.
    now: u64,
    /// The sum of the sizes of all modules.
    size: usize,
    modules: HashMap<Digest, Cached>,
}

#[derive(Debug)]
struct Cached {
    /// When it was used last.
    used: u64,
    /// The size of its code at that time.
    size: usize,
    compiled: Compiled,
}

impl MemoryCache {
    pub(crate) fn get(&self, digest: &Digest) -> Option<Compiled> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = state.modules.get(digest)?.compiled.clone();
        // A call may have added code to it since.
        state.put(compiled.clone());
        Some(compiled)
    }

    pub(crate) fn put(&self, compiled: Compiled) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(compiled);
    }
}

impl CacheState {
    /// Adds the module that was used last, or notes that it was used again, and evicts others if that is too much.
    fn put(&mut self, compiled: Compiled) {
        self.now += 1;
        let (digest, size) = (compiled.digest(), compiled.size());
        self.size += size;
        if let Some(replaced) = self.modules.insert(digest, Cached { used: self.now, size, compiled }) {
            self.size -= replaced.size;
        }
        while (self.size > MAX_CODE_BYTES || self.modules.len() > MAX_MODULES) && self.modules.len() > 1 {
            let oldest = self.modules.iter().min_by_key(|(_, cached)| cached.used).map(|(digest, _)| *digest);
            let evicted =
                oldest.and_then(|digest| self.modules.remove(&digest)).expect("there is more than one module");
            self.size -= evicted.size;
        }
    }
}
