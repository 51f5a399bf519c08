//! Carries out the test steps.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use xtask::{
    guests,
    postgres::{self, Database},
    process::{self, Transcript},
    project, python, python_tools,
    rabbitmq::{self, Broker},
};

use super::{BINARY, GUESTS, Step, count::Count};
use crate::dashboard;

/// The state that the steps of one test run share.
pub(super) struct Session<'a> {
    /// The user's arguments for the test runner.
    runner_arguments: &'a [String],
    guests: Option<PathBuf>,
    binary: Option<PathBuf>,
    count: Count,
}

impl<'a> Session<'a> {
    pub(super) fn new(runner_arguments: &'a [String]) -> Self {
        Self { runner_arguments, guests: None, binary: None, count: Count::default() }
    }

    /// The test results so far.
    pub(super) fn count(&self) -> Count {
        self.count
    }

    /// Carries out a step.
    pub(super) fn carry_out(&mut self, step: Step, transcript: &Transcript) -> Result<()> {
        match step {
            Step::Format => format(transcript),
            Step::Clippy => cargo(transcript, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
            Step::Docs => {
                let mut cargo = process::cargo();
                cargo.env("RUSTDOCFLAGS", "--deny warnings").args(["doc", "--workspace", "--no-deps"]);
                transcript.run(&mut cargo)
            }
            Step::Dashboard => dashboard::check(transcript),
            Step::Guests => self.guests(transcript).map(drop),
            Step::GuestTests => self.counted(transcript, |_| guest_tests(transcript)),
            Step::Build => self.binary(transcript).map(drop),
            Step::Tests => self.counted(transcript, |session| session.tests(transcript)),
            Step::Browser => {
                let guests = self.guests(transcript)?.to_owned();
                dashboard::test(transcript, &guests, self.binary(transcript)?)
            }
            Step::Doctests => self.counted(transcript, |_| cargo(transcript, &["test", "--workspace", "--doc"])),
        }
    }

    /// The folder of built guests; builds them on first use.
    fn guests(&mut self, transcript: &Transcript) -> Result<&Path> {
        let folder = match self.guests.take() {
            Some(folder) => folder,
            None => guests::build_all(transcript)?,
        };
        Ok(self.guests.insert(folder))
    }

    /// The `waft` binary; builds it, and the tests with it, on first use. Built alone, its dependencies would have other
    /// features than in the tests, and all would be compiled twice.
    fn binary(&mut self, transcript: &Transcript) -> Result<&Path> {
        let binary = match self.binary.take() {
            Some(binary) => binary,
            None => {
                cargo(transcript, &["build", "--workspace", "--all-targets"])?;
                project::build_folder().join("debug/waft")
            }
        };
        Ok(self.binary.insert(binary))
    }

    /// Runs all tests of the host workspace, with guests, a broker and a database that run as long as the tests.
    fn tests(&mut self, transcript: &Transcript) -> Result<()> {
        let mut cargo = process::cargo();
        cargo.env(GUESTS, self.guests(transcript)?).env(BINARY, self.binary(transcript)?);
        let broker = Broker::find_or_start_with_role_users(transcript, self.binary(transcript)?)?;
        cargo
            .env(rabbitmq::BROKER, broker.url())
            .env(rabbitmq::ROLE_PASSWORD, broker.role_password().unwrap_or_default());
        let database = Database::find_or_start(transcript)?;
        cargo.env(postgres::POSTGRES, database.url());
        cargo.env(python_tools::PYTHON, python_tools::find_or_make(transcript)?);
        cargo.env(python::PYTHON, python::find_or_install(transcript, python::Module::Pika)?);
        if process::answers(process::cargo().args(["nextest", "--version"])) {
            cargo.args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(self.runner_arguments);
        } else {
            // Without `--all-targets`, it would also run the doctests, which are a separate step.
            cargo.args(["test", "--workspace", "--all-targets", "--no-fail-fast", "--"]).args(self.runner_arguments);
        }
        transcript.run(&mut cargo)?;
        ensure!(Count::of(&transcript.text()).passed > 0, "no test ran");
        Ok(())
    }

    /// Adds the results in a step's output to the count, however the step ends.
    fn counted(&mut self, transcript: &Transcript, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let ended = step(self);
        let count = Count::of(&transcript.text());
        self.count += count;
        ended?;
        ensure!(count.failed == 0, "{} tests failed, and the test runner ended with success", count.failed);
        Ok(())
    }
}

fn cargo(transcript: &Transcript, arguments: &[&str]) -> Result<()> {
    transcript.run(process::cargo().args(arguments))
}

fn format(transcript: &Transcript) -> Result<()> {
    let folders = std::iter::once(project::root().to_owned()).chain(project::other_workspaces());
    // Continue after a failure, so that one run finds all failures.
    let results: Vec<Result<()>> = folders
        .map(|folder| transcript.run(process::cargo().args(["fmt", "--all", "--check"]).current_dir(folder)))
        .collect();
    results.into_iter().collect()
}

fn guest_tests(transcript: &Transcript) -> Result<()> {
    project::guest_workspaces().try_for_each(|workspace| guests::test(transcript, &workspace))
}
