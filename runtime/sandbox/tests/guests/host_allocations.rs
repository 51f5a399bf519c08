//! Each import with which a guest chooses how much the host allocates: the size is bounded before the host allocates.
//!
//! The programs import the WASI interfaces directly, as the adapters of standard libraries pass no such sizes.

use flow::{FailureKind, Limits, Values};
use sandbox::{Call, Completion};
use wit_component::StringEncoding;
use wit_parser::Resolve;

use crate::support::{assert_failure, call, failure, json, report, values};

/// The part of WASI that the programs import.
const WASI: &str = "
    package test:caller;
    package wasi:io@0.2.0 {
        interface error { resource error; }
        interface poll {
            resource pollable;
            poll: func(in: list<borrow<pollable>>) -> list<u32>;
        }
        interface streams {
            use error.{error};
            use poll.{pollable};
            variant stream-error { last-operation-failed(error), closed }
            resource input-stream {
                read: func(len: u64) -> result<list<u8>, stream-error>;
                blocking-read: func(len: u64) -> result<list<u8>, stream-error>;
                skip: func(len: u64) -> result<u64, stream-error>;
                blocking-skip: func(len: u64) -> result<u64, stream-error>;
                subscribe: func() -> pollable;
            }
            resource output-stream {
                write: func(contents: list<u8>) -> result<_, stream-error>;
                blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                write-zeroes: func(len: u64) -> result<_, stream-error>;
                blocking-write-zeroes-and-flush: func(len: u64) -> result<_, stream-error>;
                splice: func(src: borrow<input-stream>, len: u64) -> result<u64, stream-error>;
                blocking-splice: func(src: borrow<input-stream>, len: u64) -> result<u64, stream-error>;
            }
        }
    }
    package wasi:cli@0.2.0 {
        interface stdin {
            use wasi:io/streams@0.2.0.{input-stream};
            get-stdin: func() -> input-stream;
        }
        interface stdout {
            use wasi:io/streams@0.2.0.{output-stream};
            get-stdout: func() -> output-stream;
        }
        interface environment {
            get-environment: func() -> list<tuple<string, string>>;
            get-arguments: func() -> list<string>;
        }
    }
    package wasi:clocks@0.2.0 {
        interface monotonic-clock {
            use wasi:io/poll@0.2.0.{pollable};
            type duration = u64;
            subscribe-duration: func(when: duration) -> pollable;
        }
    }
    package wasi:random@0.2.0 {
        interface random { get-random-bytes: func(len: u64) -> list<u8>; }
        interface insecure { get-insecure-random-bytes: func(len: u64) -> list<u8>; }
    }
    package wasi:http@0.2.0 {
        interface types {
            use wasi:io/streams@0.2.0.{output-stream};
            variant header-error { invalid-syntax, forbidden, immutable }
            resource fields {
                constructor();
                from-list: static func(entries: list<tuple<string, list<u8>>>) -> result<fields, header-error>;
                set: func(name: string, value: list<list<u8>>) -> result<_, header-error>;
                append: func(name: string, value: list<u8>) -> result<_, header-error>;
                clone: func() -> fields;
            }
            resource outgoing-request {
                constructor(headers: fields);
                body: func() -> result<outgoing-body>;
            }
            resource outgoing-body {
                write: func() -> result<output-stream>;
            }
            resource outgoing-response {
                constructor(headers: fields);
            }
        }
    }
    world caller {
        import wasi:io/poll@0.2.0;
        import wasi:io/streams@0.2.0;
        import wasi:cli/stdin@0.2.0;
        import wasi:cli/stdout@0.2.0;
        import wasi:cli/environment@0.2.0;
        import wasi:clocks/monotonic-clock@0.2.0;
        import wasi:random/random@0.2.0;
        import wasi:random/insecure@0.2.0;
        import wasi:http/types@0.2.0;
        import waft:task/host@1.0.0;
    }";

/// The core imports, by the names that the bodies use. Each result of more than one word is written to an address.
const IMPORTS: &str = r#"
    (import "wasi:cli/stdin@0.2.0" "get-stdin" (func $stdin (result i32)))
    (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
    (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
    (import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $timer (param i64) (result i32)))
    (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
    (import "wasi:random/insecure@0.2.0" "get-insecure-random-bytes" (func $insecure (param i64 i32)))
    (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
    (import "wasi:io/streams@0.2.0" "[method]input-stream.read" (func $read (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read" (func $blocking-read (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.0" "[method]input-stream.skip" (func $skip (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-skip" (func $blocking-skip (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.0" "[method]input-stream.subscribe" (func $subscribe (param i32) (result i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
        (func $blocking-write (param i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.write-zeroes" (func $zeroes (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-zeroes-and-flush"
        (func $blocking-zeroes (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.splice" (func $splice (param i32 i32 i64 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-splice"
        (func $blocking-splice (param i32 i32 i64 i32)))
    (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.0" "[static]fields.from-list" (func $from-list (param i32 i32 i32)))
    (import "wasi:http/types@0.2.0" "[method]fields.set" (func $set (param i32 i32 i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.0" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.0" "[method]fields.clone" (func $clone (param i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[resource-drop]outgoing-request" (func $drop-request (param i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-request.body" (func $body (param i32 i32)))
    (import "wasi:http/types@0.2.0" "[resource-drop]outgoing-body" (func $drop-body (param i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $body-stream (param i32 i32)))
    (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
    (import "waft:task/host@1.0.0" "log" (func $log (param i32 i32 i32)))
    (import "waft:task/host@1.0.0" "progress" (func $progress (param f64 i32 i32)))"#;

/// A program with this body. It may use the local `$i`, and `$check`, which traps unless its two arguments are equal. The
/// results of imports are at address 64, and the memory from 64 KiB on to 4 MiB is free.
fn program(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            {IMPORTS}
            (memory (export "memory") 96)
            (global $heap (mut i32) (i32.const 4194304))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
                (global.get $heap)
                (global.set $heap (i32.add (global.get $heap) (local.get 3))))
            (func $check (param i64 i64) (if (i64.ne (local.get 0) (local.get 1)) (then unreachable)))
            (func (export "_start") (local $i i32) {body}))"#
    );
    let mut core = wat::parse_str(text).unwrap();
    let mut resolve = Resolve::default();
    resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/wit/task.wit")).unwrap();
    let package = resolve.push_str("wasi.wit", WASI).unwrap();
    let world = resolve.select_world(&[package], Some("caller")).unwrap();
    wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    core
}

/// A call with small limits, whose standard input has the 15 bytes `{"pan":"large"}`.
fn command() -> Call {
    let limits = Limits { output: 1 << 10, log: 1 << 10, memory: 16 << 20, ..Limits::default() };
    Call { export: None, inputs: values([("pan", json("\"large\""))]), limits, ..call() }
}

/// Asserts that a program ends well. Its standard output, if any, is one JSON object.
async fn assert_success(body: &str) {
    let completion = report(&program(body), command()).await.completion;
    assert_eq!(completion, Completion::Succeeded(Values::new()), "{body}");
}

/// Asserts that a program is stopped, and why.
async fn assert_stopped(body: &str, kind: FailureKind, reason: &str) {
    assert_failure(&failure(&program(body), command()).await, kind, &[reason]);
}

const TOO_MUCH_AT_ONCE: &str = "it passed more data at once than values of 1KiB need, the limit is 1KiB";

#[tokio::test]
async fn random_bytes_are_at_most_a_megabyte_at_once() {
    let reason = "it requested 18446744073709551615 random bytes at once, the limit is 1MiB";
    assert_stopped("(call $random (i64.const -1) (i32.const 64))", FailureKind::Trap, reason).await;
    let reason = "it requested 1048577 random bytes at once, the limit is 1MiB";
    assert_stopped("(call $random (i64.const 1048577) (i32.const 64))", FailureKind::Trap, reason).await;
    assert_success("(call $random (i64.const 1048576) (i32.const 64)) (call $check (i64.load32_u (i32.const 68)) (i64.const 1048576))").await;
}

#[tokio::test]
async fn insecure_random_bytes_too() {
    let reason = "it requested 18446744073709551615 random bytes at once, the limit is 1MiB";
    assert_stopped("(call $insecure (i64.const -1) (i32.const 64))", FailureKind::Trap, reason).await;
}

#[tokio::test]
async fn a_read_returns_at_most_what_there_is() {
    for read in ["$read", "$blocking-read"] {
        let body = format!(
            "(call {read} (call $stdin) (i64.const -1) (i32.const 64))
             (call $check (i64.load8_u (i32.const 64)) (i64.const 0))
             (call $check (i64.load32_u (i32.const 72)) (i64.const 15))"
        );
        assert_success(&body).await;
    }
}

#[tokio::test]
async fn a_skip_reads_at_most_what_there_is() {
    for skip in ["$skip", "$blocking-skip"] {
        let body = format!(
            "(call {skip} (call $stdin) (i64.const -1) (i32.const 64))
             (call $check (i64.load8_u (i32.const 64)) (i64.const 0))
             (call $check (i64.load (i32.const 72)) (i64.const 15))"
        );
        assert_success(&body).await;
    }
}

#[tokio::test]
async fn a_splice_moves_at_most_what_there_is() {
    for splice in ["$splice", "$blocking-splice"] {
        let body = format!(
            "(call {splice} (call $stdout) (call $stdin) (i64.const -1) (i32.const 64))
             (call $check (i64.load8_u (i32.const 64)) (i64.const 0))
             (call $check (i64.load (i32.const 72)) (i64.const 15))"
        );
        assert_success(&body).await;
    }
}

#[tokio::test]
async fn zeroes_are_written_in_small_pieces() {
    let zeroes = |call: &str, count: i64| format!("(call {call} (call $stdout) (i64.const {count}) (i32.const 64))");
    let reason = "cannot write more zeroes than `check_write` allows";
    for count in [-1, 65_537] {
        assert_stopped(&zeroes("$zeroes", count), FailureKind::Trap, reason).await;
    }
    let reason = "Buffer too large for blocking-write-zeroes-and-flush (expected at most 4096)";
    for count in [-1, 4_097] {
        assert_stopped(&zeroes("$blocking-zeroes", count), FailureKind::Trap, reason).await;
    }
    for (call, count) in [("$zeroes", 65_536), ("$blocking-zeroes", 4_096)] {
        let reason = format!("it had written {count} bytes to standard output when it was stopped, the limit is 1KiB");
        assert_stopped(&zeroes(call, count), FailureKind::OutputLimit, &reason).await;
    }
}

#[tokio::test]
async fn a_write_copies_at_most_what_values_need() {
    let write = |call: &str, length: u32| {
        format!("(call {call} (call $stdout) (i32.const 65536) (i32.const {length}) (i32.const 64))")
    };
    // Twice the limit of outputs, and a megabyte.
    assert_stopped(&write("$write", 1_050_625), FailureKind::OutputLimit, TOO_MUCH_AT_ONCE).await;
    assert_stopped(&write("$blocking-write", 1_050_625), FailureKind::OutputLimit, TOO_MUCH_AT_ONCE).await;
    let reason = "it had written 1050624 bytes to standard output when it was stopped, the limit is 1KiB";
    assert_stopped(&write("$write", 1_050_624), FailureKind::OutputLimit, reason).await;
    let reason = "Buffer too large for blocking-write-and-flush (expected at most 4096)";
    assert_stopped(&write("$blocking-write", 4_097), FailureKind::Trap, reason).await;
}

#[tokio::test]
async fn a_message_is_copied_within_the_same_bound() {
    for call in ["$log (i32.const 2)", "$progress (f64.const 0.5)"] {
        let body = format!("(call {call} (i32.const 65536) (i32.const 1050625))");
        assert_stopped(&body, FailureKind::OutputLimit, TOO_MUCH_AT_ONCE).await;
    }
}

#[tokio::test]
async fn a_message_about_progress_has_a_maximum_size() {
    let progress = |length: u32| format!("(call $progress (f64.const 0.5) (i32.const 65536) (i32.const {length}))");
    assert_success(&progress(65_536)).await;
    let reason = "it reported its progress with a message of 65537 bytes, the limit is 64KiB";
    assert_stopped(&progress(65_537), FailureKind::Trap, reason).await;
}

/// Fills the memory from 64 KiB on with the handle of one pollable, and polls a list of this length.
fn polling(length: u32) -> String {
    format!(
        "(local.set $i (i32.const 65536))
         (i32.store (i32.const 0) (call $subscribe (call $stdin)))
         (loop $l
            (i32.store (local.get $i) (i32.load (i32.const 0)))
            (local.set $i (i32.add (local.get $i) (i32.const 4)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 2097152))))
         (call $poll (i32.const 65536) (i32.const {length}) (i32.const 64))
         (call $check (i64.load32_u (i32.const 68)) (i64.const {length}))"
    )
}

#[tokio::test]
async fn a_list_to_poll_has_a_maximum_length() {
    assert_success(&polling(4_096)).await;
    for length in [4_097, 9_000] {
        let reason = format!("it polled a list of {length} handles, the limit is 4096");
        assert_stopped(&polling(length), FailureKind::Trap, &reason).await;
    }
    // Longer lists do not reach the host's function: each entry counts as a handle, and takes memory when it is copied.
    assert_stopped(&polling(50_000), FailureKind::Trap, "store handle limit exceeded").await;
    assert_stopped(&polling(500_000), FailureKind::OutputLimit, TOO_MUCH_AT_ONCE).await;
}

/// Fills the memory from 64 KiB on with headers of the name `a` and without a value, and calls a function with them.
fn with_headers(call: &str) -> String {
    format!(
        "(i32.store8 (i32.const 16) (i32.const 97))
         (local.set $i (i32.const 65536))
         (loop $l
            (i64.store (local.get $i) (i64.const 0x100000010))
            (i64.store offset=8 (local.get $i) (i64.const 0x10))
            (local.set $i (i32.add (local.get $i) (i32.const 16)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 4194304))))
         {call}
         (call $check (i64.load8_u (i32.const 64)) (i64.const 0))"
    )
}

#[tokio::test]
async fn lists_of_headers_have_a_maximum_size() {
    let from_list =
        |length: u32| with_headers(&format!("(call $from-list (i32.const 65536) (i32.const {length}) (i32.const 64))"));
    // The name is a value of one byte, too.
    let set = |length: u32| {
        let name = "(i32.const 16) (i32.const 1)";
        with_headers(&format!(
            "(call $set (call $fields) {name} (i32.const 65536) (i32.const {length}) (i32.const 64))"
        ))
    };
    for body in [from_list(100), set(100)] {
        assert_success(&body).await;
    }
    for body in [from_list(2_000), set(2_000)] {
        assert_stopped(&body, FailureKind::Trap, "total size of fields exceeds limit").await;
    }
    for body in [from_list(200_000), set(400_000)] {
        assert_stopped(&body, FailureKind::OutputLimit, TOO_MUCH_AT_ONCE).await;
    }
}

#[tokio::test]
async fn headers_can_be_added_one_by_one_and_copied() {
    let body = "
        (i32.store8 (i32.const 16) (i32.const 97))
        (local.set $i (call $clone (call $fields)))
        (call $append (local.get $i) (i32.const 16) (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 64))
        (call $check (i64.load8_u (i32.const 64)) (i64.const 0))";
    assert_success(body).await;
}

/// Makes the body of a new request, a number of times. Each time, the request is the local `$i`, and `then` follows.
fn with_bodies(count: u32, then: &str) -> String {
    format!(
        "(i32.store (i32.const 8) (i32.const {count}))
         (loop $l
            (local.set $i (call $request (call $fields)))
            (call $body (local.get $i) (i32.const 64))
            (call $check (i64.load8_u (i32.const 64)) (i64.const 0))
            {then}
            (i32.store (i32.const 8) (i32.sub (i32.load (i32.const 8)) (i32.const 1)))
            (br_if $l (i32.load (i32.const 8))))"
    )
}

#[tokio::test]
async fn a_guest_has_few_bodies_that_nobody_reads() {
    assert_success(&with_bodies(32, "")).await;
    let reason = "it writes the bodies of more than 32 HTTP requests at the same time";
    assert_stopped(&with_bodies(33, ""), FailureKind::Trap, reason).await;
    // The request has its body, also when the guest has dropped its own handle of the body.
    let dropped = "(call $drop-body (i32.load (i32.const 68)))";
    assert_stopped(&with_bodies(33, dropped), FailureKind::Trap, reason).await;
    let dropped = format!("{dropped} (call $drop-request (local.get $i))");
    assert_success(&with_bodies(200, &dropped)).await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_has_few_bytes() {
    let write =
        |length: u32| format!("(call $write (local.get $i) (i32.const 65536) (i32.const {length}) (i32.const 64))");
    let writes = |lengths: &[u32]| {
        let writes: String = lengths.iter().map(|length| write(*length)).collect();
        let stream = "(call $body-stream (i32.load (i32.const 68)) (i32.const 64))
                      (local.set $i (i32.load (i32.const 68)))";
        with_bodies(1, &format!("{stream} {writes} (call $check (i64.load8_u (i32.const 64)) (i64.const 0))"))
    };
    assert_success(&writes(&[65_536, 65_536])).await;
    for lengths in [&[65_536, 65_536, 1][..], &[65_537]] {
        assert_stopped(&writes(lengths), FailureKind::Trap, "write exceeded budget").await;
    }
}

#[tokio::test]
async fn a_guest_makes_no_responses() {
    let reason = "it makes an HTTP response: a guest receives no requests that it could answer";
    assert_stopped("(drop (call $response (call $fields)))", FailureKind::Trap, reason).await;
}

#[tokio::test]
async fn handles_are_limited() {
    for call in ["$stdout", "$stdin", "$timer (i64.const 0)"] {
        let body = format!("(loop $l (drop (call {call})) (br $l))");
        assert_stopped(&body, FailureKind::Trap, "resource table").await;
    }
}

#[tokio::test]
async fn arguments_and_environment_have_only_names_of_the_job() {
    // The lists have fixed lengths, and the names in them are short.
    let body = "
        (local.set $i (global.get $heap))
        (call $arguments (i32.const 64))
        (call $check (i64.load32_u (i32.const 68)) (i64.const 1))
        (call $environment (i32.const 64))
        (call $check (i64.load32_u (i32.const 68)) (i64.const 6))
        (if (i32.gt_u (i32.sub (global.get $heap) (local.get $i)) (i32.const 1024)) (then unreachable))";
    assert_success(body).await;
}
