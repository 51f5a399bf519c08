//! HTTP requests, for tasks whose flow asks for them and whose operator grants them.
//!
//! ```no_run
//! use waft_guest::{http, prelude::*};
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Server {
//!     id: String,
//! }
//!
//! /// Creates a server.
//! #[task(provides = "server", retry(attempts = 5))]
//! fn create_server(call: &Call, region: &str) -> Result<Server, Failure> {
//!     let request = http::Request::post("https://cloud.example.com/v1/servers").idempotency_key(call);
//!     let response = request.json(&serde_json::json!({ "region": region })).send()?.success()?;
//!     Ok(response.json()?)
//! }
//! # use waft_guest::serde_json;
//! # fn main() {}
//! ```
//!
//! The flow names what the task may send, and the operator of the worker grants it:
//!
//! ```toml
//! [[task]]
//! name = "create-server"
//! use = "cloud#create-server"
//! allow = { http = ["POST https://cloud.example.com/v1/servers"] }
//! ```
//!
//! An [`Error`] becomes a [`Failure`](crate::Failure) by `?`: a transient one if another attempt can succeed, such as after a timeout or the
//! status 503, and a permanent one otherwise.
//!
//! Outside waft nothing is sent. In a test, [`answer_with`] answers the requests.

mod error;
mod request;
mod response;
#[cfg(not(target_family = "wasm"))]
mod test_answers;
#[cfg(target_family = "wasm")]
mod wasi;

pub use error::{Error, ErrorKind};
pub use request::Request;
pub use response::Response;
#[cfg(not(target_family = "wasm"))]
pub use test_answers::answer_with;

/// A secret of the operator, to be put into a header: `Bearer {{secret:LB_TOKEN}}`. The task never sees the value. waft replaces this text
/// by it, if the flow asks for the secret, and the operator grants it and lets it into this header of this request.
///
/// A flow may also pass this text to a task, as a constant or an input.
#[must_use]
pub fn secret(name: &str) -> String {
    format!("{{{{secret:{name}}}}}")
}

/// Sends a GET request.
///
/// # Errors
/// [`Error`] when there is no response. A response with any status is one: [`Response::success`] checks it.
pub fn get(url: impl Into<String>) -> Result<Response, Error> {
    Request::get(url).send()
}
