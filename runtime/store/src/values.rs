//! Values that are too large for messages and records: kept by digest, and made whole again.

use std::str;

use bytes::Bytes;
use flow::{Form, InvalidJson, Json, LARGEST_INLINE, Stored, Value, Values};
use tracing::warn;

use crate::{PutError, Store};

/// Puts the large ones among some values into a store, and leaves their digests in their place.
///
/// # Errors
/// [`PutError`] when one could not be kept; the values are as they were, or some are put away already.
pub async fn put_large(store: &dyn Store, values: &mut Values) -> Result<(), PutError> {
    for value in values.values_mut() {
        put_if_large(store, value).await?;
    }
    Ok(())
}

/// Puts one value into a store if it is large.
///
/// # Errors
/// [`PutError`] when it could not be kept; the value is as it was.
pub async fn put_if_large(store: &dyn Store, value: &mut Value) -> Result<(), PutError> {
    let Some((bytes, form)) = large_bytes(value) else { return Ok(()) };
    let size = bytes.len() as u64;
    let digest = store.put(bytes).await?;
    *value = Value::Stored(Stored { digest, size, form });
    Ok(())
}

/// Makes values whole for one who shows them. One that the store cannot give stays a digest.
pub async fn whole(store: &dyn Store, mut values: Values) -> Values {
    for (name, value) in &mut values {
        let Value::Stored(Stored { digest, form, .. }) = *value else { continue };
        let bytes = match store.fetch(&digest).await {
            Ok(bytes) => bytes,
            Err(error) => {
                warn!(%name, %error, "a value cannot be shown");
                continue;
            }
        };
        match from_bytes(&bytes, form) {
            Ok(whole) => *value = whole,
            Err(error) => warn!(%name, %error, "a value cannot be shown"),
        }
    }
    values
}

/// The bytes of a value that is too large for messages and records; `None` for one that is not, or is put away already.
#[must_use]
pub fn large_bytes(value: &Value) -> Option<(Bytes, Form)> {
    let (bytes, form) = match value {
        Value::Json(json) => (json.as_str().as_bytes(), Form::Json),
        Value::Bytes(bytes) => (&bytes[..], Form::Bytes),
        Value::Stored(_) => return None,
    };
    (bytes.len() > LARGEST_INLINE).then(|| (Bytes::copy_from_slice(bytes), form))
}

/// The value that some bytes from a store are.
///
/// # Errors
/// [`NoValue`] when they are to be JSON and are none.
pub fn from_bytes(bytes: &[u8], form: Form) -> Result<Value, NoValue> {
    Ok(match form {
        Form::Bytes => Value::Bytes(bytes.into()),
        Form::Json => Value::Json(Json::parse(str::from_utf8(bytes)?)?),
    })
}

/// Why bytes from a store are not the value they should be.
#[derive(Debug, thiserror::Error)]
pub enum NoValue {
    /// They are no text.
    #[error("its bytes are no text")]
    NoText(#[from] str::Utf8Error),
    /// They are no JSON.
    #[error("its bytes are no JSON")]
    NoJson(#[from] InvalidJson),
}
