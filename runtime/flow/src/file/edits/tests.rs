//! Tests of valid edit files, and of the diagnostics of invalid ones.

use super::*;
use crate::{render, test_tables};

#[test]
fn every_diagnostic_of_an_edit_file_has_a_line_and_a_hint() {
    test_tables::check(include_str!("diagnostics.txt"), |text| match edits(text) {
        Ok(edits) => format!("accepted: {edits:?}"),
        Err(diagnostics) => render(&diagnostics, "edits.toml", text),
    });
}

#[test]
fn values_in_edit_files_read_as_in_flow_files() {
    let values = "{ day = 1979-05-27, when = 1979-05-27T07:32:00.123-08:00, time = 07:32, big = 18446744073709551615, \
                  float = 0.10000000000000000001, list = [1, [true], {}], text = \"ä\" }";
    let parsed = edits(&format!("[[edit]]\nset = \"t\"\nwith = {values}")).unwrap();
    let edit_values: Values = parsed
        .into_iter()
        .map(|edit| {
            let ParsedEdit::Edit(Edit::Set { parameter, value, .. }) = edit else { panic!("{edit:?}") };
            (parameter, value)
        })
        .collect();
    let flow =
        crate::file::parse(&format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"m\"\nwith = {values}")).unwrap();
    let crate::draft::DraftNode::Task(task) = &flow.body.nodes[0] else { panic!("it is a task") };
    assert_eq!(edit_values, task.with);
    assert!(format!("{edit_values:?}").contains("\"1979-05-27\""), "{edit_values:?}");
}

#[test]
fn every_edit_is_read_with_all_its_keys() {
    let parsed = edits(
        "[[edit]]\nadd = \"more.toml\"\n[[edit]]\nremove = \"a\"\n\
         [[edit]]\nlink = [\"a\", \"b\"]\non = \"any\"\nwhen = \"x > 1\"\nreach = \"task\"\njoin = \"any\"\n\
         [[edit]]\nunlink = [\"a\", \"b\"]\n[[edit]]\nuse = [\"a\", \"../m.wasm#t\"]\n\
         [[edit]]\nset = \"a\"\nwith = { x = 1, y = [2] }\n[[edit]]\nrequire = \"a\"\nrequires = { p = \"v\" }\n\
         [[edit]]\nadd_text = '''\n[[task]]\nname = \"more\"\nwait = \"a word\"\n'''\n",
    );
    let summaries: Vec<String> = parsed
        .unwrap()
        .into_iter()
        .map(|edit| match edit {
            ParsedEdit::Add { file, .. } => format!("add {file}"),
            ParsedEdit::Edit(edit) => edit.to_string(),
        })
        .collect();
    let expected = [
        "add more.toml",
        "remove a",
        "link a b --on any --when \"x > 1\" --join any",
        "unlink a b",
        "use a ../m.wasm#t",
        "set a x",
        "set a y",
        "require a p=v",
        "add more",
    ];
    assert_eq!(summaries, expected);
}

#[test]
fn the_errors_of_an_added_text_are_where_it_stands() {
    let places = |text: &str| {
        let errors = edits(text).unwrap_err();
        errors.into_iter().map(|error| text[error.span.unwrap()].to_owned()).collect::<Vec<_>>()
    };
    let literal =
        places("[[edit]]\nremove = \"a\"\n[[edit]]\nadd_text = '''\n[[task]]\nname = \"more\"\nuze = \"m\"\n'''\n");
    assert!(literal.contains(&"uze".to_owned()), "{literal:?}");
    // The text stands in the file with escapes.
    let escaped = places("[[edit]]\nadd_text = \"[[task]]\\nname = \\\"more\\\"\\nuze = 1\"\n");
    assert!(!escaped.is_empty() && escaped.iter().all(|place| place.contains("uze = 1")), "{escaped:?}");
}

#[test]
fn the_name_of_an_added_file_has_its_place() {
    let text = "[[edit]]\nadd = \"more.toml\"\n";
    let parsed = edits(text).unwrap();
    let [ParsedEdit::Add { file, span }] = &parsed[..] else { panic!("it adds a file") };
    assert_eq!((file.as_str(), &text[span.clone()]), ("more.toml", "\"more.toml\""));
}
