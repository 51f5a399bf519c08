//! Modules that are made to hurt who checks or compiles them: they end a child at most, and others are served meanwhile.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use super::{TestServer, serve};
use waft_tests::{Waft, children, wait_for_end};

/// A number in LEB128.
fn leb128(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { byte } else { byte | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

/// A section of a module.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a small section");
    [&[id][..], &leb128(length), content].concat()
}

/// A component of 15 KB with 5,000 component types, one inside the other: a parser that descends into them overflows its
/// stack.
fn nested_types() -> Vec<u8> {
    let types = [&leb128(1)[..], &b"\x41\x01\x01".repeat(5_000), b"\x41\x00"].concat();
    [&b"\0asm\x0d\0\x01\0"[..], &section(7, &types)].concat()
}

/// A WASI command of 10 KB with one function of nested loops over many locals: compiling it takes minutes.
fn slow_to_compile() -> Vec<u8> {
    const SIZE: u32 = 600;
    let mut code = b"\x03\x40".repeat(SIZE as usize);
    for local in 0..SIZE {
        let (this, next) = (leb128(local), leb128((local + 1) % SIZE));
        code.extend([&b"\x20"[..], &this, b"\x20", &next, b"\x7c\x21", &this].concat());
    }
    code.extend(b"\x20\x00\xa7\x0d\x00\x0b".repeat(SIZE as usize));
    let body = [&leb128(1)[..], &leb128(SIZE), b"\x7e", &code, b"\x0b"].concat();
    let length = leb128(u32::try_from(body.len()).expect("a small function"));
    [
        &b"\0asm\x01\0\0\0"[..],
        &section(1, b"\x01\x60\0\0"),
        &section(3, b"\x01\0"),
        &section(5, b"\x01\0\x01"),
        &section(7, b"\x02\x06_start\0\0\x06memory\x02\0"),
        &section(10, &[&leb128(1)[..], &length, &body].concat()),
    ]
    .concat()
}

/// Uploads a file as a stranger would, without the checks of `waft push`. Returns the status and the answer.
pub(super) fn push(address: &str, file: &Path) -> (u16, String) {
    let bytes = std::fs::read(file).expect("the file is there");
    let host = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).expect("the server listens");
    let head = format!(
        "POST /v1/modules HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).expect("the server reads");
    stream.write_all(&bytes).expect("the server reads");
    let mut answer = String::new();
    // A server that stops answers nothing.
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_default(), answer)
}

#[test]
fn nested_types_end_no_command() {
    let waft = Waft::default();
    waft.write("nested.wasm", nested_types());
    for command in [&["inspect", "nested.wasm"][..], &["push", "nested.wasm"]] {
        let output = waft.run(command);
        output.expect(2);
        assert!(output.stderr.contains("it cannot be checked: it overflows the compiler's stack"), "{}", output.stderr);
    }
}

#[test]
fn a_server_refuses_limits_above_its_maximum() {
    let server = TestServer::new();
    server.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nmemory = \"8GiB\"\n");
    let output = server.run(&["submit", "flow.toml"]);
    assert!(
        output.expect(2).stderr.contains("its memory of 8GiB is above the maximum here, 1GiB"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_server_refuses_retries_above_its_maximum() {
    let server = TestServer::new();
    server.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nretry = { attempts = 101 }\n");
    let output = server.run(&["submit", "flow.toml"]);
    let expected = "its 101 attempts are above the maximum here, 100";
    assert!(output.expect(2).stderr.contains(expected), "{}", output.stderr);
}

#[test]
fn hostile_modules_do_not_stop_a_server() {
    let server = TestServer::new();
    let nested = server.waft.write("nested.wasm", nested_types());
    let slow = server.waft.write("slow.wasm", slow_to_compile());
    assert_eq!(push(&server.address, &nested).0, 422);
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| push(&server.address, &slow));
        let mut runs = 0;
        while !pushing.is_finished() {
            server.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
            server.run(&["submit", "flow.toml", "--wait"]).expect(0);
            runs += 1;
        }
        let (status, answer) = pushing.join().expect("it is answered");
        assert_eq!(status, 422, "{answer}");
        assert!(answer.contains("seconds of CPU time"), "{answer}");
        assert!(runs > 1, "runs end while the compiler works");
    });
}

#[test]
fn a_server_stops_while_it_compiles() {
    let mut server = TestServer::new();
    let slow = server.waft.write("slow.wasm", slow_to_compile());
    let address = server.address.clone();
    let pushing = std::thread::spawn(move || push(&address, &slow));
    let id = server.process.id();
    while children(id).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let children_before = children(id);
    server.process.signal("TERM");
    assert!(server.process.wait().success());
    let _ = pushing.join();
    // The compiler ends with the server.
    wait_for_end(&children_before);
}

/// A server that is killed while it makes a call makes the call again after its start, but only as often as the settings of
/// its worker allow.
#[test]
fn a_call_that_kills_its_server_is_given_up() {
    let waft = Waft::default();
    waft.write("waft.toml", "[worker]\ndelivery_limit = 2\n");
    waft.flow(
        "name = \"deadly\"\n[[task]]\nname = \"kill\"\nuse = \"hostile#sleep\"\nwith = { ms = 9_000 }\nprovides = []\n",
    );
    let start = || {
        let (process, address) = serve(&waft, "127.0.0.1:0");
        TestServer { waft: Waft::default(), address, process }
    };
    let journal = waft.folder().join("logbook.db.calls");
    let is_running = |times: u32| {
        let entry = format!("{times} r1.kill.");
        std::fs::read(&journal).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&entry))
    };
    let wait_until = |what: &str, is_true: &dyn Fn() -> bool| {
        let started = std::time::Instant::now();
        while !is_true() {
            assert!(started.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let server = start();
    let mut submit = waft.command(["submit", "flow.toml", "--run-id", "r1"]);
    assert!(submit.env("WAFT_SERVER", &server.address).output().unwrap().status.success());
    wait_until("the call runs", &|| is_running(1));
    server.process.kill();
    let server = start();
    wait_until("the call runs again", &|| is_running(2));
    server.process.kill();
    let server = start();
    wait_until("the run ends", &|| server.state("r1") == "rolled-back");
    let shown = server.run(&["show", "r1", "--json"]).expect(0).end();
    assert_eq!(shown["failures"]["kill"]["kind"], "poison", "{shown}");
    assert!(!is_running(3), "the call has ended");
}
