//! Tests secrets in files, through the binary.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use waft_tests::{CommandOutput, Process, Waft};

/// Runs a command with variables.
fn run(waft: &Waft, arguments: &[&str], variables: &[(&str, &Path)]) -> CommandOutput {
    waft.command(arguments).envs(variables.iter().copied()).output().expect("waft starts").into()
}

#[track_caller]
fn assert_error(output: &CommandOutput, code: i32, message: &str) {
    assert!(output.expect(code).stderr.contains(message), "{message:?} is not in:\n{}", output.stderr);
    assert!(!output.stderr.contains("pass-word"), "{}", output.stderr);
}

#[test]
fn a_token_in_a_file_is_used_by_the_server_and_by_commands() {
    let waft = Waft::default();
    let token = waft.write_private("token", "pass-word\n");
    let mut command = waft.command(["serve", "--listen", "127.0.0.1:0", "--logbook", "memory:"]);
    let mut server = Process::spawn(command.env("WAFT_TOKEN_FILE", &token));
    let line = server.wait_for("waft listens on ");
    let address = line.trim_start_matches("waft listens on ").trim();
    let list = ["list", "--server", address];
    assert_error(&run(&waft, &list, &[("WAFT_TOKEN_FILE", &token)]), 0, "there are no runs yet");
    assert_error(&run(&waft, &list, &[]), 2, "WAFT_TOKEN_FILE");
    let wrong = waft.write_private("wrong", "pass-word-2\n");
    assert_error(&run(&waft, &list, &[("WAFT_TOKEN_FILE", &wrong)]), 2, "a token is needed");
    let both = [("WAFT_TOKEN_FILE", &*token), ("WAFT_TOKEN", Path::new("pass-word"))];
    assert_error(&run(&waft, &list, &both), 2, "the environment sets both WAFT_TOKEN and WAFT_TOKEN_FILE");
    assert!(!server.output().contains("pass-word"), "{}", server.output());
}

#[test]
fn a_file_with_a_secret_must_be_private_and_have_one_line() {
    let waft = Waft::default();
    let file = waft.write_private("token", "pass-word\n");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("it is ours");
    let list = |file: &Path| run(&waft, &["list"], &[("WAFT_TOKEN_FILE", file)]);
    assert_error(&list(&file), 2, "every user of this machine may open it: chmod o= ");
    assert_error(&list(&waft.write_private("empty", "")), 2, "the token in ");
    assert_error(&list(&waft.write_private("lines", "pass-word\n\n")), 2, "more than one line");
    assert_error(&list(&waft.folder().join("missing")), 2, "missing cannot be used");
    fs::create_dir_all(waft.folder().join("configuration/waft")).expect("the folder can be written");
    waft.write("configuration/waft/config.toml", "[serve]\ntoken = \"pass-word\"\ntoken_file = \"x\"\n");
    assert_error(&run(&waft, &["list"], &[]), 2, "config.toml sets both serve.token and serve.token_file");
    waft.write("waft.toml", "broker_file = \"x\"\n");
    assert_error(&run(&waft, &["list"], &[]), 2, "waft.toml in this folder sets broker_file");
}

#[test]
fn addresses_in_files_are_used() {
    let waft = Waft::default();
    let broker = waft.write_private("broker", "amqp://user:pass-word@127.0.0.1:1\n");
    assert_error(&run(&waft, &["workers"], &[("WAFT_BROKER_FILE", &broker)]), 4, "no broker answers at 127.0.0.1:1");
    let unknown = waft.write_private("unknown", "amqp://user:pass-word@127.0.0.1:1?verify=verify_none");
    assert_error(&run(&waft, &["workers"], &[("WAFT_BROKER_FILE", &unknown)]), 2, "verify needs amqps://");
    let logbook = waft.write_private("logbook", "postgres://user:pass-word@127.0.0.1:1/waft\n");
    let mut command = waft.command(["list"]);
    command.env_remove("WAFT_LOGBOOK").env("WAFT_LOGBOOK_FILE", &logbook);
    assert_error(&command.output().expect("waft starts").into(), 4, "postgres://user@127.0.0.1:1/waft");
    let named = ["list", "--logbook", "memory:"];
    let missing = waft.folder().join("missing");
    let mut command = waft.command(named);
    command.env_remove("WAFT_LOGBOOK").env("WAFT_LOGBOOK_FILE", missing);
    let output = CommandOutput::from(command.output().expect("waft starts"));
    assert!(!output.stderr.contains("missing"), "the flag names the logbook: {}", output.stderr);
}
