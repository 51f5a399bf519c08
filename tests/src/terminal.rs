//! Commands that run in a terminal of their own.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{children, python};

/// A program that runs a command in a new terminal, and passes its own input to the terminal.
const SPAWN: &str =
    "import os, pty, sys; status = pty.spawn(sys.argv[1:]); sys.exit(os.waitstatus_to_exitcode(status))";

/// A program that gives its terminal 80 columns and 24 lines, and becomes a command.
const SIZED: &str = "import fcntl, os, struct, sys, termios\n\
                     fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))\n\
                     os.execvp(sys.argv[1], sys.argv[1:])";

/// The time limit of what a test waits for: only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The program that runs a command in a new terminal.
fn spawn(command: &Command, before: &[&str], term: &str) -> Child {
    let mut spawn = Command::new(python());
    spawn.args(["-c", SPAWN]).args(before).arg(command.get_program()).args(command.get_args());
    spawn.current_dir(command.get_current_dir().expect("it has a folder")).env("TERM", term);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => spawn.env(name, value),
            None => spawn.env_remove(name),
        };
    }
    spawn.env_remove("NO_COLOR").stdin(Stdio::piped()).stdout(Stdio::piped());
    spawn.spawn().expect("Python starts")
}

/// Runs a command in its own terminal, at which somebody types a text. Returns what the terminal receives: both streams of the
/// command, and the text that was typed.
///
/// # Panics
/// When it cannot be started, or prints no UTF-8.
#[must_use]
pub fn in_a_terminal(command: &Command, term: &str, typed: &str) -> String {
    let mut spawned = spawn(command, &[], term);
    // It stays open until the command has ended: nobody leaves the terminal.
    let mut keyboard = spawned.stdin.take().expect("it is a pipe");
    keyboard.write_all(typed.as_bytes()).expect("a pipe has room for a line");
    let output = spawned.wait_with_output().expect("it ends");
    drop(keyboard);
    String::from_utf8(output.stdout).expect("waft prints UTF-8")
}

/// A command in a terminal of 80 columns and 24 lines, at which somebody types while it runs.
pub struct TerminalSession {
    spawned: Child,
    keyboard: ChildStdin,
    received: mpsc::Receiver<Vec<u8>>,
    output: Vec<u8>,
}

impl TerminalSession {
    /// Starts a command.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn open(command: &Command) -> Self {
        let python = python();
        let mut spawned = spawn(command, &[&python, "-c", SIZED], "xterm-256color");
        let keyboard = spawned.stdin.take().expect("it is a pipe");
        let mut stdout = spawned.stdout.take().expect("it is a pipe");
        let (tx, received) = mpsc::channel();
        // The thread ends with the terminal.
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                if tx.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { spawned, keyboard, received, output: Vec::new() }
    }

    /// Starts a shell script in which `waft` is a command with its arguments.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn in_a_shell(waft: &Command, script: &str) -> Self {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("waft() {{ \"$0\" \"$@\"; }}\n{script}")]);
        shell.arg(waft.get_program()).args(waft.get_args());
        shell.current_dir(waft.get_current_dir().unwrap_or(Path::new("/")));
        for (name, value) in waft.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Self::open(&shell)
    }

    /// Types keys.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is there");
        self.keyboard.flush().expect("the terminal is there");
    }

    /// All that the terminal has received so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// What the screen shows now, as far as [`Self::wait_until`] has read it.
    #[must_use]
    pub fn screen(&self) -> String {
        screen(&self.output())
    }

    /// Waits until the output fulfils a condition.
    ///
    /// # Panics
    /// When it does not for a minute, or the command ends before.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + TIMEOUT;
        while !is_so(self) {
            let remaining = until.saturating_duration_since(Instant::now());
            match self.received.recv_timeout(remaining) {
                Ok(bytes) => self.output.extend_from_slice(&bytes),
                Err(error) => panic!("{what} is missing ({error}); the screen:\n{}", self.screen()),
            }
        }
    }

    /// Waits until the screen shows a text.
    ///
    /// # Panics
    /// As [`Self::wait_until`].
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |session| session.screen().contains(text));
    }

    /// The process of the command.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn process(&self) -> u32 {
        *children(self.spawned.id()).first().expect("it runs")
    }

    /// Waits for the end of the command. Returns its exit code, and all that the terminal has received.
    ///
    /// # Panics
    /// When it does not end for a minute.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + TIMEOUT;
        loop {
            match self.received.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.output.extend_from_slice(&bytes),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end; the screen:\n{}", self.screen()),
            }
        }
        let status = self.spawned.wait().expect("it can be waited for");
        (status.code(), self.output())
    }
}

impl Drop for TerminalSession {
    fn drop(&mut self) {
        // Without its terminal, the command ends too. After `end`, there is nothing to kill.
        let _ = self.spawned.kill();
        let _ = self.spawned.wait();
    }
}

/// What a screen shows after an output that uses only what waft writes: cursor positions, clears, colours, lines and text.
fn screen(output: &str) -> String {
    let mut cells = vec![vec![' '; 80]; 24];
    let (mut x, mut y) = (0, 0);
    let mut chars = output.chars();
    while let Some(char) = chars.next() {
        match char {
            '\r' => x = 0,
            '\n' => y += 1,
            '\u{1b}' => {
                // Only sequences that begin with `ESC [` are written.
                chars.next();
                let mut parameters = String::new();
                let last = chars.by_ref().find(|char| {
                    let is_last = ('\u{40}'..='\u{7e}').contains(char);
                    parameters.extend((!is_last).then_some(*char));
                    is_last
                });
                match (last, parameters.as_str()) {
                    (Some('H'), place) => {
                        let place = place.split_once(';').unwrap_or(("1", "1"));
                        let number = |text: &str| text.parse::<usize>().unwrap_or(1) - 1;
                        (x, y) = (number(place.1), number(place.0));
                    }
                    (Some('J'), _) | (Some('h' | 'l'), "?1049") => {
                        cells = vec![vec![' '; 80]; 24];
                        (x, y) = if last == Some('J') { (x, y) } else { (0, 0) };
                    }
                    _ => {}
                }
            }
            char => {
                if let Some(cell) = cells.get_mut(y).and_then(|row| row.get_mut(x)) {
                    *cell = char;
                }
                x += 1;
            }
        }
        if y == cells.len() {
            cells.remove(0);
            cells.push(vec![' '; 80]);
            y -= 1;
        }
    }
    cells.into_iter().map(|row| row.into_iter().collect::<String>().trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_shows_what_was_written_last() {
        let shown = screen("before\x1b[?1049h\x1b[2J\x1b[2;3H\x1b[0;1;31mred\x1b[0m\x1b[2;4HE\x1b[1;1Htop");
        assert_eq!(shown.lines().take(2).collect::<Vec<_>>(), ["top", "  rEd"]);
        let after = screen("x\x1b[?1049h\x1b[5;5Hy\x1b[?1049lone\r\ntwo");
        assert_eq!(after.lines().take(2).collect::<Vec<_>>(), ["one", "two"]);
    }
}
