//! `cargo xtask test`: runs every check, the same by hand and in continuous integration.
//!
//! Start reading at [`run`]; `test/session.rs` contains the steps.

mod count;
mod report;
mod room;
mod session;
mod step;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use report::{Outcome, TestReport};
use session::Session;
pub(crate) use step::Step;
use xtask::process::Transcript;

use crate::arguments::TestOptions;

/// The variable that names the `waft` binary for tests.
pub(crate) const BINARY: &str = "WAFT_TEST_BINARY";

/// The variable that names the folder of built guests for tests.
pub(crate) const GUESTS: &str = "WAFT_TEST_GUESTS";

pub(crate) fn run(options: &TestOptions) -> Result<ExitCode> {
    room::make()?;
    let mut session = Session::new(&options.rest);
    let mut report = TestReport::default();
    for step in Step::ALL {
        if !options.only.is_empty() && !options.only.contains(&step) {
            continue;
        }
        if report.must_stop() {
            report.add(step, Outcome::Skipped);
            continue;
        }
        println!("\n== {} ==", step.name());
        let (transcript, started) = (Transcript::new(), Instant::now());
        let ended = session.carry_out(step, &transcript);
        let took = started.elapsed();
        report.add(
            step,
            match ended {
                Ok(()) => Outcome::Passed { took },
                Err(error) => {
                    transcript.print(&format!("error: {error:#}"));
                    Outcome::Failed { took, transcript }
                }
            },
        );
    }
    let count = session.count();
    print!("{}", report.summary(count));
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
