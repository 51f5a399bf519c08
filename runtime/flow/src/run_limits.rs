//! The limits of a run. There is no unlimited value.

use crate::{Size, Value, ValueName};

/// The limits of a run. Its flow carries them from the start of the run on, so every engine decides the same, whatever its
/// own settings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// The maximum number of elements for which one `for_each` task is called, and of the nodes of all open firings together.
    pub elements: u32,
    /// The maximum number of times that retry controllers run a flow, with those of the enclosing flows: their retries multiply.
    pub attempts: u32,
    /// The maximum number of firings that are open at the same time: that wait for their turn, are under way, or need a person.
    pub firings: u32,
    /// The maximum bytes of values that belong together, including names: the inputs of a run, the constants and the inputs of a
    /// task, the values of a notification, the lists that a `for_each` task provides, and the values that all open firings begin with.
    pub value: u64,
}

/// The maximum bytes of the inputs of one call, including names, if [`RunLimits::value`] allows more. A value counts each time that the task
/// takes it. A worker has all of them in memory.
pub const MAX_CALL_INPUT_BYTES: u64 = 256 << 20;

impl Default for RunLimits {
    fn default() -> Self {
        Self { elements: 1_000_000, attempts: 100, firings: 10_000, value: 256 << 20 }
    }
}

/// Values that are too large together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("have {} together, and the limit `value` allows {} here", Size(*.asked), Size(*.allowed))]
pub struct ValuesTooLarge {
    /// Their bytes.
    pub asked: u64,
    /// The maximum.
    pub allowed: u64,
}

impl RunLimits {
    /// Checks the size of values that belong together.
    ///
    /// # Errors
    /// [`ValuesTooLarge`] when they have more bytes than [`RunLimits::value`] allows.
    pub fn check_values<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a ValueName, &'a Value)>,
    ) -> Result<(), ValuesTooLarge> {
        // The size of a value in the store is what its message says.
        let size =
            |(name, value): (&ValueName, &Value)| (name.as_str().len() as u64).saturating_add(value.size() as u64);
        self.check_size(values.into_iter().map(size).fold(0, u64::saturating_add))
    }

    /// Checks a number of bytes of values that belong together.
    ///
    /// # Errors
    /// [`ValuesTooLarge`] when they are more than [`RunLimits::value`].
    pub fn check_size(&self, asked: u64) -> Result<(), ValuesTooLarge> {
        check(asked, self.value)
    }

    /// Checks the bytes of the inputs of one call.
    ///
    /// # Errors
    /// [`ValuesTooLarge`] when they are more than [`RunLimits::value`] or [`MAX_CALL_INPUT_BYTES`].
    pub fn check_inputs(&self, asked: u64) -> Result<(), ValuesTooLarge> {
        check(asked, self.value.min(MAX_CALL_INPUT_BYTES))
    }
}

fn check(asked: u64, allowed: u64) -> Result<(), ValuesTooLarge> {
    if asked > allowed { Err(ValuesTooLarge { asked, allowed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Stored, ValueKind, Values};

    #[test]
    fn values_count_with_their_names_and_in_the_store_too() {
        let limits = RunLimits { value: 10, ..RunLimits::default() };
        let stored = |size| Value::Stored(Stored { digest: Digest::from_bytes([1; 32]), size, form: ValueKind::Bytes });
        let values = |size| Values::from([("pan".parse().unwrap(), stored(size)), ("egg".parse().unwrap(), 12.into())]);
        assert_eq!(limits.check_values(&values(2)), Ok(()));
        assert_eq!(limits.check_values(&values(3)), Err(ValuesTooLarge { asked: 11, allowed: 10 }));
        let error = limits.check_values(&values(u64::MAX)).unwrap_err();
        assert_eq!(error.allowed, 10, "the sum does not wrap around");
        let error = RunLimits { value: 2 << 20, ..limits }.check_size(3 << 20).unwrap_err();
        assert_eq!(error.to_string(), "have 3MiB together, and the limit `value` allows 2MiB here");
        assert_eq!(limits.check_inputs(11), Err(ValuesTooLarge { asked: 11, allowed: 10 }));
        let large = RunLimits { value: 1 << 40, ..limits };
        let error = large.check_inputs(MAX_CALL_INPUT_BYTES + 1).unwrap_err();
        assert_eq!(error.allowed, MAX_CALL_INPUT_BYTES, "however large `value` is");
    }
}
