import assert from "node:assert/strict";
import { test } from "node:test";

import type { EventPayload } from "../src/api/types.ts";
import { SseParser, pause } from "../src/api/sse.ts";
import { describe, elementOf, MAX_EVENTS, RunEvents } from "../src/model/events.ts";
import { LogBook, MAX_KNOWN, MAX_LINES, select } from "../src/model/logs.ts";

const state = (name: string, state: string, more = {}): EventPayload =>
  ({ event: "state", kind: "task", name, state, firing: 1, attempt: 1, at: "2026-01-01T00:00:00Z", ...more }) as unknown as EventPayload;

test("the last event of a task is its state", () => {
  const events = new RunEvents();
  events.add("1", state("a", "running"));
  events.add("2", state("a", "failure", { retry_in: 1.5 }));
  events.add("3", state("a", "running", { attempt: 2 }));
  assert.deepEqual([events.nodes.get("a")?.state, events.nodes.get("a")?.attempt, events.nodes.get("a")?.event], ["running", 2, 3]);
  events.add("4", { event: "run", state: "success", run: "r" } as unknown as EventPayload);
  events.add("5", { event: "trimmed", records: 7 } as unknown as EventPayload);
  events.add("6", { event: "weather" } as unknown as EventPayload);
  assert.deepEqual([events.state, events.trimmed, events.total], ["success", 7, 6]);
});

test("a failed rollback that is tried again is part of the rollback", () => {
  const events = new RunEvents();
  const after = (state_: string) => {
    events.add("", state("a", state_));
    return events.nodes.get("a")?.isRollback;
  };
  const seen = ["running", "failure", "running", "success", "rolling-back", "failure", "rolling-back", "rolled-back", "running", "failure"].map(after);
  assert.deepEqual(seen, [false, false, false, false, true, true, true, false, false, false]);
});

test("elements count once, and count no more when they are rolled back", () => {
  const events = new RunEvents();
  for (const number of [0, 1, 1]) events.add("", state(`t[${number}]`, "success"));
  assert.equal(events.elements.get("t")?.size, 2);
  events.add("", state("t[1]", "rolled-back"));
  assert.equal(events.elements.get("t")?.size, 1);
  assert.equal(events.nodes.has("t[1]"), false);
  assert.deepEqual(elementOf("a[b][12]"), { task: "a[b]", number: 12 });
  assert.equal(elementOf("a[x]"), null);
});

test("only the last events are kept", () => {
  const events = new RunEvents();
  for (let number = 0; number < MAX_EVENTS * 3; number += 1) events.add(String(number), state("a", "running"));
  assert.ok(events.last.length >= MAX_EVENTS && events.last.length <= MAX_EVENTS * 1.5);
  assert.equal(events.total, MAX_EVENTS * 3);
  assert.equal(events.last.at(-1)?.number, MAX_EVENTS * 3);
});

test("values are not kept with events", () => {
  const events = new RunEvents();
  events.add("1", state("a", "success", { provides: { large: "x".repeat(1000) } }));
  assert.equal(JSON.stringify(events.last).includes("large"), false);
  assert.equal(events.nodes.get("a")?.state, "success");
  const failure = { kind: "permanent", message: "m".repeat(5000), details: { large: 1 }, apply: { kind: "trap", message: "large" } };
  events.add("2", state("a", "failure", { failure }));
  events.add("3", { event: "run", run: "r", state: "rolled-back", failures: { large: failure } } as unknown as EventPayload);
  const kept = JSON.stringify(events.last);
  assert.ok(!kept.includes("large") && kept.length < 2000, kept);
  assert.match(describe(events.last[1]!.event).detail, /^permanent: m{1000}…$/);
});

test("an event is described in words", () => {
  const failed = describe(state("a", "failure", { attempt: 3, failure: { kind: "trap", message: "boom" }, retry_in: 2 }));
  assert.equal(failed.detail, "attempt 3 · trap: boom · again in 2.0s");
  assert.equal(describe({ event: "weather" } as unknown as EventPayload).detail, "an event that this page does not know");
});

test("server-sent events arrive in any pieces", () => {
  const text = ": keep-alive\n\nid: 1-2\ndata: {\"a\":1}\n\nid:2\r\ndata: x\r\ndata: y\r\n\r\nevent: e\nretry: 1\n\ndata\n\n";
  const whole = new SseParser().add(text);
  assert.deepEqual(whole, [{ id: "1-2", data: '{"a":1}' }, { id: "2", data: "x\ny" }, { id: "2", data: "" }]);
  for (let size = 1; size < 9; size += 1) {
    const parser = new SseParser();
    const found = [];
    for (let start = 0; start < text.length; start += size) found.push(...parser.add(text.slice(start, start + size)));
    assert.deepEqual(found, whole, `pieces of ${size}`);
  }
  assert.deepEqual([1, 2, 3, 20].map(pause), [500, 1000, 2000, 10_000]);
});

const line = (number: number, text: string, more = {}) =>
  ({ event: "log", task: "t", call: "apply", firing: 1, attempt: 1, worker: "w", number, level: "info", text, ...more }) as never;

test("a line that comes again after a reconnect is shown once", () => {
  const book = new LogBook();
  for (const number of [1, 2, 1, 2, 3]) book.add(line(number, `line ${number}`));
  book.add(line(1, "printed", { level: "stdout" }));
  book.add(line(1, "again", { attempt: 2 }));
  assert.deepEqual(book.lines.map(({ text }) => text), ["line 1", "line 2", "line 3", "printed", "again"]);
});

test("lines that were missing are shown when they come", () => {
  const book = new LogBook();
  for (const number of [5, 6]) book.add(line(number, `line ${number}`));
  for (const number of [1, 2, 5, 6]) book.add(line(number, `line ${number}`));
  // The recorded line counts, if it differs from the one that came first.
  book.add(line(6, "another line 6"));
  assert.deepEqual(book.lines.map(({ text }) => text), ["line 5", "line 6", "line 1", "line 2", "another line 6"]);
});

test("the lines of attempts that have ended are not remembered", () => {
  const book = new LogBook();
  const known = () => (book as unknown as { countOfKnown: number; known: Map<string, unknown> });
  for (let attempt = 1; attempt <= 50; attempt += 1) {
    book.add(line(1, "x", { attempt, task: `t[${attempt}]` }));
    book.add({ event: "log-end", task: `t[${attempt}]`, call: "apply", firing: 1, attempt } as never);
  }
  assert.deepEqual([known().countOfKnown, known().known.size], [0, 0]);
  assert.deepEqual([...book.tasks], ["t"]);
  // The end of an attempt may never be reported.
  for (let number = 0; number < MAX_KNOWN + 100; number += 1) book.add(line(1 + (number % 10), "x", { attempt: 100 + Math.floor(number / 10) }));
  assert.ok(known().countOfKnown <= MAX_KNOWN && known().known.size <= MAX_KNOWN / 10);
});

test("lines are found by task, level and text", () => {
  const book = new LogBook();
  book.add(line(1, "Hello"));
  book.add(line(2, "oops", { level: "error" }));
  book.add(line(1, "element", { task: "t[3]" }));
  book.add(line(1, "other", { task: "tt" }));
  const found = (filter: object) => select(book.lines, { task: "", levels: "", text: "", ...filter }).map(({ text }) => text);
  assert.deepEqual(found({}), ["Hello", "oops", "element", "other"]);
  assert.deepEqual(found({ task: "t" }), ["Hello", "oops", "element"]);
  assert.deepEqual(found({ levels: "error" }), ["oops"]);
  assert.deepEqual(found({ text: "hEL" }), ["Hello"]);
});

test("a log of any length takes bounded memory", () => {
  const book = new LogBook();
  for (let number = 1; number <= MAX_LINES * 2; number += 1) book.add(line(number, "x"));
  assert.ok(book.lines.length <= MAX_LINES * 1.25);
  assert.equal(book.dropped + book.lines.length, MAX_LINES * 2);
  book.add(line(MAX_LINES * 2 + 1, "y".repeat(30_000_000)));
  assert.equal(book.lines.at(-1)?.text.length, 30_000_000);
  assert.ok(book.lines.length < 100);
});
