import assert from "node:assert/strict";
import { test } from "node:test";

import { cut, oneLine, parts, shortDigest, shortName, size } from "../src/model/text.ts";

test("characters that cannot be seen are named", () => {
  assert.equal(oneLine("a\u001b[31mred\u0007"), "a\\x1b[31mred\\x07");
  assert.equal(oneLine("abc\u202Efed"), "abc\\u{202e}fed");
  assert.equal(oneLine("zero\u200bwidth\ufeffx"), "zero\\u{200b}width\\u{feff}x");
  assert.equal(oneLine("half \ud800 pair"), "half \\u{d800} pair");
  assert.equal(oneLine("tags \u{e0041}"), "tags \\u{e0041}");
  assert.deepEqual(parts("a\u0000b"), [
    { text: "a", hidden: false },
    { text: "\\x00", hidden: true },
    { text: "b", hidden: false },
  ]);
});

test("ordinary text stays as it is", () => {
  for (const text of ["<script>alert(1)</script>", "日本語 🎂 é", "a & b", "שלום"]) assert.equal(oneLine(text), text);
  assert.equal(oneLine("one\ntwo\r\nthree\n"), "one ⏎ two ⏎ three");
});

test("a long text is cut between characters", () => {
  assert.deepEqual(cut("abcdef", 3), { text: "abc", isCut: true });
  assert.deepEqual(cut("abc", 3), { text: "abc", isCut: false });
  assert.deepEqual(cut("ab🎂", 3), { text: "ab", isCut: true });
});

test("a long name keeps its beginning and its end", () => {
  assert.equal(shortName("short", 10), "short");
  assert.equal(shortName("create-server-in-region-7", 12), "create-…on-7");
  assert.equal(Array.from(shortName("x".repeat(99), 12)).length, 12);
});

test("sizes and digests are short", () => {
  assert.deepEqual([0, 1, 1023, 1024, 1536, 1 << 20, 123 << 20, 5 * 2 ** 40].map(size), [
    "0 B", "1 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "123 MiB", "5 TiB",
  ]);
  assert.equal(shortDigest(`sha256:${"ab".repeat(32)}`), "sha256:abababababab");
});
