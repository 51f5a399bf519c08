//! Tests `waft rehearse --against` for a run of a server, which rehearses it.

use serde_json::json;

use super::{TestServer, assert_error};

#[test]
fn a_server_rehearses_its_run() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"f\"\npattern = \"linear\"\n\
         [[task]]\nname = \"hold\"\nuse = \"hostile#stubborn\"\nwith = { value = 7, rolls_back_at = 1 }\n\
         [[task]]\nname = \"ask\"\nwait = \"an answer\"\n",
    );
    server.submit("r");
    server.until("r", "ask", "running");
    let rehearse = |node: &str, more: &[&str]| {
        let arguments = ["rehearse", "--against", "r", "--node", node];
        server.run(&[&arguments[..], more].concat())
    };
    let rehearsal = rehearse("ask", &["--json"]).expect(0).end();
    let ask = &rehearsal["cases"][1];
    assert_eq!((&rehearsal["run"], &ask["failing"][0]["node"]), (&json!("r"), &json!("ask")));
    assert_eq!((&ask["state"], &ask["rolled_back"]), (&json!("rolled-back"), &json!(["hold"])));
    let text = rehearse("ask", &[]);
    for line in ["rehearsed without its guests, from the state of run r\n", "rolled back, in this order: hold\n"] {
        assert!(text.expect(0).stdout.contains(line), "{line:?} is not in:\n{}", text.stdout);
    }
    assert_eq!(server.state("r"), "running", "a rehearsal changes nothing");
    assert_error(&rehearse("asc", &[]), 2, "flow f has no task \"asc\"");
    assert_error(&rehearse("ask", &["--report", "r.html"]), 2, "name the logbook of the server with --logbook");
    assert_error(&server.run(&["rehearse", "--against", "s", "--node", "ask"]), 2, "there is no run s");
}
