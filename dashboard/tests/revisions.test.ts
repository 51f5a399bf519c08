import assert from "node:assert/strict";
import { test } from "node:test";

import type { GraphLink, GraphNode, RunGraph } from "../src/api/types.ts";
import { compared, diffGraphs, diffLines, hunks, lineAt, linkKey, touched } from "../src/model/revisions.ts";

const task = (name: string, more: Partial<GraphNode> = {}): GraphNode => ({ name, kind: "task", ...more });
const link = (from: string, to: string, more: Partial<GraphLink> = {}): GraphLink => ({ from, to, ...more });
const graph = (nodes: GraphNode[], links: GraphLink[] = []): RunGraph => ({ run: "r", flow: "f", revision: 1, last_revision: 2, nodes, links });

test("graphs differ by what was added, removed and changed", () => {
  const before = graph([task("a"), task("b"), task("c"), task("gone"), task("old", { removed: true })], [link("a", "b"), link("b", "gone"), link("a", "c")]);
  const after = graph(
    [task("a"), task("b", { removed: true }), task("c"), task("old", { removed: true }), task("new", { within: "n" }), task("n", { kind: "flow" })],
    [link("a", "c", { conditions: [{ on: "failure", when: "x > 1" }] }), link("c", "n", { values: ["v"] })],
  );
  const { nodes, links, list, graph: both } = diffGraphs(before, after, []);
  assert.deepEqual([...nodes], [["b", "removed"], ["new", "added"], ["n", "added"], ["gone", "removed"]]);
  assert.deepEqual([...links.values()], ["changed", "added", "removed", "removed"]);
  assert.equal(links.get(linkKey(link("b", "gone"))), "removed");
  assert.deepEqual(
    list.map(({ mark, kind, name, details }) => `${mark} ${kind} ${name}${details.map((detail) => `; ${detail}`).join("")}`),
    [
      "removed task b; it stays for its rollback",
      "added task new; in n",
      "added flow n",
      "removed task gone",
      "changed link a → c; on success, now on failure when x > 1",
      "added link c → n; carries v",
      "removed link a → b",
      "removed link b → gone",
    ],
  );
  // Everything of both is drawn, once.
  assert.deepEqual(both.nodes.map(({ name }) => name), ["a", "b", "c", "old", "new", "n", "gone"]);
  assert.equal(both.links.length, 4);
  assert.deepEqual(both.nodes.filter(({ removed }) => removed).map(({ name }) => name), ["old"], "a mark says it already");
});

test("the words of edits say what a graph does not show", () => {
  const edits = ["use mix kitchen#mix", "set bake celsius", "set bake minutes", "require bake pan=first_pan", "link a b", "add more"];
  assert.deepEqual(
    [...touched(edits)],
    [
      ["mix", ["calls kitchen#mix"]],
      ["bake", ["has another constant: celsius", "has another constant: minutes", "takes pan=first_pan"]],
    ],
  );
  const same = graph([task("mix"), task("bake")]);
  const { list } = diffGraphs(same, graph([task("bake"), task("more")]), edits);
  // A task that is gone is not changed, too.
  assert.deepEqual(list.map(({ mark, name }) => `${mark} ${name}`), ["changed bake", "added more", "removed mix"]);
  assert.deepEqual(diffGraphs(same, same, []).list, []);
});

test("a node differs by its kind, its triggers, its flow and its retry", () => {
  const [before, after] = [
    graph([task("a", { triggers: ["each day"], retry: "3 times" }), task("b")]),
    graph([task("a", { kind: "wait", triggers: ["each hour"], is_failure_handler: true }), task("b", { within: "n" })]),
  ];
  assert.deepEqual(diffGraphs(before, after, []).list.map(({ details }) => details), [
    ["was of the kind task, and is of the kind wait", "retry: 3 times, now none", "handles failures now", "fires each hour", "no longer fires each day"],
    ["was in the whole flow, and is in n"],
  ]);
});

/** A difference as text, and what each side of it is. */
function differ(before: string, after: string): string {
  const lines = diffLines(before, after);
  const side = (other: "added" | "removed", number: "before" | "after") => {
    const found = lines.filter(({ kind }) => kind !== other);
    found.forEach((line, index) => assert.equal(line[number], index + 1));
    return found.map(({ text }) => text).join("\n");
  };
  const clean = (text: string) => text.replace(/\n$/, "");
  assert.equal(side("added", "before"), clean(before));
  assert.equal(side("removed", "after"), clean(after));
  return lines.map(({ kind, text }) => `${kind === "same" ? " " : kind === "added" ? "+" : "-"}${text}`).join("|");
}

test("texts differ by the fewest lines", () => {
  assert.equal(differ("a\nb\nc\n", "a\nx\nc\n"), " a|-b|+x| c");
  assert.equal(differ("a\nb", "a\nb"), " a| b");
  assert.equal(differ("", "a\n"), "+a");
  assert.equal(differ("a\n", ""), "-a");
  assert.equal(differ("", ""), "");
  assert.equal(differ("a\na\nb\n", "a\nb\nb\n"), " a|-a|+b| b");
  assert.equal(differ("a\nb\nc\nd\ne\n", "b\nc\nx\ne\nf\n"), "-a| b| c|-d|+x| e|+f");
  assert.equal(differ("a\r\nb\r\n".replaceAll("\r", ""), "a\nb\nc"), " a| b|+c");
});

test("any two texts lead from one to the other", () => {
  let state = 1;
  const random = (below: number) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * below);
  };
  for (let round = 0; round < 300; round += 1) {
    const text = () => Array.from({ length: 1 + random(12) }, () => "abcd"[random(4)]).join("\n");
    differ(text(), text());
  }
});

test("texts that have nothing in common are compared as a whole", () => {
  const numbered = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index}`).join("\n");
  const lines = diffLines(`first\n${numbered("a", 2000)}\nlast`, `first\n${numbered("b", 2000)}\nlast`);
  assert.equal(lines.length, 4002);
  assert.deepEqual([lines[0]?.kind, lines[1]?.kind, lines[2000]?.kind, lines[2001]?.kind, lines.at(-1)?.kind], ["same", "removed", "removed", "added", "same"]);
});

test("equal lines far from a change are left out", () => {
  const text = Array.from({ length: 40 }, (_, index) => String(index));
  const changed = [...text];
  changed[20] = "x";
  const parts = hunks(diffLines(text.join("\n"), changed.join("\n")));
  assert.deepEqual(
    parts.map((part) => ("hidden" in part ? part.hidden : part.lines.map(({ text }) => text))),
    [17, ["17", "18", "19", "20", "x", "21", "22", "23"], 16],
  );
  // One line is shown rather than counted.
  changed[28] = "y";
  const [, middle] = hunks(diffLines(text.join("\n"), changed.join("\n")));
  assert.ok(middle && "lines" in middle && middle.lines.some(({ text }) => text === "24"));
  assert.deepEqual(hunks([]), []);
});

test("the address says which revisions are compared", () => {
  assert.equal(compared(null, null, 1), null);
  assert.deepEqual(compared(null, null, 4), { from: 3, to: 4 });
  assert.deepEqual(compared("1", "3", 4), { from: 1, to: 3 });
  assert.deepEqual(compared("3", "1", 4), { from: 1, to: 3 });
  assert.deepEqual(compared("0", "99", 4), { from: 1, to: 4 });
  assert.deepEqual(compared("<img>", "1e3", 4), { from: 3, to: 4 });
  assert.deepEqual(compared(null, "1", 4), { from: 1, to: 1 });
});

test("a line of a text is found", () => {
  assert.deepEqual(lineAt("a\n  bc \n", 2), { start: 4, end: 7, text: "bc" });
  assert.deepEqual(lineAt("a", 1), { start: 0, end: 1, text: "a" });
  assert.equal(lineAt("a\nb", 3), null);
  assert.equal(lineAt("a", 0), null);
});
