//! Tests that `waft check` knows the keys of other systems, in each place where someone may write them.

use waft_tests::Waft;

/// A place for a key: a flow with `KEY` there, who has the unknown key, and the key of waft that is meant.
const PLACES: [(&str, &str, &str); 5] = [
    ("name = \"f\"\nKEY\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n", "flow \"f\"", "retry = { times = n }"),
    (
        "name = \"f\"\n[[flow]]\nname = \"inner\"\nKEY\n[[flow.task]]\nname = \"t\"\nuse = \"hostile#noop\"\n",
        "flow \"inner\"",
        "retry = { times = n }",
    ),
    ("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nKEY\n", "task \"t\"", "retry = { attempts = n }"),
    (
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nretry = { KEY }\n",
        "the retry of task \"t\"",
        "\"attempts\"",
    ),
    (
        "name = \"f\"\nretry = { KEY }\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n",
        "the retry of flow \"f\"",
        "\"times\"",
    ),
];

#[test]
fn retries_of_other_systems_get_a_hint_wherever_they_are() {
    let waft = Waft::default();
    for key in ["retries", "max_retries"] {
        for (flow, owner, meant) in PLACES {
            waft.flow(&flow.replace("KEY", &format!("{key} = 3")));
            let checked = waft.run(["check", "flow.toml"]);
            let error = format!("{owner} has an unknown key {key:?}");
            assert!(checked.expect(2).stderr.contains(&error), "{flow}\n{}", checked.stderr);
            let hint = format!("hint: did you mean {meant}?");
            assert!(checked.stderr.contains(&hint), "{hint:?} is not in:\n{}", checked.stderr);
            let diagnostics = waft.run(["check", "flow.toml", "--json"]).expect(2).json();
            let of_key =
                diagnostics.iter().find(|found| found["message"].as_str().unwrap_or_default().contains(&error));
            let line = flow.lines().position(|line| line.contains("KEY")).expect("each place has it") + 1;
            assert_eq!(of_key.expect("it is in the JSON")["line"], line, "{diagnostics:#?}");
        }
    }
}

#[test]
fn keys_of_other_systems_get_a_hint_in_each_table() {
    let waft = Waft::default();
    let task = "[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n";
    for (table, hint) in [
        ("[[schedule]]\ncron = \"0 3 * * *\"\nto = \"t\"\ntimezone = \"Europe/Berlin\"\n", "did you mean zone = "),
        ("[[schedule]]\nschedule = \"0 3 * * *\"\nto = \"t\"\n", "did you mean cron = "),
        ("[[link]]\nfrom = \"t\"\nto = \"u\"\nif = \"true\"\n", "did you mean when = "),
        ("[[link]]\nfrom = \"t\"\nto = \"u\"\ncondition = \"true\"\n", "did you mean when = "),
        ("[[listen]]\nflow = \"g\"\ntask = \"t\"\nto = \"t\"\nqueue = \"q\"\n", "a listener names tasks: "),
        ("[[listen]]\nflow = \"g\"\ntask = \"t\"\nto = \"t\"\ntopic = \"q\"\n", "a listener names tasks: "),
        ("[[task]]\nname = \"u\"\nuse = \"hostile#noop\"\nallow = { hosts = [] }\n", "did you mean http = "),
    ] {
        waft.flow(&format!("name = \"f\"\npersistent = true\n{task}{table}"));
        let checked = waft.run(["check", "flow.toml"]);
        assert!(checked.expect(2).stderr.contains(&format!("hint: {hint}")), "{table}\n{}", checked.stderr);
    }
}
