//! The two streams of a command: who reads them may leave, and the disk behind them may be full.

use std::{
    fs::OpenOptions,
    io::{PipeWriter, pipe},
    process::Command,
};

use waft_tests::{Ran, Waft, example, guest};

/// A pipe whose reader has left.
fn abandoned() -> PipeWriter {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer
}

fn ended(command: &mut Command) -> Ran {
    command.output().expect("waft starts").into()
}

#[test]
fn a_command_whose_reader_has_left_ends_quietly_with_the_code_of_sigpipe() {
    let (waft, module, kitchen) = (Waft::default(), guest("hostile"), example("kitchen/flow.toml"));
    let (module, kitchen) = (module.to_str().unwrap(), kitchen.to_str().unwrap());
    let commands: [&[&str]; 8] = [
        &["--help"],
        &["completions", "bash"],
        &["check", kitchen],
        &["graph", kitchen],
        &["inspect", module],
        &["inspect", module, "--json"],
        &["push", module, "--json"],
        &["modules"],
    ];
    for arguments in commands {
        let ran = ended(waft.command(arguments).stdout(abandoned()));
        assert_eq!(ran.expect(141).stderr, "", "{arguments:?}");
    }
}

#[test]
fn a_command_that_fails_keeps_its_code_though_nobody_hears_why() {
    let waft = Waft::default();
    for arguments in [&["check", "nothing.toml"][..], &["frobnicate"], &["worker"]] {
        ended(waft.command(arguments).stderr(abandoned())).expect(2);
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        ended(waft.command(arguments).stderr(full)).expect(2);
    }
}

#[test]
fn data_that_a_full_disk_refuses_is_an_error() {
    let (waft, kitchen) = (Waft::default(), example("kitchen/flow.toml"));
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let ran = ended(waft.command(["graph", kitchen.to_str().unwrap()]).stdout(full));
    assert_eq!(ran.expect(4).stderr, "error: could not write to standard output: No space left on device (os error 28)\n");
}

#[test]
fn a_run_whose_readers_have_left_goes_on_to_its_end() {
    let waft = Waft::default();
    let echo = |name: &str| {
        format!("[[task]]\nname = \"{name}\"\nuse = \"hostile#echo\"\nwith = {{ value = 7 }}\nprovides = {{ value = \"{name}\" }}\n")
    };
    let fail = "[[task]]\nname = \"b\"\nuse = \"hostile#fail\"\nwith = { message = \"no\" }\n";
    for (run, last, json, code) in
        [("r1", echo("b"), true, 141), ("r2", echo("b"), false, 141), ("r3", fail.into(), true, 1)]
    {
        let flow = waft.flow(&format!("name = \"f\"\npattern = \"linear\"\n{}{last}", echo("a")));
        let mut command = waft.command(["run", flow.to_str().unwrap(), "--run-id", run]);
        command.args(json.then_some("--json")).stdout(abandoned()).stderr(abandoned());
        ended(&mut command).expect(code);
        let end = waft.run(["run", "--resume", run, "--json"]).end();
        assert_eq!(end["state"], if code == 141 { "success" } else { "rolled-back" }, "{end}");
    }
}
