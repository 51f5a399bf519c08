//! Tests following the output of guests while they run.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use waft_tests::{Process, Waft, broker_url, unique};

use super::TestServer;

/// A task that writes to each of a guest's outputs, sleeps, and writes again.
fn say(waft: &Waft, ms: u32, queue: &str) {
    waft.flow(&format!(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#say\"\nwith = {{ text = \"hello\", ms = {ms} }}\n\
         timeout = \"10m\"\nqueue = \"{queue}\"\n"
    ));
}

/// A sleep that lasts until the run is cancelled.
const LONG: u32 = 300_000;

/// The lines before the sleep.
const ONCE: [&str; 3] = ["t | info   hello", "t | stdout hello", "t | stderr hello"];

/// A `waft logs --follow` whose lines are read as they come.
struct Follower {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("waft starts");
        let lines = BufReader::new(process.stdout.take().expect("it is a pipe")).lines();
        Self { process, lines }
    }

    /// The next lines, in alphabetical order.
    fn next(&mut self, count: usize) -> Vec<String> {
        let mut lines: Vec<String> = self.lines.by_ref().take(count).map(|line| line.expect("it is UTF-8")).collect();
        lines.sort();
        lines
    }

    /// The rest of its output, and its exit code.
    fn end(mut self) -> (Vec<String>, Option<i32>) {
        let rest = self.lines.map(|line| line.expect("it is UTF-8")).collect();
        (rest, self.process.wait().expect("it ends").code())
    }
}

fn sorted(lines: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    lines.sort();
    lines
}

#[test]
fn followers_have_lines_while_the_call_runs_however_late_they_come_and_end_with_the_run() {
    let served = TestServer::new();
    say(&served.waft, LONG, "default");
    served.submit("r");
    let mut early = Follower::start(&mut served.command(&["logs", "r", "--follow"]));
    assert_eq!(early.next(3), sorted(&ONCE));
    let mut late = Follower::start(&mut served.command(&["logs", "r", "-f", "--json", "--task", "t"]));
    let lines = late.next(3);
    let line: Value = serde_json::from_str(&lines[0]).expect("it is JSON");
    assert_eq!(
        (&line["event"], &line["task"], &line["attempt"], &line["number"]),
        (&"log".into(), &"t".into(), &1.into(), &1.into())
    );
    assert_eq!((&line["worker"], &line["text"], &line["call"]), (&"local".into(), &"hello".into(), &"apply".into()));
    let other = Follower::start(&mut served.command(&["logs", "r", "--follow", "--task", "u"]));
    // These lines came before the end of the call.
    assert_eq!(served.state("r"), "running");
    served.run(&["cancel", "r"]).expect(0);
    for follower in [early, late, other] {
        assert_eq!(follower.end(), (Vec::new(), Some(0)), "each line comes once");
    }
}

#[test]
fn a_follower_has_each_line_once_and_all_that_are_recorded() {
    let served = TestServer::new();
    say(&served.waft, 700, "default");
    served.submit("r");
    let follower = Follower::start(&mut served.command(&["logs", "r", "--follow"]));
    let (mut lines, code) = follower.end();
    assert_eq!(code, Some(0));
    lines.sort();
    let recorded = served.run(&["logs", "r"]);
    let mut recorded: Vec<&str> = recorded.expect(0).stdout.lines().collect();
    recorded.sort_unstable();
    assert_eq!((lines.len(), lines.as_slice()), (6, sorted(&recorded).as_slice()));
    let again = Follower::start(&mut served.command(&["logs", "r", "--follow"]));
    assert_eq!(again.end().0.len(), 6, "a run that has ended tells what is recorded");
    let missing = served.run(&["logs", "nobody", "--follow"]);
    assert!(missing.expect(2).stderr.contains("there is no run nobody"), "{}", missing.stderr);
}

#[test]
fn a_worker_that_is_killed_and_the_next_one_tell_each_line_once() {
    let (broker, queue) = (broker_url(), unique("logs"));
    let served = TestServer::over(&broker);
    say(&served.waft, LONG, &queue);
    let run = unique("r");
    served.submit(&run);
    let mut follower = Follower::start(&mut served.command(&["logs", &run, "--follow"]));
    let first = Process::worker(&served.waft, &broker, &["--queues", &queue, "--name", &unique("first")]);
    assert_eq!(follower.next(3), sorted(&ONCE));
    first.kill();
    let name = unique("second");
    let _second = Process::worker(&served.waft, &broker, &["--queues", &queue, "--name", &name]);
    // Once a follower has these lines, the guest has written everything that precedes its sleep.
    let mut later = Follower::start(&mut served.command(&["logs", &run, "--follow", "--json"]));
    for line in later.next(3) {
        let line: Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(line["worker"], name);
    }
    served.run(&["cancel", &run]).expect(0);
    assert_eq!(follower.end(), (Vec::new(), Some(0)), "what the second one says again is not new");
    assert_eq!(later.end(), (Vec::new(), Some(0)));
}
