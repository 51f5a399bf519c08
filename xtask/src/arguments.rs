//! The command line of `cargo xtask`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{fuzz::FuzzOptions, test::Step};

/// Printed for invalid arguments, or on request.
pub(crate) const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [--release]           build the example guests and run them with a small cloud: to success, through a rollback, and
                             through a kill -9; needs no broker
  demo --live [--release]    long-running flows: listeners, cycles and edits, with workers on a real RabbitMQ
  test [--only STEP]... [-- ARGUMENTS]
                             all checks and tests, with a real RabbitMQ; STEP is one of fmt clippy doc dashboard guests
                             guest-tests build tests browser doctests; ARGUMENTS go to the test runner
  audit                      advisories, licences and sources of all dependencies, by cargo-deny
  bench [ARGUMENTS]          measure, with a real RabbitMQ
  build-guest PATH           build the guest crate at PATH for WebAssembly
  simulate [--seeds N] [--first SEED]
                             simulate lost messages and crashes, one simulation per seed; a failing seed is
                             reproducible
  chaos [--runs N] [--worlds N]
                             kill and restart real engines, workers, RabbitMQ and PostgreSQL during runs; --worlds is
                             the number of deployments
  fuzz [TARGET] [--seconds N] [--keep]
                             give one target, or each, random inputs for N seconds; --keep adds the best ones to the
                             corpus that the tests read
  dashboard [--browser]      build the dashboard into the folder that the server embeds, and check it; --browser tests it in
                             Chromium too. It takes Node 20
  broker                     start a private RabbitMQ and run it until Ctrl-C or the end of standard input

Missing programs are installed, with a line that says which and why. WAFT_TEST_BROKER=amqp://… names a broker to use
instead of starting one, as a user with all permissions. WAFT_TEST_BROKER_PASSWORD is the password of its users engine,
worker, listener and operator; without it, the tests use the same address for each of them.";

/// The commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Demo(Profile),
    Live(Profile),
    Test(TestOptions),
    Audit,
    Bench(Vec<String>),
    BuildGuest(PathBuf),
    Simulate { seeds: u64, first: u64 },
    Chaos { runs: u64, deployments: u64 },
    Fuzz(FuzzOptions),
    Dashboard { in_browser: bool },
    Broker,
    Help,
}

/// The cargo profile of the host's binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// With lightly optimised dependencies: builds minutes faster.
    Dev,
    Release,
}

/// The part of the tests to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    /// The steps to run; all of them when empty.
    pub(crate) only: Vec<Step>,
    /// The arguments for the test runner.
    pub(crate) rest: Vec<String>,
}

pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command> {
    let Some(command) = arguments.next() else { bail!("no command") };
    let mut rest: Vec<String> = arguments.collect();
    let is_help = |argument: &String| argument == "--help" || argument == "-h";
    if command == "help" || is_help(&command) || (command != "bench" && rest.first().is_some_and(is_help)) {
        return Ok(Command::Help);
    }
    let parsed = match command.as_str() {
        "demo" if flag(&mut rest, "--live") => Command::Live(profile(&mut rest)),
        "demo" => Command::Demo(profile(&mut rest)),
        "test" => Command::Test(test_options(&mut rest)?),
        "audit" => Command::Audit,
        "bench" => Command::Bench(std::mem::take(&mut rest)),
        "build-guest" if rest.is_empty() => bail!("build-guest needs the PATH of a guest crate"),
        "build-guest" => Command::BuildGuest(rest.remove(0).into()),
        "simulate" => Command::Simulate {
            seeds: number(&mut rest, "--seeds")?.unwrap_or(10_000),
            first: number(&mut rest, "--first")?.unwrap_or(0),
        },
        "chaos" => {
            let deployments = number(&mut rest, "--worlds")?;
            // Many short-lived deployments, or one long-lived.
            let runs = number(&mut rest, "--runs")?.unwrap_or(if deployments.is_some() { 40 } else { 400 });
            Command::Chaos { runs, deployments: deployments.unwrap_or(1) }
        }
        "fuzz" => Command::Fuzz(fuzz_options(&mut rest)?),
        "dashboard" => Command::Dashboard { in_browser: flag(&mut rest, "--browser") },
        "broker" => Command::Broker,
        _ => bail!("no command is called {command:?}"),
    };
    match rest.first() {
        Some(argument) => bail!("{command} does not take {argument:?}"),
        None => Ok(parsed),
    }
}

/// Takes a flag with a number, if present.
fn number(rest: &mut Vec<String>, flag: &str) -> Result<Option<u64>> {
    let Some(index) = rest.iter().position(|argument| argument == flag) else { return Ok(None) };
    let value = rest.get(index + 1).with_context(|| format!("{flag} needs a number"))?;
    let number = value.parse().with_context(|| format!("{flag} needs a number, not {value:?}"))?;
    rest.drain(index..index + 2);
    Ok(Some(number))
}

fn profile(rest: &mut Vec<String>) -> Profile {
    if flag(rest, "--release") { Profile::Release } else { Profile::Dev }
}

/// Takes a flag, if present.
fn flag(rest: &mut Vec<String>, flag: &str) -> bool {
    let index = rest.iter().position(|argument| argument == flag);
    index.map(|index| rest.remove(index)).is_some()
}

/// Takes the known options; anything left is an error.
fn test_options(rest: &mut Vec<String>) -> Result<TestOptions> {
    let mut options = TestOptions::default();
    if let Some(index) = rest.iter().position(|argument| argument == "--") {
        options.rest = rest.split_off(index + 1);
        rest.truncate(index);
    }
    while rest.first().is_some_and(|argument| argument == "--only") {
        let name = rest.get(1).context("--only needs the name of a step")?;
        options.only.push(Step::named(name).with_context(|| format!("no step is called {name:?}"))?);
        rest.drain(..2);
    }
    Ok(options)
}

fn fuzz_options(rest: &mut Vec<String>) -> Result<FuzzOptions> {
    let seconds = number(rest, "--seconds")?.unwrap_or(60);
    let keep = flag(rest, "--keep");
    let is_target = rest.first().is_some_and(|argument| !argument.starts_with('-'));
    Ok(FuzzOptions { target: is_target.then(|| rest.remove(0)), seconds, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        parse(line.split_whitespace().map(String::from))
    }

    fn usage_error(line: &str) -> String {
        parsed(line).unwrap_err().to_string()
    }

    #[test]
    fn each_command_is_known() {
        assert_eq!(parsed("demo").unwrap(), Command::Demo(Profile::Dev));
        assert_eq!(parsed("demo --release").unwrap(), Command::Demo(Profile::Release));
        assert_eq!(parsed("demo --live").unwrap(), Command::Live(Profile::Dev));
        assert_eq!(parsed("audit").unwrap(), Command::Audit);
        assert_eq!(
            parsed("bench --help -n 3").unwrap(),
            Command::Bench(vec!["--help".into(), "-n".into(), "3".into()])
        );
        assert_eq!(parsed("build-guest a/b").unwrap(), Command::BuildGuest("a/b".into()));
        assert_eq!(parsed("broker").unwrap(), Command::Broker);
        assert_eq!(parsed("dashboard").unwrap(), Command::Dashboard { in_browser: false });
        assert_eq!(parsed("dashboard --browser").unwrap(), Command::Dashboard { in_browser: true });
        assert_eq!(parsed("simulate --first 7").unwrap(), Command::Simulate { seeds: 10_000, first: 7 });
        assert_eq!(parsed("chaos --runs 9").unwrap(), Command::Chaos { runs: 9, deployments: 1 });
        assert_eq!(parsed("chaos --worlds 50").unwrap(), Command::Chaos { runs: 40, deployments: 50 });
        let all = FuzzOptions { target: None, seconds: 60, keep: false };
        assert_eq!(parsed("fuzz").unwrap(), Command::Fuzz(all));
        let one = FuzzOptions { target: Some("cron".into()), seconds: 5, keep: true };
        assert_eq!(parsed("fuzz --seconds 5 cron --keep").unwrap(), Command::Fuzz(one));
        for line in ["help", "--help", "-h", "test --help"] {
            assert_eq!(parsed(line).unwrap(), Command::Help, "{line}");
        }
    }

    #[test]
    fn steps_and_runner_arguments_are_separated() {
        let all = Command::Test(TestOptions::default());
        assert_eq!(parsed("test").unwrap(), all);
        let some = TestOptions { only: vec![Step::Clippy, Step::Tests], rest: vec!["--only".into(), "name".into()] };
        assert_eq!(parsed("test --only clippy --only tests -- --only name").unwrap(), Command::Test(some));
    }

    #[test]
    fn a_usage_error_names_the_argument() {
        assert_eq!(usage_error(""), "no command");
        assert_eq!(usage_error("tset"), r#"no command is called "tset""#);
        assert_eq!(usage_error("demo fast"), r#"demo does not take "fast""#);
        assert_eq!(usage_error("test clippy"), r#"test does not take "clippy""#);
        assert_eq!(usage_error("test --only"), "--only needs the name of a step");
        assert_eq!(usage_error("test --only lint"), r#"no step is called "lint""#);
        assert_eq!(usage_error("build-guest"), "build-guest needs the PATH of a guest crate");
        assert_eq!(usage_error("chaos --runs many"), r#"--runs needs a number, not "many""#);
        assert_eq!(usage_error("fuzz cron json"), r#"fuzz does not take "json""#);
        assert_eq!(usage_error("fuzz --second 5"), r#"fuzz does not take "--second""#);
        assert_eq!(usage_error("build-guest a b"), r#"build-guest does not take "b""#);
    }

    #[test]
    fn the_usage_names_every_step() {
        for step in Step::ALL {
            assert!(USAGE.contains(step.name()), "{}", step.name());
        }
    }
}
