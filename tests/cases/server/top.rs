//! Tests `waft top` as a person uses it: in a terminal, with keys.

use waft_tests::{TerminalSession, children, in_a_terminal, signal};

use super::*;

/// A flow whose only task waits to be notified.
const WAITS: &str = "name = \"shop\"\n[[task]]\nname = \"sign\"\nwait = \"a signature\"\nprovides = [\"by\"]\n";

fn server_with_a_run() -> TestServer {
    let server = TestServer::new();
    server.waft.flow(WAITS);
    server.submit("r1");
    server
}

#[test]
fn runs_are_shown_live_and_commanded() {
    let server = server_with_a_run();
    let mut session = TerminalSession::open(&server.command(&["top"]));
    session.wait_for("▸ running     r1");
    session.wait_for(" live");
    server.submit("r2");
    session.wait_for("▸ running     r2");
    // The youngest run is the first one; r1 stays selected.
    session.wait_for("> ▸ running     r1");
    session.keys("\r");
    session.wait_for("[g Graph]");
    session.wait_for("waits for a signature");
    session.keys("e");
    session.wait_for("sign running");
    session.keys("C");
    session.wait_for("Cancel run r1?");
    session.keys("n");
    session.wait_for("nothing was done");
    session.keys("C");
    session.wait_for("rolls back all");
    session.keys("y");
    session.wait_for("↩ rolled-back");
    session.keys("\x1b");
    session.wait_for("↩ rolled-back r1");
    session.keys("2");
    session.wait_for("local");
    session.keys("3");
    session.wait_for("default");
    session.keys("q");
    let (code, output) = session.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("\x1b[?1049h") && output.contains("\x1b[?25h\x1b[?1049l"), "it is left: {output:?}");
    assert_eq!((server.state("r1"), server.state("r2")), (json!("rolled-back"), json!("running")));
}

#[test]
fn filters_select_runs() {
    let server = server_with_a_run();
    server.submit("r2");
    let mut session = TerminalSession::open(&server.command(&["top", "--text", "r2"]));
    session.wait_for("text=r2");
    session.wait_for("▸ running     r2");
    assert!(!session.screen().contains("     r1 "), "{}", session.screen());
    session.keys("s");
    session.wait_for("only runs in the states: _");
    session.keys("weary\r");
    session.wait_for("weary");
    session.keys("x");
    session.wait_for("▸ running     r1");
    session.keys("q");
    assert_eq!(session.end().0, Some(0));
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let server = server_with_a_run();
    for (name, code) in [("TERM", 130), ("INT", 130), ("HUP", 130)] {
        let top = server.command(&["top", "r1"]);
        let mut session = TerminalSession::in_a_shell(&top, "waft \"$@\"; echo ended with $?; stty -a; echo done");
        session.wait_for("waits for a signature");
        let waft = *children(session.process()).first().expect("waft runs");
        signal(waft, name);
        session.wait_for("done");
        let screen = session.screen();
        assert!(screen.contains(&format!("ended with {code}")), "{name}: {screen}");
        let modes: Vec<&str> = screen.split([' ', '\n', ';']).collect();
        for mode in ["icanon", "echo", "isig", "opost"] {
            assert!(modes.contains(&mode), "{mode} after {name}: {screen}");
        }
    }
}

#[test]
fn it_stops_and_continues_as_a_job_of_a_shell() {
    let server = server_with_a_run();
    let script = "set -m\n\"$0\" \"$@\"\necho stopped with $?\nstty -a\nfg\necho ended with $?\necho done";
    let mut session = TerminalSession::in_a_shell(&server.command(&["top", "r1"]), script);
    session.wait_for("waits for a signature");
    session.keys("\x1a");
    session.wait_until("the stop", |session| session.output().contains("stopped with 1"));
    session.wait_until("the screen again", |session| session.output().matches("\x1b[?1049h").count() >= 2);
    session.wait_for("waits for a signature");
    let output = session.output();
    let stopped = output.split("\x1b[?1049l").nth(1).expect("the screen was left");
    assert!(stopped.contains(" icanon") && !stopped.contains("-icanon"), "{stopped:?}");
    session.keys("q");
    session.wait_for("ended with 0");
}

#[test]
fn without_a_shell_it_does_not_stop() {
    let server = server_with_a_run();
    let mut session = TerminalSession::open(&server.command(&["top"]));
    session.wait_for("▸ running     r1");
    session.keys("\x1a");
    session.wait_for("no shell would continue");
    session.keys("q");
    assert_eq!(session.end().0, Some(0));
}

#[test]
fn a_lost_server_comes_back() {
    let TestServer { waft, address, process } = server_with_a_run();
    let mut command = waft.command(["top"]);
    let mut session = TerminalSession::open(command.env("WAFT_SERVER", &address));
    session.wait_for(" live");
    process.kill();
    session.wait_for("lost for");
    session.wait_for("trying again: could not reach the server");
    assert!(session.screen().contains("▸ running     r1"), "the last list stays: {}", session.screen());
    let (_process, again) = serve(&waft, address.trim_start_matches("http://"));
    assert_eq!(again, address);
    session.wait_for(" live");
    session.keys("q");
    assert_eq!(session.end().0, Some(0));
}

#[test]
fn a_token_that_is_revoked_is_reported() {
    let server = server_with_a_run();
    let made = server.run(&["token", "create", "reader", "--scope", "read"]);
    let mut command = server.command(&["top"]);
    let mut session = TerminalSession::open(command.env("WAFT_TOKEN", made.expect(0).stdout.trim()));
    session.wait_for("> ▸ running     r1");
    session.keys("C");
    session.wait_for("Cancel run r1?");
    session.keys("y");
    session.wait_until("the refusal", |session| session.screen().contains("reader"));
    assert_eq!(server.state("r1"), "running", "a reader sends no command");
    server.run(&["token", "revoke", "reader"]).expect(0);
    session.wait_for("token refused");
    session.wait_for("Ctrl-R asks again");
    session.keys("q");
    assert_eq!(session.end().0, Some(0));
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let server = server_with_a_run();
    let output = server.run(&["top"]);
    assert_error(&output, 2, "waft top needs a terminal, and standard input is none");
    assert!(output.stderr.contains("`waft list`"), "{}", output.stderr);
    let shown = in_a_terminal(&server.command(&["top"]), "dumb", "");
    assert!(shown.contains("TERM says") && !shown.contains('\x1b'), "{shown:?}");
}
