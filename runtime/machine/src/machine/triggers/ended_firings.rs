//! Ended firings: some are kept for late messages, namely the answer of a lost attempt, or of a job that was delivered twice.

use flow::{Firing, RunState};

use super::open_firings::firing_size;
use crate::machine::{Machine, firing::FiringMachine};

/// The maximum number of ended firings that are kept.
const MAX_ENDED_FIRINGS: usize = 16;

/// The maximum size of the values of those that are kept, in bytes; the last one may have more. Small in tests, so that they reach it.
///
/// It decides which firings a replay keeps. With another number, or other sizes of values, old records of a late outcome may be about a firing
/// that is not kept: these records then change nothing.
const MAX_ENDED_BYTES: u64 = if cfg!(test) { 1 << 20 } else { 32 << 20 };

impl Machine {
    /// Drops the oldest ended firings that are kept only for late messages.
    pub(super) fn evict_ended_firings(&mut self) {
        let base = self.triggers.as_ref().and_then(|trigger_state| trigger_state.base_firing);
        let is_evictable = |firing: &&FiringMachine| match firing.state {
            RunState::Success | RunState::RolledBack => Some(firing.firing) != base,
            RunState::Failure | RunState::Pending | RunState::Running | RunState::Suspending | RunState::Suspended => {
                false
            }
        };
        let size = |firing: &FiringMachine| firing_size(firing).saturating_add(firing.held_bytes());
        let latest_first = self.firings.values().rev().filter(is_evictable);
        let ended: Vec<(Firing, u64)> = latest_first.map(|firing| (firing.firing, size(firing))).collect();
        let mut bytes = 0_u64;
        for (position, (firing, size)) in ended.into_iter().enumerate() {
            bytes = bytes.saturating_add(size);
            let is_kept = position == 0 || (position < MAX_ENDED_FIRINGS && bytes <= MAX_ENDED_BYTES);
            if !is_kept {
                self.firings.remove(firing);
            }
        }
    }
}
