//! Checks that `docs/format.md` is correct: its kinds, its bytes and its example match the code.

use std::path::{Path, PathBuf};

use super::MessageKind;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/format.md")).unwrap()
}

/// The cells of a table's row.
fn cells(line: &str) -> Option<Vec<&str>> {
    Some(line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect())
}

/// Decodes a cell: pairs of hex digits, `"text"`, and `×n`, which repeats the preceding bytes to n in all.
fn decode_cell(cell: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in cell.trim_matches('`').split(' ') {
        if let Some(times) = token.strip_prefix('×') {
            let last = *bytes.last().unwrap();
            bytes.extend(std::iter::repeat_n(last, times.parse::<usize>().unwrap() - 1));
        } else if let Some(text) = token.strip_prefix('"').and_then(|token| token.strip_suffix('"')) {
            bytes.extend(text.bytes());
        } else {
            bytes.push(u8::from_str_radix(token, 16).unwrap_or_else(|_| panic!("{token:?} in {cell:?}")));
        }
    }
    bytes
}

#[test]
fn the_page_lists_all_kinds() {
    let page = page();
    for MessageKind { magic, name, version } in MessageKind::ALL {
        let [first, second] = magic.map(char::from);
        let row = format!("| `{first}{second}` | `{:02x} {:02x}` | {name} | {version} |", magic[0], magic[1]);
        assert!(page.contains(&row), "docs/format.md has no row that starts with: {row}");
    }
    let listed = page.lines().filter(|line| line.starts_with("| `w")).count();
    assert_eq!(listed, MessageKind::ALL.len(), "each kind has its own magic, and the page has no others");
}

#[test]
fn the_tables_on_the_page_have_the_bytes_of_golden_files() {
    let page = page();
    let mut tables = 0;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(file) = line.strip_prefix("`runtime/protocol/golden/").and_then(|file| file.strip_suffix("`:")) else {
            continue;
        };
        let golden = std::fs::read(root().join("runtime/protocol/golden").join(file)).unwrap();
        let rows = lines.by_ref().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let mut bytes = Vec::new();
        for row in rows.skip(2) {
            let [offset, cell, _] = cells(row).unwrap()[..] else { panic!("{row}") };
            assert_eq!(offset, bytes.len().to_string(), "{file}: {row}");
            bytes.extend(decode_cell(cell));
            assert!(golden.starts_with(&bytes), "{file}: {row}: {:02x?}", &golden[offset.parse().unwrap()..]);
        }
        assert_eq!(bytes, golden, "{file} is decode_cell to its end");
        tables += 1;
    }
    assert_eq!(tables, 5, "a record, a job, a remembered result, a signal and a request for content");
}

#[test]
fn the_example_on_the_page_is_the_tested_one() {
    let example = include_str!("growth.rs");
    let page = page();
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    let normalized = |text: &str| text.replace("pub(super) ", "").split_whitespace().collect::<Vec<_>>().join(" ");
    for block in blocks {
        assert!(normalized(example).contains(&normalized(block)), "codec/growth.rs does not have:\n{block}");
    }
    for bytes in
        ["77 58 01 03 41 64 61 01 03 65 67 67 02 01", "77 58 02 03 41 64 61 01 03 65 67 67 02 01 03 72 61 77 02"]
    {
        assert!(page.contains(bytes), "docs/format.md does not show {bytes}");
    }
}

/// A variant is appended without a new version, so an earlier program has to recognize it.
#[test]
fn a_later_variant_is_refused_as_such() {
    /// More than any enum has.
    const LATER: u8 = 240;
    for (kind, prefix) in [
        (MessageKind::RECORDS, &[1, 0, 0][..]),
        (MessageKind::REPORT, &[]),
        (MessageKind::REPORT, &[5, 1, b'r']),
        (MessageKind::REPLY, &[]),
        (MessageKind::CONTROL, &[]),
        (MessageKind::FETCH_REPLY, &[0; 32]),
        (MessageKind::PERMITS, &[]),
    ] {
        let bytes = [&kind.magic[..], &[kind.version], prefix, &[LATER]].concat();
        let error = match kind.magic {
            magic if magic == MessageKind::RECORDS.magic => crate::decode_records(&bytes).err(),
            magic if magic == MessageKind::REPORT.magic => crate::Report::decode(&bytes).err(),
            magic if magic == MessageKind::REPLY.magic => crate::Reply::decode(&bytes).err(),
            magic if magic == MessageKind::CONTROL.magic => crate::Control::decode(&bytes).err(),
            magic if magic == MessageKind::FETCH_REPLY.magic => crate::FetchReply::decode(&bytes).err(),
            _ => crate::PermitMessage::decode(&bytes).err(),
        };
        let error = error.expect("it is refused").to_string();
        assert!(
            error.contains("variant 240 of Wire") && error.contains("a later waft wrote it"),
            "{}: {error}",
            kind.name
        );
    }
}
