//! A server lists the engines that share its runs, the queues of jobs, and the calls with permits.

use super::*;

#[test]
fn a_server_lists_its_engine_with_all_shards() {
    let server = TestServer::new();
    waft_tests::wait_until(|| {
        let listed = server.run(&["engines", "--json"]);
        let engines = listed.expect(0).json();
        engines.first().is_some_and(|engine| engine["shards"].as_array().is_some_and(|shards| shards.len() == 8))
    });
    let engines = server.run(&["engines", "--json"]).expect(0).json();
    let [engine] = &engines[..] else { panic!("{engines:?}") };
    assert_eq!(engine["process"], server.process.id());
    assert_eq!(engine["version"], env!("CARGO_PKG_VERSION"));
    assert!(engine["shards"][0]["since"].is_string(), "{engine}");
    let table = server.run(&["engines"]).expect(0).stdout.clone();
    assert_eq!(table.lines().count(), 9, "a line for each shard, and a head: {table}");
}

#[test]
fn a_server_lists_its_queues() {
    let server = TestServer::new();
    let queues = server.run(&["queues", "--json"]).expect(0).json();
    let [queue] = &queues[..] else { panic!("{queues:?}") };
    assert_eq!(queue, &json!({"queue": "default", "state": "exists", "messages": 0, "consumers": 1, "workers": 1}));
    let missing = server.run(&["queues", "ovens"]);
    assert!(missing.expect(0).stdout.contains("ovens (missing)"), "{}", missing.stdout);
}

#[test]
fn a_server_lists_which_calls_have_permits_and_which_wait() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nwith = { ms = 600000 }\nprovides = []\n\
         timeout = \"20m\"\nmax_running = 1\n",
    );
    server.submit("a");
    server.submit("b");
    let permits = || server.run(&["permits", "--json"]).expect(0).json();
    waft_tests::wait_until(|| permits().first().is_some_and(|task| task["given"] == 1 && task["waiting"] == 1));
    let tasks = permits();
    let [task] = &tasks[..] else { panic!("{tasks:?}") };
    assert_eq!((&task["flow"], &task["task"], &task["max_running"]), (&json!("f"), &json!("t"), &json!(1)));
    let runs: BTreeSet<&str> =
        [&task["holders"], &task["next"]].into_iter().filter_map(|calls| calls[0]["run"].as_str()).collect();
    assert_eq!(runs, BTreeSet::from(["a", "b"]), "one has the permit, and the other is next");
    let table = server.run(&["permits", "--calls"]).expect(0).stdout.clone();
    assert!(table.contains("has a permit: apply ") && table.contains("waits: apply "), "{table}");
    let none = server.run(&["permits", "--flow", "g"]);
    assert!(none.expect(0).stderr.contains("no call holds a permit or waits for one"), "{}", none.stderr);
}
