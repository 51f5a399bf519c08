//! Tests replaying attempts that a server has recorded.

use serde_json::json;

use super::TestServer;

#[test]
fn an_attempt_of_a_server_is_replayed_here() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#fail-until\"\nwith = { attempt = 2 }\n\
         retry = { attempts = 2, initial = \"10ms\" }\n",
    );
    server.run(&["submit", "flow.toml", "--run-id", "r", "--wait"]).expect(0);
    let replay = |options: &[&str]| server.run(&[&["replay", "r", "t", "--json"], options].concat()).expect(0).end();
    let (first, last) = (replay(&["--attempt", "1"]), replay(&[]));
    for (replay, attempt) in [(&first, 1), (&last, 2)] {
        assert_eq!((&replay["comparison"], &replay["attempt"]), (&json!("same"), &json!(attempt)), "{replay:#}");
        assert!(replay["recorded_usage"]["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{replay:#}");
    }
    assert_eq!(first["replayed"]["failure"]["message"], "attempt 1 is before 2");
    assert_eq!(last["replayed"]["provides"], json!({ "attempts": 2 }));
    server.run(&["replay", "r", "t", "--bundle", "t.bundle"]).expect(0);
    // The file is enough.
    let alone = server.waft.run(["replay", "t.bundle", "--json"]).expect(0).end();
    assert_eq!(alone["comparison"], "same");
    let unknown = server.run(&["replay", "r", "t", "--rollback"]);
    let stderr = &unknown.expect(2).stderr;
    assert!(stderr.contains("run r has no rollback of t") && stderr.contains("attempt 2 of apply"), "{stderr}");
    let shown = server.run(&["show", "r", "--json"]).expect(0).end();
    assert_eq!(shown["tasks"][0]["last_usage"]["attempt"], 2);
}
