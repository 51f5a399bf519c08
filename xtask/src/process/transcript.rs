//! Runs commands, shows their output at once, and stores it for later.

use std::{
    io::{self, IsTerminal, Read, Write},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::shown;

/// How long to wait for output after its command has ended: a leftover child process may hold the pipe forever.
const GRACE: Duration = Duration::from_secs(2);

/// The output of a series of commands, in order.
#[derive(Debug, Default, Clone)]
pub struct Transcript {
    text: Arc<Mutex<Vec<u8>>>,
}

impl Transcript {
    /// An empty transcript.
    pub fn new() -> Self {
        Self::default()
    }

    /// Prints what is done and why.
    pub fn print(&self, line: &str) {
        println!("{line}");
        self.record(line.as_bytes());
        self.record(b"\n");
    }

    /// Prints a command as a user would type it, and runs it to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started or exits without success.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let status = self.status(command)?;
        succeeded(&shown(command), status)
    }

    /// Like [`Transcript::run`], for a command that a user would not type. It is printed as `name`, and only if it fails.
    ///
    /// # Errors
    ///
    /// When it cannot be started or exits without success.
    pub fn run_as(&self, name: &str, command: &mut Command) -> Result<()> {
        let status = self.listen(name, command)?;
        succeeded(name, status)
    }

    /// Like [`Transcript::run`], for commands whose exit code is a result.
    ///
    /// # Errors
    ///
    /// When the command cannot be started.
    pub fn status(&self, command: &mut Command) -> Result<ExitStatus> {
        let line = shown(command);
        self.print(&format!("$ {line}"));
        self.listen(&line, command)
    }

    fn listen(&self, name: &str, command: &mut Command) -> Result<ExitStatus> {
        if io::stdout().is_terminal() {
            // The pipe below would turn off colours.
            command.env("CARGO_TERM_COLOR", "always");
        }
        let context = || format!("could not run `{name}`");
        let (reader, writer) = io::pipe().with_context(context)?;
        command.stdout(writer.try_clone().with_context(context)?).stderr(writer);
        let child = command.spawn();
        // The command object holds the write ends of the pipe; until it drops them, the reader sees no end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let ended = self.clone().follow(reader);
        let status = child.and_then(|mut child| child.wait()).with_context(context)?;
        // Late output is missing only from the transcript.
        let _ = ended.recv_timeout(GRACE);
        Ok(status)
    }

    /// Shows and stores the output, and drops the sender at its end.
    fn follow(self, mut reader: io::PipeReader) -> mpsc::Receiver<()> {
        let (tx, rx) = mpsc::channel();
        thread::spawn(move || {
            let _until_the_end = tx;
            let mut buffer = [0; 8192];
            while let Ok(length) = reader.read(&mut buffer)
                && length > 0
            {
                // A reader that has closed its end must not stop the work.
                let _ = io::stdout().write_all(&buffer[..length]).and_then(|()| io::stdout().flush());
                self.record(&buffer[..length]);
            }
        });
        rx
    }

    fn record(&self, bytes: &[u8]) {
        self.lock().extend_from_slice(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole output, without colours.
    pub fn text(&self) -> String {
        without_colours(&String::from_utf8_lossy(&self.lock()))
    }

    /// The last lines of the output.
    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

fn succeeded(name: &str, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{name}` ended with {status}");
    }
    Ok(())
}

/// Removes the escape sequences that set colours: `ESC [ … letter`.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\u{1b}' {
            plain.push(char);
        } else if chars.next() == Some('[') {
            chars.find(|char| char.is_ascii_alphabetic());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_recorded_in_order() {
        let transcript = Transcript::new();
        transcript.run(&mut sh("echo one; echo two >&2; echo three")).unwrap();
        assert!(transcript.text().ends_with("one\ntwo\nthree\n"), "{}", transcript.text());
        assert_eq!(transcript.tail(2), "two\nthree");
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let error = Transcript::new().run(&mut sh("exit 3")).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 3'` ended with exit status: 3");
        let error = Transcript::new().run(&mut Command::new("/no/such/program")).unwrap_err();
        assert_eq!(error.to_string(), "could not run `/no/such/program`");
    }

    #[test]
    fn colour_codes_are_removed() {
        assert_eq!(without_colours("\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m waft"), "   Compiling waft");
    }
}
