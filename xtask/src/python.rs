//! Finds a Python with the modules that programs beside waft use: pika, the AMQP client of the listener example, and
//! Celery, a benchmark baseline.

use anyhow::{Context, Result, bail};

use crate::{
    packages,
    process::{self, Transcript},
};

/// The variable that names the Python with the modules, for tests and benchmarks.
pub const PYTHON: &str = "WAFT_TEST_PYTHON";

/// The first candidate may be a user's own Python; the system's has Debian's packages.
const CANDIDATES: [&str; 2] = ["python3", "/usr/bin/python3"];

/// A required Python module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// An AMQP client.
    Pika,
    /// A task queue.
    Celery,
}

impl Module {
    /// The name for Python's `import` and for pip.
    const fn name(self) -> &'static str {
        match self {
            Self::Pika => "pika",
            Self::Celery => "celery",
        }
    }

    /// Debian's package of the module.
    const fn package(self) -> &'static str {
        match self {
            Self::Pika => "python3-pika",
            Self::Celery => "python3-celery",
        }
    }

    const fn purpose(self) -> &'static str {
        match self {
            Self::Pika => "a program in Python listens to a task in the tests",
            Self::Celery => "the benchmark of default settings has Celery's worker as its baseline",
        }
    }
}

/// Finds a Python with a module, and installs both if they are missing.
///
/// # Errors
///
/// When they may not be installed; the error says what the user can do.
pub fn find_or_install(transcript: &Transcript, module: Module) -> Result<&'static str> {
    if let Some(python) = find(module) {
        return Ok(python);
    }
    let (name, package) = (module.name(), module.package());
    if !packages::can_install() {
        bail!("no python3 has the module {name} ({}): install {package}, or {name} with pip", module.purpose());
    }
    packages::install(transcript, &[package], module.purpose())?;
    find(module)
        .with_context(|| format!("{package} is installed, and /usr/bin/python3 does not find the module {name}"))
}

fn find(module: Module) -> Option<&'static str> {
    let import = format!("import {}", module.name());
    CANDIDATES.into_iter().find(|python| process::answers(process::command(python).args(["-c", &import])))
}
