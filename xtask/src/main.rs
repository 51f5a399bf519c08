//! `cargo xtask`: the project's commands.

mod arguments;
mod audit;
mod bench;
mod broker;
mod build_guest;
mod dashboard;
mod demo;
mod faults;
mod fuzz;
mod test;

use std::process::ExitCode;

use arguments::{Command, USAGE};

fn main() -> ExitCode {
    let command = match arguments::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("error: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let ended = match command {
        Command::Demo(profile) => demo::run(profile),
        Command::Live(profile) => demo::persistent::run(profile),
        Command::Test(options) => test::run(&options),
        Command::Audit => audit::run(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BuildGuest(path) => build_guest::run(&path),
        Command::Simulate { seeds, first } => faults::simulate(seeds, first),
        Command::Chaos { runs, deployments } => faults::chaos(runs, deployments),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Broker => broker::run(),
        Command::Dashboard { in_browser } => dashboard::run(in_browser),
        Command::Help => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
