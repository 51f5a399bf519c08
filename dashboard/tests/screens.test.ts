import assert from "node:assert/strict";
import { test } from "node:test";

import type { TimelineAttempt } from "../src/api/types.ts";
import { fromQuery, isEmpty, labelTexts, ofLabel, toApi, toQuery } from "../src/model/filters.ts";
import { attemptText, attemptTitle, distinctBars, gantt, joinAttempts, justAfter, traceOf } from "../src/model/gantt.ts";
import { commands, ending, look, RUN_STATES } from "../src/model/states.ts";

test("filters come back from the address", () => {
  const text = "state=running,failure&label=team=shop&label=urgent&flow=bake&namespace=shop&text=42&since=24h&until=2026-01-01T00:00:00Z&after=7.r";
  const filter = fromQuery(new URLSearchParams(text));
  assert.deepEqual(filter.states, ["running", "failure"]);
  assert.deepEqual([filter.labels, filter.text], [["team=shop", "urgent"], "42"]);
  assert.equal(decodeURIComponent(toQuery(filter).toString()), text);
  assert.ok(isEmpty(fromQuery(new URLSearchParams("other=1&label=&text=+"))));
  for (const some of ["label=a", "text=a"]) assert.ok(!isEmpty(fromQuery(new URLSearchParams(some))), some);
  assert.deepEqual(fromQuery(new URLSearchParams("label=a&label=b&label=a")).labels, ["a", "b"]);
});

test("a label of a run is a filter for all runs with it", () => {
  const [label = ""] = labelTexts({ note: "a & b = c+d" });
  assert.equal(label, "note=a & b = c+d");
  assert.deepEqual(fromQuery(new URLSearchParams(ofLabel(label).toString())).labels, [label]);
  assert.deepEqual([labelTexts(undefined), labelTexts({ team: "", order: "7" })], [[], ["team=", "order=7"]]);
});

test("a period is a time for the API", () => {
  const now = Date.parse("2026-01-02T00:00:00.700Z");
  const query = toApi(fromQuery(new URLSearchParams("since=24h")), now, 50);
  assert.equal(query.get("since"), "2026-01-01T00:00:00.000Z");
  assert.equal(query.get("limit"), "50");
});

test("each state of a run has a look and a set of commands", () => {
  for (const state of RUN_STATES) assert.notEqual(look(state), "unknown", state);
  assert.equal(look("constructor"), "unknown");
  assert.equal(look(undefined), "unknown");
  assert.deepEqual(commands("running", false), ["suspend", "cancel"]);
  assert.deepEqual(commands("running", true), []);
  assert.deepEqual(commands("failure", false), ["retry"]);
  assert.deepEqual(commands("success", false), []);
  assert.equal(ending("rolled-back", false), "was stopped and rolled back");
});

const attempt = (more: object): TimelineAttempt =>
  ({ task: "a", firing: 1, attempt: 1, call: "apply", started_at: "2026-01-01T00:00:00Z", ...more }) as TimelineAttempt;

test("a timeline has a row for each task, with calls, pauses and rollbacks", () => {
  const now = Date.parse("2026-01-01T00:01:00Z");
  const { rows, from, to } = gantt(
    [
      attempt({ ended_at: "2026-01-01T00:00:05Z", outcome: "failure", retry_in: 2, leased_at: "2026-01-01T00:00:01Z" }),
      attempt({ attempt: 2, started_at: "2026-01-01T00:00:07Z", ended_at: "2026-01-01T00:00:08Z", outcome: "success" }),
      attempt({ task: "w", started_at: "2026-01-01T00:00:09Z" }),
      attempt({ task: "a", call: "rollback", started_at: "2026-01-01T00:00:20Z", ended_at: "2026-01-01T00:00:21Z", outcome: "rolled-back" }),
      attempt({ task: "e[4]", started_at: "2026-01-01T00:00:10Z" }),
      attempt({ task: "bad", started_at: "no time" }),
    ],
    now,
    new Set(["w"]),
  );
  assert.deepEqual(rows.map((row) => [row.task, row.element, row.bars.map((bar) => bar.kind)]), [
    ["a", null, ["queued", "call", "pause", "call", "call"]],
    ["w", null, ["wait"]],
    ["e[4]", 4, ["call"]],
  ]);
  assert.equal(rows[0]?.bars.at(-1)?.isRollback, true);
  assert.equal(rows[1]?.bars[0]?.isOpen, true);
  assert.deepEqual([from, to], [Date.parse("2026-01-01T00:00:00Z"), now]);
  assert.deepEqual(gantt([], now, new Set()).rows, []);
});

test("each attempt with a call opens its trace once", () => {
  const times = { leased_at: "2026-01-01T00:00:01Z", ended_at: "2026-01-01T00:00:02Z", outcome: "failure", retry_in: 1 };
  const { rows } = gantt([attempt({ ...times, trace_url: "https://t.test/1" }), attempt({ task: "w", trace_url: "https://t.test/2" })], 0, new Set(["w"]));
  assert.deepEqual(rows[0]?.bars.map(traceOf), [null, "https://t.test/1", null]);
  assert.deepEqual(rows[1]?.bars.map(traceOf), [null], "a wait is no call");
  assert.deepEqual(gantt([attempt({})], 0, new Set()).rows[0]?.bars.map(traceOf), [null], "no page is named");
});

const startedAt = (micros: number, more: object = {}) =>
  attempt({ started_at: `2026-01-01T00:00:00.${String(micros).padStart(6, "0")}Z`, ...more });

test("attempts that were read at several times are joined", () => {
  const before = [startedAt(1), startedAt(2)];
  const later = [startedAt(2, { outcome: "success" }), startedAt(2, { task: "b" }), startedAt(3)];
  const joined = joinAttempts(before, later, 10);
  assert.deepEqual(joined.map(({ task, started_at, outcome }) => [task, started_at.slice(-3), outcome]), [
    ["a", "01Z", undefined],
    ["a", "02Z", "success"],
    ["b", "02Z", undefined],
    ["a", "03Z", undefined],
  ]);
  assert.deepEqual(joinAttempts(before, later, 2), joined.slice(2), "the latest ones stay");
  assert.equal(justAfter("2026-01-01T00:00:00.000009Z"), "2026-01-01T00:00:00.000010Z");
  assert.equal(justAfter("2025-12-31T23:59:59.999999Z"), "2026-01-01T00:00:00.000000Z");
  assert.equal(justAfter("no time"), "no time");
});

test("attempts that cannot be told from each other are drawn once", () => {
  const short = Array.from({ length: 1000 }, (_, number) => startedAt(number, { attempt: number + 1, ended_at: startedAt(number + 1).started_at, outcome: "success" }));
  const { rows } = gantt([...short, startedAt(900_000, { outcome: "failure" })], Date.parse("2026-01-01T00:00:02Z"), new Set());
  const bars = rows[0]?.bars ?? [];
  assert.equal(bars.length, 1001);
  const [from, scale] = [Date.parse("2026-01-01T00:00:00Z"), 0.1];
  const drawn = distinctBars(bars, (time) => (time - from) * scale);
  assert.ok(drawn.length < 5 && drawn.some(({ outcome }) => outcome === "failure"), `${drawn.length}`);
});

test("a tooltip names characters that cannot be seen", () => {
  const hostile = attempt({ ended_at: "2026-01-01T00:00:01Z", outcome: "failure", worker: "w\u202e", failure: { kind: "permanent", message: "\u001b[31mred" } });
  const title = attemptTitle(hostile, 0);
  assert.ok(title.includes("on w\\u{202e}") && title.includes("permanent: \\x1b[31mred"), title);
});

test("an attempt is described in words", () => {
  const now = Date.parse("2026-01-01T00:00:04Z");
  assert.equal(attemptText(attempt({}), now), "apply, attempt 1, running, for 4.0s");
  const failed = attempt({ call: "rollback", attempt: 2, firing: 3, ended_at: "2026-01-01T00:00:01Z", outcome: "rollback-failure", worker: "w", retry_in: 1 });
  assert.equal(attemptText(failed, now), "rollback, attempt 2, firing 3, rollback-failure, after 1.0s, on w, again in 1.0s");
});
