//! An admin of a server sees the quarantine of its broker. `roles.rs` has the messages in it.

use super::*;

#[test]
fn a_server_shows_its_quarantine_to_an_admin_only() {
    let server = TestServer::new();
    let listed = server.run(&["quarantine", "list"]);
    assert!(listed.expect(0).stderr.contains("the quarantine is empty"), "{}", listed.stderr);
    for command in [&["quarantine", "release", "r/t/1/1/apply"][..], &["quarantine", "drop", "--all"]] {
        assert_error(&server.run(command), 2, "there is no such message in quarantine");
    }
    let made = server.run(&["token", "create", "ops", "--scope", "read,operate"]);
    let token = made.expect(0).stdout.trim().to_owned();
    for command in [&["quarantine", "list"][..], &["quarantine", "drop", "--all"]] {
        let mut refused = server.command(command);
        let refused: CommandOutput = refused.env("WAFT_TOKEN", &token).output().expect("waft starts").into();
        assert_error(&refused, 2, "this needs admin");
    }
    let audited = server.run(&["audit", "all messages", "--json"]).expect(0).json();
    assert!(audited.iter().any(|entry| entry["action"] == "drop-quarantined"), "{audited:?}");
}

#[test]
fn a_server_that_a_flag_names_is_asked_although_a_broker_is_known() {
    let server = TestServer::new();
    let list = |arguments: &[&str]| -> CommandOutput {
        let mut command = server.command(&[&["quarantine", "list"], arguments].concat());
        // Nothing listens there.
        command.env("WAFT_BROKER", "amqp://guest:guest@127.0.0.1:1").output().expect("waft starts").into()
    };
    let listed = list(&["--server", &server.address]);
    assert!(listed.expect(0).stderr.contains("the quarantine is empty"), "{}", listed.stderr);
    list(&[]).expect(4);
}
