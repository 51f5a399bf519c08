//! Counts the memory, tables and instances of a call, when wasmtime asks whether a growth is allowed.
//!
//! The other limits are enforced elsewhere: the timeout in `run.rs`, the provided values in `guest.rs`, and printed output and
//! logs in `host_state/stdio.rs`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use flow::{Limits, Size};
use wasmtime::ResourceLimiter;

/// The bytes of a table element: a pointer.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// Counts memory and table elements over one call. The counts never decrease, since a guest cannot shrink its memory.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    memory: u64,
    table_elements: u64,
    /// The bytes of memories and tables. Shared, since the guest's call asks for them while the guest has the meter.
    held: Arc<AtomicU64>,
    denied: Option<DeniedGrowth>,
}

/// The last growth that was denied to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeniedGrowth {
    Memory { requested: u64 },
    TableElements { requested: u64 },
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory: 0, table_elements: 0, held: Arc::default(), denied: None }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes over all memories.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// The bytes of memories and tables, while the guest runs.
    pub(crate) fn held(&self) -> Arc<AtomicU64> {
        self.held.clone()
    }

    fn update_held(&self) {
        let tables = self.table_elements.saturating_mul(TABLE_ELEMENT_BYTES);
        self.held.store(self.memory.saturating_add(tables), Ordering::Relaxed);
    }

    /// The last denied growth, with limit and use, if there was one.
    pub(crate) fn denied(&self) -> Option<String> {
        Some(match self.denied? {
            DeniedGrowth::Memory { requested } => {
                let (requested, limit) = (Size(requested), Size(self.limits.memory));
                format!("it requested {requested} of memory in total, the limit is {limit}")
            }
            DeniedGrowth::TableElements { requested } => {
                let limit = self.limits.table_elements;
                format!("it requested {requested} table elements in total, the limit is {limit}")
            }
        })
    }
}

/// Checks a growth; returns the new total, as an error if it exceeds the limit.
fn grow(used: u64, current: usize, desired: usize, limit: u64) -> Result<u64, u64> {
    let total = used.saturating_add(desired.saturating_sub(current) as u64);
    if total > limit { Err(total) } else { Ok(total) }
}

/// Whether a growth exceeds the maximum that the module itself declares. Such a growth fails in any case, so it is not
/// counted. Checked after the limit: in a pool, `maximum` is also the size of a slot.
fn is_beyond(desired: usize, maximum: Option<usize>) -> bool {
    maximum.is_some_and(|maximum| desired > maximum)
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        match grow(self.memory, current, desired, self.limits.memory) {
            Err(requested) => {
                self.denied = Some(DeniedGrowth::Memory { requested });
                Ok(false)
            }
            Ok(_) if is_beyond(desired, maximum) => Ok(false),
            Ok(used) => {
                self.memory = used;
                self.update_held();
                Ok(true)
            }
        }
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        match grow(self.table_elements, current, desired, self.limits.table_elements) {
            Err(requested) => {
                self.denied = Some(DeniedGrowth::TableElements { requested });
                Ok(false)
            }
            Ok(_) if is_beyond(desired, maximum) => Ok(false),
            Ok(used) => {
                self.table_elements = used;
                self.update_held();
                Ok(true)
            }
        }
    }

    fn instances(&self) -> usize {
        self.limits.instances as usize
    }

    fn tables(&self) -> usize {
        self.limits.instances as usize
    }

    fn memories(&self) -> usize {
        self.limits.instances as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_growth_is_summed_and_denied_growth_is_not_counted() {
        let mut meter = Meter::new(Limits { memory: 100, ..Limits::default() });
        assert!(meter.memory_growing(0, 60, None).unwrap(), "the first memory");
        assert!(!meter.memory_growing(0, 60, None).unwrap(), "the second one");
        assert_eq!(meter.denied().unwrap(), "it requested 120B of memory in total, the limit is 100B");
        assert!(meter.memory_growing(60, 100, None).unwrap());
        assert_eq!(meter.memory(), 100);
    }

    #[test]
    fn growth_beyond_the_declared_maximum_is_not_counted() {
        let mut meter = Meter::new(Limits { memory: 100, ..Limits::default() });
        assert!(!meter.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!((meter.memory(), meter.denied()), (0, None));
    }
}
