//! Commands that run in a terminal of their own.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use crate::python;

/// A program that runs a command in a new terminal, and passes its own input to the terminal.
const SPAWN: &str =
    "import os, pty, sys; status = pty.spawn(sys.argv[1:]); sys.exit(os.waitstatus_to_exitcode(status))";

/// Runs a command in its own terminal, at which somebody types a text. Returns what the terminal receives: both streams of the
/// command, and the text that was typed.
///
/// # Panics
/// When it cannot be started, or prints no UTF-8.
#[must_use]
pub fn in_a_terminal(command: &Command, term: &str, typed: &str) -> String {
    let mut spawn = Command::new(python());
    spawn.args(["-c", SPAWN]).arg(command.get_program()).args(command.get_args());
    spawn.current_dir(command.get_current_dir().expect("it has a folder")).env("TERM", term);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => spawn.env(name, value),
            None => spawn.env_remove(name),
        };
    }
    spawn.env_remove("NO_COLOR").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut spawned = spawn.spawn().expect("Python starts");
    // It stays open until the command has ended: nobody leaves the terminal.
    let mut keyboard = spawned.stdin.take().expect("it is a pipe");
    keyboard.write_all(typed.as_bytes()).expect("a pipe has room for a line");
    let output = spawned.wait_with_output().expect("it ends");
    drop(keyboard);
    String::from_utf8(output.stdout).expect("waft prints UTF-8")
}
