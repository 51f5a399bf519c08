//! The resource limits of one call. There is no unlimited value.

use std::time::Duration;

use crate::Size;

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

/// A limit that is set above the maximum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its {name} of {asked} is above the maximum here, {allowed}")]
pub struct ExceededLimit {
    /// The key of the limit in a flow file.
    pub name: &'static str,
    /// Its value, as a flow file has it.
    pub asked: String,
    /// The maximum.
    pub allowed: String,
}

impl Limits {
    /// The maximum of each limit, where an operator sets no other.
    #[must_use]
    pub const fn maximum() -> Self {
        Self {
            timeout: Duration::from_secs(3_600),
            memory: 1 << 30,
            stack: MAX_STACK_BYTES,
            output: 256 << 20,
            log: 64 << 20,
            table_elements: 10_000_000,
            instances: 1_000,
        }
    }

    /// The limits that are above a maximum.
    #[must_use]
    pub fn exceeding(&self, maximum: &Self) -> Vec<ExceededLimit> {
        let Self { timeout, memory, stack, output, log, table_elements, instances } = *self;
        let above = |name, asked, allowed, show: fn(u64) -> String| {
            (asked > allowed).then(|| ExceededLimit { name, asked: show(asked), allowed: show(allowed) })
        };
        let size = |bytes: u64| Size(bytes).to_string();
        let number = |number: u64| number.to_string();
        let time = (timeout > maximum.timeout).then(|| ExceededLimit {
            name: "timeout",
            asked: format!("{timeout:?}"),
            allowed: format!("{:?}", maximum.timeout),
        });
        let exceeded = [
            time,
            above("memory", memory, maximum.memory, size),
            above("stack", stack, maximum.stack, size),
            above("output", output, maximum.output, size),
            above("log", log, maximum.log, size),
            above("table_elements", table_elements, maximum.table_elements, number),
            above("instances", instances.into(), maximum.instances.into(), number),
        ];
        exceeded.into_iter().flatten().collect()
    }

    /// These limits, each at most as high as a maximum.
    #[must_use]
    pub fn at_most(&self, maximum: &Self) -> Self {
        Self {
            timeout: self.timeout.min(maximum.timeout),
            memory: self.memory.min(maximum.memory),
            stack: self.stack.min(maximum.stack),
            output: self.output.min(maximum.output),
            log: self.log.min(maximum.log),
            table_elements: self.table_elements.min(maximum.table_elements),
            instances: self.instances.min(maximum.instances),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_above_the_maximum_is_reported() {
        let maximum = Limits::maximum();
        assert_eq!(maximum.exceeding(&maximum), []);
        assert_eq!(Limits::default().exceeding(&maximum), [], "the defaults are allowed");
        let above = Limits {
            timeout: maximum.timeout + Duration::from_secs(1),
            memory: maximum.memory + 1,
            stack: maximum.stack + 1,
            output: maximum.output + 1,
            log: maximum.log + 1,
            table_elements: maximum.table_elements + 1,
            instances: maximum.instances + 1,
        };
        let names: Vec<&str> = above.exceeding(&maximum).iter().map(|exceeded| exceeded.name).collect();
        assert_eq!(names, ["timeout", "memory", "stack", "output", "log", "table_elements", "instances"]);
        assert_eq!(above.at_most(&maximum), maximum);
        assert_eq!(Limits::default().at_most(&maximum), Limits::default());
        let memory = Limits { memory: 8 << 30, ..maximum };
        let texts: Vec<String> = memory.exceeding(&maximum).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["its memory of 8GiB is above the maximum here, 1GiB"]);
    }
}
