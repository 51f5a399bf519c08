//! Commands of a server whose every text is hostile: whatever it answers, they let the terminal obey nothing, and show no line of it
//! as one of waft's.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use serde_json::Value;
use waft_tests::{CommandOutput, HttpServer, Process, Waft, wait_until};

use super::{TestServer, serve};
use crate::output::{EVIL, assert_harmless};

/// The keys whose texts stay in every answer: a client ends when a run has, and it reads an event by its kind. An answer about many runs
/// with an unknown action is none.
const KEPT: &[&str] = &["event", "state", "action"];

/// The same, and the names that a client checks before it follows a run.
const KEPT_WITH_NAMES: &[&str] = &["event", "state", "action", "run", "flow", "name"];

/// The keys of objects whose own keys are texts.
const MAPS: [&str; 4] = ["labels", "failures", "headers", "own_slots"];

/// The quarantine, which is empty without a broker.
const QUARANTINE: &str =
    r#"{"messages":[{"id":"i","queue":"q","reason":"r","headers":{"run":"r"},"size":1}],"unread":0}"#;

/// Some events of all runs: without an end, as they have none.
const EVENTS: &str = r#"id: 1-1
data: {"event":"lost","message":"m"}

id: 1-2
data: {"event":"run","run":"r","flow":"f","state":"running","at":"a"}

id: 1-3
data: {"event":"state","run":"r","flow":"f","kind":"task","name":"t","state":"failure","firing":1,"attempt":1,"at":"a","failure":{"kind":"k","message":"m"},"worker":"w"}

"#;

/// A server that answers as a real one does, and with hostile texts.
struct HostileServer {
    address: String,
}

impl HostileServer {
    /// Starts it before a real server. It ends with the process of the test.
    fn before(real: &TestServer, kept: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("it listens"));
        let real = real.address.trim_start_matches("http://").to_owned();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let real = real.clone();
                thread::spawn(move || {
                    // A command may end before it has read everything.
                    let _ = answer(&stream, &real, kept);
                });
            }
        });
        Self { address }
    }

    fn run(&self, waft: &Waft, arguments: &[&str]) -> CommandOutput {
        waft.command(arguments).env("WAFT_SERVER", &self.address).output().expect("waft starts").into()
    }
}

/// Answers the one request of a connection.
fn answer(mut stream: &TcpStream, real: &str, kept: &[&str]) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    // The connection to the real server ends with the answer, which has no chunks.
    let mut head = request.replace("HTTP/1.1", "HTTP/1.0");
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "host" | "connection" | "accept-encoding" => continue,
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, kind, body) = if path.starts_with("/v1/quarantine") {
        ("200".to_owned(), "application/json".to_owned(), QUARANTINE.to_owned())
    } else if path.starts_with("/v1/events") {
        ("200".to_owned(), "text/event-stream".to_owned(), EVENTS.to_owned())
    } else {
        ask(real, &head, &body)?
    };
    let body = if kind.starts_with("text/event-stream") {
        body.split_inclusive('\n').map(|line| hostile_line(line, kept)).collect()
    } else {
        hostile_json(&body, kept)
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// The status, the content type and the body of the real server's answer.
fn ask(real: &str, head: &str, body: &[u8]) -> io::Result<(String, String, String)> {
    let mut stream = TcpStream::connect(real)?;
    write!(stream, "{head}Host: {real}\r\n\r\n")?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let status = head.split(' ').nth(1).unwrap_or("502").to_owned();
    let kind = head.lines().filter_map(|line| line.split_once(": "));
    let kind =
        kind.filter(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, kind)| kind.to_owned()).next();
    Ok((status, kind.unwrap_or_default(), body.to_owned()))
}

/// A line of a stream of events.
fn hostile_line(line: &str, kept: &[&str]) -> String {
    match line.trim_end().strip_prefix("data: ") {
        Some(data) => format!("data: {}\n", hostile_json(data, kept)),
        None => line.to_owned(),
    }
}

fn hostile_json(text: &str, kept: &[&str]) -> String {
    let Ok(mut json) = serde_json::from_str(text) else { return text.to_owned() };
    make_hostile(&mut json, "", kept);
    json.to_string()
}

/// Replaces all texts below a key, but those of keys that are kept.
fn make_hostile(json: &mut Value, key: &str, kept: &[&str]) {
    match json {
        Value::String(text) if !kept.contains(&key) => EVIL.clone_into(text),
        Value::Array(elements) => elements.iter_mut().for_each(|element| make_hostile(element, key, kept)),
        Value::Object(fields) if MAPS.contains(&key) => {
            for (number, (_, mut value)) in std::mem::take(fields).into_iter().enumerate() {
                make_hostile(&mut value, "", kept);
                fields.insert(format!("{EVIL}{number}"), value);
            }
        }
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| make_hostile(value, key, kept)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A server with something to show for each command.
fn busy_server() -> (TestServer, HttpServer) {
    let (waft, http) = (Waft::default(), HttpServer::start());
    let secret = waft.write_private("secret", "0123456789abcdef0123456789abcdef");
    waft.set_settings(&format!(
        "[[webhook]]\nname = \"pager\"\nurl = \"{}\"\nsecret_file = {secret:?}\nkind = [\"run\"]\nstate = [\"failure\"]\n\
         networks = [\"127.0.0.0/8\"]\n",
        http.url("/text")
    ));
    let (process, address) = serve(&waft, "127.0.0.1:0");
    let server = TestServer { waft, address, process };
    let task = |name: &str, export: &str| format!("[[task]]\nname = \"{name}\"\nuse = \"hostile#{export}\"\n");
    let flows = [
        ("ok", task("echo", "echo") + "with = { value = \"seven\" }\n"),
        (
            "bad",
            task("say", "say")
                + "with = { text = \"hi\", ms = 0 }\n"
                + &task("fail", "fail")
                + "with = { message = \"m\" }\n",
        ),
        ("waits", "[[task]]\nname = \"ask\"\nwait = \"a word\"\n".to_owned() + &task("spare", "noop")),
        (
            "sleeps",
            task("nap", "sleep") + "with = { ms = 600000 }\nprovides = []\ntimeout = \"20m\"\nmax_running = 1\n",
        ),
    ];
    for (run, tasks) in flows {
        server.waft.flow(&format!("name = \"f\"\npattern = \"linear\"\n{tasks}"));
        server.run(&["submit", "flow.toml", "--run-id", run, "--label", "team=x"]).expect(0);
    }
    server.waft.flow(&format!(
        "name = \"g\"\npersistent = true\n{}[[schedule]]\ncron = \"0 3 * * *\"\nto = \"t\"\n",
        task("t", "noop")
    ));
    server.submit("daily");
    server.run(&["watch", "ok"]).expect(0);
    server.run(&["watch", "bad"]).expect(1);
    server.until("waits", "ask", "running");
    wait_until(|| server.run(&["permits", "--json"]).expect(0).json().iter().any(|task| task["given"] == 1));
    wait_until(|| server.run(&["schedules", "--json"]).expect(0).json().iter().any(|times| times["next"].is_string()));
    server.run(&["token", "create", "reader", "--scope", "read"]).expect(0);
    server.waft.write(
        "wrong.toml",
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"nowhere#t\"\n[modules]\nnowhere = \"gone\"\n",
    );
    (server, http)
}

/// Asserts that a command prints a hostile text, and as text only.
#[track_caller]
fn assert_prints_harmless_text(arguments: &[&str], output: &CommandOutput) {
    let what = arguments.join(" ");
    assert_harmless(&what, output);
    let printed = output.stdout.clone() + &output.stderr;
    assert!(printed.contains("]0;title"), "{what} prints it ({:?}): {printed}", output.code);
}

#[test]
fn no_command_lets_the_terminal_obey_a_hostile_server() {
    let (server, _http) = busy_server();
    let hostile = HostileServer::before(&server, KEPT);
    let commands: [&[&str]; 38] = [
        &["list"],
        &["list", "--json"],
        &["show", "bad"],
        &["show", "bad", "--json"],
        &["show", "waits", "--revisions"],
        &["show", "sleeps"],
        &["show", "ok"],
        &["show", "ok", "--value", "value"],
        &["show", "nobody"],
        &["watch", "bad"],
        &["logs", "bad"],
        &["logs", "bad", "--json"],
        &["workers"],
        &["workers", "--calls"],
        &["workers", "--json"],
        &["engines"],
        &["engines", "--json"],
        &["queues"],
        &["queues", "--json"],
        &["schedules"],
        &["schedules", "--json"],
        &["permits", "--calls"],
        &["permits", "--json"],
        &["quarantine", "list"],
        &["quarantine", "list", "--json"],
        &["modules"],
        &["modules", "--json"],
        &["token", "list"],
        &["webhooks", "list"],
        &["webhooks", "test", "pager"],
        &["audit"],
        &["audit", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["submit", "wrong.toml"],
        &["submit", "flow.toml", "--run-id", "later"],
        &["submit", "flow.toml", "--run-id", "later", "--wait"],
        &["token", "create", "more", "--scope", "read"],
    ];
    for arguments in commands {
        assert_prints_harmless_text(arguments, &hostile.run(&server.waft, arguments));
    }
    // In this order: each changes the run.
    let changes: [&[&str]; 7] = [
        &["edit", "waits", "remove", "nobody"],
        &["edit", "waits", "remove", "spare"],
        &["suspend", "waits"],
        &["resume", "waits"],
        &["notify", "waits", "ask"],
        &["retry", "waits"],
        &["cancel", "--all", "--dry-run"],
    ];
    for arguments in changes {
        assert_prints_harmless_text(arguments, &hostile.run(&server.waft, arguments));
    }
    // Who follows a run checks its names first.
    let hostile = HostileServer::before(&server, KEPT_WITH_NAMES);
    for arguments in [&["watch", "bad"][..], &["watch", "bad", "--json"], &["webhooks", "log", "pager"]] {
        assert_prints_harmless_text(arguments, &hostile.run(&server.waft, arguments));
    }
}

#[test]
fn events_of_a_hostile_server_are_harmless() {
    let server = TestServer::new();
    let hostile = HostileServer::before(&server, KEPT);
    for arguments in [&["events"][..], &["events", "--json"]] {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut command = server.waft.command(arguments);
        let mut events = Process::spawn(command.env("WAFT_SERVER", &hostile.address).stdout(writer));
        drop(command);
        // The same events come again with each connection.
        let lines: Vec<String> =
            BufReader::new(reader).lines().take(3).map(|line| line.expect("it is UTF-8")).collect();
        let code = events.wait().code();
        assert_eq!(code, Some(141), "{}", events.output());
        let output = CommandOutput { code, stdout: lines.join("\n"), stderr: events.output() };
        assert_prints_harmless_text(arguments, &output);
    }
}
