//! Recorded HTTP exchanges: they answer the requests of a replay, and people read them.

use serde_json::{Value, json};
use waft_tests::{HttpServer, Waft};

use super::{assert_same, replayed};

/// The tables that allow a task all requests to a server.
fn tables(server: &HttpServer) -> (String, String) {
    let http = format!("http = [\"* http://127.0.0.1:{}/**\"]", server.port());
    (format!("[[grant]]\n{http}\n"), format!("allow = {{ {http} }}"))
}

fn flow(task: &str, inputs: &str, keys: &str) -> String {
    format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"outside#{task}\"\nwith = {{ {inputs} }}\n{keys}\n")
}

/// Runs a flow as the run `r`. Nothing is granted afterwards.
fn recorded(settings: &str, flow: &str, options: &[&str], exit: i32) -> Waft {
    let waft = Waft::default();
    waft.set_settings(settings);
    waft.run_flow(flow, &[&["--run-id", "r"], options].concat()).expect(exit);
    waft.set_settings("");
    waft
}

fn notes(replay: &Value) -> String {
    replay["notes"].to_string()
}

#[test]
fn a_request_is_answered_from_its_record_and_nothing_is_sent() {
    let server = HttpServer::start();
    let (grant, allow) = tables(&server);
    let inputs = format!(
        "method = \"PUT\", url = \"{}\", header = [\"x-ask\", \"why\"], body = \"pans\"",
        server.url("/echo?a=1")
    );
    for options in [&[][..], &["--isolate", "process"]] {
        if !options.is_empty() && cfg!(not(target_os = "linux")) {
            continue;
        }
        let waft = recorded(&grant, &flow("request", &inputs, &allow), options, 0);
        let sent = server.received().len();
        let replay = replayed(&waft, &[], 0);
        assert_same(&replay);
        assert_eq!(replay["replayed"]["provides"]["answer"], json!({ "status": 200, "body": "pans", "header": "why" }));
        assert_eq!(server.received().len(), sent, "nothing was sent");
        let (was, is) = (&replay["recorded_usage"], &replay["usage"]);
        for key in ["http_requests", "http_request_bytes", "http_response_bytes"] {
            assert!(was[key].as_u64().unwrap() > 0, "{was}");
            assert_eq!(was[key], is[key], "{key}");
        }
        assert_eq!(replay["notes"], json!([]));
    }
}

#[test]
fn a_failed_request_fails_in_the_same_way() {
    let server = HttpServer::start();
    let (grant, allow) = tables(&server);
    for (path, kind) in [("/status/503", "transient"), ("/status/403", "permanent")] {
        let inputs = format!("url = \"{}\"", server.url(path));
        let waft = recorded(&grant, &flow("fetch", &inputs, &allow), &[], 1);
        let replay = replayed(&waft, &[], 0);
        assert_same(&replay);
        assert_eq!(replay["replayed"]["failure"]["kind"], kind);
    }
    // No server listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let any = format!("http = [\"* http://{free}/**\"]");
    let flow_of = |keys: &str| flow("fetch", &format!("url = \"http://{free}/\""), keys);
    let waft = recorded(&format!("[[grant]]\n{any}"), &flow_of(&format!("allow = {{ {any} }}")), &[], 1);
    assert_same(&replayed(&waft, &[], 0));
    // What the operator does not grant is denied again, with the same message.
    let waft = recorded("", &flow_of(&format!("allow = {{ {any} }}")), &[], 1);
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    assert_eq!(replay["replayed"]["failure"]["kind"], "denied");
    let other = "[[grant]]\nhttp = [\"GET http://127.0.0.1:1/\"]\n";
    let waft = recorded(other, &flow_of(&format!("allow = {{ {any} }}")), &[], 1);
    assert_same(&replayed(&waft, &[], 0));
}

#[test]
fn a_record_has_no_secret_and_people_can_read_it() {
    let server = HttpServer::start();
    let http = format!("http = [\"GET http://127.0.0.1:{}/**\"]", server.port());
    let waft = Waft::default();
    let file = waft.write_private("key", "s3cret\n");
    waft.set_settings(&format!(
        "[[grant]]\n{http}\nsecrets = [\"KEY\"]\n[secret.KEY]\nfile = {file:?}\nheaders = [\"x-ask\"]\n{http}\n"
    ));
    let inputs = format!("url = \"{}\", header = [\"x-ask\", \"Bearer {{{{secret:KEY}}}}\"]", server.url("/echo"));
    let keys = format!("allow = {{ {http}, secrets = [\"KEY\"] }}");
    waft.run_flow(&flow("request", &inputs, &keys), &["--run-id", "r"]).expect(0);
    assert_eq!(server.received()[0].header("x-ask"), Some("Bearer s3cret"));
    waft.set_settings("");
    assert_same(&replayed(&waft, &[], 0));
    let text = waft.run(["logs", "r", "--http"]).expect(0).stdout.clone();
    for line in [
        format!("t | > GET {}", server.url("/echo")),
        "t | >   x-ask: Bearer {{secret:KEY}}".to_owned(),
        "t | <   x-answer: Bearer {{secret:KEY}}".to_owned(),
        "t | < 200 after ".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in {text}");
    }
    let json = waft.run(["logs", "r", "--http", "--json"]).expect(0).end();
    assert_eq!(json["exchanges"][0]["response"]["status"], 200);
    let bundle = waft.folder().join("r.bundle");
    waft.run(["replay", "r", "t", "--bundle", "r.bundle"]).expect(0);
    let everything =
        [std::fs::read(bundle).unwrap(), std::fs::read(waft.folder().join("logbook.db")).unwrap()].concat();
    assert!(!everything.windows(6).any(|bytes| bytes == b"s3cret"));
}

#[test]
fn the_exchanges_of_a_task_are_those_of_its_elements_too() {
    let server = HttpServer::start();
    let (grant, allow) = tables(&server);
    let urls = json!([server.url("/text"), server.url("/echo")]);
    let waft = recorded(&grant, &flow("fetch", "", &format!("for_each = {urls}\nas = \"url\"\n{allow}")), &[], 0);
    let printed = |arguments: &[&str]| -> Vec<Value> {
        waft.run([&["logs", "r", "--http", "--json"], arguments].concat()).expect(0).json()
    };
    let mut tasks: Vec<Value> = printed(&["--task", "t"]).iter().map(|attempt| attempt["task"].clone()).collect();
    tasks.sort_by_key(Value::to_string);
    assert_eq!(tasks, ["t[0]", "t[1]"]);
    let of_one = printed(&["--task", "t[1]", "--firing", "1", "--attempt", "1"]);
    assert_eq!((of_one.len(), &of_one[0]["exchanges"][0]["url"]), (1, &json!(server.url("/echo"))));
    assert_eq!(printed(&["--task", "t", "--rollback"]), [] as [Value; 0]);
    assert_eq!(printed(&["--attempt", "2"]), [] as [Value; 0]);
    let wrong = waft.run(["logs", "r", "--http", "--before", "x"]);
    assert!(wrong.expect(2).stderr.contains("is not what a page gave as next"), "{}", wrong.stderr);
    waft.run(["logs", "r", "--before", "1.0"]).expect(2);
}

#[test]
fn a_large_record_is_in_the_store_and_stays_as_long_as_its_run() {
    let server = HttpServer::start();
    let (grant, allow) = tables(&server);
    let body = "x".repeat(100_000);
    let inputs = format!("method = \"POST\", url = \"{}\", body = \"{body}\"", server.url("/echo"));
    // A run whose rollback has failed is never deleted.
    let needs_a_person = "[[task]]\nname = \"hold\"\nuse = \"hostile#stubborn\"\nwith = { value = 7 }\nretry = { attempts = 1 }\n\
                          [[task]]\nname = \"fail\"\nuse = \"hostile#fail\"\nwith = { message = \"no\" }\n";
    let flow = format!("{}{needs_a_person}", flow("request", &inputs, &allow));
    let flow = flow.replacen('\n', "\npattern = \"linear\"\n", 1);
    let waft = recorded(&grant, &flow, &[], 3);
    let before = store_size(&waft);
    let dry = waft.run(["gc", "--older-than", "0s", "--dry-run"]);
    assert!(!dry.expect(0).stdout.contains("would remove"), "{}", dry.stdout);
    let output = waft.run(["gc", "--older-than", "0s"]);
    assert!(!output.expect(0).stdout.contains("removed"), "{}", output.stdout);
    assert_eq!(store_size(&waft), before);
    assert_same(&replayed(&waft, &[], 0));
    let exchange = &waft.run(["logs", "r", "--http", "--json"]).expect(0).end()["exchanges"][0];
    assert_eq!(
        (&exchange["body"]["bytes"], &exchange["response"]["body"]["bytes"]),
        (&json!(100_000), &json!(100_000))
    );
    let text = waft.run(["logs", "r", "--http"]).expect(0).stdout.clone();
    assert!(text.contains("t | <   … 100000 bytes in all; --json shows them") && text.len() < 10_000, "{text}");
}

/// The number of files in the store.
fn store_size(waft: &Waft) -> usize {
    fn files(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
    }
    files(&waft.folder().join("store"))
}

#[test]
fn a_task_may_turn_recording_off_and_its_replay_says_so() {
    let server = HttpServer::start();
    let (grant, allow) = tables(&server);
    let inputs = format!("url = \"{}\"", server.url("/text"));
    let keys = format!("{allow}\nrecord = \"none\"");
    let waft = recorded(&grant, &flow("fetch", &inputs, &keys), &[], 0);
    let replay = replayed(&waft, &[], 6);
    let notes = notes(&replay);
    assert!(notes.contains("the HTTP exchanges of the attempt were not recorded"), "{notes}");
    assert!(notes.contains("request 1, GET http://127.0.0.1") && notes.contains("were not recorded\""), "{notes}");
    let output = waft.run(["logs", "r", "--http"]);
    assert!(output.expect(0).stderr.contains("no HTTP exchange of this run was recorded"), "{}", output.stderr);
    let output = waft.run(["logs", "r", "--http", "--task", "t"]);
    assert!(output.expect(0).stderr.contains("no HTTP exchange of t was recorded in this run"), "{}", output.stderr);
    let wrong = waft.run_flow(&flow("fetch", &inputs, "record = \"all\""), &[]);
    assert!(wrong.expect(2).stderr.contains("write \"http\" or \"none\""), "{}", wrong.stderr);
}
