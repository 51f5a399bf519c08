//! The Python tools of the tests, which read the description of the API and make a component of a task in Python: a virtual
//! environment in the build folder, with the packages of `tests/python/requirements.txt`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    packages,
    process::{self, Transcript},
    project,
};

/// The Debian package that creates virtual environments.
const PACKAGE: &str = "python3-venv";

/// The variable that names the Python with the tools, for the tests.
pub const PYTHON: &str = "WAFT_TEST_PYTHON_TOOLS";

/// The first candidate may be a user's own Python; the system's has Debian's packages.
const CANDIDATES: [&str; 2] = ["python3", "/usr/bin/python3"];

/// Finds the Python with the tools, or creates it. Creating needs Python's package index once, and no network after that.
///
/// # Errors
///
/// When it cannot be created; the error says what the user can do.
pub fn find_or_make(transcript: &Transcript) -> Result<PathBuf> {
    let folder = project::build_folder().join("python");
    let requirements = project::root().join("tests/python/requirements.txt");
    let expected =
        fs::read_to_string(&requirements).with_context(|| format!("could not read {}", requirements.display()))?;
    let (python, installed) = (folder.join("bin/python"), folder.join("installed.txt"));
    // This file is written last, so it proves that the packages are installed.
    if fs::read_to_string(&installed).is_ok_and(|text| text == expected) && works(&python) {
        return Ok(python);
    }
    make(transcript, &folder)?;
    transcript.print("installing Python packages into the build folder: the tests validate the description of the API with them, make a client of it, and compile a task in Python");
    let mut pip = process::command(&python);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--requirement"]).arg(&requirements);
    transcript.run(&mut pip).with_context(|| {
        format!(
            "the packages of {} could not be installed: is the package index of Python within reach? Once they are there, \
             the tests do without it",
            requirements.display()
        )
    })?;
    fs::write(&installed, expected).with_context(|| format!("could not write {}", installed.display()))?;
    Ok(python)
}

/// Creates an empty virtual environment, and replaces an existing one.
fn make(transcript: &Transcript, folder: &Path) -> Result<()> {
    if !CANDIDATES.into_iter().any(can_make) {
        if !packages::can_install() {
            bail!("no python3 can make virtual environments, which the tests need: install {PACKAGE}");
        }
        packages::install(transcript, &[PACKAGE], "tests run programs in Python, with packages of their own")?;
    }
    let base = CANDIDATES.into_iter().find(|python| can_make(python));
    let base = base.with_context(|| format!("{PACKAGE} is installed, and /usr/bin/python3 has no ensurepip"))?;
    transcript.run(process::command(base).args(["-m", "venv", "--clear"]).arg(folder))
}

/// Whether this Python can create one: Debian ships the module that installs pip separately.
fn can_make(python: &str) -> bool {
    process::answers(process::command(python).args(["-c", "import venv, ensurepip"]))
}

fn works(python: &Path) -> bool {
    process::answers(
        process::command(python).args(["-c", "import openapi_spec_validator, openapi_python_client, componentize_py"]),
    )
}
