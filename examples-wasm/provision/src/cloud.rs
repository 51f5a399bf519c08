//! The requests to the cloud, `examples/cloud`. The flow asks for them with `allow`, and the operator grants them.

use serde::de::DeserializeOwned;
use waft_guest::{http, prelude::*};

/// The address of the cloud, unless the flow has an input `cloud`.
const ADDRESS: &str = "http://127.0.0.1:7480";

/// The secret with the token of the cloud. waft puts its value into the request; this code never sees it.
const TOKEN: &str = "CLOUD_TOKEN";

/// A request to the cloud. `cloud` is its address.
pub(crate) fn request(method: &str, cloud: Option<&str>, path: &str) -> http::Request {
    let url = format!("{}{path}", cloud.unwrap_or(ADDRESS));
    http::Request::new(method, url).bearer(http::secret(TOKEN))
}

/// Makes something in the cloud. It is made once, however often waft makes the call: each attempt sends the same key, and the
/// cloud answers a known key as it did before.
pub(crate) fn make<T: DeserializeOwned>(
    call: &Call,
    cloud: Option<&str>,
    path: &str,
    body: &serde_json::Value,
) -> Result<T, Failure> {
    let made = request("POST", cloud, path).idempotency_key(call).json(body).send()?.success()?;
    Ok(made.json()?)
}

/// Deletes what the task of this rollback has made, and returns whether there was something. It needs no outcome of the task:
/// the rollback has the same key, so the cloud also finds what it made when its answer was lost.
pub(crate) fn take_back(call: &Call, cloud: Option<&str>) -> Result<bool, Failure> {
    let response = request("DELETE", cloud, &format!("/v1/requests/{}", call.idempotency_key)).send()?;
    if response.status() == 404 {
        return Ok(false);
    }
    response.success()?;
    Ok(true)
}
