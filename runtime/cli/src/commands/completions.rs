//! `waft completions`: what makes a shell complete waft's commands.

use clap::CommandFactory;

use crate::{arguments::Arguments, exit::Exit};

pub(super) fn run(shell: clap_complete::Shell) -> Exit {
    clap_complete::generate(shell, &mut Arguments::command(), "waft", &mut std::io::stdout());
    Exit::Success
}
