//! Python with pika, the AMQP client that programs in Python know: the example of a listener is one.

use anyhow::{Context, Result, bail};

use crate::{
    packages,
    process::{self, Transcript},
};

const PACKAGE: &str = "python3-pika";

/// Names the Python that has pika, for the tests.
pub const PYTHON: &str = "WAFT_TEST_PYTHON";

/// The first one that is found may be a person's own; the system's has what packages bring.
const CANDIDATES: [&str; 2] = ["python3", "/usr/bin/python3"];

/// Finds a Python that has pika, and installs both where they are missing.
///
/// # Errors
///
/// When it may not: then with what a person can do.
pub fn find_or_install_pika(transcript: &Transcript) -> Result<&'static str> {
    if let Some(python) = find() {
        return Ok(python);
    }
    if !packages::can_install() {
        bail!("no python3 has the module pika, which the tests listen with: install {PACKAGE}, or pika with pip");
    }
    packages::install(transcript, &[PACKAGE], "a program in Python listens to a task in the tests")?;
    find().with_context(|| format!("{PACKAGE} is installed, and /usr/bin/python3 does not find the module pika"))
}

fn find() -> Option<&'static str> {
    CANDIDATES.into_iter().find(|python| process::answers(process::command(python).args(["-c", "import pika"])))
}
