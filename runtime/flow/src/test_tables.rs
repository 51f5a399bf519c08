//! Tables of test cases as text: a flow, and the expected result.
//!
//! A case starts with `=== the rule`; then follow the input, a line `---`, and the expected output.

/// Checks every case of a table and prints all that differ, each in its corrected form.
#[track_caller]
pub(crate) fn check(table: &str, run: impl Fn(&str) -> String) {
    let cases = table.split("=== ").skip(1);
    let mut differing = Vec::new();
    let mut count = 0;
    for case in cases {
        let (rule, body) = case.split_once('\n').expect("a case has a rule and lines");
        let (input, expected) = body.split_once("---\n").expect("a case has both sides");
        let actual = run(input);
        count += 1;
        if actual.trim_end() != expected.trim_end() {
            differing.push(format!("=== {rule}\n{input}---\n{actual}\n"));
        }
    }
    assert!(count > 0, "the table has cases");
    assert!(differing.is_empty(), "{} of {count} cases come out otherwise:\n\n{}", differing.len(), differing.concat());
}
