//! Rehearsals of flows that fire more than once.

use super::check;

#[test]
fn a_cycle_stops_after_a_few_firings() {
    let text = r#"
        cyclic = true
        [[task]]
        name = "a"
        use = "m#noop"
        [[task]]
        name = "b"
        use = "m#plain"
        [[link]]
        from = "a"
        to = "b"
        [[link]]
        from = "b"
        to = "a"
        "#;
    let again = "the link from b to a: success";
    check(
        text,
        &[
            &format!(
                ": running; the start: success; {again}; {again}; the link from b to a: running; stopped after 3 firings: it \
                 would fire again"
            ),
            "apply of a: rolled-back; rolled back [a]; the start: rolled-back",
            "apply of b + rollback of a: failure; stuck [a]; the start: failure",
            "apply of b: rolled-back; rolled back [a]; the start: rolled-back",
        ],
    );
}

#[test]
fn a_cycle_with_a_bound_of_its_own_ends() {
    let text = r#"
        cyclic = true
        max_firings = 2
        [[task]]
        name = "a"
        use = "m#plain"
        [[link]]
        from = "a"
        to = "a"
        "#;
    check(
        text,
        &[
            ": success; the start: success; the link from a to a: success",
            "apply of a: rolled-back; the start: rolled-back",
        ],
    );
}

#[test]
fn each_schedule_of_a_persistent_flow_fires_once_and_each_listener_is_notified() {
    let text = r#"
        persistent = true
        [[task]]
        name = "setup"
        use = "m#noop"
        [[task]]
        name = "clean"
        use = "m#noop"
        [[task]]
        name = "daily"
        use = "m#plain"
        [[task]]
        name = "make"
        use = "m#make"
        requires = { item = "order" }
        [[schedule]]
        cron = "* * * * * *"
        to = "clean"
        [[schedule]]
        cron = "0 3 * * *"
        to = "daily"
        missed = "all"
        "#;
    let success = |names: &[&str]| {
        let firings = [("make", "a notification"), ("clean", "a schedule"), ("daily", "a schedule")];
        let state = |name: &str| if names.contains(&name) { "rolled-back" } else { "success" };
        firings.map(|(name, kind)| format!("{kind} of {name}: {}", state(name))).join("; ")
    };
    check(
        text,
        &[
            &format!(": running; the start: success; {}", success(&[])),
            "apply of setup: rolled-back; rolled back [setup]; the start: rolled-back",
            "apply of setup + rollback of setup: failure; stuck [setup]; the start: failure",
            "apply of clean: running; rolled back [clean]; the start: success; a schedule of clean: rolled-back",
            "apply of clean + rollback of clean: running; stuck [clean]; the start: success; a schedule of clean: failure",
            "apply of daily: running; the start: success; a schedule of daily: rolled-back",
            "apply of make: running; rolled back [make]; the start: success; a notification of make: rolled-back",
            "apply of make + rollback of make: running; stuck [make]; the start: success; a notification of make: failure",
        ],
    );
}
