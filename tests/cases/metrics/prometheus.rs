//! Checks the metrics and the rules with the tools of Prometheus, where they are installed (Debian: `apt-get install prometheus`).
//! Other tests read the metrics with a strict parser of our own, and compare the rules with the names of the metrics.

use std::{
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use waft_tests::{CommandOutput, Process, Scrape, Waft, root, wait_until};
use xtask::process::find;

use super::{NOOP, Server};

/// A program of Prometheus. The test says so if it is not installed, and checks less.
fn program(name: &str) -> Option<PathBuf> {
    let program = find(name, &[]);
    if program.is_none() {
        eprintln!("{name} is not installed: this test checks less");
    }
    program
}

fn run(program: &Path, arguments: &[&str]) -> CommandOutput {
    let folder = root().join("docs/monitoring");
    Command::new(program).args(arguments).current_dir(folder).output().expect("it starts").into()
}

#[test]
fn prometheus_accepts_the_alert_rules() {
    let Some(promtool) = program("promtool") else { return };
    let checked = run(&promtool, &["check", "rules", "alerts.yml"]);
    assert!(checked.expect(0).stdout.contains("SUCCESS"), "{}", checked.stdout);
    let tested = run(&promtool, &["test", "rules", "alerts-test.yml"]);
    assert!(tested.expect(0).stdout.contains("SUCCESS"), "{}", tested.stdout);
}

#[test]
fn prometheus_accepts_the_metrics() {
    let server = Server::new();
    server.submit("r", NOOP, 0);
    let text = Scrape::of(&server.address, "/metrics", "").text;
    assert!(text.ends_with('\n') && text.contains("waft_runs_total"), "{text}");
    let Some(promtool) = program("promtool") else { return };
    let mut checking = Command::new(promtool);
    checking.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = checking.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let checked = CommandOutput::from(child.wait_with_output().expect("it ends"));
    assert_eq!((checked.expect(0).stdout.as_str(), checked.stderr.as_str()), ("", ""), "it recommends nothing");
}

#[test]
fn prometheus_scrapes_a_server() {
    let Some(prometheus) = program("prometheus") else { return };
    let server = Server::new();
    server.submit("r", NOOP, 0);
    // A token, since Prometheus may run as another user than the server.
    let token = server.run(&["token", "create", "prometheus", "--scope", "metrics"]).expect(0).stdout.clone();
    let folder = Waft::default();
    let target = server.address.trim_start_matches("http://");
    let token = folder.write("token", token.trim());
    let rules = root().join("docs/monitoring/alerts.yml");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nrule_files: [{rules:?}]\nscrape_configs:\n- job_name: waft\n  authorization: {{credentials_file: {token:?}}}\n  \
         static_configs: [{{targets: [\"{target}\"]}}]\n"
    );
    let config = folder.write("prometheus.yml", config);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free").port();
    let listen = format!("127.0.0.1:{port}");
    let mut command = Command::new(prometheus);
    command.arg(format!("--config.file={}", config.display())).arg(format!("--web.listen-address={listen}"));
    command.arg(format!("--storage.tsdb.path={}", folder.folder().join("data").display())).stdout(Stdio::null());
    let mut scraping = Process::spawn(&mut command);
    scraping.wait_for("Server is ready to receive web requests");
    let ask = |query: &str| Scrape::of(&listen, &format!("/api/v1/query?query={query}"), "").text;
    wait_until(|| ask("waft_runs_total%7Bstate=%22success%22%7D").contains("\"flow\":\"good\""));
    assert!(ask("up").contains("\"1\"]"), "{}", ask("up"));
}
