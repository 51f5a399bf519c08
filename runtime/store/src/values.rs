//! Values that are too large for messages and records: kept by digest, and made whole again.

use std::str;

use flow::{Form, Json, LARGEST_INLINE, Stored, Value, Values};
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
    let (bytes, form) = match value {
        Value::Json(json) if json.as_str().len() > LARGEST_INLINE => (json.as_str().as_bytes(), Form::Json),
        Value::Bytes(bytes) if bytes.len() > LARGEST_INLINE => (&bytes[..], Form::Bytes),
        Value::Json(_) | Value::Bytes(_) | Value::Stored(_) => return Ok(()),
    };
    let size = bytes.len() as u64;
    let digest = store.put(bytes.to_vec().into()).await?;
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
        match form {
            Form::Bytes => *value = Value::Bytes(bytes.to_vec().into()),
            Form::Json => match str::from_utf8(&bytes).ok().and_then(|text| Json::parse(text).ok()) {
                Some(json) => *value = Value::Json(json),
                None => warn!(%name, "a value cannot be shown: its bytes are no JSON"),
            },
        }
    }
    values
}
