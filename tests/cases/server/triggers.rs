//! Tests flows that fire more than once, on real guests: their triggers, failed firings, and cycles.

use std::time::Duration;

use serde_json::json;

use super::{TestServer, assert_error, serve};

const LISTENER: &str = "name = \"balancer\"\npersistent = true\n\
    [[task]]\nname = \"add-ip\"\nuse = \"hostile#echo\"\nrequires = { value = \"ip\" }\nprovides = { value = \"added\" }\n\
    [[task]]\nname = \"check\"\nuse = \"hostile#noop\"\n\
    [[link]]\nfrom = \"add-ip\"\nto = \"check\"\nwhen = \"added.size() > 2\"\n";

pub(super) fn fired(server: &TestServer, run: &str) -> u64 {
    server.run(&["show", run, "--json"]).expect(0).end()["fired"].as_u64().expect("it fires")
}

/// Waits until a run has fired `times` times, and no firing is in progress.
#[track_caller]
pub(super) fn wait_for_firings(server: &TestServer, run: &str, times: u64) {
    for _ in 0..1_000 {
        let shown = server.run(&["show", run, "--json"]).expect(0).end();
        if shown["fired"] == times && shown["firings"].is_null() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{run} has not fired {times} times");
}

#[test]
fn a_persistent_flow_survives_a_server_restart() {
    let server = TestServer::new();
    server.waft.flow(LISTENER);
    server.submit("lb");
    for ip in ["10.0.0.1", "10.0.0.2"] {
        server.run(&["notify", "lb", "add-ip", "--set", &format!("ip={ip}"), "--key", ip]).expect(0);
        // A duplicate notification.
        server.run(&["notify", "lb", "add-ip", "--set", &format!("ip={ip}"), "--key", ip]).expect(0);
    }
    wait_for_firings(&server, "lb", 2);
    for (arguments, message) in [
        (vec!["notify", "lb", "add-ip"], "\"ip\" is missing"),
        (vec!["notify", "lb", "add-ip", "--set", "pi=3"], "\"pi\" is not waited for: it takes \"ip\""),
        (vec!["notify", "lb", "nobody"], "the run has no task \"nobody\""),
    ] {
        let output = server.run(&arguments);
        assert!(output.code == Some(2) && output.stderr.contains(message), "{arguments:?}: {}", output.stderr);
    }
    let TestServer { waft, process, .. } = server;
    process.kill();
    let (process, address) = serve(&waft, "127.0.0.1:0");
    let server = TestServer { waft, address, process };
    server.run(&["notify", "lb", "add-ip", "--set", "ip=10.0.0.2", "--key", "10.0.0.2"]).expect(0);
    assert_eq!(fired(&server, "lb"), 2, "a notification from before the restart does not fire again");
    // A condition that cannot be evaluated fails only its own firing.
    server.run(&["notify", "lb", "add-ip", "--set", "ip=7"]).expect(0);
    wait_for_firings(&server, "lb", 3);
    let shown = server.run(&["show", "lb", "--json"]).expect(0).end();
    assert_eq!((&shown["state"], &shown["failures"]["check"]["kind"]), (&json!("running"), &json!("permanent")));
    server.run(&["notify", "lb", "add-ip", "--set", "ip=10.0.0.3"]).expect(0);
    wait_for_firings(&server, "lb", 4);
    let shown = server.run(&["show", "lb", "--json"]).expect(0).end();
    assert_eq!((&shown["provides"]["added"], &shown["failures"]), (&json!("10.0.0.3"), &json!({})));
    server.run(&["cancel", "lb"]).expect(0);
    let watched = server.run(&["watch", "lb", "--json"]);
    let lines = watched.expect(1).json();
    let states = |firing: u64| -> Vec<&str> {
        let firing_lines = lines.iter().filter(|line| line["event"] == "firing" && line["firing"] == firing);
        firing_lines.filter_map(|line| line["state"].as_str()).collect()
    };
    assert_eq!([states(1), states(3)], [["running", "success"], ["running", "rolled-back"]]);
    assert_error(&server.run(&["notify", "lb", "add-ip", "--set", "ip=1"]), 2, "there is nothing to notify");
}

#[test]
fn a_running_cycle_is_unlinked() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"round\"\ncyclic = true\n[inputs]\nword = \"a\"\n\
         [[task]]\nname = \"say\"\nuse = \"hostile#echo\"\nrequires = { value = \"word\" }\nprovides = { value = \"word\" }\n\
         [[task]]\nname = \"rest\"\nuse = \"hostile#sleep\"\nwith = { ms = 20 }\nprovides = []\n\
         [[link]]\nfrom = \"say\"\nto = \"rest\"\n\
         [[link]]\nfrom = \"rest\"\nto = \"say\"\n",
    );
    server.submit("r");
    while fired(&server, "r") < 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
    server.run(&["edit", "r", "unlink", "rest", "say"]).expect(0);
    let ended = server.run(&["watch", "r", "--json"]).expect(0).end();
    assert_eq!((&ended["state"], &ended["provides"]["word"]), (&json!("success"), &json!("a")));
}

#[test]
fn a_schedule_fires_by_itself() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"clean\"\npersistent = true\nmax_firings = 2\n\
         [[task]]\nname = \"sweep\"\nuse = \"hostile#echo\"\nrequires = { value = \"scheduled_at\" }\n\
         [[schedule]]\ncron = \"* * * * * *\"\nto = \"sweep\"\n",
    );
    server.submit("r");
    let ended = server.run(&["watch", "r", "--json"]).expect(0).end();
    assert!(ended["provides"]["value"].as_str().is_some_and(|at| at.ends_with('Z')), "{ended}");
}

#[test]
fn show_tells_which_times_fired_nothing_and_which_will_still_fire() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"clean\"\npersistent = true\n\
         [[task]]\nname = \"sweep\"\nuse = \"hostile#sleep\"\nwith = { ms = 600000 }\nprovides = []\ntimeout = \"20m\"\n\
         [[schedule]]\ncron = \"* * * * * *\"\nto = \"sweep\"\nmissed = \"all\"\n",
    );
    server.submit("r");
    let shown = |server: &TestServer| server.run(&["show", "r", "--json"]).expect(0).end();
    // The first firing is under way at the times after it.
    waft_tests::wait_until(|| shown(&server)["skipped"].is_array());
    let skipped = shown(&server)["skipped"].clone();
    assert_eq!((&skipped[0]["task"], &skipped[0]["reason"]), (&json!("sweep"), &json!("overlap")), "{skipped}");
    assert!(skipped[0]["count"].as_u64() > Some(0) && skipped[0]["last_at"].is_string(), "{skipped}");
    let text = server.run(&["show", "r"]);
    let line = text.expect(0).stdout.lines().find(|line| line.starts_with("sweep was not fired ")).expect("it says so");
    assert!(line.contains(", since an earlier firing of its schedule was under way; last at "), "{line}");

    let TestServer { waft, process, .. } = server;
    process.kill();
    // Several times pass while nobody drives the run.
    std::thread::sleep(Duration::from_secs(3));
    let (process, address) = serve(&waft, "127.0.0.1:0");
    let server = TestServer { waft, address, process };
    waft_tests::wait_until(|| shown(&server)["backlogs"].is_array());
    let backlog = shown(&server)["backlogs"][0].clone();
    assert_eq!(backlog["task"], "sweep");
    let text = server.run(&["show", "r"]);
    let line =
        text.expect(0).stdout.lines().find(|line| line.starts_with("sweep has missed times to make up for, from "));
    let next = backlog["next"].as_str().and_then(|next| next.get(..19)).expect("a time");
    assert!(line.is_some_and(|line| line.contains(next)), "{next} is not in:\n{}", text.stdout);
}

#[test]
fn the_schedules_of_runs_are_listed_until_the_runs_have_ended() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"clean\"\npersistent = true\n\
         [[task]]\nname = \"sweep\"\nuse = \"hostile#noop\"\n\
         [[schedule]]\ncron = \"0 3 * * *\"\nzone = \"Europe/Berlin\"\nto = \"sweep\"\n",
    );
    server.submit("r");
    waft_tests::wait_until(|| !server.run(&["schedules", "--json"]).expect(0).json().is_empty());
    waft_tests::wait_until(|| server.run(&["schedules", "--json"]).expect(0).end()["next"].is_string());
    let schedule = server.run(&["schedules", "--flow", "clean", "--json"]).expect(0).end();
    let keys = ["run", "task", "cron", "zone"].map(|key| schedule[key].as_str().unwrap_or_default().to_owned());
    assert_eq!(keys, ["r", "sweep", "0 3 * * *", "Europe/Berlin"]);
    assert!(server.run(&["schedules"]).expect(0).stdout.contains("clean sweep r: 0 3 * * *"));
    server.run(&["cancel", "r"]).expect(0);
    server.run(&["watch", "r"]);
    let none = server.run(&["schedules"]);
    assert!(none.expect(0).stderr.contains("no run that has not ended has a schedule"), "{}", none.stderr);
}

#[test]
fn a_suspended_listener_misses_no_notification() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"balancer\"\npersistent = true\n\
         [[task]]\nname = \"add-ip\"\nuse = \"hostile#echo\"\nrequires = { value = \"ip\" }\nprovides = { value = \"added\" }\n\
         [[listen]]\nflow = \"create-server\"\ntask = \"kick\"\nto = \"add-ip\"\n",
    );
    server.submit("lb");
    server.waft.flow(
        "name = \"report\"\n[[task]]\nname = \"first-server\"\nwait = \"a server\"\nprovides = [\"ip\"]\n\
         [[listen]]\nflow = \"create-server\"\ntask = \"kick\"\nto = \"first-server\"\n",
    );
    server.submit("report");
    server.until("report", "first-server", "running");
    let create = |ip: &str| {
        server.waft.flow(&format!(
            "name = \"create-server\"\n[[task]]\nname = \"kick\"\nuse = \"hostile#echo\"\nwith = {{ value = \"{ip}\" }}\n\
             provides = {{ value = \"ip\" }}\n"
        ));
        server.run(&["submit", "flow.toml", "--wait"]).expect(0);
    };
    create("10.0.0.1");
    wait_for_firings(&server, "lb", 1);
    let ended = server.run(&["watch", "report", "--json"]).expect(0).end();
    assert_eq!(ended["provides"]["ip"], "10.0.0.1");
    server.run(&["suspend", "lb"]).expect(0);
    create("10.0.0.2");
    while fired(&server, "lb") < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    server.run(&["resume", "lb"]).expect(0);
    wait_for_firings(&server, "lb", 2);
    let shown = server.run(&["show", "lb", "--json"]).expect(0).end();
    assert_eq!((&shown["provides"]["added"], &shown["state"]), (&json!("10.0.0.2"), &json!("running")));
}
