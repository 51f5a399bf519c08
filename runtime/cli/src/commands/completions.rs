//! `waft completions`: prints the script that completes waft's commands in a shell.

use clap::CommandFactory;

use crate::{arguments::Arguments, exit::Exit, output};

pub(super) fn run(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "waft", &mut script);
    output::bytes(&script);
    Exit::Success
}
