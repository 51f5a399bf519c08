//! A cache of recent answers, for jobs that arrive a second time, and the numbering of executions.
//!
//! An engine that restarts sends unanswered calls again, although their answers may wait in its queue.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flow::Execution;
use protocol::Job;

use crate::call_registry::CallEntry;

/// Maximum number of cached answers.
const MAX_ENTRIES: usize = 2_000;

/// Maximum size of a cached answer, in bytes; for a larger one the call is repeated.
const MAX_ENTRY_BYTES: usize = 8 << 10;

/// Recent answers, each for the job that asked for it.
#[derive(Debug, Default)]
pub(crate) struct ResultCache {
    entries: Mutex<CacheEntries>,
}

#[derive(Debug, Default)]
struct CacheEntries {
    answers: HashMap<CallEntry, Bytes>,
    oldest: VecDeque<CallEntry>,
}

impl ResultCache {
    pub(crate) fn insert(&self, job: &Job, answer: &Bytes) {
        if answer.len() > MAX_ENTRY_BYTES {
            return;
        }
        let key = CallEntry::of(job);
        let mut entries = self.lock();
        if entries.answers.insert(key.clone(), answer.clone()).is_none() {
            entries.oldest.push_back(key);
        }
        if entries.oldest.len() > MAX_ENTRIES
            && let Some(oldest) = entries.oldest.pop_front()
        {
            entries.answers.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, job: &Job) -> Option<Bytes> {
        self.lock().answers.get(&CallEntry::of(job)).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CacheEntries> {
        // A panic in another thread can at worst leave a key without its answer, or an answer that is evicted late.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers the executions of one start of a worker, distinct from those of any other start.
#[derive(Debug)]
pub(crate) struct Executions {
    next: AtomicU64,
}

impl Executions {
    /// Creates a numbering from the unique instance of a worker's start; its hash is the first number. Overlapping
    /// ranges are practically impossible, among a few thousand starts of a few million calls each.
    pub(crate) fn of(instance: &str) -> Self {
        // The 64-bit FNV-1a hash, which is the same in every build.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        Self { next: AtomicU64::new(instance.bytes().fold(0xCBF2_9CE4_8422_2325, hash)) }
    }

    pub(crate) fn next(&self) -> Execution {
        Execution::new(self.next.fetch_add(1, Ordering::Relaxed))
    }
}
