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
    size: usize,
    modules: HashMap<Digest, (u64, Compiled)>,
}

impl MemoryCache {
    pub(crate) fn get(&self, digest: &Digest) -> Option<Compiled> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += 1;
        let now = state.now;
        let (used, compiled) = state.modules.get_mut(digest)?;
        *used = now;
        Some(compiled.clone())
    }

    pub(crate) fn put(&self, compiled: Compiled) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += 1;
        let now = state.now;
        state.size += compiled.size();
        if let Some((_, replaced)) = state.modules.insert(compiled.digest(), (now, compiled)) {
            state.size -= replaced.size();
        }
        while (state.size > MAX_CODE_BYTES || state.modules.len() > MAX_MODULES) && state.modules.len() > 1 {
            let oldest = state.modules.iter().min_by_key(|(_, (used, _))| *used).map(|(digest, _)| *digest);
            let (_, evicted) =
                oldest.and_then(|digest| state.modules.remove(&digest)).expect("there is more than one module");
            state.size -= evicted.size();
        }
    }
}
