//! A guest that tries to use a denied capability fails as denied, with the reason.

use flow::{FailureKind, Values};
use sandbox::Completion;
use wit_component::StringEncoding;
use wit_parser::Resolve;

use crate::support::{Image, assert_failure, call, core, failure, guest, report};

/// The part of WASI's sockets that the guest here imports, and its WIT world.
const SOCKETS: &str = "
    package wasi:sockets@0.2.0;
    interface network {
        enum error-code {
            unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout, concurrency-conflict,
            not-in-progress, would-block, invalid-state, new-socket-limit, address-not-bindable, address-in-use,
            remote-unreachable, connection-refused, connection-reset, connection-aborted, datagram-too-large,
            name-unresolvable, temporary-resolver-failure, permanent-resolver-failure,
        }
        enum ip-address-family { ipv4, ipv6 }
    }
    interface tcp { resource tcp-socket; }
    interface tcp-create-socket {
        use network.{error-code, ip-address-family};
        use tcp.{tcp-socket};
        create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
    }
    world caller {
        import tcp-create-socket;
        include waft:task/task@1.0.0;
    }";

/// A guest that opens a TCP socket, and then returns the result at an address of the image.
fn opening_a_socket(image: &Image, result: u32) -> Vec<u8> {
    let imports = r#"(import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket" (func $tcp (param i32 i32)))"#;
    let mut core = core(image, imports, &format!("(call $tcp (i32.const 0) (i32.const 64)) (i32.const {result})"));
    let mut resolve = Resolve::default();
    resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/wit/task.wit")).unwrap();
    let package = resolve.push_str("sockets.wit", SOCKETS).unwrap();
    let world = resolve.select_world(&[package], Some("caller")).unwrap();
    wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    core
}

#[tokio::test]
async fn a_failure_after_a_denied_socket_is_denied() {
    let mut image = Image::new();
    let result = image.failure(0, "the bakery does not answer", None);
    let failure = failure(&opening_a_socket(&image, result), call()).await;
    let expected =
        ["it opened a TCP socket: no guest has a network here", "then it failed: the bakery does not answer"];
    assert_failure(&failure, FailureKind::Denied, &expected);
}

#[tokio::test]
async fn a_guest_that_ignores_its_denied_socket_succeeds() {
    let mut image = Image::new();
    let result = image.success(&[]);
    let completion = report(&opening_a_socket(&image, result), call()).await.completion;
    assert_eq!(completion, Completion::Succeeded(Values::new()));
}

/// For these, Rust's standard library for WASI preview 1 has no import to call.
#[tokio::test]
async fn rust_unsupported_errors_are_denied() {
    for (message, reason) in [
        ("operation not supported on this platform", "guests have no sockets, threads or processes"),
        (
            "failed to find a pre-opened file descriptor through which \"/x\" could be opened",
            "guests have no files, unless the flow asks for a directory",
        ),
    ] {
        let mut image = Image::new();
        let result = image.failure(0, message, None);
        let failure = failure(&guest(&image, "", &format!("(i32.const {result})")), call()).await;
        assert_failure(&failure, FailureKind::Denied, &[reason, "then it failed: ", message]);
    }
}
