//! Limits the bytes of values in an answer. A value that does not fit is shown as a reference, as if it were only in the store.

use std::{collections::BTreeMap, error::Error};

use flow::{Digest, Stored, Value, ValueKind, Values};
use store::{
    Store,
    values::{bytes_of, load},
};
use tokio::task::spawn_blocking;
use tracing::warn;

/// The maximum bytes of values in an answer that shows a run. There may be as many answers at once as connections, and each
/// needs about three times the memory: the values, base64 of bytes, and the JSON.
pub(crate) const MAX_BYTES_OF_RUN: usize = 2 << 20;

/// The maximum bytes of values in one event of a run. The inline values of one record have less: see
/// [`flow::MAX_INLINE_TOTAL_BYTES`].
pub(crate) const MAX_BYTES_OF_EVENT: usize = 1 << 20;

/// The maximum number of values that are loaded for an answer that shows a run. The store has large values, so few of them fit.
const MAX_LOADED: usize = 1_000;

/// Values of the store that were loaded for an answer, by digest and kind.
#[derive(Default)]
pub(crate) struct LoadedValues(BTreeMap<(Digest, bool), Value>);

impl LoadedValues {
    /// Loads values. One that the store cannot return is left out.
    pub(crate) async fn load(store: &dyn Store, wanted: Vec<Stored>) -> Self {
        let mut values = BTreeMap::new();
        for stored in wanted {
            match load(store, &stored).await {
                Ok(value) => drop(values.insert(key(&stored), value)),
                Err(error) => {
                    warn!(digest = %stored.digest, error = &error as &dyn Error, "a value cannot be loaded");
                }
            }
        }
        Self(values)
    }
}

fn key(stored: &Stored) -> (Digest, bool) {
    (stored.digest, stored.form == ValueKind::Json)
}

/// Decides which values of an answer are shown whole: the smallest ones, and of those with the same size the first ones.
pub(crate) struct ValueBudget {
    /// The size of the smallest value that does not fit, in bytes.
    too_large: usize,
    /// The number of values of that size which still fit.
    left: usize,
}

impl ValueBudget {
    /// The budget for all values of an answer, in their order.
    pub(crate) fn new<'a>(values: impl Iterator<Item = &'a Value>, max_bytes: usize) -> Self {
        let mut sizes: Vec<usize> = values.map(Value::size).collect();
        sizes.sort_unstable();
        let mut total = 0_usize;
        let fits = |size: &&usize| {
            total = total.saturating_add(**size);
            total <= max_bytes
        };
        let fitting = sizes.iter().take_while(fits).count();
        let Some(&too_large) = sizes.get(fitting) else { return Self { too_large: usize::MAX, left: usize::MAX } };
        let left = sizes[..fitting].iter().rev().take_while(|size| **size == too_large).count();
        Self { too_large, left }
    }

    /// Whether the next value fits.
    fn take(&mut self, size: usize) -> bool {
        let is_last = size == self.too_large && self.left > 0;
        self.left -= usize::from(is_last);
        is_last || size < self.too_large
    }

    /// The values of the store among the next ones that fit, to load them before they are shown.
    pub(crate) fn stored<'a>(mut self, values: impl Iterator<Item = &'a Value>) -> Vec<Stored> {
        let fitting = values.filter(|value| self.take(value.size())).filter_map(|value| match value {
            Value::Stored(stored) => Some(*stored),
            Value::Json(_) | Value::Bytes(_) => None,
        });
        fitting.take(MAX_LOADED).collect()
    }

    /// Shows the next values as far as they fit, and replaces the others with references, which takes long for large values. A value of
    /// the store that was not loaded is a reference too.
    pub(crate) fn show(&mut self, loaded: &LoadedValues, mut values: Values) -> Values {
        for value in values.values_mut() {
            match (self.take(value.size()), &*value) {
                (true, Value::Stored(stored)) => {
                    if let Some(content) = loaded.0.get(&key(stored)) {
                        *value = content.clone();
                    }
                }
                (true, Value::Json(_) | Value::Bytes(_)) => {}
                (false, _) => *value = Value::Stored(reference_to(value)),
            }
        }
        values
    }

    /// Loads the next values as far as they fit, and replaces the others with references. A value that the store cannot return
    /// is a reference too.
    pub(crate) async fn load(&mut self, store: &dyn Store, mut values: Values) -> Values {
        for (name, value) in &mut values {
            match (self.take(value.size()), &*value) {
                (true, Value::Stored(stored)) => match load(store, stored).await {
                    Ok(loaded) => *value = loaded,
                    Err(error) => warn!(%name, error = &error as &dyn Error, "a value cannot be loaded"),
                },
                (true, Value::Json(_) | Value::Bytes(_)) => {}
                (false, _) => *value = Value::Stored(reference(value).await),
            }
        }
        values
    }
}

/// The reference to a value, with its digest also if the store does not have it.
async fn reference(value: &Value) -> Stored {
    match value {
        Value::Stored(stored) => *stored,
        Value::Json(_) | Value::Bytes(_) => {
            let value = value.clone();
            spawn_blocking(move || reference_to(&value)).await.expect("hashing does not panic")
        }
    }
}

/// As [`reference`], in a thread that may block.
fn reference_to(value: &Value) -> Stored {
    match value {
        Value::Stored(stored) => *stored,
        Value::Json(_) | Value::Bytes(_) => {
            let form = if value.is_bytes() { ValueKind::Bytes } else { ValueKind::Json };
            Stored { digest: digest(value), size: value.size() as u64, form }
        }
    }
}

/// The digest of a value, in the store or not. It is slow for large inputs: hash on a thread that may block.
pub(crate) fn digest(value: &Value) -> Digest {
    match value {
        Value::Stored(stored) => stored.digest,
        Value::Json(_) | Value::Bytes(_) => {
            let (bytes, _) = bytes_of(value).expect("it is not stored");
            store::digest_of(&bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(sizes: &[usize]) -> Values {
        let named = |(number, size): (usize, &usize)| {
            (format!("v{number}").parse().expect("a valid name"), Value::Bytes(vec![0; *size].into()))
        };
        sizes.iter().enumerate().map(named).collect()
    }

    async fn shown(sizes: &[usize], max_bytes: usize) -> Vec<bool> {
        let (store, values) = (store::Memory::new(), sized(sizes));
        let loaded = ValueBudget::new(values.values(), max_bytes).load(&store, values.clone()).await;
        assert!(
            loaded.iter().all(|(name, value)| digest(value) == digest(&values[name])),
            "a reference is of the value"
        );
        loaded.values().map(|value| value.digest().is_none()).collect()
    }

    #[tokio::test]
    async fn the_smallest_values_fit_first_and_then_the_first_ones() {
        assert_eq!(shown(&[5, 3, 5, 1], 14).await, [true; 4]);
        assert_eq!(shown(&[5, 3, 5, 1, 5], 14).await, [true, true, true, true, false]);
        assert_eq!(shown(&[5, 3, 5, 1], 8).await, [false, true, false, true]);
        assert_eq!(shown(&[5, 0, 0], 0).await, [false, true, true]);
        assert!(shown(&[], 0).await.is_empty());
    }

    #[tokio::test]
    async fn a_value_of_the_store_counts_with_its_size() {
        let (store, mut values) = (store::Memory::new(), sized(&[3, 4]));
        for value in values.values_mut() {
            store::values::put(&store, value).await.expect("memory stores it");
        }
        let budget = || ValueBudget::new(values.values(), 6);
        let wanted = budget().stored(values.values());
        assert_eq!(wanted.len(), 1, "no other is loaded");
        let shown = budget().show(&LoadedValues::load(&store, wanted).await, values.clone());
        let loaded = budget().load(&store, values.clone()).await;
        assert!(shown == loaded, "both ways show the same");
        assert_eq!(loaded.values().map(|value| value.digest().is_none()).collect::<Vec<_>>(), [true, false]);
    }
}
