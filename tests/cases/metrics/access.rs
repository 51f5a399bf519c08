//! Who may read the metrics of a process.

use waft_tests::{Process, Scrape, Waft};

use super::Server;

#[test]
fn the_metrics_of_a_server_need_a_token_for_the_whole_server() {
    let waft = Waft::default();
    let mut serve = waft.command(["serve", "--listen", "127.0.0.1:0"]);
    let mut process = Process::spawn(serve.env("WAFT_TOKEN", "secret").env("WAFT_METRICS_TOKEN", "scrape me"));
    let line = process.wait_for("waft listens on ");
    let address = line.trim_start_matches("waft listens on ").trim().to_owned();
    let run = |arguments: &[&str]| -> waft_tests::CommandOutput {
        let mut command = waft.command(arguments);
        command.env("WAFT_SERVER", &address).env("WAFT_TOKEN", "secret").output().expect("waft starts").into()
    };
    let token =
        |arguments: &[&str]| run(&[&["token", "create"], arguments].concat()).expect(0).stdout.trim().to_owned();
    let scraper = token(&["prometheus", "--scope", "metrics"]);
    let reader = token(&["reader", "--scope", "read,submit,operate,push"]);
    let tenant = token(&["tenant", "--scope", "read", "--namespace", "shop"]);
    let status = |path: &str, token: &str| Scrape::of(&address, path, token).status;
    let tokens = ["", "wrong", &reader, &tenant, &scraper, "scrape me", "secret"];
    assert_eq!(tokens.map(|token| status("/metrics", token)), [401, 401, 403, 403, 200, 200, 200]);
    for token in [scraper.as_str(), "scrape me"] {
        assert_eq!(status("/v1/runs", token), 403, "a token for metrics reads no run");
    }
    let refused = Scrape::of(&address, "/metrics", &reader);
    assert!(refused.text.contains("this needs metrics"), "{}", refused.text);
    let limited = run(&["token", "create", "x", "--scope", "metrics", "--namespace", "shop"]);
    assert!(limited.expect(2).stderr.contains("the scope metrics is for the whole server"), "{}", limited.stderr);
}

#[test]
fn a_server_without_a_token_shows_its_owner_the_metrics() {
    let server = Server::new();
    assert_eq!(Scrape::of(&server.address, "/metrics", "").status, 200);
    assert_eq!(Scrape::of(&server.address, "/metrics", "some").status, 401);
}

#[test]
fn a_worker_shows_its_metrics_to_other_machines_only_with_a_token() {
    let waft = Waft::default();
    let refused = waft.run(["worker", "--broker", "amqp://127.0.0.1:1", "--metrics", "0.0.0.0:0"]);
    assert!(
        refused.expect(2).stderr.contains("will not serve metrics on 0.0.0.0:0 without a token"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("WAFT_METRICS_TOKEN_FILE"), "{}", refused.stderr);
    waft.write("waft.toml", "[metrics]\nlisten = \"127.0.0.1:0\"\nnames = 5\n");
    let refused = waft.run(["worker", "--broker", "amqp://127.0.0.1:1"]);
    assert!(refused.expect(2).stderr.contains("sets metrics.listen, metrics.names"), "{}", refused.stderr);
}
