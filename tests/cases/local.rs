//! Tests runs that `waft run` left in the logbook of this machine: show, retry, skip and cancel.

mod read;

use serde_json::json;
use waft_tests::{CommandOutput, Process, Waft};

/// A task whose rollback fails, and one that fails.
const FAILED_ROLLBACK_FLOW: &str = "name = \"f\"\npattern = \"linear\"\n\
    [[task]]\nname = \"hold\"\nuse = \"hostile#stubborn\"\nwith = { value = 7 }\nretry = { attempts = 1 }\n\
    [[task]]\nname = \"sum\"\nuse = \"hostile#noop\"\n\
    [[task]]\nname = \"charge\"\nuse = \"hostile#fail\"\nwith = { message = \"no money\" }\n";

#[track_caller]
fn assert_output(output: &CommandOutput, code: i32, text: &str) {
    let output = output.expect(code);
    let printed = output.stdout.clone() + &output.stderr;
    assert!(printed.contains(text), "{text:?} is not in:\n{printed}");
}

#[test]
fn the_advice_after_a_failed_rollback_works() {
    let waft = Waft::default();
    waft.flow(FAILED_ROLLBACK_FLOW);
    let output = waft.run(["run", "flow.toml", "--run-id", "r"]);
    assert_output(&output, 3, "`waft retry r` tries the rollbacks again");
    assert_output(&output, 3, "`waft skip r TASK --reason TEXT`");
    assert_output(&waft.run(["retry", "r"]), 3, "hold could not be rolled back");
    assert_output(
        &waft.run(["skip", "r", "sum", "--reason", "x"]),
        2,
        "task \"sum\" of run r has no rollback that failed",
    );
    assert_output(&waft.run(["skip", "r", "hold", "--reason", " "]), 2, "the reason is empty");
    assert_output(&waft.run(["cancel", "r"]), 2, "run r is failure: there is nothing to cancel");
    assert_output(&waft.run(["suspend", "r"]), 2, "driven by no process");
    assert_output(&waft.run(["notify", "r", "hold"]), 2, "nothing waits to be notified");
    assert_output(&waft.run(["skip", "r", "hold", "--reason", "let go\nby hand"]), 1, "failed and was rolled back");
    let shown = waft.run(["show", "r"]);
    assert_output(&shown, 0, "skipped: let go ⏎ by hand");
    assert_eq!(shown.stderr, "", "the whole report is on one stream");
    let node = |name: &str| {
        let shown = waft.run(["show", "r", "--json"]).expect(0).end();
        shown["tasks"].as_array().unwrap().iter().find(|task| task["name"] == name).cloned().unwrap()
    };
    assert_eq!(node("hold")["rollback_skipped"], "let go\nby hand");
    assert_output(&waft.run(["retry", "r"]), 3, "hold could not be rolled back");
    assert!(node("hold")["rollback_skipped"].is_null(), "it has been retried since");
}

#[test]
fn a_run_whose_element_rollback_was_skipped_is_shown() {
    let waft = Waft::default();
    let element = "use = \"hostile#stubborn\"\nfor_each = \"numbers\"\nas = \"value\"";
    let flow = FAILED_ROLLBACK_FLOW.replace("use = \"hostile#stubborn\"\nwith = { value = 7 }", element);
    waft.flow(&flow.replace("[[task]]\nname = \"hold\"", "inputs = { numbers = [7] }\n[[task]]\nname = \"hold\""));
    assert_output(&waft.run(["run", "flow.toml", "--run-id", "r"]), 3, "`waft retry r` tries the rollbacks again");
    assert_output(&waft.run(["skip", "r", "hold[0]", "--reason", "let go"]), 1, "failed and was rolled back");
    assert_output(&waft.run(["show", "r"]), 0, "skipped: let go");
}

#[test]
fn only_tasks_with_a_rollback_are_shown_as_rolled_back() {
    let waft = Waft::default();
    waft.flow(&FAILED_ROLLBACK_FLOW.replace("value = 7", "value = 7, rolls_back_at = 1"));
    let output = waft.run(["run", "flow.toml", "--run-id", "r"]);
    assert_output(&output, 1, "charge failed (permanent): no money\n  rolled back: hold\n  without a rollback: sum\n");
    let shown = waft.run(["show", "r"]);
    let line =
        |name: &str| shown.expect(0).stdout.lines().find(|line| line.split(' ').any(|word| word == name)).unwrap();
    assert!(line("hold").contains(" rolled-back ") && !line("hold").contains("has no rollback"), "{}", shown.stdout);
    assert!(line("sum").contains(" ended ") && line("sum").contains("  has no rollback"), "{}", shown.stdout);
    let charge = line("charge");
    assert!(charge.contains(" failure ") && charge.contains("  has no rollback"), "{}", shown.stdout);
    assert!(charge.ends_with("permanent: no money"), "{}", shown.stdout);
    // The published state is that of the flow, and the API says beside it whether the task has a rollback.
    let tasks = waft.run(["show", "r", "--json"]).expect(0).end()["tasks"].clone();
    let said: Vec<_> =
        tasks.as_array().unwrap().iter().map(|task| json!([task["state"], task["has_rollback"]])).collect();
    assert_eq!(said, [true, false, false].map(|has_rollback| json!(["rolled-back", has_rollback])));
}

#[test]
fn a_run_driven_by_another_process_is_not_resumed() {
    let waft = Waft::default();
    let flow = waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#spin\"\ntimeout = \"5m\"\n");
    let flow = flow.to_str().unwrap();
    let mut run = Process::spawn(&mut waft.command(["run", flow, "--run-id", "r"]));
    run.wait_for("t running");
    for arguments in [&["run", "--resume", "r"][..], &["cancel", "r"], &["retry", "r"], &["run", flow, "--run-id", "r"]]
    {
        assert_output(&waft.run(arguments), 2, "another process drives run r");
    }
    assert_output(&waft.run(["show", "r"]), 0, "running");
    // A killed process releases its lock.
    run.kill();
    assert_output(&waft.run(["cancel", "r"]), 1, "t failed (cancelled)");
    assert_output(&waft.run(["run", "--resume", "r"]), 1, "t failed (cancelled)");
}

#[test]
fn a_run_shows_its_id_and_guest_logs() {
    let waft = Waft::default();
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#say\"\nwith = { text = \"hello\", ms = 0 }\n");
    let output = waft.run(["run", "flow.toml", "--run-id", "r"]);
    assert_output(&output, 0, "run r\nt running\n");
    for line in ["t | info   hello\n", "t | stdout hello\n", "t | stderr hello\n"] {
        assert_eq!(output.stderr.matches(line).count(), 2, "{}", output.stderr);
        assert_eq!(waft.run(["logs", "r"]).expect(0).stdout.matches(line).count(), 2);
    }
    let quiet = waft.run(["run", "flow.toml", "--quiet"]);
    assert!(!quiet.expect(0).stderr.contains("hello |") && !quiet.stderr.contains("| info"), "{}", quiet.stderr);
    assert_eq!(waft.run(["run", "flow.toml", "--json"]).expect(0).stderr, "");
}

#[test]
fn gc_never_touches_a_servers_logbook() {
    let waft = Waft::default();
    let gc = |arguments: &[&str]| -> CommandOutput {
        let all = [&["gc", "--older-than", "1h", "--dry-run"], arguments].concat();
        waft.command(all).env("WAFT_SERVER", "http://127.0.0.1:1").output().unwrap().into()
    };
    assert_output(&gc(&[]), 2, "may be others than those of http://127.0.0.1:1");
    assert!(!waft.folder().join("logbook.db").exists(), "nothing was created");
    // The logbook of another waft: its store must be named, too.
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    let (logbook, store) = (waft.folder().join("other.db"), waft.folder().join("other-store"));
    let both = ["--logbook", logbook.to_str().unwrap(), "--store", store.to_str().unwrap()];
    waft.run([&["run", "flow.toml"][..], &both].concat()).expect(0);
    assert_output(&gc(&both[..2]), 2, "a flag names only the logbook");
    assert_output(&gc(&both[2..]), 2, "may be others than those of http://127.0.0.1:1");
    assert_output(&gc(&both), 0, "other.db");
}

#[test]
fn gc_removes_nothing_for_a_logbook_that_may_not_be_that_of_the_store() {
    /// A variable that is not set anyway.
    const NOTHING: &str = "WAFT_SERVER";
    let waft = Waft::default();
    let guest = waft_tests::guest("hostile");
    waft.run(["push", guest.to_str().unwrap()]).expect(0);
    let modules = || waft.run(["modules", "--json"]).expect(0).stdout.clone();
    let pushed = modules();
    assert!(!pushed.is_empty(), "it is there, and no run refers to it");
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    let path = |name: &str| waft.folder().join(name).to_str().unwrap().to_owned();
    waft.write("empty.db", "");
    let (store, misspelt, empty) = (path("store"), format!("sqlite:{}", path("wfat.db")), path("empty.db"));
    let gc = |arguments: &[&str], unset: &str| -> CommandOutput {
        let mut command = waft.command([&["gc", "--older-than", "0s"], arguments].concat());
        // The default logbook and the default store are not there.
        command.env_remove(unset).env("XDG_DATA_HOME", waft.folder().join("data")).output().unwrap().into()
    };
    for (arguments, unset, refused) in [
        (&["--store", &store][..], NOTHING, "a flag names only the store"),
        (&["--store", &store], "WAFT_LOGBOOK", "a flag names only the store"),
        (&["--logbook", &empty], NOTHING, "a flag names only the logbook"),
        (&[], "WAFT_LOGBOOK", "the environment names only the store"),
        (&[], "WAFT_STORE", "the environment names only the logbook"),
        (&["--logbook", &misspelt, "--store", &store], NOTHING, "there is no logbook sqlite:"),
        (&["--logbook", &empty, "--store", &store], NOTHING, "there is no logbook "),
        (&[], NOTHING, "there is no logbook "),
    ] {
        assert_output(&gc(arguments, unset), 2, refused);
        assert_eq!(modules(), pushed, "{arguments:?} without {unset}");
    }
    for name in ["wfat.db", "logbook.db", "data"] {
        assert!(!waft.folder().join(name).exists(), "{name} was created");
    }
    // A run creates the logbook beside this store.
    waft.run(["run", "flow.toml"]).expect(0);
    assert_output(
        &gc(&["--logbook", &path("logbook.db"), "--store", &path("stroe")], NOTHING),
        2,
        "there is no store ",
    );
    assert!(!waft.folder().join("stroe").exists());
    assert_output(&gc(&[], NOTHING), 0, "removed sha256:");
}
