//! A program that never outlives the process that wanted it.

use std::{
    fs::File,
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Leads a process group of its own, with the program in it. The pipe on its standard input is the leash: a line on it
/// asks the program to end, its end kills the group. The kernel closes the pipe when the owner dies, however it dies, so
/// that nothing is left behind. When the program ends by itself, what it started goes too.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ while read -r _ <&3; do kill -TERM "$program"; done; kill -KILL 0; } &
wait "$program"
kill -KILL 0
"#;

/// How often a program that was asked to end is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// A running program and everything it started. Dropped, all of it is killed.
#[derive(Debug)]
pub struct Group {
    supervisor: Child,
}

impl Group {
    /// Starts `command` with its output going to the file `log`. Only program, arguments and variables of the command
    /// count.
    ///
    /// # Errors
    ///
    /// When there is no shell or the log cannot be written. A program that does not exist ends at once.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let program = command.get_program();
        let context = || format!("could not start {}", program.display());
        let log = File::options().create(true).append(true).open(log).with_context(context)?;
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(program).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(name, value),
                None => guard.env_remove(name),
            };
        }
        guard.stdin(Stdio::piped()).stdout(log.try_clone().with_context(context)?).stderr(log);
        let guard = guard.process_group(0).spawn().with_context(context)?;
        Ok(Self { supervisor: guard })
    }

    /// Whether the program has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.supervisor.try_wait(), Ok(None))
    }

    /// Asks the program to end, and waits until it has, or kills it when it takes longer than `grace`.
    pub fn stop(mut self, grace: Duration) {
        if let Some(leash) = &mut self.supervisor.stdin {
            // Without a reader it has ended already.
            let _ = leash.write_all(b"stop\n");
        }
        let patience = Instant::now() + grace;
        while !self.has_ended() && Instant::now() < patience {
            thread::sleep(PAUSE);
        }
    }

    /// Kills the program and everything it started, as a crash would.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // It cannot fail for a child that nobody else waits for.
        let _ = self.supervisor.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read,
        net::{TcpListener, TcpStream},
        path::PathBuf,
    };

    use super::*;

    /// Runs a script whose file 4, and that of all it starts, is a connection to `listener`: it closes when all of them
    /// are gone.
    fn start(listener: &TcpListener, script: &str) -> (Group, TcpStream) {
        let port = listener.local_addr().unwrap().port();
        let mut command = Command::new("bash");
        command.args(["-c", &format!("exec 4<>/dev/tcp/127.0.0.1/{port}; {script}")]);
        let group = Group::start(&command, &log()).unwrap();
        (group, listener.accept().unwrap().0)
    }

    fn log() -> PathBuf {
        let folder = crate::project::target().join("xtask-tests");
        fs::create_dir_all(&folder).unwrap();
        folder.join("group.log")
    }

    /// Reads until every process that holds the other end is gone.
    fn said(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_dropped_group_takes_everything_it_started_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (group, stream) = start(&listener, "sleep 1000 & sleep 1000");
        drop(group);
        assert_eq!(said(stream), "");
    }

    #[test]
    fn a_stopped_program_may_finish_its_work() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (group, mut stream) = start(&listener, "trap 'echo bye >&4; exit' TERM; echo ready >&4; sleep 1000 & wait");
        let mut ready = [0; 6];
        stream.read_exact(&mut ready).unwrap();
        group.stop(Duration::from_secs(60));
        assert_eq!(said(stream), "bye\n");
    }

    #[test]
    fn a_program_that_ends_by_itself_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut group, stream) = start(&listener, "echo done >&4");
        assert_eq!(said(stream), "done\n");
        group.supervisor.wait().unwrap();
        assert!(group.has_ended());
    }
}
