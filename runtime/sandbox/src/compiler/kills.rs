//! Counts how often the system has killed the compiler of a module in succession: mostly for want of memory. Once may be the fault of
//! others, so the module is tried again. One that needs more memory than the machine has must not be tried for ever.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use flow::Digest;

/// The number of kills after which a module is refused.
pub(super) const MAX_KILLS: u32 = 3;

/// The maximum number of modules with kills. Beyond it, all are forgotten: they are tried more often.
const MAX_MODULES: usize = 1_000;

/// The kills of each module since it was compiled or refused last.
#[derive(Debug, Default)]
pub(super) struct Kills(Mutex<HashMap<Digest, u32>>);

impl Kills {
    /// Counts a kill, and returns whether the module is to be refused. Then its kills count from the beginning.
    pub(super) fn are_too_many(&self, module: Digest) -> bool {
        let mut kills = self.lock();
        if kills.len() >= MAX_MODULES {
            kills.clear();
        }
        let count = kills.entry(module).or_default();
        *count += 1;
        let are_too_many = *count >= MAX_KILLS;
        if are_too_many {
            kills.remove(&module);
        }
        are_too_many
    }

    /// The compiler of a module was not killed.
    pub(super) fn forget(&self, module: &Digest) {
        self.lock().remove(module);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, u32>> {
        // Each change is complete, so a panic in another thread leaves no partial one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_refused_at_its_third_kill_in_succession() {
        let (kills, [one, other]) = (Kills::default(), [1, 2].map(|byte| Digest::from_bytes([byte; 32])));
        let kill = |module| kills.are_too_many(module);
        assert_eq!([kill(one), kill(one), kill(other), kill(one)], [false, false, false, true]);
        assert_eq!([kill(one), kill(one)], [false, false], "it may be tried again later");
        kills.forget(&one);
        assert_eq!([kill(one), kill(one), kill(one)], [false, false, true]);
    }
}
