//! Tests `for_each` tasks on real guests.

use serde_json::json;

use super::TestServer;
use waft_tests::{example, guest};

#[test]
fn for_each_counts_many_elements() {
    let server = TestServer::new();
    // Too large for a message; so is the list of its parts.
    let text = "the quick brown fox jumps over the lazy dog\n".repeat(5_000);
    std::fs::write(server.waft.folder().join("text.txt"), &text).unwrap();
    let flow = example("text/each.toml");
    let flow = flow.to_str().unwrap();
    let output = server.run(&["submit", flow, "--run-id", "r", "--set-file", "text=text.txt", "--wait"]);
    output.expect(0);
    let shown = server.run(&["show", "r", "--json"]).expect(0).end();
    let summary = &shown["provides"]["summary"];
    assert_eq!((&summary["words"], &summary["lines"]), (&json!(45_000), &json!(5_000)));
    let count = shown["tasks"].as_array().unwrap().iter().find(|task| task["name"] == "count").unwrap();
    let elements = &count["elements"];
    assert!(elements["count"].as_u64().unwrap() > 50, "{elements}");
    assert_eq!((&elements["count"], &count["state"]), (&elements["succeeded"], &json!("success")));
}

#[test]
fn one_element_fails_and_the_applied_ones_are_rolled_back() {
    let server = TestServer::new();
    let (text, hostile) = (example("target/wasm32-wasip1/release/text.wasm"), guest("hostile"));
    // The types of the elements are known only after the task has provided the list.
    let flow = format!(
        "name = \"each\"\n[modules]\ntext = {text:?}\nhostile = {hostile:?}\n\
         [[task]]\nname = \"list\"\nuse = \"hostile#echo\"\nwith = {{ value = [\"a\", 7, \"c\"] }}\n\
         provides = {{ value = \"words\" }}\n[[task]]\nname = \"count\"\nuse = \"text#count\"\nfor_each = \"words\"\nas = \"text\"\n"
    );
    std::fs::write(server.waft.folder().join("flow.toml"), flow).unwrap();
    server.run(&["submit", "flow.toml", "--run-id", "r"]).expect(0);
    let watched = server.run(&["watch", "r", "--json"]);
    let lines = watched.expect(1).json();
    let states = |name: &str| -> Vec<&str> {
        let task_lines = lines.iter().filter(|line| line["name"] == name);
        task_lines.filter_map(|line| line["state"].as_str()).collect()
    };
    assert_eq!(states("count[1]"), ["running", "failure", "rolling-back", "rolled-back"]);
    assert_eq!(states("count[0]"), ["running", "success", "rolling-back", "rolled-back"]);
    assert_eq!(states("count"), ["running", "failure", "rolling-back", "rolled-back"]);
    let failure = &lines.last().unwrap()["failures"]["count"]["message"];
    assert!(failure.as_str().is_some_and(|message| message.starts_with("element 1: ")), "{failure}");
}
