//! Tests what guests may reach outside their sandbox, as a user meets it on one machine: only what the flow asks for and the
//! operator grants.

mod directories;
mod settings;
mod signers;
mod sockets;

use serde_json::{Value, json};
use waft_tests::{CommandOutput, HttpServer, Waft};

/// A folder whose user has these tables in the settings.
fn granted(settings: &str) -> Waft {
    let waft = Waft::default();
    waft.set_settings(settings);
    waft
}

/// A flow with one task of the guest.
fn flow(task: &str, inputs: &Value, keys: &str) -> String {
    let inputs: String = inputs
        .as_object()
        .expect("inputs are an object")
        .iter()
        .map(|(name, value)| format!("{name} = {value}, "))
        .collect();
    format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"outside#{task}\"\nwith = {{ {inputs} }}\n{keys}\n")
}

/// What a run provided.
fn provided(output: &CommandOutput, name: &str) -> Value {
    output.expect(0).end()["provides"][name].clone()
}

#[track_caller]
fn assert_denied(output: &CommandOutput, reason: &str) {
    let (kind, message) = output.expect(1).failure("t");
    assert_eq!(kind, "denied", "{message}");
    assert!(message.contains(reason), "{reason:?} is not in {message:?}");
}

#[test]
fn a_request_needs_the_flow_and_the_operator() {
    let server = HttpServer::start();
    let request = json!({ "url": server.url("/text") });
    let any = format!("http = [\"GET http://127.0.0.1:{}/**\"]", server.port());
    let (grant, allow) = (format!("[[grant]]\n{any}"), format!("allow = {{ {any} }}"));

    let output = granted(&grant).run_flow(&flow("fetch", &request, &allow), &[]);
    assert_eq!(provided(&output, "text"), "text of the server");
    assert_eq!(server.received().len(), 1);

    let asked = format!("let the task say allow = {{ http = [\"GET {}\"] }}", server.url("/text"));
    assert_denied(&granted(&grant).run_flow(&flow("fetch", &request, ""), &[]), &asked);
    let other = "allow = { http = [\"POST http://127.0.0.1:80/**\"], clock = true }";
    assert_denied(&granted(&grant).run_flow(&flow("fetch", &request, other), &[]), &asked);
    let no_grant = "the flow asks for it, and no [[grant]] in the settings of the worker allows it";
    assert_denied(&granted("").run_flow(&flow("fetch", &request, &allow), &[]), no_grant);
    let other = format!("[[grant]]\nflow = \"g\"\n{any}\n[[grant]]\nclock = true\n");
    assert_denied(&granted(&other).run_flow(&flow("fetch", &request, &allow), &[]), no_grant);
    // A guest that can go on without it does.
    let output = granted("").run_flow(&flow("try-request", &request, &allow), &[]);
    assert_eq!(provided(&output, "outcome"), "Denied");
    assert_eq!(server.received().len(), 1, "nothing else was sent");
}

#[test]
fn method_headers_body_and_status_arrive() {
    let server = HttpServer::start();
    let any = format!("http = [\"* http://127.0.0.1:{}/**\"]", server.port());
    let waft = granted(&format!("[[grant]]\n{any}"));
    let request =
        json!({ "method": "PATCH", "url": server.url("/echo?a=%20b"), "header": ["x-ask", "why"], "body": "pans" });
    let output = waft.run_flow(&flow("request", &request, &format!("allow = {{ {any} }}")), &["--run-id", "r1"]);
    let answer = provided(&output, "answer");
    assert_eq!(answer, json!({ "status": 200, "body": "pans", "header": "why" }));
    let [received] = &server.received()[..] else { panic!("{:?}", server.received()) };
    assert_eq!((&*received.line, &*received.body), ("PATCH /echo?a=%20b HTTP/1.1", "pans"));
    assert_eq!(received.header("idempotency-key"), Some("r1.t.1"));
    assert_eq!(received.header("host"), Some(&*format!("127.0.0.1:{}", server.port())));
    assert!(received.header("user-agent").is_some_and(|agent| agent.starts_with("waft/")));

    let status = |status: &str| {
        let request = json!({ "url": server.url(&format!("/status/{status}")) });
        waft.run_flow(&flow("fetch", &request, &format!("allow = {{ {any} }}")), &[]).expect(1).failure("t")
    };
    let (kind, message) = status("503");
    let expected = format!(
        "GET {}: the server answered with status 503 and asks to wait for 7 s: it is busy",
        server.url("/status/503")
    );
    assert_eq!((&*kind, message), ("transient", expected));
    assert_eq!(status("429").0, "transient");
    assert_eq!(status("403").0, "permanent");
}

#[test]
fn a_secret_goes_only_where_the_operator_lets_it() {
    let server = HttpServer::start();
    let any = format!("http = [\"GET http://127.0.0.1:{}/**\"]", server.port());
    let allow = format!("allow = {{ {any}, secrets = [\"KEY\"] }}");
    let request =
        |path: &str, header: &str| json!({ "url": server.url(path), "header": [header, "Bearer {{secret:KEY}}"] });
    let run = |settings: &str, request: &Value, allow: &str| {
        let waft = Waft::default();
        let file = waft.write_private("key", "s3cret\n");
        let settings = settings.replace("FILE", &file.display().to_string());
        waft.set_settings(&settings);
        waft.run_flow(&flow("request", request, allow), &[])
    };
    let grant = format!("[[grant]]\n{any}\nsecrets = [\"KEY\"]\n");
    let secret = format!(
        "[secret.KEY]\nfile = \"FILE\"\nheaders = [\"x-ask\"]\nhttp = [\"GET http://127.0.0.1:{}/echo\"]\n",
        server.port()
    );
    let settings = format!("{grant}{secret}");

    let output = run(&settings, &request("/echo", "x-ask"), &allow);
    let answer = provided(&output, "answer");
    assert_eq!(server.received()[0].header("x-ask"), Some("Bearer s3cret"));
    assert_eq!(answer["header"], "Bearer {{secret:KEY}}", "the guest does not see it");
    assert!(!output.stdout.contains("s3cret") && !output.stderr.contains("s3cret"));

    for (settings, request, allow, reason) in [
        (
            &settings,
            request("/echo", "x-other"),
            &allow,
            "the secret KEY is denied in the header x-other of GET http://127.0.0.1",
        ),
        (
            &settings,
            request("/text", "x-ask"),
            &allow,
            "the secret KEY is denied in the header x-ask of GET http://127.0.0.1",
        ),
        (
            &settings,
            request("/echo", "x-ask"),
            &format!("allow = {{ {any} }}"),
            "the secret KEY is denied: the flow does not ask for it",
        ),
        (
            &format!("[[grant]]\n{any}\n{secret}"),
            request("/echo", "x-ask"),
            &allow,
            "the secret KEY is denied: the flow asks for it, and no",
        ),
    ] {
        assert_denied(&run(settings, &request, allow), reason);
    }
    let missing = settings.replace("FILE", "/no/such/file");
    let output = run(&missing, &request("/echo", "x-ask"), &allow);
    let (kind, message) = output.expect(1).failure("t");
    assert_eq!(kind, "transient");
    assert!(message.contains("the secret KEY has no value: the log of its worker says why"), "{message}");
    assert!(output.stderr.contains("the secret in /no/such/file cannot be used"), "{}", output.stderr);
    assert_eq!(server.received().len(), 1, "nothing else was sent");
}

#[test]
fn a_redirect_is_not_followed() {
    let server = HttpServer::start();
    let any = format!("http = [\"GET http://127.0.0.1:{}/redirect\"]", server.port());
    let request = json!({ "url": server.url(&format!("/redirect?to={}", server.url("/text"))) });
    let output = granted(&format!("[[grant]]\n{any}"))
        .run_flow(&flow("request", &request, &format!("allow = {{ {any} }}")), &[]);
    assert_eq!(provided(&output, "answer")["status"], 302);
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_name_with_a_private_address_is_denied_unless_the_operator_names_the_network() {
    let server = HttpServer::start();
    let port = server.port();
    // Each machine has a name for itself.
    let name = gethostname::gethostname().to_string_lossy().into_owned();
    let has_private_address = std::net::ToSocketAddrs::to_socket_addrs(&(&*name, port));
    assert!(has_private_address.is_ok(), "the name of this machine has an address");
    let any = format!("http = [\"GET http://*:{port}/**\"]");
    let allow = format!("allow = {{ {any} }}");
    for (url, address) in [
        (format!("http://{name}:{port}/text"), None),
        (format!("http://localhost:{port}/text"), None),
        (format!("http://127.0.0.1:{port}/text"), Some("127.0.0.1")),
        (format!("http://0x7f000001:{port}/text"), Some("127.0.0.1")),
        (format!("http://[::ffff:127.0.0.1]:{port}/text"), Some("127.0.0.1")),
        (format!("http://169.254.169.254:{port}/latest"), Some("169.254.169.254")),
    ] {
        let output =
            granted(&format!("[[grant]]\n{any}")).run_flow(&flow("fetch", &json!({ "url": url }), &allow), &[]);
        let reason = address.map_or("which is not public".to_owned(), |address| {
            format!("the host has the address {address}, which is not public; an operator allows it with networks = [\"{address}\"]")
        });
        assert_denied(&output, &reason);
    }
    assert!(server.received().is_empty());
    let networks = granted(&format!("[[grant]]\n{any}\nnetworks = [\"127.0.0.0/8\", \"::1\"]"));
    let output =
        networks.run_flow(&flow("fetch", &json!({ "url": format!("http://localhost:{port}/text") }), &allow), &[]);
    assert_eq!(provided(&output, "text"), "text of the server");
}

#[test]
fn a_server_that_sends_too_much_or_nothing_stops_no_worker() {
    let server = HttpServer::start();
    let any = format!("http = [\"GET http://127.0.0.1:{}/**\"]", server.port());
    let waft = granted(&format!("[[grant]]\n{any}"));
    let run = |path: &str, inputs: Value, keys: &str| {
        let mut request = json!({ "url": server.url(path) });
        request.as_object_mut().expect("an object").extend(inputs.as_object().cloned().unwrap_or_default());
        waft.run_flow(&flow("request", &request, &format!("allow = {{ {any} }}\n{keys}")), &[]).expect(1).failure("t")
    };
    for path in ["/large", "/endless"] {
        let (kind, message) = run(path, json!({}), "");
        assert_eq!(kind, "permanent");
        assert!(message.contains("the requests and responses of the call are larger than http_bytes"), "{message}");
    }
    let (kind, message) = run("/never", json!({ "timeout_ms": 200 }), "");
    assert_eq!(kind, "transient");
    assert!(message.contains("the server did not answer in time"), "{message}");
    let (kind, message) = run("/never", json!({}), "timeout = \"500ms\"");
    assert_eq!(kind, "timeout", "{message}");
}

#[test]
fn clock_and_randomness_of_the_machine_are_granted_like_requests() {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let before = u64::try_from(now()).expect("64 bits are enough");
    let grant = "[[grant]]\nclock = true\nrandom = true";
    let run = |settings: &str, task: &str, keys: &str| {
        granted(settings).run_flow(&flow(task, &json!({}), keys), &["--run-id", "same"])
    };
    let clocks = provided(&run(grant, "clocks", "start_after = \"50ms\"\nallow = { clock = true }"), "clocks");
    let unix_ms = clocks["unix_ms"].as_u64().expect("a number");
    assert!(unix_ms >= before + 20 && clocks["slept_ms"].as_u64().is_some_and(|slept| slept >= 20), "{clocks}");
    let number = |settings: &str, keys: &str| provided(&run(settings, "random", keys), "number");
    let of_attempt = number(grant, "");
    assert_eq!(number(grant, ""), of_attempt, "it depends on the attempt alone");
    assert_eq!(number("", "allow = { random = true }"), of_attempt, "it is not granted");
    assert_ne!(number(grant, "allow = { random = true }"), of_attempt);
    assert_ne!(number(grant, "allow = { random = true }"), number(grant, "allow = { random = true }"));
}

#[test]
fn errors_in_patterns_are_reported_with_their_place() {
    let waft = granted("[[grant]]\nhttp = [\"GET example.com\"]\nclock = true\n[[grant]]\ntask = \"t\"\n");
    waft.flow(&flow("random", &json!({}), ""));
    let output = waft.run(["run", "flow.toml"]);
    let stderr = &output.expect(2).stderr;
    assert!(
        stderr.contains("[[grant]] number 1: http: \"GET example.com\" is no pattern of HTTP requests"),
        "{stderr}"
    );
    assert!(stderr.contains("[[grant]] number 2: it grants nothing"), "{stderr}");

    let waft = granted("");
    waft.flow(&flow("random", &json!({}), "allow = { http = [\"GET example.com\", 3], clok = true }"));
    let output = waft.run(["check", "flow.toml"]);
    let stderr = &output.expect(2).stderr;
    assert!(
        stderr.contains("an element of \"http\" in \"allow\" of task \"t\": \"GET example.com\" is no pattern"),
        "{stderr}"
    );
    assert!(stderr.contains("an element of \"http\" in \"allow\" of task \"t\" is an integer"), "{stderr}");
    assert!(
        stderr.contains("\"allow\" of task \"t\" has an unknown key \"clok\"") && stderr.contains("clock"),
        "{stderr}"
    );

    waft.write("waft.toml", "[[grant]]\nclock = true\n");
    let output = waft.run(["check", "flow.toml"]);
    assert!(output.expect(2).stderr.contains("grant"), "a folder grants nothing: {}", output.stderr);
}

#[test]
fn check_says_what_a_flow_asks_for_and_what_is_granted_here() {
    let waft = granted("[[grant]]\nhttp = [\"GET https://*.example/v1/*\"]\nrandom = true\n");
    let allow = "allow = { http = [\"GET https://a.example/v1/pans\", \"GET https://a.example/v1/**\", \"PUT https://a.example/\"], \
                 clock = true, random = true }";
    waft.flow(&flow("random", &json!({}), allow));
    let output = waft.run(["check", "flow.toml"]);
    let expected = "  t asks for http GET https://a.example/v1/** (granted here in part), http GET https://a.example/v1/pans (granted \
                    here), http PUT https://a.example/ (not granted here), clock (not granted here), random (granted here)\n";
    assert!(output.expect(0).stdout.contains(expected), "{}", output.stdout);
}

#[test]
fn explain_names_the_table_of_each_grant_and_writes_the_missing_one() {
    let settings = "[[grant]]\nflow = \"f\"\nhttp = [\"GET https://*.example/v1/*\"]\n\n[[grant]]\nrandom = true\n\
                    [[grant]]\nnamespace = \"other\"\nclock = true\n[[grant]]\ntask = \"t\"\nrandom = true\n";
    let waft = granted(settings);
    let file = waft.folder().join("configuration/waft/config.toml").display().to_string();
    let allow = "allow = { http = [\"GET https://a.example/v1/pans\", \"GET https://a.example/v1/**\"], secrets = [\"KEY\"], \
                 clock = true, random = true }";
    waft.flow(&flow("random", &json!({}), allow));
    let explain = |waft: &Waft| waft.run(["grants", "explain", "flow.toml", "--json"]).expect(0).end();
    let explained = explain(&waft);
    let by = |lines: &[u64]| -> Value { lines.iter().map(|line| json!({ "file": file, "line": line })).collect() };
    let expected = [
        ("http GET https://a.example/v1/**", "some", by(&[1])),
        ("http GET https://a.example/v1/pans", "all", by(&[1])),
        ("secret KEY", "none", by(&[])),
        ("clock", "none", by(&[])),
        ("random", "all", by(&[5, 10])),
    ];
    let expected = expected.map(|(what, granted, by)| json!({ "what": what, "granted": granted, "by": by }));
    assert_eq!(explained["asked"], json!(expected));
    let grant = explained["grant"].as_str().expect("a table");
    let text = waft.run(["grants", "explain", "flow.toml"]).expect(0).stdout.clone();
    for says in [
        "t in the queue default",
        &format!("  http GET https://a.example/v1/**: granted in part by {file}, line 1\n"),
        &format!("  random: granted by {file}, line 5, and {file}, line 10\n"),
        "  clock: refused\n",
        &format!("add this to {file} where the task is called:\n\n{grant}"),
        "The settings have no [secret.KEY]",
    ] {
        assert!(text.contains(says), "{says:?} is not in {text}");
    }
    // The table is ready: with it, everything is granted.
    waft.set_settings(&format!("{settings}{grant}"));
    let explained = explain(&waft);
    assert!(
        explained["asked"].as_array().expect("a list").iter().all(|asked| asked["granted"] == "all"),
        "{explained}"
    );
    assert_eq!(explained["grant"], Value::Null);
    waft.flow(&flow("random", &json!({}), ""));
    let nothing = waft.run(["grants", "explain", "flow.toml"]);
    assert!(nothing.expect(0).stderr.contains("no task of f asks for anything"), "{}", nothing.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn the_worker_sends_the_requests_of_its_child_processes() {
    let server = HttpServer::start();
    let any = format!("http = [\"* http://127.0.0.1:{}/**\"]", server.port());
    let waft = granted(&format!("[[grant]]\n{any}\nclock = true\nrandom = true\n"));
    let run = |task: &str, inputs: &Value, keys: &str| {
        waft.run_flow(&flow(task, inputs, keys), &["--isolate", "process", "--run-id", &waft_tests::unique("r")])
    };
    let allow = format!("allow = {{ {any}, clock = true, random = true }}");
    let inputs = json!({ "method": "PUT", "url": server.url("/echo?a=1"), "header": ["x-ask", "why"], "body": "pans" });
    let answer = provided(&run("request", &inputs, &allow), "answer");
    assert_eq!(answer, json!({ "status": 200, "body": "pans", "header": "why" }));
    assert_eq!(server.received()[0].line, "PUT /echo?a=1 HTTP/1.1");
    let output = run("request", &json!({ "url": server.url("/text") }), "");
    assert_denied(&output, "the flow does not ask for it; let the task say allow = { http = [\"GET http://127.0.0.1");
    let (kind, message) = run("request", &json!({ "url": server.url("/large") }), &allow).expect(1).failure("t");
    assert_eq!(kind, "permanent");
    assert!(message.contains("larger than http_bytes"), "{message}");
    let never = format!("{allow}\ntimeout = \"500ms\"");
    let (kind, message) = run("request", &json!({ "url": server.url("/never") }), &never).expect(1).failure("t");
    assert_eq!(kind, "timeout", "{message}");
    let clocks = provided(&run("clocks", &json!({}), &allow), "clocks");
    assert!(clocks["slept_ms"].as_u64().is_some_and(|slept| slept >= 20), "{clocks}");
    assert_ne!(provided(&run("random", &json!({}), &allow), "number"), Value::Null);
}
