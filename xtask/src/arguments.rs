//! The command line of `cargo xtask`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::test::Step;

/// Printed for invalid arguments, or on request.
pub(crate) const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [--release]           build the example guests and run them: to success, and through a rollback; needs no server
  demo --live [--release]    flows that live: listeners for ever, circles and edits, over a real RabbitMQ with workers
  test [--only STEP]... [-- ARGUMENTS]
                             all checks and tests, with a real RabbitMQ; STEP is one of fmt clippy doc guests
                             guest-tests build tests doctests; ARGUMENTS go to the test runner
  audit                      advisories, licences and sources of all dependencies, by cargo-deny
  bench [ARGUMENTS]          measure, with a real RabbitMQ
  build-guest PATH           build the guest crate at PATH for WebAssembly
  simulate [--seeds N] [--first SEED]
                             worlds of lost messages and crashes, one a seed; a failing seed replays exactly
  chaos [--runs N] [--worlds N]
                             real engines, workers, RabbitMQ and PostgreSQL, killed and restarted while runs go through
  broker                     start a private RabbitMQ and keep it until Ctrl-C or the end of standard input

What is missing is installed with a line that says what and why. WAFT_TEST_BROKER=amqp://… names a broker to use instead of
starting one.";

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
    Chaos { runs: u64, worlds: u64 },
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
    let asks_for_help = |word: &String| word == "--help" || word == "-h";
    if command == "help" || asks_for_help(&command) || (command != "bench" && rest.first().is_some_and(asks_for_help)) {
        return Ok(Command::Help);
    }
    let parsed = match command.as_str() {
        "demo" if flag(&mut rest, "--live") => Command::Live(profile(&mut rest)),
        "demo" => Command::Demo(profile(&mut rest)),
        "test" => Command::Test(test_options(&mut rest)?),
        "audit" => Command::Audit,
        "bench" => Command::Bench(std::mem::take(&mut rest)),
        "build-guest" if rest.is_empty() => bail!("build-guest wants the PATH of a guest crate"),
        "build-guest" => Command::BuildGuest(rest.remove(0).into()),
        "simulate" => Command::Simulate {
            seeds: number(&mut rest, "--seeds")?.unwrap_or(10_000),
            first: number(&mut rest, "--first")?.unwrap_or(0),
        },
        "chaos" => {
            let worlds = number(&mut rest, "--worlds")?;
            // Many short worlds, or one long world.
            let runs = number(&mut rest, "--runs")?.unwrap_or(if worlds.is_some() { 40 } else { 400 });
            Command::Chaos { runs, worlds: worlds.unwrap_or(1) }
        }
        "broker" => Command::Broker,
        _ => bail!("no command is called {command:?}"),
    };
    match rest.first() {
        Some(word) => bail!("{command} does not know {word:?}"),
        None => Ok(parsed),
    }
}

/// Takes a flag with a number, if present.
fn number(rest: &mut Vec<String>, flag: &str) -> Result<Option<u64>> {
    let Some(place) = rest.iter().position(|word| word == flag) else { return Ok(None) };
    let value = rest.get(place + 1).with_context(|| format!("{flag} wants a number"))?;
    let number = value.parse().with_context(|| format!("{flag} wants a number, not {value:?}"))?;
    rest.drain(place..place + 2);
    Ok(Some(number))
}

fn profile(rest: &mut Vec<String>) -> Profile {
    if flag(rest, "--release") { Profile::Release } else { Profile::Dev }
}

/// Takes a flag, if present.
fn flag(rest: &mut Vec<String>, flag: &str) -> bool {
    let place = rest.iter().position(|word| word == flag);
    place.map(|place| rest.remove(place)).is_some()
}

/// Takes the known options; anything left is an error.
fn test_options(rest: &mut Vec<String>) -> Result<TestOptions> {
    let mut wanted = TestOptions::default();
    if let Some(place) = rest.iter().position(|word| word == "--") {
        wanted.rest = rest.split_off(place + 1);
        rest.truncate(place);
    }
    while rest.first().is_some_and(|word| word == "--only") {
        let name = rest.get(1).context("--only wants the name of a step")?;
        wanted.only.push(Step::named(name).with_context(|| format!("no step is called {name:?}"))?);
        rest.drain(..2);
    }
    Ok(wanted)
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
        assert_eq!(parsed("simulate --first 7").unwrap(), Command::Simulate { seeds: 10_000, first: 7 });
        assert_eq!(parsed("chaos --runs 9").unwrap(), Command::Chaos { runs: 9, worlds: 1 });
        assert_eq!(parsed("chaos --worlds 50").unwrap(), Command::Chaos { runs: 40, worlds: 50 });
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
        assert_eq!(usage_error("demo fast"), r#"demo does not know "fast""#);
        assert_eq!(usage_error("test clippy"), r#"test does not know "clippy""#);
        assert_eq!(usage_error("test --only"), "--only wants the name of a step");
        assert_eq!(usage_error("test --only lint"), r#"no step is called "lint""#);
        assert_eq!(usage_error("build-guest"), "build-guest wants the PATH of a guest crate");
        assert_eq!(usage_error("chaos --runs many"), r#"--runs wants a number, not "many""#);
        assert_eq!(usage_error("build-guest a b"), r#"build-guest does not know "b""#);
    }

    #[test]
    fn the_usage_names_every_step() {
        for step in Step::ALL {
            assert!(USAGE.contains(step.name()), "{}", step.name());
        }
    }
}
