//! Tests the settings of the operator that guests read: configuration values and environment variables.

use super::*;

fn named(name: &str) -> Value {
    json!({ "name": name })
}

#[test]
fn a_configuration_value_needs_the_flow_and_the_operator() {
    let grant = "[[grant]]\nconfig = { region = \"eu\", size = \"2\" }";
    let asked = "allow = { config = [\"region\"] }";
    let read = |settings: &str, task: &str, name: &str, keys: &str| {
        granted(settings).run_flow(&flow(task, &named(name), keys), &[])
    };
    assert_eq!(provided(&read(grant, "read-config", "region", asked), "value"), "eu");
    assert_denied(
        &read(grant, "read-config", "size", asked),
        "the configuration value size is denied: the flow does not ask for it; let the task say allow = { config = [\"size\"] }",
    );
    let not_granted = "the configuration value region is denied: the flow asks for it, and no [[grant]] in the settings of \
                       the worker allows it";
    assert_denied(&read("", "read-config", "region", asked), not_granted);
    assert_denied(&read("[[grant]]\nconfig = { size = \"2\" }", "read-config", "region", asked), not_granted);
    // A guest that can go on without it does.
    assert_eq!(provided(&read("", "try-config", "region", asked), "value"), Value::Null);
}

#[test]
fn two_namespaces_have_different_values_and_the_first_table_counts() {
    let settings = "[[grant]]\nnamespace = \"shop\"\nconfig = { region = \"eu\" }\n[[grant]]\nnamespace = \"bank\"\n\
                    config = { region = \"us\" }\n[[grant]]\nconfig = { region = \"any\" }\n";
    let waft = granted(settings);
    for (name, region) in [("shop/f", "eu"), ("bank/f", "us"), ("f", "any")] {
        let text = flow("read-config", &named("region"), "allow = { config = [\"region\"] }");
        let text = text.replacen("name = \"f\"", &format!("name = \"{name}\""), 1);
        assert_eq!(provided(&waft.run_flow(&text, &[]), "value"), region, "{name}");
    }
}

#[test]
fn an_environment_variable_needs_the_flow_and_the_operator() {
    let grant = "[[grant]]\nenv = { TZ = \"UTC\", LANG = \"C\" }";
    let asked = "allow = { env = [\"TZ\"] }";
    let read = |settings: &str, name: &str, keys: &str| {
        granted(settings).run_flow(&flow("read-variable", &named(name), keys), &[])
    };
    assert_eq!(provided(&read(grant, "TZ", asked), "value"), "UTC");
    assert_denied(
        &read("", "TZ", asked),
        "the environment variable TZ is denied: the flow asks for it, and no [[grant]] in the settings of the worker allows it",
    );
    // Nobody knows which variables a guest wants, so one that the flow does not ask for is only missing, as is one of this process.
    for name in ["LANG", "HOME"] {
        let (kind, message) = read(grant, name, asked).expect(1).failure("t");
        assert_eq!((&*kind, &*message), ("transient", &*format!("{name}: environment variable not found")));
    }
}

#[test]
fn errors_in_settings_are_reported_with_their_place() {
    let waft = granted("[[grant]]\nconfig = { \"a b\" = \"\" }\nenv = { WAFT_RUN = \"r\" }\n");
    waft.flow(&flow("random", &json!({}), ""));
    let stderr = waft.run(["run", "flow.toml"]).expect(2).stderr.clone();
    assert!(stderr.contains("[[grant]] number 1: config: \"a b\" is not a name"), "{stderr}");
    assert!(stderr.contains("[[grant]] number 1: env.WAFT_RUN: waft sets the variables"), "{stderr}");

    let waft = granted("[[grant]]\nconfig = { region = \"eu\" }\nenv = { TZ = \"UTC\" }\n");
    waft.flow(&flow("random", &json!({}), "allow = { config = [\"a b\"], env = [3] }"));
    let stderr = waft.run(["check", "flow.toml"]).expect(2).stderr.clone();
    assert!(stderr.contains("an element of \"config\" in \"allow\" of task \"t\": \"a b\" is not a name"), "{stderr}");
    assert!(stderr.contains("an element of \"env\" in \"allow\" of task \"t\" is an integer"), "{stderr}");

    waft.flow(&flow("random", &json!({}), "allow = { config = [\"region\", \"size\"], env = [\"TZ\", \"LANG\"] }"));
    let output = waft.run(["check", "flow.toml"]);
    let expected = "  t asks for config region (granted here), config size (not granted here), env LANG (not granted here), env TZ \
                    (granted here)\n";
    assert!(output.expect(0).stdout.contains(expected), "{}", output.stdout);
}

#[test]
#[cfg(target_os = "linux")]
fn child_processes_have_the_granted_settings() {
    let waft = granted("[[grant]]\nconfig = { region = \"eu\" }\nenv = { TZ = \"UTC\" }");
    let run =
        |task: &str, name: &str, keys: &str| waft.run_flow(&flow(task, &named(name), keys), &["--isolate", "process"]);
    let allow = "allow = { config = [\"region\", \"size\"], env = [\"TZ\"] }";
    assert_eq!(provided(&run("read-config", "region", allow), "value"), "eu");
    assert_eq!(provided(&run("read-variable", "TZ", allow), "value"), "UTC");
    assert_denied(
        &run("read-config", "size", allow),
        "the configuration value size is denied: the flow asks for it, and no",
    );
    assert_denied(
        &run("read-config", "region", ""),
        "the configuration value region is denied: the flow does not ask for it",
    );
}

#[test]
fn a_program_gets_the_arguments_of_the_flow_and_the_granted_variables() {
    let waft = granted("[[grant]]\nenv = { TZ = \"UTC\" }");
    let text = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"command\"\nwith = { do = \"tell-world\" }\nprovides = [\"arguments\", \
                \"variables\"]\nargs = [\"--all\", \"\", \"a b\"]\nallow = { env = [\"TZ\", \"LANG\"] }\n";
    for isolate in [&[][..], &["--isolate", "process"]] {
        let output = waft.run_flow(text, isolate);
        assert_eq!(provided(&output, "arguments"), json!(["--all", "", "a b"]));
        let variables = provided(&output, "variables");
        assert_eq!(
            (&variables["TZ"], &variables["LANG"], &variables["WAFT_TASK"]),
            (&json!("UTC"), &Value::Null, &json!("t"))
        );
    }
    let large = format!("args = [{:?}, 3, \"a\\u0000b\"]", "x".repeat(70_000));
    let stderr = waft.run_flow(&flow("random", &json!({}), &large), &[]).expect(2).stderr.clone();
    assert!(stderr.contains("the arguments of task \"t\" have more than 65536 bytes"), "{stderr}");
    let stderr = waft.run_flow(&flow("random", &json!({}), "args = [3, \"a\\u0000b\"]"), &[]).expect(2).stderr.clone();
    assert!(stderr.contains("an element of \"args\" in task \"t\" is an integer"), "{stderr}");
    assert!(stderr.contains("an element of \"args\" in task \"t\" has a zero byte"), "{stderr}");
}
