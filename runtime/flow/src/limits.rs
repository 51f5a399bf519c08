//! The resource limits of one call. There is no unlimited value.

use std::time::Duration;

/// The largest allowed [`Limits::stack`]: sandboxes have engines up to this size.
pub const MAX_STACK_BYTES: u64 = 8 << 20;

/// The limits of one call; each one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum wall-clock time from the start of the call, including waits.
    pub timeout: Duration,
    /// The maximum number of bytes of all linear memories of the call together.
    pub memory: u64,
    /// The maximum bytes of WebAssembly stack, at most [`MAX_STACK_BYTES`]. A sandbox may round it up to the next class that
    /// it has an engine for.
    pub stack: u64,
    /// The maximum bytes of all values that the call provides, including names.
    pub output: u64,
    /// The maximum bytes of log lines, standard output and standard error together.
    pub log: u64,
    /// The maximum number of elements of all tables of the call together.
    pub table_elements: u64,
    /// The maximum number each of core instances, memories and tables of the component.
    pub instances: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            memory: 64 << 20,
            stack: 512 << 10,
            output: 16 << 20,
            log: 1 << 20,
            table_elements: 100_000,
            instances: 32,
        }
    }
}

/// Limits that a module or a flow file sets; the others keep their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitOverrides {
    /// See [`Limits::timeout`].
    pub timeout: Option<Duration>,
    /// See [`Limits::memory`].
    pub memory: Option<u64>,
    /// See [`Limits::stack`].
    pub stack: Option<u64>,
    /// See [`Limits::output`].
    pub output: Option<u64>,
    /// See [`Limits::log`].
    pub log: Option<u64>,
    /// See [`Limits::table_elements`].
    pub table_elements: Option<u64>,
    /// See [`Limits::instances`].
    pub instances: Option<u32>,
}

impl Limits {
    /// These limits, with the set overrides applied.
    #[must_use]
    pub fn with(self, overrides: &LimitOverrides) -> Self {
        Self {
            timeout: overrides.timeout.unwrap_or(self.timeout),
            memory: overrides.memory.unwrap_or(self.memory),
            stack: overrides.stack.unwrap_or(self.stack),
            output: overrides.output.unwrap_or(self.output),
            log: overrides.log.unwrap_or(self.log),
            table_elements: overrides.table_elements.unwrap_or(self.table_elements),
            instances: overrides.instances.unwrap_or(self.instances),
        }
    }
}
