//! Checks that the code in the documents equals the examples, which compile.

/// The Rust code blocks in a part of a document, with their common indentation removed.
fn blocks(text: &str) -> Vec<String> {
    let blocks = text.split("```rust\n").skip(1);
    blocks.map(|rest| flush_left(rest.split("```").next().unwrap_or_default())).collect()
}

fn flush_left(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    lines.join("\n").trim().to_owned()
}

#[test]
fn the_readme_program_equals_the_example() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("\n## From a program\n").expect("the README has the part");
    let part = rest.split("\n## ").next().unwrap_or_default();
    let example = include_str!("../examples/ovens.rs");
    let program: Vec<&str> = example.lines().skip_while(|line| line.starts_with("//!") || line.is_empty()).collect();
    assert_eq!(blocks(part), [flush_left(&program.join("\n"))], "README.md shows what examples/ovens.rs is");
}

#[test]
fn every_documented_method_is_in_the_example() {
    let example = flush_left(include_str!("../examples/verbs.rs"));
    let shown = blocks(include_str!("../../../docs/client.md"));
    assert!(shown.len() > 8, "each verb is shown");
    for block in shown {
        assert!(example.contains(&block), "examples/verbs.rs does not have what docs/client.md shows:\n{block}");
    }
}
