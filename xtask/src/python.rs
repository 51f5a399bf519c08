//! A Python with the modules that programs beside waft use: pika, which the example of a listener speaks AMQP with, and
//! Celery, which waft is measured beside.

use anyhow::{Context, Result, bail};

use crate::{
    packages,
    process::{self, Transcript},
};

/// Names the Python that has the modules, for tests and benchmarks.
pub const PYTHON: &str = "WAFT_TEST_PYTHON";

/// The first one that is found may be a person's own; the system's has what packages bring.
const CANDIDATES: [&str; 2] = ["python3", "/usr/bin/python3"];

/// A module that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// An AMQP client.
    Pika,
    /// A task queue.
    Celery,
}

impl Module {
    /// As Python imports it, and as pip knows it.
    const fn name(self) -> &'static str {
        match self {
            Self::Pika => "pika",
            Self::Celery => "celery",
        }
    }

    /// Debian's package of it.
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

/// Finds a Python that has a module, and installs both where they are missing.
///
/// # Errors
///
/// When it may not: then with what a person can do.
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
