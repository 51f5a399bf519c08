//! Answers that were given lately: a job that comes a second time is answered from memory. And the numbers of executions.
//!
//! An engine that starts anew sends again what its records say is unanswered, though the answers may wait in its queue.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flow::{CallId, Execution};

/// So many answers are kept.
const MAX_ENTRIES: usize = 2_000;

/// A larger answer is not kept: its call is made again.
const MAX_ENTRY_BYTES: usize = 8 << 10;

/// Answers that were given lately, by call and by the queue they went to.
#[derive(Debug, Default)]
pub(crate) struct ResultCache {
    entries: Mutex<CacheEntries>,
}

#[derive(Debug, Default)]
struct CacheEntries {
    answers: HashMap<(CallId, String), Bytes>,
    oldest: VecDeque<(CallId, String)>,
}

impl ResultCache {
    pub(crate) fn insert(&self, call: &CallId, signal_to: &str, answer: &Bytes) {
        if answer.len() > MAX_ENTRY_BYTES {
            return;
        }
        let key = (call.clone(), signal_to.to_owned());
        let mut kept = self.lock();
        if kept.answers.insert(key.clone(), answer.clone()).is_none() {
            kept.oldest.push_back(key);
        }
        if kept.oldest.len() > MAX_ENTRIES
            && let Some(oldest) = kept.oldest.pop_front()
        {
            kept.answers.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, call: &CallId, signal_to: &str) -> Option<Bytes> {
        self.lock().answers.get(&(call.clone(), signal_to.to_owned())).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CacheEntries> {
        // A panic elsewhere can at worst have left a key without its answer, or one that is forgotten late.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers the executions of this start of this worker, unlike those of any other.
#[derive(Debug)]
pub(crate) struct Executions {
    next: AtomicU64,
}

impl Executions {
    /// Takes what tells this start of this worker from all others. Its hash is where the numbers begin: two ranges that
    /// meet are as good as impossible, among a few thousand starts of a few million calls each.
    pub(crate) fn of(instance: &str) -> Self {
        // The 64-bit FNV-1a hash, which stays the same from build to build.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        Self { next: AtomicU64::new(instance.bytes().fold(0xCBF2_9CE4_8422_2325, hash)) }
    }

    pub(crate) fn next(&self) -> Execution {
        Execution::new(self.next.fetch_add(1, Ordering::Relaxed))
    }
}
