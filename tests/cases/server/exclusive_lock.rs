//! Tests servers that share a logbook but no broker.

use waft_tests::{Role, TestBroker, Waft};
use xtask::postgres::Postgres;

use super::serve_with;

#[test]
fn a_server_without_a_broker_locks_its_logbook() {
    let (waft, postgres) = (Waft::default(), Postgres::start().expect("PostgreSQL starts"));
    let sqlite = format!("sqlite:{}", waft.folder().join("locked.db").display());
    for logbook in [sqlite, postgres.database("locked").expect("a database")] {
        let flags = ["--listen", "127.0.0.1:0", "--logbook", &logbook];
        let (first, _) = serve_with(&waft, &flags);
        for broker in ["", &TestBroker::shared().url(Role::Engine)] {
            let second = waft.run([&["serve", "--broker", broker], &flags[..]].concat());
            let stderr = &second.expect(4).stderr;
            assert!(stderr.contains("another waft drives the runs of this logbook"), "{stderr}");
            assert!(stderr.contains("hint: stop that one, or let both share a broker"), "{stderr}");
        }
        first.kill();
    }
}
