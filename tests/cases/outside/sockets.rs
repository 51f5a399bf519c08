//! Tests the TCP connections that guests make.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

use super::*;

/// A server that sends back what it received, once the client has sent all of it.
fn echo(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).expect("a free port");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut received = Vec::new();
                if stream.read_to_end(&mut received).is_ok() {
                    // The guest may have left.
                    let _ = stream.write_all(&received);
                }
            });
        }
    });
    address
}

fn exchange(settings: &str, address: &str, keys: &str) -> CommandOutput {
    granted(settings).run_flow(&flow("exchange", &json!({ "address": address, "text": "dough" }), keys), &[])
}

#[test]
fn a_connection_needs_the_flow_and_the_operator() {
    let address = echo("127.0.0.1:0").to_string();
    let sockets = format!("sockets = [\"{address}\"]");
    let (grant, allow) = (format!("[[grant]]\n{sockets}"), format!("allow = {{ {sockets} }}"));
    assert_eq!(provided(&exchange(&grant, &address, &allow), "text"), "dough");

    let example = "let the task say allow = { sockets = [\"db.example.com:5432\"] }";
    assert_denied(&exchange(&grant, &address, ""), example);
    let other = "allow = { sockets = [\"127.0.0.1:1\"] }";
    let asked = format!(
        "the TCP connection to {address} is denied: the flow does not ask for it; let the task say allow = {{ {sockets} }}"
    );
    assert_denied(&exchange(&grant, &address, other), &asked);
    let no_grant = "the flow asks for it, and no [[grant]] in the settings of the worker allows it";
    assert_denied(&exchange("", &address, &allow), no_grant);
    assert_denied(&exchange("[[grant]]\nsockets = [\"127.0.0.1:1\"]", &address, &allow), no_grant);
    assert_denied(&exchange(&format!("[[grant]]\nflow = \"g\"\n{sockets}"), &address, &allow), no_grant);
}

#[test]
fn a_host_is_looked_up_only_if_it_is_granted_and_reaches_only_named_networks() {
    let port = echo("127.0.0.1:0").port();
    let name = format!("localhost:{port}");
    let sockets = format!("sockets = [\"{name}\"]");
    let (grant, allow) = (format!("[[grant]]\n{sockets}"), format!("allow = {{ {sockets} }}"));
    assert_eq!(provided(&exchange(&grant, &name, &allow), "text"), "dough", "localhost names loopback");
    assert_denied(
        &exchange(&grant, &format!("other.invalid:{port}"), &allow),
        "the lookup of the host other.invalid is denied: the flow does not ask for it; let the task say allow = { sockets = \
         [\"other.invalid:PORT\"] }",
    );
    // The name reaches it, and not the address alone.
    assert_denied(
        &exchange(&grant, &format!("127.0.0.1:{port}"), &allow),
        "the lookup of the host 127.0.0.1 is denied: the flow does not ask for it",
    );
    let any = format!("sockets = [\"*:{port}\"]");
    let (grant, allow) = (format!("[[grant]]\n{any}"), format!("allow = {{ {any} }}"));
    let hosts = ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "::ffff:127.0.0.1", "[::ffff:7f00:1]"];
    for host in hosts {
        let reason = "which is not public; an operator allows it with networks = [\"";
        assert_denied(&exchange(&grant, &format!("{host}:{port}"), &allow), reason);
    }
    let grant = format!("{grant}\nnetworks = [\"127.0.0.0/8\"]");
    for host in &hosts[1..] {
        assert_eq!(provided(&exchange(&grant, &format!("{host}:{port}"), &allow), "text"), "dough", "{host}");
    }
}

#[test]
fn connections_are_bounded_and_end_with_the_call() {
    let address = echo("127.0.0.1:0").to_string();
    let sockets = format!("sockets = [\"{address}\"]");
    let waft = granted(&format!("[[grant]]\n{sockets}"));
    let run = |task: &str, inputs: Value, keys: &str| {
        waft.run_flow(&flow(task, &inputs, &format!("allow = {{ {sockets} }}\n{keys}")), &[])
    };
    let count = provided(&run("connect-often", json!({ "address": address }), ""), "count");
    assert_eq!(count, 16);
    let large = json!({ "address": address, "text": "x".repeat(6_000) });
    assert_denied(
        &run("exchange", large.clone(), "http_bytes = \"10KiB\""),
        "its TCP connections would send and receive more than http_bytes of the task allows: 10KiB",
    );
    assert_eq!(provided(&run("exchange", large, ""), "text").as_str().map(str::len), Some(6_000));
    // A server that says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it listens");
    let (kind, _) = run("exchange", json!({ "address": silent.to_string(), "text": "" }), "").expect(1).failure("t");
    assert_eq!(kind, "denied", "it is another port");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it listens").to_string();
    let sockets = format!("sockets = [\"{address}\"]");
    let keys = format!("allow = {{ {sockets} }}\ntimeout = \"500ms\"");
    let (kind, message) = exchange(&format!("[[grant]]\n{sockets}"), &address, &keys).expect(1).failure("t");
    assert_eq!(kind, "timeout", "{message}");
}

#[test]
fn errors_in_connections_are_reported_with_their_place() {
    let waft = granted("[[grant]]\nsockets = [\"db.example.com\"]\nclock = true\n");
    waft.flow(&flow("random", &json!({}), "allow = { sockets = [\"db.example.com:x\"] }"));
    let stderr = waft.run(["run", "flow.toml"]).expect(2).stderr.clone();
    assert!(
        stderr.contains("[[grant]] number 1: sockets: \"db.example.com\" is no host with a port: it has no port"),
        "{stderr}"
    );
    let stderr =
        granted("").run_flow(&flow("random", &json!({}), "allow = { sockets = [\"db.example.com:x\"] }"), &[]).stderr;
    assert!(stderr.contains("\"db.example.com:x\" is no host with a port: its port is no number"), "{stderr}");

    let waft = granted("[[grant]]\nsockets = [\"db.example.com:1\"]\n");
    waft.flow(&flow("random", &json!({}), "allow = { sockets = [\"db.example.com:1\", \"db.example.com:2\"] }"));
    let output = waft.run(["check", "flow.toml"]);
    let expected = "  t asks for socket db.example.com:1 (granted here), socket db.example.com:2 (not granted here)\n";
    assert!(output.expect(0).stdout.contains(expected), "{}", output.stdout);
}

#[test]
#[cfg(target_os = "linux")]
fn child_processes_have_no_connections() {
    let address = echo("127.0.0.1:0").to_string();
    let sockets = format!("sockets = [\"{address}\"]");
    let run = |settings: &str, keys: &str| {
        let text = flow("exchange", &json!({ "address": address, "text": "dough" }), keys);
        granted(settings).run_flow(&text, &["--isolate", "process"])
    };
    let (grant, allow) = (format!("[[grant]]\n{sockets}"), format!("allow = {{ {sockets} }}"));
    assert_denied(
        &run(&grant, &allow),
        "the TCP connections of the task are denied: the worker calls guests in processes of their own",
    );
    assert_denied(&run("", &allow), "a TCP connection is denied: the flow asks for it, and no [[grant]]");
    assert_denied(&run(&grant, ""), "a TCP connection is denied: the flow does not ask for it");
}
