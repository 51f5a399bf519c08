//! Values that are too large for messages and records: stored by digest, and loaded again.

use std::{error::Error, str, sync::Arc};

use bytes::Bytes;
use flow::{
    Digest, Flow, Json, MAX_INLINE_BYTES, MAX_INLINE_TOTAL_BYTES, Stored, Task, Value, ValueKind, Values,
    graph::Source, invalid::InvalidJson,
};
use protocol::events::RunValues;
use tracing::warn;

use crate::{FetchError, PutError, Store};

/// Puts the large values into a store, and replaces them with their digests. First come the values that are too large alone,
/// then the largest until the others fit one message together.
///
/// # Errors
/// [`PutError`] when a value could not be stored; some values may then already be replaced.
pub async fn put_large(store: &dyn Store, values: &mut Values) -> Result<(), PutError> {
    for name in too_large_for_message(values.iter()) {
        if let Some(value) = values.get_mut(&name) {
            put(store, value).await?;
        }
    }
    Ok(())
}

/// The names of the values that are too large for one message: those over [`MAX_INLINE_BYTES`], then the largest until the
/// others have at most [`MAX_INLINE_TOTAL_BYTES`].
pub fn too_large_for_message<'a, Name: Clone + 'a>(values: impl Iterator<Item = (&'a Name, &'a Value)>) -> Vec<Name> {
    let inline = values.filter(|(_, value)| value.digest().is_none());
    let mut by_size: Vec<(usize, &Name)> = inline.map(|(name, value)| (value.size(), name)).collect();
    by_size.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let mut together: usize = by_size.iter().map(|(size, _)| size).sum();
    let mut large = Vec::new();
    for (size, name) in by_size {
        if size <= MAX_INLINE_BYTES && together <= MAX_INLINE_TOTAL_BYTES {
            break;
        }
        together -= size;
        large.push(name.clone());
    }
    large
}

/// Puts a value into a store, and replaces it with its digest; a value that is already stored stays as it is.
///
/// # Errors
/// [`PutError`] when the value could not be stored; it is then unchanged.
pub async fn put(store: &dyn Store, value: &mut Value) -> Result<(), PutError> {
    let Some((bytes, form)) = bytes_of(value) else { return Ok(()) };
    let size = bytes.len() as u64;
    let digest = store.put(bytes).await?;
    *value = Value::Stored(Stored { digest, size, form });
    Ok(())
}

/// Puts one value into a store if it is large.
///
/// # Errors
/// [`PutError`] when the value could not be stored; it is then unchanged.
pub async fn put_if_large(store: &dyn Store, value: &mut Value) -> Result<(), PutError> {
    if value.digest().is_none() && value.size() > MAX_INLINE_BYTES { put(store, value).await } else { Ok(()) }
}

/// Puts the large inputs and constants of a flow into a store, and returns the changed flow. The constants of one task that stay have at most
/// [`MAX_INLINE_TOTAL_BYTES`] together, since each of its calls has all of them in its message.
///
/// # Errors
/// [`PutError`] when a value could not be stored.
pub async fn put_large_of_flow(store: &dyn Store, flow: Arc<Flow>) -> Result<Arc<Flow>, PutError> {
    let is_large = |value: &Value| value.digest().is_none() && value.size() > MAX_INLINE_BYTES;
    let has_large_constants = || flow.tasks().any(|(_, _, task)| !too_large_constants(task).is_empty());
    if too_large_for_message(flow.inputs.iter()).is_empty() && !flow.constants().any(is_large) && !has_large_constants()
    {
        return Ok(flow);
    }
    let mut flow = Arc::unwrap_or_clone(flow);
    put_large(store, &mut flow.inputs).await?;
    for task in flow.tasks_mut() {
        for input in too_large_constants(task) {
            if let Some(Source::Constant(constant)) = task.inputs.get_mut(input).map(|input| &mut input.source) {
                put(store, constant).await?;
            }
        }
    }
    // The lists of its tasks.
    for constant in flow.constants_mut() {
        put_if_large(store, constant).await?;
    }
    Ok(Arc::new(flow))
}

/// The indices of a task's inputs whose constants are too large for the message of a call.
fn too_large_constants(task: &Task) -> Vec<usize> {
    let indices: Vec<usize> = (0..task.inputs.len()).collect();
    let constants = indices.iter().zip(&task.inputs).filter_map(|(index, input)| match &input.source {
        Source::Constant(value) => Some((index, value)),
        Source::Node { .. }
        | Source::Element
        | Source::RunInput(_)
        | Source::Failure(_)
        | Source::LoopCarried { .. }
        | Source::Absent => None,
    });
    too_large_for_message(constants)
}

/// Loads values to show them. A value that the store cannot return stays a digest.
pub async fn load_values(store: &dyn Store, mut values: Values) -> Values {
    for (name, value) in &mut values {
        let Value::Stored(stored) = value else { continue };
        match load(store, stored).await {
            Ok(loaded) => *value = loaded,
            Err(error) => warn!(%name, error = &error as &dyn Error, "a value cannot be loaded"),
        }
    }
    values
}

/// Loads one value.
///
/// # Errors
/// [`LoadValueError`] when the store does not return the value.
pub async fn load(store: &dyn Store, stored: &Stored) -> Result<Value, LoadValueError> {
    let bytes = load_bytes(store, stored).await?;
    from_bytes(&bytes, stored.form).map_err(|source| LoadValueError::Content { digest: stored.digest, source })
}

/// Loads the bytes of one value; of JSON, its text, which is not checked.
///
/// # Errors
/// [`LoadValueError`] when the store does not return the bytes, or not as many as the reference says.
pub async fn load_bytes(store: &dyn Store, stored: &Stored) -> Result<Bytes, LoadValueError> {
    let Stored { digest, size, .. } = *stored;
    let refused = |source| LoadValueError::Fetch { digest, source };
    // Only as much is read as was said: the caller has memory for no more.
    let found = store.size(&digest).await.map_err(refused)?;
    let found = found.ok_or_else(|| refused(FetchError::Missing { digest }))?;
    if found != size {
        return Err(LoadValueError::Size { digest, size, found });
    }
    store.fetch(&digest).await.map_err(refused)
}

/// Why a value in a store cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadValueError {
    /// The store does not return its bytes.
    #[error("could not read the value {digest} from the store")]
    Fetch {
        /// The digest of the value.
        digest: Digest,
        /// The error of the store.
        source: FetchError,
    },
    /// A worker reported another size. Limits on loaded bytes count the reported size.
    #[error("the value {digest} has {found} bytes, and the reference to it says {size}")]
    Size {
        /// The digest of the value.
        digest: Digest,
        /// The size in the reference, in bytes.
        size: u64,
        /// The size in the store, in bytes.
        found: u64,
    },
    /// Its bytes are not of the kind that the reference says.
    #[error("the value {digest} is not JSON")]
    Content {
        /// The digest of the value.
        digest: Digest,
        /// What is wrong with its bytes.
        source: InvalidContent,
    },
}

/// Loads the inputs of a run and the values that its tasks provided, as [`load_values`] does.
pub async fn load_run_values(store: &dyn Store, inputs: Values, provided: Values) -> RunValues {
    RunValues { inputs: load_values(store, inputs).await, provided: load_values(store, provided).await }
}

/// The bytes of a value; `None` for a value that is already stored.
#[must_use]
pub fn bytes_of(value: &Value) -> Option<(Bytes, ValueKind)> {
    let (bytes, form) = match value {
        Value::Json(json) => (json.as_str().as_bytes(), ValueKind::Json),
        Value::Bytes(bytes) => (&bytes[..], ValueKind::Bytes),
        Value::Stored(_) => return None,
    };
    Some((Bytes::copy_from_slice(bytes), form))
}

/// Converts bytes from a store to a value.
///
/// # Errors
/// [`InvalidContent`] when the bytes should be JSON and are not.
pub fn from_bytes(bytes: &[u8], form: ValueKind) -> Result<Value, InvalidContent> {
    Ok(match form {
        ValueKind::Bytes => Value::Bytes(bytes.into()),
        ValueKind::Json => Value::Json(Json::parse(str::from_utf8(bytes)?)?),
    })
}

/// Why bytes from a store are not the expected value.
#[derive(Debug, thiserror::Error)]
pub enum InvalidContent {
    /// The bytes are not UTF-8.
    #[error("its bytes are not text")]
    InvalidUtf8(#[from] str::Utf8Error),
    /// The bytes are not JSON.
    #[error("its bytes are not JSON")]
    InvalidJson(#[from] InvalidJson),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flow::{
        ModuleContent, ModuleInfo,
        graph::{Input, InputUse},
    };

    use super::*;

    fn sized(sizes: &[usize]) -> Values {
        let named = |(number, size): (usize, &usize)| {
            let name = format!("v{number:02}").parse().expect("a valid name");
            (name, Value::Bytes(vec![0; *size].into()))
        };
        sizes.iter().enumerate().map(named).collect()
    }

    #[tokio::test]
    async fn large_values_then_the_largest_go_to_the_store() {
        let store = crate::Memory::new();
        // The two that are too large alone leave exactly the total that fits one message.
        let mut values = sized(&[MAX_INLINE_BYTES + 1, MAX_INLINE_BYTES, 10, 2 * MAX_INLINE_BYTES]);
        put_large(&store, &mut values).await.expect("memory stores it");
        let stored = |values: &Values| values.values().map(|value| value.digest().is_some()).collect::<Vec<_>>();
        assert_eq!(stored(&values), [true, false, false, true]);
        // None of these is too large alone.
        let mut values = sized(&[[MAX_INLINE_BYTES; 12], [MAX_INLINE_BYTES - 1; 12]].concat());
        put_large(&store, &mut values).await.expect("memory stores it");
        let inline: usize = values.values().filter(|value| value.digest().is_none()).map(Value::size).sum();
        assert!(inline <= MAX_INLINE_TOTAL_BYTES, "{inline}");
        assert_eq!(stored(&values).iter().filter(|stored| **stored).count(), 12, "no more than necessary");
        assert!(stored(&values)[..12].iter().all(|stored| *stored), "the largest first");
        let loaded = load_values(&store, values).await;
        assert!(loaded.values().all(|value| value.digest().is_none()), "all values are loaded again");
    }

    #[tokio::test]
    async fn a_value_is_not_read_if_it_has_more_bytes_than_its_reference_says() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let store = crate::Directory::open(folder.path().to_owned()).await.expect("it can be opened");
        let digest = store.put(Bytes::from_static(b"good")).await.expect("it can be stored");
        let path = crate::folder::Folder::open(folder.path().to_owned()).expect("it can be opened").path(&digest);
        std::fs::remove_file(&path).expect("it is there");
        // Whoever reads it finds out that it is damaged.
        std::fs::write(&path, "far more bytes").expect("it can be written");
        let load = async |size| load_bytes(&store, &Stored { digest, size, form: ValueKind::Bytes }).await;
        let refused = load(4).await.expect_err("it has other bytes");
        assert!(matches!(refused, LoadValueError::Size { size: 4, found: 14, .. }), "{refused}");
        let damaged = load(14).await.expect_err("it is damaged");
        assert!(matches!(damaged, LoadValueError::Fetch { source: FetchError::Corrupt { .. }, .. }), "{damaged}");
    }

    #[tokio::test]
    async fn the_constants_of_a_task_fit_its_message_together() {
        let text = "name = \"f\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n[[task]]\nname = \"b\"\nuse = \"g\"\n\
                    [modules]\ng = \"g.wasm\"\n";
        let module = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Command };
        let (draft, modules) = (flow::file::parse(text).expect("a flow"), BTreeMap::from([("g".to_owned(), module)]));
        let (flow, _) = flow::wire(&draft, &modules, &Values::new()).expect("a flow that can be wired");
        // Each is small enough for a message alone.
        let with_constants = |sizes: &[usize]| {
            let mut flow = flow.clone();
            for task in flow.tasks_mut() {
                task.inputs = sized(sizes)
                    .into_iter()
                    .map(|(parameter, value)| Input {
                        parameter,
                        source: Source::Constant(value),
                        optional: false,
                        used_by: InputUse::ApplyAndRollback,
                    })
                    .collect();
            }
            Arc::new(flow)
        };
        let store = crate::Memory::new();
        let inline = |flow: &Flow| {
            let of_task = |task: &Task| {
                let values = task.inputs.iter().filter_map(|input| match &input.source {
                    Source::Constant(value) if value.digest().is_none() => Some(value.size()),
                    _ => None,
                });
                values.sum::<usize>()
            };
            flow.tasks().map(|(_, _, task)| of_task(task)).collect::<Vec<_>>()
        };
        let large = with_constants(&[MAX_INLINE_BYTES - 1; 20]);
        let put = put_large_of_flow(&store, large).await.expect("memory stores it");
        assert!(inline(&put).iter().all(|bytes| *bytes <= MAX_INLINE_TOTAL_BYTES), "{:?}", inline(&put));
        assert_eq!(inline(&put).len(), 2);
        let small = with_constants(&[MAX_INLINE_BYTES; 12]);
        let put = put_large_of_flow(&store, small.clone()).await.expect("nothing is stored");
        assert!(Arc::ptr_eq(&put, &small), "each task has as many as fit");
    }

    #[tokio::test]
    async fn a_value_of_another_size_than_its_reference_says_is_not_loaded() {
        let store = crate::Memory::new();
        let digest = store.put(Bytes::from_static(b"[1]")).await.expect("memory stores it");
        let stored = |size| Stored { digest, size, form: ValueKind::Json };
        assert!(load(&store, &stored(3)).await.is_ok());
        assert!(matches!(load(&store, &stored(1)).await, Err(LoadValueError::Size { size: 1, found: 3, .. })));
    }
}
