//! Tests following the output of guests while they run.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use waft_tests::{Process, TestBroker, Waft, unique};

use super::TestServer;

/// A task that writes to each of a guest's outputs, sleeps, and writes again.
fn print_lines_flow(waft: &Waft, ms: u32, queue: &str) {
    waft.flow(&format!(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#say\"\nwith = {{ text = \"hello\", ms = {ms} }}\n\
         timeout = \"10m\"\nqueue = \"{queue}\"\n"
    ));
}

/// A sleep that lasts until the run is cancelled.
const UNTIL_CANCELLED_MS: u32 = 300_000;

/// The lines before the sleep.
const LINES: [&str; 3] = ["t | info   hello", "t | stdout hello", "t | stderr hello"];

/// A `waft logs --follow` whose lines are read as they arrive.
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
fn followers_receive_lines_during_the_call_and_end_with_the_run() {
    let server = TestServer::new();
    print_lines_flow(&server.waft, UNTIL_CANCELLED_MS, "default");
    server.submit("r");
    let mut early = Follower::start(&mut server.command(&["logs", "r", "--follow"]));
    assert_eq!(early.next(3), sorted(&LINES));
    let mut late = Follower::start(&mut server.command(&["logs", "r", "-f", "--json", "--task", "t"]));
    let lines = late.next(3);
    let line: Value = serde_json::from_str(&lines[0]).expect("it is JSON");
    assert_eq!(
        (&line["event"], &line["task"], &line["attempt"], &line["number"]),
        (&"log".into(), &"t".into(), &1.into(), &1.into())
    );
    assert_eq!((&line["worker"], &line["text"], &line["call"]), (&"local".into(), &"hello".into(), &"apply".into()));
    let other = Follower::start(&mut server.command(&["logs", "r", "--follow", "--task", "u"]));
    // These lines arrived before the end of the call.
    assert_eq!(server.state("r"), "running");
    server.run(&["cancel", "r"]).expect(0);
    for follower in [early, late, other] {
        assert_eq!(follower.end(), (Vec::new(), Some(0)), "each line is printed once");
    }
}

#[test]
fn a_follower_receives_each_recorded_line_once() {
    let server = TestServer::new();
    print_lines_flow(&server.waft, 700, "default");
    server.submit("r");
    let follower = Follower::start(&mut server.command(&["logs", "r", "--follow"]));
    let (mut lines, code) = follower.end();
    assert_eq!(code, Some(0));
    lines.sort();
    let recorded = server.run(&["logs", "r"]);
    let mut recorded: Vec<&str> = recorded.expect(0).stdout.lines().collect();
    recorded.sort_unstable();
    assert_eq!((lines.len(), lines.as_slice()), (6, sorted(&recorded).as_slice()));
    let late = Follower::start(&mut server.command(&["logs", "r", "--follow"]));
    assert_eq!(late.end().0.len(), 6, "the recorded lines of an ended run are printed");
    let missing = server.run(&["logs", "nobody", "--follow"]);
    assert!(missing.expect(2).stderr.contains("there is no run nobody"), "{}", missing.stderr);
}

#[test]
fn lines_of_a_killed_worker_are_not_repeated_by_the_next() {
    let (broker, queue) = (TestBroker::shared(), unique("logs"));
    let server = TestServer::with_broker(&broker);
    print_lines_flow(&server.waft, UNTIL_CANCELLED_MS, &queue);
    let run = unique("r");
    server.submit(&run);
    let mut follower = Follower::start(&mut server.command(&["logs", &run, "--follow"]));
    let first = Process::worker(&server.waft, &broker, &["--queues", &queue, "--name", &unique("first")]);
    assert_eq!(follower.next(3), sorted(&LINES));
    first.kill();
    let name = unique("second");
    let _second = Process::worker(&server.waft, &broker, &["--queues", &queue, "--name", &name]);
    // Once a follower has these lines, the guest has written everything that precedes its sleep.
    let mut later = Follower::start(&mut server.command(&["logs", &run, "--follow", "--json"]));
    for line in later.next(3) {
        let line: Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(line["worker"], name);
    }
    server.run(&["cancel", &run]).expect(0);
    assert_eq!(follower.end(), (Vec::new(), Some(0)), "lines that the second worker repeats are not printed again");
    assert_eq!(later.end(), (Vec::new(), Some(0)));
}
