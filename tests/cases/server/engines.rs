//! A server lists the engines that share its runs, and the queues of jobs.

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
