//! What a namespace may have at most, through the binary: open runs, stored bytes, slots of a worker.

use waft_tests::{CommandOutput, Process, Waft, guest};

use super::{assert_error, serve};

/// A server with settings, whose worker takes jobs of two namespaces.
struct Shared {
    waft: Waft,
    address: String,
    _process: Process,
}

impl Shared {
    fn new(settings: &str) -> Self {
        let waft = Waft::default();
        std::fs::create_dir_all(waft.folder().join("configuration/waft")).expect("the folder can be written");
        waft.write("configuration/waft/config.toml", settings.as_bytes());
        let (process, address) = serve(&waft, "127.0.0.1:0");
        Self { waft, address, _process: process }
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.waft.command(arguments);
        command.env("WAFT_SERVER", &self.address).output().expect("waft starts").into()
    }

    fn submit(&self, flow: &str, run: &str) -> CommandOutput {
        self.waft.flow(flow);
        self.run(&["submit", "flow.toml", "--run-id", run])
    }
}

/// A flow whose runs stay open.
fn open_flow(name: &str) -> String {
    format!("name = \"{name}\"\n[[task]]\nname = \"t\"\nwait = \"somebody\"\n")
}

#[test]
fn a_namespace_has_at_most_as_many_open_runs_as_allowed() {
    let server = Shared::new("[namespace.\"*\"]\nopen_runs = 1\n[namespace.shop]\nopen_runs = 2\n");
    server.submit(&open_flow("shop/a"), "1").expect(0);
    server.submit(&open_flow("shop/b"), "2").expect(0);
    let refused = server.submit(&open_flow("shop/c"), "3");
    let says = "2 runs of the namespace shop have not ended, and its limit `open_runs` allows no more here";
    assert_error(&refused, 2, says);
    assert_error(&refused, 2, "an operator changes the maximum under [namespace] in the settings of the server");
    server.submit(&open_flow("bakery/a"), "4").expect(0);
    assert_error(&server.submit(&open_flow("bakery/b"), "5"), 2, "1 runs of the namespace bakery have not ended");
    for run in ["6", "7", "8"] {
        server.submit(&open_flow("a"), run).expect(0);
    }
    server.run(&["cancel", "1"]).expect(0);
    server.run(&["watch", "1"]).expect(1);
    server.submit(&open_flow("shop/c"), "3").expect(0);
}

#[test]
fn a_namespace_stores_at_most_as_many_bytes_as_allowed() {
    let server = Shared::new("[namespace.shop]\nbytes = \"1MiB\"\n");
    let hostile = guest("hostile");
    let push = |name: &str, tag: &str| {
        let module = guest(name);
        server.run(&["push", module.to_str().expect("a path in UTF-8"), "--tag", tag])
    };
    server.run(&["push", hostile.to_str().expect("a path in UTF-8"), "--tag", "shop/hostile"]).expect(0);
    let text = "x".repeat(200_000);
    let large = |name: &str| {
        format!("name = \"{name}\"\n[inputs]\ntext = \"{text}\"\n[[task]]\nname = \"t\"\nwait = \"somebody\"\n")
    };
    let outputs: Vec<CommandOutput> =
        (0..5).map(|number| server.submit(&large("shop/f"), &number.to_string())).collect();
    let started = outputs.iter().take_while(|output| output.code == Some(0)).count();
    assert!((1..=3).contains(&started), "310 kB of a module and some flows of 200 kB are less than 1 MiB: {started}");
    let refused = outputs.last().expect("there are five");
    assert_error(refused, 2, "the namespace shop stores ");
    assert_error(refused, 2, "and its limit `bytes` is 1MiB");
    assert_error(refused, 2, "`waft gc`");
    for tag in ["shop/text", "shop/hostile"] {
        assert_error(&push("text", tag), 2, "the namespace shop stores ");
    }
    server.submit(&large("bakery/f"), "other").expect(0);
    server.submit(&large("f"), "none").expect(0);
    push("text", "text").expect(0);
}

#[test]
fn edits_count_with_the_whole_flow_that_they_record() {
    let server = Shared::new("[namespace.shop]\nbytes = \"1MiB\"\n");
    let comment = format!("# {}\n", "x".repeat(200_000));
    let flow = format!("{comment}{}[[task]]\nname = \"u\"\nwait = \"somebody\"\n", open_flow("shop/f"));
    server.submit(&flow, "1").expect(0);
    let edits = ["link", "unlink"].into_iter().cycle().take(8);
    let outputs: Vec<CommandOutput> = edits.map(|edit| server.run(&["edit", "1", edit, "t", "u"])).collect();
    let made = outputs.iter().take_while(|output| output.code == Some(0)).count();
    assert!((1..=4).contains(&made), "each edit records 200 kB, and 1 MiB is allowed: {made}");
    assert_error(&outputs[made], 2, "the namespace shop stores ");
}

#[test]
fn modules_without_a_tag_count_until_they_are_removed() {
    let server = Shared::new("[namespace.shop]\nbytes = \"700KiB\"\n");
    let push = |name: &str| {
        let module = guest(name);
        server.run(&["push", module.to_str().expect("a path in UTF-8"), "--tag", "shop/same"])
    };
    push("hostile").expect(0);
    push("text").expect(0);
    assert_error(&push("ledger"), 2, "the namespace shop stores ");
}

#[test]
fn a_queue_with_slots_of_its_own_leaves_the_others_free() {
    // Otherwise calls that sleep would leave their slots to others.
    let server = Shared::new("[worker]\nslots = 1\nwaiting = 0\nqueues = [\"default\", \"shop/default=1\"]\n");
    let hostile = guest("hostile");
    server.run(&["push", hostile.to_str().expect("a path in UTF-8"), "--tag", "hostile"]).expect(0);
    let sleep = |name: &str| {
        format!(
            "[[task]]\nname = \"{name}\"\nuse = \"hostile#sleep\"\nwith = {{ ms = 60_000 }}\nprovides = {{ slept_ms = \"{name}_ms\" }}\n"
        )
    };
    server.submit(&format!("name = \"shop/f\"\n{}{}", sleep("a"), sleep("b")), "long").expect(0);
    server.waft.flow("name = \"g\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    server.run(&["submit", "flow.toml", "--wait", "--run-id", "short"]).expect(0);
    let shown = server.run(&["show", "long"]).expect(0).stdout.clone();
    assert!(shown.contains("running"), "both calls of the namespace need its only slot: {shown}");
}
