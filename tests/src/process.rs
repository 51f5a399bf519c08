//! Processes that run beside a test, and are killed at its end.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{Role, TestBroker, Waft};

/// The time limit of short operations: only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A process whose standard error is read line by line.
pub struct Process {
    process: Child,
    lines: mpsc::Receiver<String>,
    lines_read: Vec<String>,
}

impl Process {
    /// Declares the queues of a worker, as an engine or an administrator does before, starts the worker, and waits until it takes
    /// jobs.
    ///
    /// # Panics
    /// When a command fails.
    #[must_use]
    pub fn worker(waft: &Waft, broker: &TestBroker, arguments: &[&str]) -> Self {
        if let Some(flag) = arguments.iter().position(|argument| *argument == "--queues") {
            // A worker may not declare them, and looks only every few seconds whether somebody else has.
            let setup = ["broker", "setup", "--queues", arguments[flag + 1], "--broker", &broker.url(Role::Engine)];
            waft.run(setup).expect(0);
        }
        let mut worker = Self::spawn(waft.command(["worker", "--broker", &broker.url(Role::Worker)]).args(arguments));
        worker.wait_for("takes jobs");
        worker
    }

    /// Starts any command.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().expect("waft starts");
        let stderr = BufReader::new(process.stderr.take().expect("stderr is a pipe"));
        let (tx, lines) = mpsc::channel();
        // The thread ends with the process.
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tx.send(line)));
        Self { process, lines, lines_read: Vec::new() }
    }

    /// Waits until a line contains a text, and returns the line.
    ///
    /// # Panics
    /// When the process ends before, or prints nothing for a long time.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + TIMEOUT;
        loop {
            let remaining = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(remaining) {
                Ok(line) => {
                    self.lines_read.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("{text:?} was not printed ({error}); output:\n{}", self.lines_read.join("\n")),
            }
        }
    }

    /// Reads the lines that were printed so far, so that [`Self::wait_for`] waits for a later one.
    pub fn skip_lines(&mut self) {
        self.lines_read.extend(self.lines.try_iter());
    }

    /// Kills the process with SIGKILL, which it cannot catch.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it can be waited for");
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends the process a signal by name, as `kill -TERM` does.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// Waits until the process ends, and returns its exit status.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + TIMEOUT;
        // The pipe closes with the process.
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.lines_read.push(line);
        }
        assert!(Instant::now() < until, "it does not end; output:\n{}", self.lines_read.join("\n"));
        self.process.wait().expect("it can be waited for")
    }

    /// The output that was read so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.lines_read.join("\n")
    }
}

/// Sends a process a signal by name, as `kill -TERM` does.
///
/// # Panics
/// When it cannot be sent.
pub fn signal(process: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status();
    assert!(status.expect("kill is installed").success(), "SIG{name} was sent");
}

/// The child processes of a process, without those that have ended.
///
/// # Panics
/// When the process does not run.
#[must_use]
pub fn children(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.expect("readable").path().join("children")).unwrap_or_default()
    };
    let children: Vec<String> = tasks.map(of_task).collect();
    let children = children.join(" ");
    children.split_whitespace().filter_map(|child| child.parse().ok()).filter(|child| is_alive(*child)).collect()
}

/// Whether a process runs. A dead process that nobody has waited for does not.
#[must_use]
pub fn is_alive(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until all these processes have ended: the kernel ends a process in its own time.
///
/// # Panics
/// When one does not end.
#[track_caller]
pub fn wait_for_end(processes: &[u32]) {
    let until = Instant::now() + TIMEOUT;
    while processes.iter().any(|process| is_alive(*process)) {
        assert!(Instant::now() < until, "of {processes:?} one does not end");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until something is the case.
///
/// # Panics
/// When it is not for a minute.
#[track_caller]
pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < until, "it does not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
