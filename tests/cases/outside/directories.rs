//! Tests the directories of the operator that guests use.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::*;

const ASKED: &str = "allow = { dirs = [{ name = \"data\", write = true }, \"menu\"] }";

/// A folder with a directory to write to, up to a size, and one to read, and the grant of both.
fn with_directories(max: &str) -> (Waft, PathBuf) {
    let waft = Waft::default();
    let base = waft.folder().canonicalize().expect("the folder exists");
    for name in ["data", "menu"] {
        fs::create_dir(base.join(name)).expect("the folder can be written");
    }
    fs::write(base.join("menu/today"), "pancakes").expect("the folder can be written");
    waft.set_settings(&grant(&base, max));
    (waft, base)
}

fn grant(base: &Path, max: &str) -> String {
    let base = base.display();
    format!(
        "[[grant]]\ndirs = {{ data = {{ path = \"{base}/data\", write = true, max = \"{max}\" }}, menu = {{ path = \
         \"{base}/menu\" }} }}\n"
    )
}

fn read(waft: &Waft, path: &str, keys: &str) -> CommandOutput {
    waft.run_flow(&flow("read-file", &json!({ "path": path }), keys), &[])
}

fn write(waft: &Waft, path: &str, text: &str, times: usize, keys: &str) -> CommandOutput {
    waft.run_flow(&flow("write-file", &json!({ "path": path, "text": text, "times": times }), keys), &[])
}

fn change(waft: &Waft, action: &str, path: &str, other: &str) -> Value {
    let inputs = json!({ "action": action, "path": path, "other": other });
    provided(&waft.run_flow(&flow("change-files", &inputs, ASKED), &[]), "outcome")
}

#[test]
fn a_directory_needs_the_flow_and_the_operator() {
    let (waft, base) = with_directories("1MiB");
    assert_eq!(provided(&read(&waft, "/menu/today", ASKED), "text"), "pancakes");
    assert_eq!(provided(&write(&waft, "/data/log", "abc", 2, ASKED), "size"), 6);
    assert_eq!(fs::read_to_string(base.join("data/log")).expect("it was written"), "abcabc");

    assert_denied(&read(&waft, "/menu/today", ""), "unless the flow asks for a directory, as with allow = { dirs = ");
    assert_denied(
        &write(&waft, "/menu/today", "!", 1, ASKED),
        "writing to the directory menu is denied: the flow does not ask for it; let the task say allow = { dirs = [{ name = \
         \"menu\", write = true }] }",
    );
    let asks_to_write = "allow = { dirs = [{ name = \"menu\", write = true }] }";
    assert_eq!(provided(&read(&waft, "/menu/today", asks_to_write), "text"), "pancakes");
    assert_denied(
        &write(&waft, "/menu/today", "!", 1, asks_to_write),
        "writing to the directory menu is denied: the flow asks for it, and no [[grant]] in the settings of the worker allows it",
    );
    assert_denied(
        &read(&granted(""), "/menu/today", ASKED),
        "the directory data is denied: the flow asks for it, and no [[grant]] in the settings of the worker allows it",
    );
    assert_eq!(fs::read_to_string(base.join("menu/today")).expect("it is there"), "pancakes");
    // A file that is not there is no denial.
    assert_eq!(read(&waft, "/menu/tomorrow", ASKED).expect(1).failure("t").0, "transient");
}

#[test]
fn two_namespaces_have_directories_of_their_own() {
    let (waft, base) = with_directories("1MiB");
    let base = base.display();
    waft.set_settings(&format!(
        "[[grant]]\nnamespace = \"shop\"\ndirs = {{ d = {{ path = \"{base}/data\", write = true, max = \"1MiB\" }} }}\n\
         [[grant]]\nnamespace = \"bank\"\ndirs = {{ d = {{ path = \"{base}/menu\" }} }}\n"
    ));
    let run = |name: &str, path: &str| {
        let text = flow("read-file", &json!({ "path": path }), "allow = { dirs = [\"d\"] }");
        waft.run_flow(&text.replacen("name = \"f\"", &format!("name = \"{name}\""), 1), &[])
    };
    assert_eq!(provided(&run("bank/f", "/d/today"), "text"), "pancakes");
    assert_eq!(run("shop/f", "/d/today").expect(1).failure("t").0, "transient");
    assert_denied(&run("f", "/d/today"), "the directory d is denied: the flow asks for it, and no");
}

#[test]
fn a_directory_holds_no_more_than_its_limit() {
    let (waft, base) = with_directories("64KiB");
    let full = "writing to the directory data is denied: it would hold ";
    assert_denied(&write(&waft, "/data/log", &"x".repeat(1_000), 100, ASKED), full);
    let written = || fs::metadata(base.join("data/log")).expect("it was made").len();
    assert!(written() <= 60 << 10, "{}", written());
    assert_denied(&write(&waft, "/data/log", &"x".repeat(8_000), 1, ASKED), full);
    assert_eq!(change(&waft, "grow", "/data/log", ""), "StorageFull", "a hole needs its size");
    assert_eq!(written(), 0, "it was emptied before");
    assert_eq!(provided(&write(&waft, "/data/log", &"x".repeat(8_000), 1, ASKED), "size"), 8_000);
    // Others fill the directory, and files without bytes need space too.
    for number in 0..20 {
        fs::write(base.join(format!("data/{number}")), "").expect("the folder can be written");
    }
    assert_denied(&write(&waft, "/data/new", "x", 1, ASKED), full);
    assert_eq!(change(&waft, "make", "/data/inner", ""), "StorageFull");
    fs::remove_file(base.join("data/log")).expect("it is there");
    for number in 0..20 {
        assert_eq!(change(&waft, "remove", &format!("/data/{number}"), ""), "done");
    }
    assert_eq!(change(&waft, "make", "/data/inner", ""), "done");
    assert_eq!(change(&waft, "list", "/data", ""), "inner");
}

#[test]
fn nothing_leads_out_of_a_directory() {
    let (waft, base) = with_directories("1MiB");
    fs::write(base.join("secret"), "s3cret").expect("the folder can be written");
    symlink("../secret", base.join("data/out")).expect("a link");
    symlink(&base, base.join("data/up")).expect("a link");
    symlink("today", base.join("menu/link")).expect("a link");
    assert_eq!(provided(&read(&waft, "/menu/link", ASKED), "text"), "pancakes", "a link inside is followed");
    for path in ["/data/out", "/data/up/secret", "/data/../secret", "/data/../data/../secret"] {
        let output = read(&waft, path, ASKED);
        let (kind, message) = output.expect(1).failure("t");
        assert!(!output.stdout.contains("s3cret"), "{path}");
        let is_denied = kind == "denied" && message.contains("it leads out of the directory data");
        assert!(is_denied || message.contains("os error"), "{path}: {kind}: {message}");
    }
    assert_denied(&read(&waft, "/data/out", ASKED), "the path \"out\" is denied: it leads out of the directory data");
    assert_denied(&write(&waft, "/data/out", "x", 1, ASKED), "it leads out of the directory data");
    assert_eq!(fs::read_to_string(base.join("secret")).expect("it is there"), "s3cret");
    // What would be a name in two directories.
    fs::write(base.join("data/own"), "own").expect("the folder can be written");
    assert_eq!(change(&waft, "hard-link", "/data/own", "/data/second"), "Unsupported");
    assert_eq!(change(&waft, "rename", "/data/own", "/data/renamed"), "done");
    assert_ne!(change(&waft, "rename", "/data/renamed", "/menu/own"), "done");
    assert!(base.join("data/renamed").exists());
    assert_ne!(change(&waft, "open-many", "/data/renamed", ""), "done");
}

#[test]
fn a_directory_that_is_a_link_or_missing_is_not_opened() {
    let (waft, base) = with_directories("1MiB");
    fs::rename(base.join("menu"), base.join("real")).expect("the folder can be written");
    let failure = || read(&waft, "/menu/today", ASKED).expect(1).failure("t");
    let (kind, message) = failure();
    assert_eq!(kind, "transient");
    assert!(message.contains("the directory menu cannot be opened: ") && message.contains("No such file"), "{message}");
    symlink("real", base.join("menu")).expect("a link");
    let (_, message) = failure();
    assert!(message.contains("its path has a link in it"), "{message}");
}

#[test]
fn a_pipe_or_a_device_holds_nothing_up() {
    let (waft, base) = with_directories("1MiB");
    let made = Command::new("mkfifo").arg(base.join("data/pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    let started = Instant::now();
    let special = "is denied: it is a pipe, a socket or a device";
    assert_denied(&read(&waft, "/data/pipe", &format!("{ASKED}\ntimeout = \"20s\"")), special);
    assert_denied(&write(&waft, "/data/pipe", "x", 1, ASKED), special);
    assert!(started.elapsed() < Duration::from_secs(15), "it has not waited");
}

#[test]
fn errors_in_directories_are_reported_with_their_place() {
    let waft = granted(
        "[[grant]]\ndirs = { a = { path = \"x\" }, b = { path = \"/b\", write = true }, \"c d\" = { path = \"/c\" } }\n\
         [[grant]]\ndirs = { e = { path = \"/c/e\" } }\n[[grant]]\ndirs = { f = { path = \"/c\" } }\n",
    );
    waft.flow(&flow("random", &json!({}), ""));
    let stderr = waft.run(["run", "flow.toml"]).expect(2).stderr.clone();
    for expected in [
        "[[grant]] number 1: dirs.a: `path` is no full path of a directory",
        "[[grant]] number 1: dirs.b: calls may write to it: say how large it may become",
        "[[grant]] number 1: dirs: \"c d\" is not a name",
        "[[grant]]: the directory /c/e is inside of /c",
    ] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }

    let (waft, _) = with_directories("1MiB");
    waft.flow(&flow("random", &json!({}), "allow = { dirs = [3, { write = true }, { name = \"a\", wite = true }] }"));
    let stderr = waft.run(["check", "flow.toml"]).expect(2).stderr.clone();
    for expected in [
        "an element of \"dirs\" in \"allow\" of task \"t\" is an integer",
        "an element of \"dirs\" in \"allow\" of task \"t\" has no \"name\"",
        "has an unknown key \"wite\"",
    ] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    let allow = "allow = { dirs = [\"other\", \"data\", { name = \"menu\", write = true }] }";
    waft.flow(&flow("random", &json!({}), allow));
    let output = waft.run(["check", "flow.toml"]);
    let expected = "  t asks for dir data to read (granted here), dir menu to write (granted here in part), dir other to read (not \
                    granted here)\n";
    assert!(output.expect(0).stdout.contains(expected), "{}", output.stdout);
}

#[test]
#[cfg(target_os = "linux")]
fn child_processes_have_no_directories() {
    let (waft, _) = with_directories("1MiB");
    let run = |settings: Option<&str>| {
        settings.iter().for_each(|settings| waft.set_settings(settings));
        waft.run_flow(&flow("read-file", &json!({ "path": "/menu/today" }), ASKED), &["--isolate", "process"])
    };
    assert_denied(
        &run(None),
        "the directory data is denied: the worker calls guests in processes of their own, which have no files",
    );
    assert_denied(&run(Some("")), "the directory data is denied: the flow asks for it, and no [[grant]]");
}
