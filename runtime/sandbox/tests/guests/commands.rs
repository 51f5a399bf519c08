//! WASI programs as tasks.

use flow::{Failure, FailureKind, FailureSummary, NodeName, Outcome, Values};
use sandbox::{Action, Call, Completion};

use crate::support::{assert_failure, bytes, call, failure, json, program, report, requiring, text, values};

/// A program that writes its standard input to file descriptor 1 or 2.
fn cat(to: u32) -> Vec<u8> {
    let body = format!(
        "(loop $more
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 4096))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $count (i32.load (i32.const 8)))
            (if (local.get $count)
                (then (call $write (i32.const {to}) (i32.const 1024) (local.get $count)) (br $more))))"
    );
    program("", &body)
}

/// A program that writes these texts to standard output and standard error, and exits with this status.
fn printing(stdout: &str, stderr: &str, status: u32) -> Vec<u8> {
    let quoted = |text: &str| text.bytes().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let data = format!(r#"(data (i32.const 1024) "{}{}")"#, quoted(stdout), quoted(stderr));
    let (out, error) = (stdout.len(), stderr.len());
    let body = format!(
        "(call $write (i32.const 1) (i32.const 1024) (i32.const {out}))
         (call $write (i32.const 2) (i32.const {}) (i32.const {error}))
         (call $proc_exit (i32.const {status}))",
        1024 + out
    );
    program(&data, &body)
}

fn command(outputs: &[&str]) -> Call {
    Call { export: None, ..requiring(outputs) }
}

#[tokio::test]
async fn inputs_and_outputs_are_one_json_object_each() {
    let inputs = values([("text", json("\"grüß\"")), ("blob", bytes(&[0, 255])), ("n", json("12345678901234567890"))]);
    let call = Call { inputs: inputs.clone(), ..command(&["text", "blob", "n"]) };
    let report = report(&cat(1), call).await;
    assert_eq!(report.completion, Completion::Succeeded(inputs));
    assert_eq!(text(&report.stdout), "", "standard output is the result");
}

#[tokio::test]
async fn a_rollback_reads_the_outcome_and_the_failures() {
    let failure = Failure::new(FailureKind::Timeout, "too slow");
    let rollback = |outcome| Call {
        inputs: values([("batter", json("900"))]),
        action: Action::Rollback {
            outcome,
            failures: FailureSummary::of(&[(NodeName::new("heat").unwrap(), failure.clone())].into()),
        },
        ..command(&[])
    };
    let failures = r#""failures":{"heat":{"kind":"timeout","message":"too slow"}},"failures_total":1"#;
    let expected = [
        (Outcome::Provided(values([("pan", json("{\"cm\": 24}"))])), r#"{"provided":{"pan":{"cm": 24}}}"#),
        (Outcome::Failed(failure.clone()), r#"{"failed":{"kind":"timeout","message":"too slow"}}"#),
        (Outcome::Unknown, r#""unknown""#),
    ];
    for (outcome, written) in expected {
        let report = report(&cat(1), rollback(outcome)).await;
        assert_eq!(report.completion, Completion::Succeeded(Values::new()));
        assert_eq!(text(&report.stdout), format!(r#"{{"inputs":{{"batter":900}},"outcome":{written},{failures}}}"#));
    }
}

#[tokio::test]
async fn the_environment_holds_only_the_job() {
    let body = "
        (drop (call $environ_get (i32.const 512) (i32.const 2048)))
        (loop $ends
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $ends (i32.or
                (i32.load8_u offset=2047 (local.get $count))
                (i32.load8_u offset=2048 (local.get $count)))))
        (call $write (i32.const 2) (i32.const 2048) (local.get $count))";
    let stderr = text(&report(&program("", body), command(&[])).await.stderr);
    let variables: Vec<&str> = stderr.split_terminator('\0').collect();
    assert_eq!(
        variables,
        [
            "WAFT_RUN=run-1",
            "WAFT_FLOW=bake-cake",
            "WAFT_TASK=bake",
            "WAFT_FIRING=1",
            "WAFT_ATTEMPT=1",
            "WAFT_IDEMPOTENCY_KEY=run-1.bake.1"
        ]
    );
}

#[tokio::test]
async fn rollback_is_the_first_argument() {
    // Exits with the number of its arguments, without its name.
    let counts = program(
        "",
        "(drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
         (call $proc_exit (i32.sub (i32.load (i32.const 16)) (i32.const 1)))",
    );
    assert_eq!(report(&counts, command(&[])).await.completion, Completion::Succeeded(Values::new()));
    let rollback = Action::Rollback { outcome: Outcome::Unknown, failures: FailureSummary::default() };
    let failure = failure(&counts, Call { action: rollback, ..command(&[]) }).await;
    assert_failure(&failure, FailureKind::Transient, &["it exited with status 1 and wrote nothing to standard error"]);
}

#[tokio::test]
async fn a_nonzero_status_is_a_failure_with_the_last_line_of_standard_error() {
    let transient = failure(&printing("{}", "warming up\nthe oven is cold\n\n", 3), command(&[])).await;
    assert_eq!(transient, Failure::new(FailureKind::Transient, "the oven is cold"));
    let permanent = failure(&printing("", "there is no oven", 65), command(&[])).await;
    assert_eq!(permanent, Failure::new(FailureKind::Permanent, "there is no oven"));
}

#[tokio::test]
async fn an_exit_with_status_0_is_a_success() {
    let report = report(&printing(r#" {"pan": 24} "#, "", 0), command(&["pan"])).await;
    assert_eq!(report.completion, Completion::Succeeded(values([("pan", json("24"))])));
}

#[tokio::test]
async fn output_other_than_an_object_is_rejected_with_an_excerpt() {
    let wrong = failure(&printing("hello, world", "", 0), command(&[])).await;
    let expected = ["its standard output is not one JSON object", "it starts with \"hello, world\""];
    assert_failure(&wrong, FailureKind::InvalidOutput, &expected);
    let missing = failure(&printing("", "", 0), command(&["pan"])).await;
    assert_failure(&missing, FailureKind::InvalidOutput, &["it did not return the required outputs pan"]);
    let twice = failure(&printing(r#"{"pan":1,"pan":2}"#, "", 0), command(&["pan"])).await;
    assert_failure(&twice, FailureKind::InvalidOutput, &["\"pan\" is given twice"]);
}

#[tokio::test]
async fn a_trap_of_a_program_is_a_failure() {
    let failure = failure(&program("", "unreachable"), Call { ..call() }).await;
    assert_failure(&failure, FailureKind::Trap, &["unreachable"]);
}

/// Calls the adapter: reads the number of arguments, reads a byte, and writes one to standard error.
const READ_AND_WRITE: &str = "
    (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
    (i32.store (i32.const 0) (i32.const 40))
    (i32.store (i32.const 4) (i32.const 1))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $write (i32.const 2) (i32.const 40) (i32.const 1))";

/// Fills the memory between these addresses with ones.
fn fill(from: &str, to: &str) -> String {
    format!("(memory.fill {from} (i32.const 1) (i32.sub {to} {from}))")
}

/// Traps unless the memory between these addresses is full of ones.
fn assert_full(from: &str, to: &str) -> String {
    format!(
        "(local.set $count {from})
         (loop $next
            (if (i32.ne (i32.load8_u (local.get $count)) (i32.const 1)) (then unreachable))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $count) {to})))"
    )
}

#[tokio::test]
async fn a_program_never_sees_the_adapters_memory() {
    // Like old C libraries: claims all existing memory, and later each growth, regardless of its start.
    let (heap, end) = ("(i32.const 4096)", "(i32.load (i32.const 24))");
    let (grown, end_of_grown) = ("(i32.load (i32.const 28))", "(i32.load (i32.const 32))");
    let body = [
        READ_AND_WRITE,
        "(i32.store (i32.const 24) (i32.mul (memory.size) (i32.const 65536)))",
        &fill(heap, end),
        READ_AND_WRITE,
        "(i32.store (i32.const 28) (i32.mul (memory.grow (i32.const 2)) (i32.const 65536)))
         (i32.store (i32.const 32) (i32.mul (memory.size) (i32.const 65536)))",
        &fill(grown, end_of_grown),
        READ_AND_WRITE,
        &assert_full(heap, end),
        &assert_full(grown, end_of_grown),
        "(call $write (i32.const 1) (i32.const 1024) (i32.const 9))",
    ];
    let program = program(r#"(data (i32.const 1024) "{\"pan\":1}")"#, &body.concat());
    let report = report(&program, command(&["pan"])).await;
    assert_eq!(report.completion, Completion::Succeeded(values([("pan", json("1"))])));
}

#[tokio::test]
async fn a_program_sees_exactly_its_own_memory() {
    let assert_equal = |left: &str, right: &str| format!("(if (i32.ne {left} {right}) (then unreachable))");
    let body = [
        READ_AND_WRITE,
        &assert_equal("(memory.size)", "(i32.const 4)"),
        &assert_equal("(memory.grow (i32.const 0))", "(i32.const 4)"),
        &assert_equal("(memory.grow (i32.const 65536))", "(i32.const -1)"),
        &assert_equal("(memory.size)", "(i32.const 4)"),
        "(local.set $count (memory.grow (i32.const 3)))",
        &assert_equal("(memory.size)", "(i32.add (local.get $count) (i32.const 3))"),
        &assert_equal("(memory.grow (i32.const 0))", "(memory.size)"),
        // The adapter has its pages by now, so a growth continues where the previous one ended.
        &assert_equal("(memory.grow (i32.const 1))", "(i32.add (local.get $count) (i32.const 3))"),
    ];
    let report = report(&program("", &body.concat()), command(&[])).await;
    assert_eq!(report.completion, Completion::Succeeded(Values::new()));
}
