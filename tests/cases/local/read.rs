//! Tests runs of `waft run` that are listed, watched and edited, and unknown runs.

use std::{
    io::{BufRead as _, BufReader, pipe},
    process::Command,
};

use waft_tests::{CommandOutput, Process, Waft};

use super::{FAILED_ROLLBACK_FLOW, assert_output};
use crate::output::{DISK_IS_FULL, full_disk};

/// A task that sleeps, and one that follows it.
fn slow(waft: &Waft, ms: u32) -> String {
    let text = format!(
        "name = \"f\"\npattern = \"linear\"\n[[task]]\nname = \"nap\"\nuse = \"hostile#sleep\"\nwith = {{ ms = {ms} }}\n\
         [[task]]\nname = \"echo\"\nuse = \"hostile#echo\"\nwith = {{ value = 1 }}\n"
    );
    waft.flow(&text).to_str().expect("a path in UTF-8").to_owned()
}

/// A server address where nothing listens.
const UNREACHABLE: &str = "http://127.0.0.1:1";

#[test]
fn runs_of_this_machine_are_listed() {
    let waft = Waft::default();
    let empty = waft.run(["list"]);
    assert_output(&empty, 0, "there are no runs in the logbook");
    assert_output(&empty, 0, "logbook.db");
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    waft.run(["run", "flow.toml", "--run-id", "r"]).expect(0);
    waft.flow("name = \"g\"\n[[task]]\nname = \"t\"\nuse = \"hostile#fail\"\nwith = { message = \"no\" }\n");
    waft.run(["run", "flow.toml", "--run-id", "s"]).expect(1);
    let listed = |arguments: &[&str]| -> Vec<String> {
        let output = waft.run([&["list", "--json"], arguments].concat());
        output.expect(0).json().iter().map(|run| run["run"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&[]), ["s", "r"]);
    assert_eq!(listed(&["--limit", "1"]), ["s"]);
    assert_eq!(listed(&["--state", "success"]), ["r"]);
    assert_eq!(listed(&["--flow", "g", "--since", "1h"]), ["s"]);
    assert_output(&waft.run(["list", "--flow", "h"]), 0, "no run fits");
    assert_output(&waft.run(["list", "--state", "tired"]), 2, "\"tired\" is no state of a run");
    // A logbook that a flag names takes precedence over a server in the environment.
    let logbook = waft.folder().join("logbook.db");
    let mut list = waft.command(["list", "--logbook", logbook.to_str().unwrap()]);
    let local: CommandOutput = list.env("WAFT_SERVER", UNREACHABLE).output().unwrap().into();
    assert_output(&local, 0, "rolled-back");
    let remote: CommandOutput = waft.command(["list"]).env("WAFT_SERVER", UNREACHABLE).output().unwrap().into();
    assert_output(&remote, 4, "could not reach the server http://127.0.0.1:1");
}

#[test]
fn a_run_that_has_ended_is_watched_from_its_start_with_its_exit_code() {
    let waft = Waft::default();
    waft.flow(FAILED_ROLLBACK_FLOW);
    let output = waft.run(["run", "flow.toml", "--run-id", "r", "--json"]);
    let watched = waft.run(["watch", "r", "--json"]);
    assert_eq!(watched.expect(3).stdout, output.expect(3).stdout);
    assert_output(&waft.run(["watch", "r"]), 3, "hold could not be rolled back");
}

#[test]
fn a_run_that_another_process_drives_is_watched_to_its_end() {
    let waft = Waft::default();
    let flow = slow(&waft, 1_500);
    let mut run = Process::spawn(&mut waft.command(["run", &flow, "--run-id", "r"]));
    run.wait_for("nap running");
    let mut watch = Process::spawn(&mut waft.command(["watch", "r"]));
    watch.wait_for("nap running");
    watch.wait_for("echo success");
    watch.wait_for("f succeeded");
    assert_eq!(watch.wait().code(), Some(0));
    assert_eq!(run.wait().code(), Some(0));
}

#[test]
fn watching_a_run_of_another_process_ends_when_the_reader_leaves() {
    let waft = Waft::default();
    let flow = slow(&waft, 300_000);
    let mut run = Process::spawn(&mut waft.command(["run", &flow, "--run-id", "r"]));
    run.wait_for("nap running");
    let (reader, writer) = pipe().expect("a pipe");
    let mut watch = Process::spawn(waft.command(["watch", "r", "--json"]).stdout(writer));
    assert!(BufReader::new(reader).lines().next().unwrap().unwrap().contains("\"running\""));
    assert_eq!((watch.wait().code(), watch.output().as_str()), (Some(141), ""));
    assert_output(&waft.run(["show", "r"]), 0, "running");
}

#[test]
fn watching_a_run_of_another_process_ends_when_the_disk_is_full() {
    let waft = Waft::default();
    let flow = slow(&waft, 300_000);
    let mut run = Process::spawn(&mut waft.command(["run", &flow, "--run-id", "r"]));
    run.wait_for("nap running");
    let mut watch = Process::spawn(waft.command(["watch", "r", "--json"]).stdout(full_disk()));
    assert_eq!((watch.wait().code(), watch.output().as_str()), (Some(4), DISK_IS_FULL));
    assert_output(&waft.run(["show", "r"]), 0, "running");
}

#[test]
fn watching_a_run_that_no_process_drives_ends_with_a_message() {
    let waft = Waft::default();
    let flow = slow(&waft, 300_000);
    let mut run = Process::spawn(&mut waft.command(["run", &flow, "--run-id", "r"]));
    run.wait_for("nap running");
    let mut watch = Process::spawn(&mut waft.command(["watch", "r"]));
    watch.wait_for("nap running");
    run.kill();
    watch.wait_for("run r was interrupted, and no process drives it");
    watch.wait_for("`waft run --resume r` goes on with it");
    assert_eq!(watch.wait().code(), Some(130));
}

#[test]
fn a_run_that_no_process_drives_is_edited_and_resumed() {
    let waft = Waft::default();
    let flow = slow(&waft, 4_000);
    let mut run = Process::spawn(&mut waft.command(["run", &flow, "--run-id", "r"]));
    run.wait_for("nap running");
    let edit = ["edit", "r", "set", "echo", "value=2"];
    let refused = waft.run(edit);
    assert_output(&refused, 2, "drives run r, and takes no edits meanwhile");
    assert_output(&refused, 2, &format!("process {}", run.id()));
    run.kill();
    assert_output(&waft.run(["edit", "r", "set", "nap", "ms=1"]), 2, "\"nap\" is running");
    assert_output(&waft.run(["edit", "r", "remove", "ecko"]), 2, "did you mean \"echo\"?");
    assert_output(&waft.run([&edit[..], &["--dry-run"]].concat()), 0, "r would be at revision 2");
    assert_output(&waft.run(edit), 0, "r is at revision 2");
    assert_output(&waft.run([&edit[..], &["--if-revision", "1"]].concat()), 2, "is at revision 2");
    let module = waft_tests::guest("ledger").display().to_string();
    let more = format!(
        "[modules]\nledger = {module:?}\n[[task]]\nname = \"more\"\nuse = \"hostile#noop\"\n[[link]]\nfrom = \"echo\"\nto = \"more\"\n"
    );
    waft.write("more.toml", more);
    assert_output(&waft.run(["edit", "r", "add", "more.toml"]), 0, "r is at revision 3");
    waft.write("wrong.toml", "[[task]]\nname = \"x\"\nuse = \"hostile#nooop\"\n");
    assert_output(&waft.run(["edit", "r", "add", "wrong.toml"]), 2, "did you mean \"noop\"?");
    assert_output(&waft.run(["show", "r", "--revisions"]), 0, "revision 3");
    let output = waft.run(["run", "--resume", "r", "--json"]);
    assert_eq!(output.expect(0).end()["provides"]["value"], 2);
    assert!(output.trace().contains(&"more:success".to_owned()), "{:?}", output.trace());
    assert_output(&waft.run(edit), 2, "it has ended");
}

#[test]
fn an_unknown_run_is_reported_with_the_logbook() {
    let waft = Waft::default();
    waft.flow(FAILED_ROLLBACK_FLOW);
    waft.run(["run", "flow.toml", "--run-id", "there"]).expect(3);
    let commands: [&[&str]; 12] = [
        &["show", "nobody"],
        &["show", "nobody", "--value", "v"],
        &["watch", "nobody"],
        &["logs", "nobody"],
        &["cancel", "nobody"],
        &["suspend", "nobody"],
        &["resume", "nobody"],
        &["retry", "nobody"],
        &["skip", "nobody", "t", "--reason", "x"],
        &["edit", "nobody", "remove", "t"],
        &["notify", "nobody", "t"],
        &["run", "--resume", "nobody"],
    ];
    // Nothing listens at the built-in address where tests run.
    for command in commands {
        let output = waft.run(command);
        assert_output(&output, 2, "there is no run nobody in the logbook ");
        assert_output(&output, 2, "logbook.db");
        assert_output(&output, 2, "--server or WAFT_SERVER a server to ask");
        assert!(!output.stderr.contains("could not reach"), "{}", output.stderr);
    }
    assert_output(&waft.run(["show", "no body"]), 2, "\"no body\" is not a name");
    let with_server =
        |command: &mut Command| -> CommandOutput { command.env("WAFT_SERVER", UNREACHABLE).output().unwrap().into() };
    assert_output(&with_server(&mut waft.command(["show", "nobody"])), 4, "could not reach the server");
    let logbook = waft.folder().join("logbook.db");
    let flags = ["show", "nobody", "--logbook", logbook.to_str().unwrap()];
    assert_output(&with_server(&mut waft.command(flags)), 2, "there is no run nobody in the logbook");
}

#[test]
fn a_misspelt_logbook_is_an_error_and_is_not_created() {
    let waft = Waft::default();
    let commands: [&[&str]; 10] = [
        &["list"],
        &["show", "r"],
        &["show", "r", "--value", "v"],
        &["watch", "r"],
        &["logs", "r"],
        &["logs", "r", "--follow"],
        &["cancel", "r"],
        &["edit", "r", "remove", "t"],
        &["replay", "r", "t"],
        &["run", "--resume", "r"],
    ];
    for command in commands {
        let output = waft.run([command, &["--logbook", "sqlite:wfat.db"]].concat());
        assert_output(&output, 2, "there is no logbook sqlite:wfat.db");
    }
    // Nobody has run anything here yet.
    assert_output(&waft.run(["run", "--resume", "r"]), 2, "there is no run r in the logbook ");
    for name in ["wfat.db", "logbook.db"] {
        assert!(!waft.folder().join(name).exists(), "{name} was created");
    }
}

#[test]
fn skipping_an_unknown_task_suggests_a_similar_one() {
    let waft = Waft::default();
    waft.flow(FAILED_ROLLBACK_FLOW);
    waft.run(["run", "flow.toml", "--run-id", "r"]).expect(3);
    let output = waft.run(["skip", "r", "hild", "--reason", "x"]);
    assert_output(&output, 2, "flow f has no task \"hild\"");
    assert_output(&output, 2, "hint: did you mean \"hold\"?");
    assert_output(&waft.run(["skip", "r", "nosuch", "--reason", "x"]), 2, "hint: its tasks are hold, sum, charge");
}

/// A task that writes to each of a guest's outputs, sleeps, and writes again.
fn print_lines_flow(waft: &Waft, ms: u32) -> String {
    let text = format!(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#say\"\nwith = {{ text = \"hello\", ms = {ms} }}\ntimeout = \"10m\"\n"
    );
    waft.flow(&text).to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn a_run_shows_what_guests_write_while_they_run() {
    let waft = Waft::default();
    let flow = print_lines_flow(&waft, 300_000);
    let mut run = Process::spawn(&mut waft.command(["run", &flow, "--run-id", "r"]));
    run.wait_for("t | info   hello");
    assert_eq!(waft.run(["show", "r", "--json"]).expect(0).end()["state"], "running");
    run.signal("INT");
    assert_eq!(run.wait().code(), Some(130));
    assert_eq!(run.output().matches("t | info   hello").count(), 1, "{}", run.output());
}

#[test]
fn the_logs_of_a_run_that_another_process_drives_are_followed_to_its_end() {
    let waft = Waft::default();
    let flow = print_lines_flow(&waft, 1_000);
    let mut run = Process::spawn(&mut waft.command(["run", &flow, "--run-id", "r", "--quiet"]));
    run.wait_for("t running");
    let followed = waft.run(["logs", "r", "--follow"]);
    assert_eq!(followed.expect(0).stdout, waft.run(["logs", "r"]).expect(0).stdout);
    assert_eq!(followed.stdout.lines().count(), 6, "{}", followed.stdout);
    assert_eq!(run.wait().code(), Some(0));
    let line = waft.run(["logs", "r", "--follow", "--json"]).expect(0).json().remove(0);
    assert_eq!((&line["event"], &line["number"], &line["text"]), (&"log".into(), &1.into(), &"hello".into()));
}

#[test]
fn a_run_of_schedules_shows_when_each_fires_next() {
    let waft = Waft::default();
    let text = "name = \"f\"\npersistent = true\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n\
                [[schedule]]\ncron = \"0 0 29 2 *\"\nto = \"t\"\n";
    let flow = waft.flow(text);
    let mut run = Process::spawn(&mut waft.command(["run", flow.to_str().unwrap(), "--run-id", "r"]));
    run.wait_for("run r");
    // The run may not exist yet; its first scheduled time is known once it has started.
    let mut shown = waft.run(["show", "r"]);
    while !shown.stdout.contains("t fires next at ") {
        assert!(shown.code == Some(0) || shown.stderr.contains("there is no run r"), "{}", shown.stderr);
        shown = waft.run(["show", "r"]);
    }
    assert_output(&shown, 0, "-02-29T00:00:00Z");
    let next = waft.run(["show", "r", "--json"]).expect(0).end()["schedules"][0].clone();
    assert_eq!(next["task"], "t");
    run.signal("INT");
    assert_eq!(run.wait().code(), Some(130), "{}", run.output());
}
