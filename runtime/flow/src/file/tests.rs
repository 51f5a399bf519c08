//! Tests of valid flow files, and of the diagnostics of invalid ones.

use super::{MAX_TEXT_BYTES, parse, read};
use crate::{
    Strategy, Value,
    draft::{DraftNode, DraftTask},
    render, test_tables,
};

#[test]
fn every_diagnostic_of_a_file_has_a_line_and_a_hint() {
    test_tables::check(include_str!("diagnostics.txt"), |text| match parse(text) {
        Ok(draft) => format!("accepted: {draft:?}"),
        Err(diagnostics) => render(&diagnostics, "f.toml", text),
    });
}

#[test]
fn excessive_nesting_is_reported() {
    let headers = (1..=200).map(|depth| format!("[[{}]]\nname = \"n{depth}\"\n", vec!["flow"; depth].join(".")));
    let nested_flows = format!("name = \"f\"\n{}", headers.collect::<String>());
    let nested_lists = format!("name = \"f\"\ninputs = {{ x = {} }}", "[".repeat(100_000));
    for text in [nested_flows, nested_lists] {
        let diagnostics = parse(&text).unwrap_err();
        assert_eq!(diagnostics[0].message, "it is nested too deep to be read");
    }
}

/// The code blocks of the reference that are flow files, or parts of one.
fn examples() -> Vec<String> {
    let blocks = REFERENCE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| if block.starts_with("name") { block.into() } else { format!("name = \"f\"\n{block}") })
        .collect()
}

const REFERENCE: &str = include_str!("../../../../docs/flow-file.md");

#[test]
fn the_examples_of_the_reference_can_be_read() {
    let examples = examples();
    assert!(examples.len() > 3);
    for text in examples {
        parse(&text).unwrap_or_else(|diagnostics| panic!("{}", render(&diagnostics, "flow-file.md", &text)));
    }
}

#[test]
fn the_reference_names_every_key() {
    let text = "
        unknown = 1
        name = \"f\"
        retry = { times = 1, unknown = 1 }
        [[task]]
        name = \"t\"
        use = \"m\"
        unknown = 1
        retry = { unknown = 1 }
        [[link]]
        from = \"t\"
        to = \"n\"
        unknown = 1
        [[flow]]
        name = \"n\"
        unknown = 1
    ";
    let diagnostics = parse(text).unwrap_err();
    let hints = diagnostics
        .iter()
        .filter_map(|diagnostic| diagnostic.hint.as_deref()?.strip_prefix("the keys known here are "));
    let keys: Vec<&str> = hints.flat_map(|keys| keys.split(", ")).collect();
    assert_eq!(diagnostics.len(), 6);
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        let is_named = [format!("`{key}`"), format!("`[{key}]`"), format!("`[[{key}]]`")]
            .iter()
            .any(|heading| REFERENCE.contains(heading));
        assert!(is_named, "docs/flow-file.md does not describe {key}");
    }
}

fn only_task(text: &str) -> DraftTask {
    let draft = parse(&format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"m\"\n{text}")).unwrap();
    match draft.body.nodes.into_iter().next().unwrap() {
        DraftNode::Task(task) => *task,
        DraftNode::Flow(_) => panic!("it is a task"),
    }
}

#[test]
fn numbers_keep_every_digit_from_toml_to_json() {
    let task = only_task(
        "with = { min = -9223372036854775808, max = 18446744073709551615, hex = 0xff, big = 1_000, \
         float = 0.10000000000000000001, plus = +2.5e+3, when = 1979-05-27T07:32:00.123-08:00, day = 1979-05-27, \
         time = 07:32, text = \"ä\\\"\\n\", list = [1, [true], {}], nested.deep = 'x' }",
    );
    let written: Vec<String> = task.with.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let expected = [
        "big=1000",
        "day=\"1979-05-27\"",
        "float=0.10000000000000000001",
        "hex=255",
        "list=[1,[true],{}]",
        "max=18446744073709551615",
        "min=-9223372036854775808",
        "nested={\"deep\":\"x\"}",
        "plus=2.5e+3",
        "text=\"ä\\\"\\n\"",
        "time=\"07:32:00\"",
        "when=\"1979-05-27T07:32:00.123-08:00\"",
    ];
    assert_eq!(written, expected);
}

#[test]
fn requires_and_provides_are_lists_that_keep_names_or_tables_that_change_them() {
    let task = only_task("requires = [\"a\", \"b\"]\nprovides = { own = \"flows\" }");
    assert_eq!(format!("{:?}", task.requires.unwrap()), r#"{"a": "a", "b": "b"}"#);
    assert_eq!(format!("{:?}", task.provides.unwrap()), r#"{"own": "flows"}"#);
    assert!(only_task("").provides.is_none(), "an absent key differs from an empty list");
    assert!(only_task("provides = []").provides.unwrap().is_empty());
}

#[test]
fn a_text_that_is_too_large_is_not_read() {
    let text = |size: usize| format!("name = \"f\"\n{}", "#".repeat(size - 11));
    assert!(read(&text(MAX_TEXT_BYTES)).diagnostics.iter().all(|diagnostic| diagnostic.message != "it has 8MiB"));
    let draft = read(&text(MAX_TEXT_BYTES + 1));
    let [diagnostic] = &draft.diagnostics[..] else { panic!("{:?}", draft.diagnostics) };
    assert_eq!(diagnostic.message, "it has 8.0MiB, and the maximum is 8MiB");
    assert!(diagnostic.hint.is_some() && draft.body.nodes.is_empty());
}

#[test]
fn nodes_keep_file_order_without_an_order_key() {
    let text = |order: &str| {
        format!(
            "name = \"f\"\npattern = \"linear\"\n{order}\n[[task]]\nname = \"a\"\nuse = \"m\"\n[[flow]]\nname = \"b\"\n\
             [[flow.task]]\nname = \"inner\"\nuse = \"m\"\n[[task]]\nname = \"c\"\nuse = \"m\""
        )
    };
    let names = |order: &str| {
        let draft = parse(&text(order)).unwrap();
        draft.body.nodes.iter().map(|node| node.name().to_string()).collect::<Vec<_>>().concat()
    };
    assert_eq!(names(""), "abc");
    assert_eq!(names("order = [\"c\", \"a\", \"b\"]"), "cab");
}

#[test]
fn inputs_and_for_each_lists_are_read_inline_or_as_tables() {
    let inline =
        parse("name = \"f\"\ninputs = { x = 1 }\nretry = { for_each = [1, \"a\"], provides = \"y\" }").unwrap();
    let table = parse("name = \"f\"\n[inputs]\nx = 1\n[retry]\nfor_each = [1, \"a\"]\nprovides = \"y\"").unwrap();
    for draft in [inline, table] {
        assert_eq!(draft.inputs["x"], Value::json(&1.into()));
        let controller = draft.body.controller.unwrap();
        assert_eq!(controller.provides.unwrap().as_str(), "y");
        let Strategy::ForEach(values) = controller.strategy else { panic!("{:?}", controller.strategy) };
        assert_eq!(values.iter().map(|value| value.as_str()).collect::<Vec<_>>(), ["1", "\"a\""]);
    }
}
