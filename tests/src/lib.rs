//! Shared test helpers: the `waft` binary as a user runs it, and processes that a test can kill.
//!
//! `cargo xtask test` sets these variables: `WAFT_TEST_BINARY` is the binary, `WAFT_TEST_GUESTS` the built guests of
//! `tests/guests`, `WAFT_TEST_POSTGRES` is a PostgreSQL, and `WAFT_TEST_BROKER` a RabbitMQ for the tests alone, on which the users of
//! roles have the password `WAFT_TEST_BROKER_PASSWORD`. `WAFT_TEST_PYTHON` is a Python that has pika, and `WAFT_TEST_PYTHON_TOOLS` one that has the
//! packages of `tests/python/requirements.txt`.

mod cloud;
mod collector;
mod http_server;
mod process;
mod scrape;
mod terminal;
mod test_broker;
mod waft;
mod warehouse;

use std::{
    env,
    path::{Path, PathBuf},
};

pub use broker::roles::Role;
pub use cloud::{Answer, CLOUD_TOKEN, Cloud, CloudClient};
pub use collector::{Collector, CollectorMood, ReceivedSpan};
pub use http_server::{HttpServer, Received};
pub use process::{Process, children, is_alive, signal, wait_for_end, wait_until};
pub use scrape::{Samples, Scrape};
pub use terminal::{TerminalSession, in_a_terminal};
pub use test_broker::{TestBroker, start_rabbit};
pub use waft::{CommandOutput, Waft};
pub use warehouse::{HeldLock, WAREHOUSE_PASSWORD, Warehouse};

/// The project's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root").to_owned()
}

/// The guests of `tests/guests`, by their names in flow files.
const GUESTS: [&str; 8] = ["careless", "command", "foreign_import", "hostile", "ledger", "liar", "outside", "traces"];

/// A built guest of `tests/guests`.
///
/// # Panics
/// When the guests were not built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    let path = PathBuf::from(from_xtask("WAFT_TEST_GUESTS")).join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is not built: run `cargo xtask test`", path.display());
    path
}

/// A file of `examples-wasm`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn example(file: &str) -> PathBuf {
    let path = root().join("examples-wasm").join(file);
    assert!(path.is_file(), "there is no {}", path.display());
    path
}

/// A Python that has pika.
#[must_use]
pub fn python() -> String {
    from_xtask("WAFT_TEST_PYTHON")
}

/// A Python with the packages of `tests/python/requirements.txt`.
#[must_use]
pub fn python_with_tools() -> String {
    from_xtask("WAFT_TEST_PYTHON_TOOLS")
}

/// A name that no other test uses.
#[must_use]
pub fn unique(base: &str) -> String {
    let folder = tempfile::Builder::new().prefix("").rand_bytes(12).tempdir().expect("a temporary folder");
    let random = folder.path().file_name().expect("it has a name").to_string_lossy().into_owned();
    format!("{base}-{random}")
}

fn from_xtask(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("set {variable}, or run `cargo xtask test`, which does"))
}
