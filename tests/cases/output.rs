//! Tests the two streams of a command: their readers may leave, the disk behind them may be full, and guests' text reaches
//! them only as text.

use std::{
    fs::{File, OpenOptions},
    io::{PipeWriter, pipe},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::Command,
};

use waft_tests::{CommandOutput, Waft, example, guest, in_a_terminal};

/// A pipe whose reader has left.
fn broken_pipe() -> PipeWriter {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer
}

/// A file on a disk that is full.
pub(crate) fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it")
}

/// The last line of a command whose data such a disk has refused.
pub(crate) const DISK_IS_FULL: &str =
    "error: could not write to standard output: No space left on device (os error 28)";

fn run(command: &mut Command) -> CommandOutput {
    command.output().expect("waft starts").into()
}

#[test]
fn a_broken_pipe_exits_like_sigpipe() {
    let (waft, module, kitchen) = (Waft::default(), guest("hostile"), example("kitchen/flow.toml"));
    let (module, kitchen) = (module.to_str().unwrap(), kitchen.to_str().unwrap());
    let commands: [&[&str]; 9] = [
        &["--help"],
        &["completions", "bash"],
        &["check", kitchen],
        &["graph", kitchen],
        &["rehearse", kitchen, "--report", "/dev/stdout"],
        &["inspect", module],
        &["inspect", module, "--json"],
        &["push", module, "--json"],
        &["modules"],
    ];
    for arguments in commands {
        let output = run(waft.command(arguments).stdout(broken_pipe()));
        assert_eq!(output.expect(141).stderr, "", "{arguments:?}");
    }
}

#[test]
fn a_failing_command_keeps_its_exit_code_without_a_reader() {
    let waft = Waft::default();
    for arguments in [&["check", "nothing.toml"][..], &["frobnicate"], &["worker"]] {
        run(waft.command(arguments).stderr(broken_pipe())).expect(2);
        run(waft.command(arguments).stderr(full_disk())).expect(2);
    }
}

#[test]
fn data_that_a_full_disk_refuses_is_an_error() {
    let (waft, kitchen) = (Waft::default(), example("kitchen/flow.toml"));
    let output = run(waft.command(["graph", kitchen.to_str().unwrap()]).stdout(full_disk()));
    assert_eq!(output.expect(4).stderr, format!("{DISK_IS_FULL}\n"));
}

#[test]
fn diagnostics_go_on_after_the_system_has_refused_one() {
    let waft = Waft::default();
    // A datagram may be as large as the buffer of its socket: this diagnostic is refused, and a smaller one is not.
    let (stderr, received) = UnixDatagram::pair().expect("sockets");
    waft.write("flow.toml", format!("name = \"f\"\n{} = 1\n", "x".repeat(600_000)));
    let mut check = waft.command(["check", "flow.toml"]).stderr(OwnedFd::from(stderr)).spawn().expect("waft starts");
    assert_eq!(check.wait().expect("it ends").code(), Some(2));
    received.set_nonblocking(true).expect("a socket");
    let mut bytes = vec![0; 1 << 20];
    let length = received.recv(&mut bytes).expect("the last diagnostic is there");
    let text = String::from_utf8_lossy(&bytes[..length]);
    assert!(text.starts_with("error: flow.toml has "), "{text}");
}

#[test]
fn a_run_continues_without_a_reader() {
    let waft = Waft::default();
    let echo = |name: &str| {
        format!(
            "[[task]]\nname = \"{name}\"\nuse = \"hostile#echo\"\nwith = {{ value = 7 }}\nprovides = {{ value = \"{name}\" }}\n"
        )
    };
    let fail = "[[task]]\nname = \"b\"\nuse = \"hostile#fail\"\nwith = { message = \"no\" }\n";
    for (run_id, last, json, code) in
        [("r1", echo("b"), true, 141), ("r2", echo("b"), false, 141), ("r3", fail.into(), true, 1)]
    {
        let flow = waft.flow(&format!("name = \"f\"\npattern = \"linear\"\n{}{last}", echo("a")));
        let mut command = waft.command(["run", flow.to_str().unwrap(), "--run-id", run_id]);
        command.args(json.then_some("--json")).stdout(broken_pipe()).stderr(broken_pipe());
        run(&mut command).expect(code);
        let end = waft.run(["run", "--resume", run_id, "--json"]).end();
        assert_eq!(end["state"], if code == 141 { "success" } else { "rolled-back" }, "{end}");
    }
}

/// A title, the clipboard (OSC 52), a cleared screen, moves in 8-bit codes, reversed text, and a line that imitates one of
/// waft's.
pub(crate) const EVIL: &str =
    "\u{1b}]0;title\u{7}\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}[2J\u{9b}1A\u{202e}txt\u{2066}\r\nforged success";

/// EVIL as a string in a flow file.
pub(crate) fn evil_toml() -> String {
    let escaped =
        |char: char| if char.is_ascii_graphic() { char.into() } else { format!("\\u{:04x}", u32::from(char)) };
    format!("\"{}\"", EVIL.chars().map(escaped).collect::<String>())
}

/// A flow that writes EVIL to each of a guest's outputs, provides it, and fails with it.
pub(crate) fn evil_flow(waft: &Waft) {
    let evil = evil_toml();
    waft.flow(&format!(
        "name = \"f\"\npattern = \"linear\"\n\
         [[task]]\nname = \"say\"\nuse = \"hostile#say\"\nwith = {{ text = {evil}, ms = 600 }}\n\
         [[task]]\nname = \"echo\"\nuse = \"hostile#echo\"\nwith = {{ value = {evil} }}\n\
         [[task]]\nname = \"hold\"\nuse = \"hostile#stubborn\"\nwith = {{ value = {evil} }}\nprovides = []\n\
         [[task]]\nname = \"fail\"\nuse = \"hostile#fail\"\nwith = {{ message = {evil} }}\n"
    ));
}

/// Asserts that the output contains no terminal commands and no forged lines.
#[track_caller]
pub(crate) fn assert_harmless(what: &str, output: &CommandOutput) {
    for text in [&output.stdout, &output.stderr] {
        let harmful = |char: char| char.is_control() && char != '\n' || ('\u{202a}'..='\u{2069}').contains(&char);
        assert!(!text.contains(harmful), "{what}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{what}: {text}");
    }
}

#[test]
fn guest_output_cannot_control_the_terminal() {
    let waft = Waft::default();
    evil_flow(&waft);
    for (what, arguments) in [
        ("run", &["run", "flow.toml"][..]),
        ("run --json", &["run", "flow.toml", "--json"]),
        ("run -vvv", &["run", "flow.toml", "-vvv"]),
        ("an input", &["run", "flow.toml", "--set", EVIL]),
        ("a file name", &["check", EVIL]),
        ("a module name", &["inspect", EVIL]),
    ] {
        let output = waft.run(arguments);
        assert_harmless(what, &output);
        assert!((output.stdout.clone() + &output.stderr).contains("]0;title"), "{what} prints it: {}", output.stderr);
    }
    let task = format!("{}#say", guest("hostile").display());
    assert_harmless("call", &waft.run(["call", &task, "--set", &format!("text={EVIL}"), "--set", "ms=0"]));
    waft.write("wrong.toml", format!("name = \"f\"\nwith = \"{}\"\n", EVIL.replace(['\r', '\n'], "")));
    assert_harmless("a flow file", &waft.run(["check", "wrong.toml"]));
}

#[test]
fn what_a_run_left_here_cannot_control_the_terminal() {
    let waft = Waft::default();
    evil_flow(&waft);
    waft.run(["run", "flow.toml", "--run-id", "r", "--quiet"]).expect(3);
    for arguments in [
        &["show", "r"][..],
        &["show", "r", "--json"],
        &["watch", "r"],
        &["watch", "r", "--json"],
        &["logs", "r"],
        &["logs", "r", "--json"],
        &["logs", "r", "--follow"],
        &["logs", "r", "--follow", "--json"],
        &["replay", "r", "say"],
        &["skip", "r", "hold", "--reason", EVIL],
        &["show", "r"],
    ] {
        let output = waft.run(arguments);
        assert_harmless(&arguments.join(" "), &output);
        let printed = output.stdout.clone() + &output.stderr;
        assert!(printed.contains("]0;title"), "{arguments:?} prints it: {printed}");
    }
    for arguments in [
        &["list"][..],
        &["check", "flow.toml"],
        &["rehearse", "flow.toml"],
        &["graph", "flow.toml"],
        &["graph", "flow.toml", "--format", "mermaid"],
        &["graph", "flow.toml", "--format", "svg"],
    ] {
        let output = waft.run(arguments);
        assert_harmless(&arguments.join(" "), output.expect(0));
    }
}

#[test]
fn the_docs_of_a_module_cannot_control_the_terminal() {
    let (waft, module) = (Waft::default(), guest("careless"));
    let module = module.to_str().expect("a path in UTF-8");
    for arguments in [&["inspect", module][..], &["inspect", module, "--json"]] {
        let output = waft.run(arguments);
        assert_harmless("inspect", output.expect(0));
        assert!(output.stdout.contains("]0;title"), "{arguments:?} prints it: {}", output.stdout);
    }
}

#[test]
fn guest_output_cannot_control_a_live_table() {
    let waft = Waft::default();
    evil_flow(&waft);
    let shown = in_a_terminal(&waft.command(["run", "flow.toml"]), "xterm-256color", "");
    assert!(shown.contains("\u{1b}[1m") && shown.contains("]0;title"), "colours and the text: {shown:?}");
    // Only colours and the cursor moves of the table remain.
    let mut parts = shown.split('\u{1b}').skip(1);
    let is_allowed = |part: &str| {
        let end = part.find(|char: char| char.is_ascii_alphabetic()).expect("a code has an end");
        part.starts_with('[') && (matches!(&part[end..=end], "m" | "F") || &part[..=end] == "[J")
    };
    assert!(parts.all(is_allowed), "{shown:?}");
    assert!(!shown.contains(['\u{9b}', '\u{202e}', '\u{7}']), "{shown:?}");
}

#[test]
fn colours_of_a_guest_are_text_in_a_live_table() {
    let waft = Waft::default();
    waft.flow(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#fail\"\nwith = { message = \"\\u001b[31;4mred\" }\n",
    );
    let shown = in_a_terminal(&waft.command(["run", "flow.toml", "--quiet"]), "xterm-256color", "");
    assert!(shown.contains("\\x1b[31;4mred") && shown.contains("\u{1b}[1m"), "the text, and waft's colours: {shown:?}");
    assert!(!shown.contains("\u{1b}[31;4m"), "{shown:?}");
}

#[test]
fn a_dumb_terminal_gets_plain_text() {
    let waft = Waft::default();
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    for arguments in [&["run", "flow.toml", "-vv"][..], &["--help"], &["inspect", guest("hostile").to_str().unwrap()]] {
        for term in ["dumb", ""] {
            let shown = in_a_terminal(&waft.command(arguments), term, "");
            assert!(!shown.is_empty() && !shown.contains('\u{1b}'), "{arguments:?}: {shown:?}");
        }
    }
}

#[test]
fn a_long_value_is_truncated_and_show_prints_it_whole() {
    let waft = Waft::default();
    let long = format!("\"{}\"", "long ".repeat(1_000));
    let task = |name: &str, export: &str, value: &str| {
        format!("[[task]]\nname = \"{name}\"\nuse = \"hostile#{export}\"\nprovides = {{ {value} = \"{name}\" }}\n")
    };
    waft.flow(&format!(
        "name = \"f\"\n{}with = {{ value = {long} }}\n{}requires = {{ bytes = \"raw\" }}\n",
        task("json", "echo", "value"),
        task("bytes", "echo-bytes", "bytes"),
    ));
    waft.write("raw", [0, 27, 255]);
    let output = waft.run(["run", "flow.toml", "--run-id", "r", "--set-file", "raw=raw"]);
    let line = output.expect(0).stdout.lines().find(|line| line.starts_with("json = ")).expect("it is printed");
    assert!(line.ends_with("… (4.8KiB)"), "{line}");
    assert!(output.stderr.ends_with("`waft show r --value NAME` prints the whole of a value\n"), "{}", output.stderr);
    assert!(line.chars().count() <= 200, "{line}");
    let shown = in_a_terminal(&waft.command(["run", "flow.toml", "--set-file", "raw=raw"]), "xterm", "");
    let line = shown.lines().find(|line| line.starts_with("json = ")).expect("it is printed");
    assert!(line.trim_end().chars().count() <= 80, "it fits the terminal: {line:?}");
    assert_eq!(waft.run(["show", "r", "--value", "json"]).expect(0).stdout, format!("{long}\n"));
    let bytes = waft.command(["show", "r", "--value", "bytes"]).output().unwrap();
    assert_eq!((bytes.status.code(), bytes.stdout), (Some(0), vec![0, 27, 255]));
    let output = waft.run(["show", "r", "--value", "jsn"]);
    assert!(output.expect(2).stderr.contains("run r has no value \"jsn\""), "{}", output.stderr);
}

#[test]
fn reading_commands_work_with_a_read_only_store() {
    let (waft, module, kitchen) = (Waft::default(), guest("hostile"), example("kitchen/flow.toml"));
    let (module, kitchen) = (module.to_str().unwrap(), kitchen.to_str().unwrap());
    for arguments in [&["check", kitchen][..], &["graph", kitchen], &["inspect", module], &["modules"]] {
        // Nobody can create a folder there, not even root.
        let output = run(waft.command(arguments).env("WAFT_STORE", "/proc/store"));
        output.expect(0);
    }
}

#[test]
fn a_run_works_with_an_unwritable_cache() {
    let waft = Waft::default();
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    let output = run(waft.command(["run", "flow.toml"]).env("WAFT_CACHE", "/proc/cache"));
    assert!(output.expect(0).stderr.contains("not kept on disk"), "it is reported: {}", output.stderr);
}
