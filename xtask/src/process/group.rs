//! Runs a program that never outlives this process.

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

/// Leads its own process group, which contains the program. Its standard input is a pipe: a line on it asks the program to
/// end, and closing it kills the group. The kernel closes the pipe when the owner dies, for whatever reason, so no process remains. When the program ends by itself, its child processes are killed too.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ while read -r _ <&3; do kill -TERM "$program"; done; kill -KILL 0; } &
wait "$program"
kill -KILL 0
"#;

/// The poll interval while a program is asked to end.
const PAUSE: Duration = Duration::from_millis(20);

/// A running program and everything it started. Dropping it kills all of them.
#[derive(Debug)]
pub struct Group {
    supervisor: Child,
}

impl Group {
    /// Starts `command` and writes its output to the file `log`. It uses only the program, arguments, variables and folder of
    /// the command.
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
        if let Some(folder) = command.get_current_dir() {
            guard.current_dir(folder);
        }
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

    /// Asks the program to end and waits for it; kills it after `grace`.
    pub fn stop(mut self, grace: Duration) {
        if let Some(leash) = &mut self.supervisor.stdin {
            // If the pipe has no reader, the program has ended already.
            let _ = leash.write_all(b"stop\n");
        }
        let deadline = Instant::now() + grace;
        while !self.has_ended() && Instant::now() < deadline {
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
        // This cannot fail for a child that nobody else waits for.
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

    /// Runs a script with a connection to `listener` as file 4. All its child processes inherit the connection, so it
    /// closes when all of them are gone.
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
    fn read_to_end(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_dropped_group_takes_everything_it_started_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (group, stream) = start(&listener, "sleep 1000 & sleep 1000");
        drop(group);
        assert_eq!(read_to_end(stream), "");
    }

    #[test]
    fn a_stopped_program_may_finish_its_work() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (group, mut stream) = start(&listener, "trap 'echo bye >&4; exit' TERM; echo ready >&4; sleep 1000 & wait");
        let mut ready = [0; 6];
        stream.read_exact(&mut ready).unwrap();
        group.stop(Duration::from_secs(60));
        assert_eq!(read_to_end(stream), "bye\n");
    }

    #[test]
    fn a_program_runs_in_the_folder_of_its_command() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut command = Command::new("bash");
        command.args(["-c", &format!("pwd > /dev/tcp/127.0.0.1/{port}")]).current_dir("/");
        let _group = Group::start(&command, &log()).unwrap();
        assert_eq!(read_to_end(listener.accept().unwrap().0), "/\n");
    }

    #[test]
    fn a_program_that_ends_by_itself_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut group, stream) = start(&listener, "echo done >&4");
        assert_eq!(read_to_end(stream), "done\n");
        group.supervisor.wait().unwrap();
        assert!(group.has_ended());
    }
}
