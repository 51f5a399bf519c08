//! Flows with thousands of nodes that fire more than once. Work that grows with the square of their size takes minutes here.

use super::{
    super::{graph::Visits, wire_within},
    *,
};
use crate::Diagnostic;

fn wire_large(head: &str, tasks: impl Iterator<Item = String>, links: &str) -> Result<Flow, Vec<Diagnostic>> {
    let text = format!("name = \"f\"\n{head}\n{MODULES}\n{}{links}", tasks.collect::<String>());
    wire(&file::parse(&text).unwrap(), &modules(), &Values::new()).map(|(flow, _)| flow)
}

fn link(from: usize, to: usize) -> String {
    format!("[[link]]\nfrom = \"t{from}\"\nto = \"t{to}\"\n")
}

/// A cycle of tasks in which each leads back to the first.
fn cyclic(tasks: usize, task: &str) -> Result<Flow, Vec<Diagnostic>> {
    let written = (0..tasks).map(|number| format!("[[task]]\nname = \"t{number}\"\n{task}\n"));
    let links: String = (1..tasks).map(|number| link(number - 1, number) + &link(number, 0)).collect();
    wire_large("cyclic = true", written, &links)
}

#[test]
fn thousands_of_back_edges_are_wired() {
    let flow = cyclic(4_000, "wait = \"somebody\"").unwrap();
    assert_eq!(flow.triggers.unwrap().back_edges.len(), 3_999);
}

#[test]
fn each_of_many_cycles_without_calls_is_reported() {
    let task = "use = \"m#pan\"\nfor_each = []\nas = \"batter\"\nwith = { size = 1 }\nprovides = []";
    let diagnostics = cyclic(1_000, task).unwrap_err();
    let of_cycles = diagnostics.iter().filter(|diagnostic| diagnostic.message.ends_with("cycle without any call"));
    assert_eq!(of_cycles.count(), 999);
}

#[test]
fn thousands_of_tasks_await_a_value_of_a_notification() {
    let task = |number| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"m#heat\"\nrequires = {{ pan = \"p{number}\" }}\nprovides = []\n"
        )
    };
    let links: String = (0..1_000).map(|number| link(2 * number, 2 * number + 1)).collect();
    let flow = wire_large("persistent = true", (0..2_000).map(task), &links).unwrap();
    assert_eq!(flow.triggers.unwrap().entries.len(), 1_000, "the others come after one of them");
}

#[test]
fn a_cyclic_flow_has_at_most_so_many_pairs_of_providers_and_consumers() {
    let task = |number| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"m#any\"\nrequires = {{ one = \"v\" }}\nprovides = {{ left = \"v\" }}\n"
        )
    };
    let links =
        |tasks| (1..tasks).map(|number| link(number - 1, number)).chain([link(tasks - 1, 0)]).collect::<String>();
    wire_large("cyclic = true", (0..100).map(task), &links(100)).unwrap();
    let diagnostics = wire_large("cyclic = true", (0..400).map(task), &links(400)).unwrap_err();
    let expected = "the flow is cyclic, and more than 100000 pairs of nodes provide and require the same value; one value of them \
                    is \"v\"";
    assert!(diagnostics.iter().any(|diagnostic| diagnostic.message == expected), "{diagnostics:?}");
}

/// Tasks whose values have two providers each. Only the choice for one value orders the providers of the next one, so each round of
/// the search resolves one value; and all of them come after a chain of tasks.
fn one_value_after_another(tasks: usize) -> Draft {
    let chain = (0..tasks).map(|number| format!("[[task]]\nname = \"p{number}\"\nuse = \"m#rest\"\n"));
    let task = |number: usize| {
        let requires = if number < 2 { String::new() } else { format!("requires = {{ one = \"v{}\" }}\n", number - 2) };
        let provides = if number == 0 {
            "{ a = \"v0\" }".to_owned()
        } else {
            format!("{{ a = \"v{number}\", b = \"v{}\" }}", number - 1)
        };
        format!("[[task]]\nname = \"t{number}\"\nuse = \"program\"\n{requires}provides = {provides}\n")
    };
    let before = (1..tasks).map(|number| format!("[[link]]\nfrom = \"p{}\"\nto = \"p{number}\"\n", number - 1));
    let after = (0..tasks).map(|number| format!("[[link]]\nfrom = \"p{}\"\nto = \"t{number}\"\n", tasks - 1));
    let head = format!("name = \"f\"\n{MODULES}\n");
    let text: String = [head].into_iter().chain(chain).chain((0..tasks).map(task)).chain(before).chain(after).collect();
    file::parse(&(text + &link(0, 1))).unwrap()
}

#[test]
fn a_search_for_providers_that_would_take_too_long_ends_with_a_diagnostic() {
    let draft = one_value_after_another(40);
    let visits = Visits::new();
    let (flow, _) = wire_within(&draft, &modules(), &Values::new(), &visits).unwrap();
    let used = visits.used();
    assert!((100_000..10_000_000).contains(&used), "the search takes {used} visits");
    assert!(describe(&flow).contains("t39 waits for p39, t38\n"), "{}", describe(&flow));
    let diagnostics = wire_within(&draft, &modules(), &Values::new(), &Visits::of(used / 2)).unwrap_err();
    let messages: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    let [message] = messages[..] else { panic!("{messages:?}") };
    let expected =
        "it would take too long to find which task provides which value: many values have several providers, \"v";
    assert!(message.starts_with(expected), "{message}");
    assert!(wire_within(&draft, &modules(), &Values::new(), &Visits::of(used + 1)).is_ok());
}

#[test]
fn a_flow_whose_search_would_take_hours_is_refused() {
    let diagnostics = wire(&one_value_after_another(500), &modules(), &Values::new()).unwrap_err();
    assert!(diagnostics[0].message.starts_with("it would take too long to find"), "{diagnostics:?}");
}

#[test]
fn a_flow_names_at_most_a_thousand_modules() {
    let with = |count: usize| {
        let named: String = (0..count).map(|number| format!("m{number} = \"m\"\n")).collect();
        file::parse(&format!("name = \"f\"\n[modules]\n{named}[[task]]\nname = \"t\"\nwait = \"x\"\n")).unwrap()
    };
    let messages = |count: usize| {
        let wired = wire(&with(count), &modules(), &Values::new());
        wired.err().into_iter().flatten().map(|diagnostic| diagnostic.message).collect::<Vec<_>>()
    };
    assert_eq!(messages(1_000), Vec::<String>::new());
    assert_eq!(messages(1_001), ["the flow names 1001 modules, and the maximum is 1000"]);
}

#[test]
fn a_task_asks_for_at_most_so_much_and_provides_at_most_so_many_values() {
    let messages = |task: &str| {
        let task = format!("[[task]]\nname = \"t\"\nuse = \"program\"\n{task}\n");
        let wired = wire_large("", [task].into_iter(), "");
        wired.err().into_iter().flatten().map(|diagnostic| diagnostic.message).collect::<Vec<_>>()
    };
    let list = |count: usize, text: &str| (0..count).map(|number| format!("\"{text}{number}\", ")).collect::<String>();
    let allow = |patterns: usize, names: usize| {
        let (patterns, names) = (list(patterns, "GET http://localhost/"), list(names, "n"));
        format!("allow = {{ http = [{patterns}], config = [{names}] }}")
    };
    assert_eq!(messages(&allow(200, 56)), Vec::<String>::new());
    let expected = "task \"t\" asks for too much: 257 patterns and names in \"allow\", and the maximum is 256";
    assert_eq!(messages(&allow(200, 57)), [expected]);
    let long = list(40, &format!("GET http://localhost/{}", "x".repeat(1_900)));
    let long = messages(&format!("allow = {{ http = [{long}] }}"));
    assert!(long[0].ends_with("bytes of patterns and names in \"allow\", and the maximum is 65536"), "{long:?}");
    assert_eq!(messages(&format!("provides = [{}]", list(1_000, "v"))), Vec::<String>::new());
    let expected = "task \"t\" provides 1001 values, and the maximum is 1000";
    assert_eq!(messages(&format!("provides = [{}]", list(1_001, "v"))), [expected]);
}
