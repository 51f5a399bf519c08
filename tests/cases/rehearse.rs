//! Tests `waft rehearse` as a user meets it: its text, its JSON, its page, and what it refuses.

use std::{fs, os::unix::fs::symlink, process::Command};

use serde_json::{Value, json};
use waft_tests::{CommandOutput, Process, Waft, root};

/// A task with a rollback, one without, and one that is called only for some values.
const FLOW: &str = r#"name = "f"
[[task]]
name = "hold"
use = "hostile#stubborn"
with = { value = 7 }
retry = { attempts = 1 }
[[task]]
name = "say"
use = "hostile#echo"
with = { value = 1 }
retry = { attempts = 3, initial = "1s", jitter = false }
[[task]]
name = "ask"
wait = "an answer"
provides = ["answer"]
[[task]]
name = "rarely"
use = "hostile#noop"
[[link]]
from = "hold"
to = "say"
[[link]]
from = "say"
to = "ask"
[[link]]
from = "ask"
to = "rarely"
when = "answer == '<script>alert(1)</script>'"
"#;

#[track_caller]
fn assert_refused(output: &CommandOutput, code: i32, message: &str) {
    let output = output.expect(code);
    assert!(output.stderr.contains(message), "{message:?} is not in:\n{}", output.stderr);
    assert_eq!(output.stdout, "", "data is printed only on success");
}

/// The cases of a rehearsal whose failing calls are of these tasks.
fn case<'r>(rehearsal: &'r Value, failing: &[(&str, &str)]) -> &'r Value {
    let failing: Vec<Value> = failing.iter().map(|(node, action)| json!([node, action])).collect();
    let of_case = |case: &Value| -> Vec<Value> {
        let failing = case["failing"].as_array().expect("a list");
        failing.iter().map(|failing| json!([failing["node"], failing["action"]])).collect()
    };
    let cases = rehearsal["cases"].as_array().expect("a list");
    cases.iter().find(|case| of_case(case) == failing).unwrap_or_else(|| panic!("no such case in {rehearsal:#}"))
}

/// The page shows commands and their whole output.
#[test]
fn the_page_shows_what_the_commands_print() {
    let page = fs::read_to_string(root().join("docs/rehearsal.md")).expect("the page is there");
    let blocks: Vec<&str> = page.split("```\n").filter(|block| block.starts_with("$ waft rehearse")).collect();
    assert!(blocks.len() >= 2, "the page has examples");
    for block in blocks {
        let (command, expected) = block.split_once('\n').expect("a line with the command");
        let arguments: Vec<&str> = command.trim_start_matches("$ waft ").split(' ').collect();
        let output: CommandOutput =
            Waft::default().command(arguments).current_dir(root()).output().expect("waft starts").into();
        assert_eq!(output.expect(0).stdout, expected, "{command} prints:\n{}", output.stdout);
    }
}

#[test]
fn each_case_says_what_is_retried_and_rolled_back() {
    let waft = Waft::default();
    waft.flow(FLOW);
    let rehearsal = waft.run(["rehearse", "flow.toml", "--json"]).expect(0).end();
    assert_eq!((&rehearsal["flow"], &rehearsal["omitted"]), (&json!("f"), &json!(0)));
    let base = case(&rehearsal, &[]);
    assert_eq!((&base["state"], &base["notified"]), (&json!("success"), &json!(["ask"])));
    let say = case(&rehearsal, &[("say", "apply")]);
    assert_eq!((&say["state"], &say["rolled_back"]), (&json!("rolled-back"), &json!(["hold"])));
    assert_eq!(
        say["retried"],
        json!([{
            "node": "say", "action": "apply", "attempts": 3, "pauses": [1.0, 2.0], "jitter": false,
        }])
    );
    let hold = case(&rehearsal, &[("say", "apply"), ("hold", "rollback")]);
    assert_eq!((&hold["state"], &hold["stuck"]), (&json!("failure"), &json!(["hold"])));
    let ask = case(&rehearsal, &[("ask", "apply")]);
    assert_eq!(ask["without_rollback"], json!(["say"]));
    assert_eq!(case(&rehearsal, &[("rarely", "apply")])["reached"], json!(false));
    let skipped = &base["skipped"][0];
    assert_eq!((&skipped["node"], &skipped["links"][0]["stubs"][0]["from"]), (&json!("rarely"), &json!("none")));
    let text = waft.run(["rehearse", "flow.toml"]);
    let stdout = &text.expect(0).stdout;
    for line in [
        "f, rehearsed without its guests\n",
        "    say: 3 attempts, with pauses of 1s, 2s\n",
        "    stays done, without a rollback: say\n",
        "    a person has to act: hold could not be rolled back; `waft retry RUN` tries again",
        "    the link from ask to rarely is not taken because of a stub: `answer == '<script>alert(1)</script>'`, and \
         ask.answer is null (nothing is known of it)\n",
    ] {
        assert!(stdout.contains(line), "{line:?} is not in:\n{stdout}");
    }
}

#[test]
fn given_results_decide_conditions() {
    let waft = Waft::default();
    waft.flow(FLOW);
    waft.write("results.json", r#"{"ask": {"answer": "<script>alert(1)</script>"}}"#);
    let output = waft.run(["rehearse", "flow.toml", "--results", "results.json", "--node", "rarely", "--json"]);
    let rehearsal = output.expect(0).end();
    assert_eq!(rehearsal["cases"].as_array().unwrap().len(), 2, "the run without a failure, and one case");
    let rarely = case(&rehearsal, &[("rarely", "apply")]);
    assert_eq!((&rarely["reached"], &rarely["rolled_back"]), (&json!(true), &json!(["hold"])));
}

#[test]
fn the_page_of_a_rehearsal_loads_and_runs_nothing() {
    let waft = Waft::default();
    waft.flow(FLOW);
    waft.write("results.json", r#"{"ask": {"answer": "</td><img src=http://evil onerror='x'>\u001b[31m"}}"#);
    let output = waft.run(["rehearse", "flow.toml", "--results", "results.json", "--report", "report.html"]);
    output.expect(0);
    let page = fs::read_to_string(waft.folder().join("report.html")).expect("it is written");
    let rehearsal = waft.run(["rehearse", "flow.toml", "--json"]).expect(0).end();
    assert_eq!(page.matches("<svg").count(), rehearsal["cases"].as_array().unwrap().len(), "a picture for each case");
    assert!(page.contains("class=\"task rolled-back\"") && page.contains(">rolled-back</text>"), "colours and text");
    assert!(page.contains("answer == &#39;&lt;script&gt;") && page.contains("&lt;/td&gt;&lt;img"), "texts are escaped");
    for forbidden in ["<script", "<img", "<link", "@import", "src=\"", "url(http", "\u{1b}"] {
        assert!(!page.contains(forbidden), "{forbidden:?} is in the page");
    }
    let addresses: Vec<&str> = page.match_indices("http").map(|(at, _)| &page[at..at + 26]).collect();
    let is_harmless =
        |address: &&&str| !address.starts_with("http://www.w3.org/2000/svg") && !address.starts_with("http-equiv");
    let others: Vec<&&str> = addresses.iter().filter(is_harmless).collect();
    assert!(others.iter().all(|address| address.starts_with("http://evil onerror=&#39;")), "{others:?}");
}

/// The folder of a flow may come from anyone.
#[test]
fn a_file_of_the_folder_neither_blocks_nor_leads_elsewhere() {
    let waft = Waft::default();
    waft.flow(FLOW);
    let file = |name: &str| waft.folder().join(name);
    // Nobody writes to it.
    assert!(Command::new("mkfifo").arg(file("pipe.json")).status().unwrap().success());
    assert_refused(
        &waft.run(["rehearse", "flow.toml", "--results", "pipe.json"]),
        2,
        "could not read the results pipe.json: it is no regular file",
    );
    waft.write("mine", "mine");
    symlink(file("mine"), file("report.html")).unwrap();
    assert_refused(
        &waft.run(["rehearse", "flow.toml", "--report", "report.html"]),
        2,
        "could not write report.html: it is no regular file",
    );
    assert_eq!(fs::read_to_string(file("mine")).unwrap(), "mine");
}

#[test]
fn wrong_input_is_refused_with_a_hint() {
    let waft = Waft::default();
    waft.flow(FLOW);
    let with_results = |text: &str| {
        waft.write("results.json", text);
        waft.run(["rehearse", "flow.toml", "--results", "results.json"])
    };
    assert_refused(&with_results("{"), 2, "results.json has no results: not a JSON value");
    assert_refused(&with_results("[1]"), 2, "it is not an object of tasks");
    assert_refused(&with_results(r#"{"asc": {}}"#), 2, "results.json: flow f has no task \"asc\"");
    assert_refused(&with_results(r#"{"asc": {}}"#), 2, "hint: did you mean \"ask\"?");
    assert_refused(&with_results(r#"{"ask": {"word": 1}}"#), 2, "task \"ask\" does not provide \"word\"");
    assert_refused(
        &waft.run(["rehearse", "flow.toml", "--results", "none.json"]),
        2,
        "could not read the results none.json",
    );
    assert_refused(
        &waft.run(["rehearse", "flow.toml", "--report", "no/folder.html"]),
        4,
        "could not write no/folder.html",
    );
    assert_refused(&waft.run(["rehearse", "flow.toml", "--node", "sai"]), 2, "flow f has no task \"sai\"");
    assert_refused(&waft.run(["rehearse", "flow.toml", "--set", "x"]), 2, "--set \"x\" has no `=`");
    assert_refused(&waft.run(["rehearse", "none.toml"]), 2, "could not read the flow file none.toml");
    assert_refused(&waft.run(["rehearse"]), 2, "required arguments were not provided");
    assert_refused(&waft.run(["rehearse", "--against", "r"]), 2, "--node <TASK>");
    assert_refused(&waft.run(["rehearse", "--against", "r", "--node", "t"]), 2, "there is no run r");
    waft.write("wrong.toml", "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"nothing#t\"\n");
    assert_refused(&waft.run(["rehearse", "wrong.toml"]), 2, "which the flow does not name");
}

#[test]
fn a_recorded_run_is_rehearsed_from_its_state_and_not_changed() {
    let waft = Waft::default();
    let flow = waft.flow(
        "name = \"f\"\npattern = \"linear\"\n[[task]]\nname = \"hold\"\nuse = \"hostile#stubborn\"\nwith = { value = 7 }\nretry = { attempts = 1 }\n\
         [[task]]\nname = \"spin\"\nuse = \"hostile#spin\"\ntimeout = \"5m\"\n",
    );
    let mut run = Process::spawn(&mut waft.command(["run", flow.to_str().unwrap(), "--run-id", "r"]));
    run.wait_for("spin running");
    let before = waft.run(["show", "r", "--json"]).expect(0).end();
    let rehearsal = waft.run(["rehearse", "--against", "r", "--node", "spin", "--json"]).expect(0).end();
    assert_eq!(rehearsal["run"], json!("r"));
    let spin = case(&rehearsal, &[("spin", "apply")]);
    assert_eq!((&spin["state"], &spin["rolled_back"]), (&json!("rolled-back"), &json!(["hold"])));
    let rehearsal = waft.run(["rehearse", "--against", "r", "--node", "hold", "--json"]).expect(0).end();
    assert_eq!(case(&rehearsal, &[("hold", "apply")])["reached"], json!(false), "it has succeeded");
    let stuck = case(&rehearsal, &[("spin", "apply"), ("hold", "rollback")]);
    assert_eq!((&stuck["state"], &stuck["stuck"]), (&json!("failure"), &json!(["hold"])));
    let after = waft.run(["show", "r", "--json"]).expect(0).end();
    assert_eq!((&before["state"], &before["tasks"]), (&after["state"], &after["tasks"]));
    run.kill();
    waft.run(["cancel", "r"]).expect(3);
    assert_refused(&waft.run(["rehearse", "--against", "r", "--node", "spin"]), 2, "run r has ended in failure");
}
