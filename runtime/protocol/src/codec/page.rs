//! Checks that `docs/format.md` is correct: its kinds, its bytes and its example match the code.

use std::path::{Path, PathBuf};

use super::{Body, MessageKind};

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
    assert_eq!(tables, 3, "a record, a job and a signal");
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
        ["77 58 01 03 41 64 61 01 03 65 67 67 02 01", "77 58 03 03 41 64 61 01 03 65 67 67 02 01 03 72 61 77 02"]
    {
        assert!(page.contains(bytes), "docs/format.md does not show {bytes}");
    }
}

/// Each appended variant needs a higher version of its kind; this test lists the version with its variants.
#[test]
fn a_variant_is_appended_with_a_new_version() {
    for (kind, version, prefix, variants) in [
        (MessageKind::RECORDS, 1, &[1, 0, 0][..], 35),
        (MessageKind::REPORT, 1, &[], 10),
        (MessageKind::REPORT, 1, &[5, 1, b'r'], 9),
        (MessageKind::REPLY, 1, &[], 5),
        (MessageKind::CONTROL, 1, &[], 5),
        (MessageKind::FETCH_REPLY, 1, &[0; 32], 6),
        (MessageKind::PERMITS, 1, &[], 3),
    ] {
        assert_eq!(kind.version, version, "{}: list its variants for the new version", kind.name);
        for variant in [variants - 1, variants] {
            let bytes = [&kind.magic[..], &[version], prefix, &[variant]].concat();
            let body = Body::open(kind, &bytes).unwrap();
            let error = match kind.magic {
                magic if magic == MessageKind::RECORDS.magic => crate::decode_records(&bytes).err(),
                magic if magic == MessageKind::REPORT.magic => crate::Report::decode(&bytes).err(),
                magic if magic == MessageKind::REPLY.magic => crate::Reply::decode(&bytes).err(),
                magic if magic == MessageKind::CONTROL.magic => crate::Control::decode(&bytes).err(),
                magic if magic == MessageKind::FETCH_REPLY.magic => crate::FetchReply::decode(&bytes).err(),
                _ => crate::PermitMessage::decode(&bytes).err(),
            };
            let is_unknown = error.is_some_and(|error| error.to_string().contains("UnexpectedVariant"));
            let expected = variant == variants;
            assert_eq!(is_unknown, expected, "{}, version {}: variant {variant}", kind.name, body.version());
        }
    }
}
