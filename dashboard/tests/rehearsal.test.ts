import assert from "node:assert/strict";
import { test } from "node:test";

import type { Rehearsal, RehearsedCase } from "../src/api/types.ts";
import { caseEnd, caseOf, caseTitle, describe, failureKey, failureName, marks, positions, positionText, valueText } from "../src/model/rehearsal.ts";

const call = (node: string, action = "apply", fails = "always") => ({ node, action, fails });
const nodes = (states: { [name: string]: string }) => Object.entries(states).map(([name, state]) => ({ name, kind: "task", state }));
const one = (more: Partial<RehearsedCase>): RehearsedCase => ({ failing: [], reached: true, state: "success", nodes: [], ...more });
const rehearsal = (cases: RehearsedCase[]): Rehearsal => ({ flow: "f", stubs: [], cases, omitted: 0 });

test("a position of the slider has all cases of a task, in the order of the report", () => {
  const all = positions(
    rehearsal([
      one({}),
      one({ failing: [call("b")] }),
      one({ failing: [call("b", "apply", "first-try")] }),
      one({ failing: [call("c"), call("b", "rollback")] }),
      one({ failing: [call("a")], reached: false }),
    ]),
  );
  assert.deepEqual(all.map(({ node, cases }) => [node, cases.map(failureKey)]), [
    ["", ["apply"]],
    ["b", ["apply", "first-try", "rollback"]],
    ["a", ["apply"]],
  ]);
  const b = all[1]!;
  assert.equal(caseOf(b, "rollback"), b.cases[2]);
  for (const key of ["", "constructor", "<b>"]) assert.equal(caseOf(b, key), b.cases[0], key);
  assert.equal(caseOf({ node: "", cases: [] }, ""), null);
  assert.deepEqual(b.cases.map(failureName), ["it fails", "it fails at first", "its rollback fails"]);
  assert.equal(positionText(all, 0, all[0]!.cases[0]!), "no failure: the run succeeds");
  assert.equal(positionText(all, 2, all[2]!.cases[0]!), "a fails, 2 of 2: it is not called");
  assert.deepEqual(positions(rehearsal([])), []);
});

test("a case is a sentence, and has an end", () => {
  assert.equal(caseTitle(one({})), "no failure");
  assert.equal(caseTitle(one({ failing: [call("a"), call("b"), call("c", "rollback")] })), "the rollback of c fails, after a and b have failed");
  const first = one({ failing: [call("a", "apply", "first-try")], retried_flows: [{ flow: "inner", runs: 2, rolled_back: [] }] });
  assert.equal(caseTitle(first), "a fails in the first run of inner");
  const ends = [one({ reached: false }), one({ state: "failure" }), one({ state: "rolled-back" }), one({ state: "running" }), one({ state: "running", stopped: "after 3 firings" }), one({ state: "odd" })];
  assert.deepEqual(ends.map((end) => caseEnd(end).words), ["is not called", "needs a person", "is rolled back", "stays open", "goes on", "does not end"]);
});

test("each node has what happens to it, and the places of its rollback", () => {
  const found = marks(
    one({
      failing: [call("pay"), call("reserve", "rollback")],
      state: "failure",
      nodes: nodes({ start: "rolled-back", reserve: "rollback-failure", each: "rolled-back", mail: "rolled-back", pay: "rolled-back", apologize: "success", send: "pending", odd: "constructor" }),
      retried: [{ node: "pay", action: "apply", attempts: 3, pauses: [2, 4], jitter: false }],
      rolled_back: ["pay", "each[1]", "each[0]"],
      without_rollback: ["mail"],
      handlers: ["apologize"],
      stuck: ["reserve"],
    }),
  );
  const shown = [...found].map(([name, { look, words, order, isUntouched }]) => [name, look, words, order, isUntouched]);
  assert.deepEqual(shown, [
    ["start", "rolled-back", "nothing to roll back", "", true],
    ["reserve", "rollback-failure", "its rollback fails, and needs a person", "", false],
    ["each", "rolled-back", "rolled back as number 2–3", "2–3", false],
    ["mail", "success", "stays, has no rollback", "", false],
    ["pay", "failure", "fails after 3 attempts, rolled back as number 1", "1", false],
    ["apologize", "success", "handles the failure", "", false],
    ["send", "pending", "not reached", "", true],
    ["odd", "unknown", "constructor", "", true],
  ]);
  assert.equal(found.get("reserve")?.short, "needs a person");
  assert.ok([...found.values()].every(({ short }) => short.length <= 27), "it fits a node");
});

test("what is tried again and then succeeds is neither a failure nor untouched", () => {
  const found = marks(
    one({
      failing: [call("icing", "apply", "first-try")],
      nodes: nodes({ pan: "success", icing: "success", decoration: "started", bake: "success" }),
      retried_flows: [{ flow: "decoration", runs: 2, rolled_back: ["pan"] }],
    }),
  );
  assert.deepEqual([...found].map(([name, { look, isUntouched }]) => [name, look, isUntouched]), [
    ["pan", "retrying", false],
    ["icing", "failure", false],
    ["decoration", "retrying", false],
    ["bake", "success", true],
  ]);
});

test("a case that is not reached says only why", () => {
  const skipped = [{ node: "b", links: [{ from: "a", when: "a.x > 1", stubs: [{ task: "a", name: "x", from: "schema", value: 0 }] }] }];
  const unreached = one({ failing: [call("b")], reached: false, nodes: nodes({ a: "success", b: "ignored" }), skipped, notified: ["a"] });
  assert.deepEqual(marks(unreached).get("b"), { look: "pending", words: "is not called", short: "is not called", order: "", isUntouched: false });
  assert.deepEqual(describe(unreached), [{ title: "Not started", items: ["b; the link from a is not taken: a.x > 1, and a.x is 0"] }]);
});

test("a case in words has its parts in one order, the person first", () => {
  const parts = describe(
    one({
      failing: [call("b"), call("a", "rollback")],
      state: "failure",
      retried: [
        { node: "b", action: "apply", attempts: 2, pauses: [1], jitter: true },
        { node: "a", action: "rollback", attempts: 1, pauses: [0.5, 12.25], jitter: false },
      ],
      rolled_back: ["b"],
      still_applied: ["c"],
      stuck: ["a"],
      unexpected: { d: { kind: "permanent", message: "<b>no</b>" } },
      stopped: "after 3 firings",
    }),
  );
  assert.deepEqual(parts.map(({ title, items }) => [title, ...items]), [
    ["A person has to act: the rollback fails", "a"],
    ["Tried again", "b: 2 attempts, with pauses of about 1s", "a: 1 attempt to roll back, with pauses of 0.5s, 12s"],
    ["Rolled back, in this order", "b"],
    ["Stays applied", "c"],
    ["Fails too, perhaps because of a stubbed value", "d: <b>no</b>"],
    ["The rehearsal stops", "after 3 firings"],
  ]);
  assert.deepEqual([parts[0]?.needsPerson, parts[2]?.isOrdered], [true, true]);
});

test("a stubbed value is cut", () => {
  const stub = (value: unknown) => valueText({ task: "a", name: "x", from: "schema", value });
  assert.equal(stub(null), "null");
  assert.equal(stub(undefined), "a long value");
  assert.equal(stub("x".repeat(99)).length, 61);
});
