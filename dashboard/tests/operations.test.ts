import assert from "node:assert/strict";
import { test } from "node:test";

import type { AuditEntry, BulkResult, JobQueue, QuarantinedMessage, QuarantineResult, RunCounts, Schedule, SkippedTriggers, TaskPermits, Worker } from "../src/api/types.ts";
import { shownSubject, statusLook } from "../src/model/audit.ts";
import { addResult, anyNumberRequest, bulkActions, conditions, firstRequest, matchedText, nextRequest, NOTHING_DONE, previewRequest } from "../src/model/bulk.ts";
import { panelTask } from "../src/model/events.ts";
import { fromQuery, toSelection } from "../src/model/filters.ts";
import { flowRows } from "../src/model/flows.ts";
import { dropPath, messageKey, namedRun, reasonText, releaseBody, resultTexts, selectedCount } from "../src/model/quarantine.ts";
import { givenText, noPermitsText, permitKey, queueNote } from "../src/model/queues.ts";
import { isHeld, skippedText } from "../src/model/schedules.ts";
import { otherCallsText, runsInMemory, workerCommands, workerLook } from "../src/model/workers.ts";

const NOW = Date.parse("2026-01-02T00:00:00.700Z");

const filterOf = (query: string) => fromQuery(new URLSearchParams(query));

test("many runs get the commands that some of their states take", () => {
  assert.deepEqual(bulkActions([]), ["suspend", "resume", "retry", "cancel"]);
  assert.deepEqual(bulkActions(["running"]), ["suspend", "cancel"]);
  assert.deepEqual(bulkActions(["failure", "success"]), ["retry"]);
  assert.deepEqual(bulkActions(["suspended"]), ["resume", "cancel"]);
  assert.deepEqual(bulkActions(["success"]), []);
  assert.deepEqual(bulkActions(["constructor"]), []);
});

test("a preview does nothing, and the command is for what it showed", () => {
  const filter = filterOf("state=running,pending&flow=shop/order&label=team=a,b&label=urgent&text=42&since=24h&after=7.r");
  const preview = previewRequest("cancel", filter, NOW);
  assert.deepEqual(preview, {
    action: "cancel",
    where: { state: "running,pending", flow: "shop/order", label: ["team=a,b", "urgent"], text: "42", since: "2026-01-01T00:00:00.000Z", until: "2026-01-02T00:00:05.700Z" },
    dry_run: true,
  });
  const { where } = preview;
  assert.deepEqual(firstRequest(preview, 3), { action: "cancel", where, dry_run: false, expect: 3 });
  // Runs end while a person reads: the command is possible without their number.
  assert.deepEqual(anyNumberRequest(preview), { action: "cancel", where, dry_run: false });
  // A server refuses a number together with a position.
  assert.deepEqual(nextRequest(preview, "9.q"), { action: "cancel", where, dry_run: false, after: "9.q" });
  assert.deepEqual(conditions(filter), [
    "state: running, pending",
    "label: team=a,b",
    "label: urgent",
    "flow: shop/order",
    "text: 42",
    "since: 24h",
  ]);
});

test("all runs are commanded only on purpose", () => {
  assert.deepEqual(previewRequest("suspend", filterOf("after=7.r"), NOW), {
    action: "suspend",
    where: { until: "2026-01-02T00:00:05.700Z" },
    dry_run: true,
    all: true,
  });
  const until = "2026-01-01T12:00:00Z";
  assert.deepEqual(previewRequest("suspend", filterOf(`until=${until}`), NOW).where, { until });
  assert.equal(previewRequest("suspend", filterOf("namespace=shop"), NOW).all, undefined);
});

test("the answers to a command are added up, and the refusals are bounded", () => {
  const answer = (done: number, refused: number): BulkResult => ({
    action: "cancel",
    dry_run: false,
    done,
    refused,
    refusals: Array.from({ length: Math.min(100, refused) }, (_, number) => ({ run: `r-${number}`, status: 409, reason: "it has ended" })),
  });
  const total = [answer(900, 100), answer(5, 60)].reduce(addResult, NOTHING_DONE);
  assert.deepEqual([total.done, total.refused, total.refusals.length], [905, 160, 100]);
  assert.deepEqual(addResult(NOTHING_DONE, { action: "retry", dry_run: false, done: 1, refused: 0 }), { done: 1, refused: 0, refusals: [] });
  assert.deepEqual([1, 2, 1_000_000].map(matchedText), ["1 run", "2 runs", "at least 1,000,000 runs"]);
});

test("a selection has all pages", () => {
  assert.equal(toSelection(filterOf("flow=f&since=24h&after=7.r"), NOW).toString(), "flow=f&since=2026-01-01T00%3A00%3A00.000Z");
});

test("a flow has the numbers of its runs by state, in the order of the filter", () => {
  const counts: RunCounts = {
    flows: [
      { flow: "shop/Order", states: { weather: 2, failure: 1, running: 1200 } },
      { flow: "bake", states: {} },
    ],
    total: 1203,
  };
  assert.deepEqual(flowRows(counts, ""), [
    {
      flow: "shop/Order",
      total: 1203,
      states: [
        { state: "running", count: 1200 },
        { state: "failure", count: 1 },
        { state: "weather", count: 2 },
      ],
    },
    { flow: "bake", total: 0, states: [] },
  ]);
  assert.deepEqual(flowRows(counts, "order").map(({ flow }) => flow), ["shop/Order"]);
});

test("a queue says whether somebody takes its jobs", () => {
  const look = (more: Partial<JobQueue>) => queueNote({ queue: "q", state: "exists", workers: 0, ...more }).look;
  assert.equal(look({ messages: 0, consumers: 0 }), "success");
  assert.equal(look({ messages: 3, consumers: 1, workers: 1 }), "running");
  assert.equal(look({ messages: 3, consumers: 0, workers: 1 }), "waiting");
  assert.equal(look({ messages: 3, consumers: 0 }), "failure");
  assert.equal(look({ state: "missing" }), "pending");
  assert.equal(look({ state: "refused" }), "failure");
  assert.deepEqual(queueNote({ queue: "q", state: "weather", workers: 0 }), { look: "unknown", text: "weather" });
});

test("permits are given up to their number", () => {
  const task = (more: Partial<TaskPermits>): TaskPermits => ({ flow: "f", task: "t", given: 1, waiting: 2, ...more });
  assert.equal(givenText(task({ max_running: 2 })), "1 of 2");
  assert.equal(givenText(task({ rate: "10/s" })), "1");
  assert.equal(permitKey(task({ flow: "shop/f" })), "shop/f:t");
  assert.deepEqual(["fetch[3]", "fetch"].map(panelTask), ["fetch", "fetch"]);
});

test("a page without a task does not deny those of other pages", () => {
  const none = "No call holds a permit or waits for one";
  assert.equal(noPermitsText({ tasks: [] }, ""), none);
  assert.notEqual(noPermitsText({ tasks: [], next: "f:t" }, ""), none);
  assert.notEqual(noPermitsText({ tasks: [] }, "f:t"), none);
});

test("a schedule says what it has not fired, and why", () => {
  const skipped = (reason: string, count: number) => skippedText({ task: "t", reason, count, last_at: "2026-01-01T00:00:00Z" } satisfies SkippedTriggers);
  assert.equal(skipped("missed", 1), "once: missed, no engine drove the run");
  assert.equal(skipped("overlap", 1000), "1,000 times: an earlier firing was under way");
  assert.equal(skipped("weather", 2), "2 times: weather");
  const schedule = (state: string): Schedule => ({ run: "r", flow: "f", state, task: "t", cron: "* * * * *", zone: "UTC" });
  assert.deepEqual(["running", "suspending", "suspended"].map((state) => isHeld(schedule(state))), [false, true, true]);
});

test("a worker takes the commands of its state", () => {
  assert.deepEqual(workerCommands("active"), ["drain", "exit"]);
  assert.deepEqual(workerCommands("draining"), ["resume", "exit"]);
  for (const state of ["exiting", "weather", null, undefined]) assert.deepEqual(workerCommands(state), []);
  assert.deepEqual(["active", "draining", "exiting", "constructor"].map(workerLook), ["success", "suspended", "rolling-back", "unknown"]);
});

test("the calls that a worker's list leaves out are counted", () => {
  const worker = (more: Partial<Worker>): Worker => ({ name: "w", slots: 4, busy: 1, queues: [], version: "1", ...more });
  assert.equal(otherCallsText(worker({})), "");
  assert.equal(otherCallsText(worker({ more_calls: 3, other_calls: 2 })), "3 more calls, and 2 calls of other namespaces");
  const shard = (runs: number) => ({ shard: "0", since: "2026-01-01T00:00:00Z", runs });
  assert.equal(runsInMemory({ engine: "e", shards: [shard(2), shard(3)] }), 5);
});

const message = (more: Partial<QuarantinedMessage> = {}): QuarantinedMessage => ({ id: "m", size: 1, ...more });

test("a message in quarantine names its run, if it names one", () => {
  assert.deepEqual(namedRun(message({ headers: { run: "r", task: "t" } })), { run: "r", task: "t" });
  assert.deepEqual(namedRun(message({ headers: { run: "r" } })), { run: "r", task: "" });
  assert.equal(namedRun(message({ headers: { task: "t" } })), null);
  assert.equal(namedRun(message()), null);
  assert.equal(reasonText(message()), "no reason is known");
  assert.match(reasonText(message({ reason: "delivery_limit" })), /delivered too often/);
  assert.equal(reasonText(message({ reason: "it is unreadable" })), "it is unreadable");
});

test("a command to the quarantine is for an id, or for all messages", () => {
  const messages = [message(), message(), message({ id: "" }), message({ id: "a&all=true" })];
  assert.deepEqual(messages.map(messageKey), ["m", "m", "(no id)", "a&all=true"]);
  assert.deepEqual([selectedCount(messages, "all"), selectedCount(messages, { id: "m" }), selectedCount(messages, { id: "" })], [4, 2, 1]);
  assert.equal(dropPath("all"), "/v1/quarantine?all=true");
  assert.equal(dropPath({ id: "a&all=true" }), "/v1/quarantine?id=a%26all%3Dtrue");
  assert.deepEqual([releaseBody("all"), releaseBody({ id: 'a"b' })], ['{"all":true}', '{"id":"a\\"b"}']);
});

test("the answer to a command to the quarantine is told in sentences", () => {
  const result = (more: Partial<QuarantineResult>): QuarantineResult => ({ done: [], without_origin: [], unread: 0, ...more });
  assert.deepEqual(resultTexts("release", result({ done: [message()] })), ["1 message was released."]);
  assert.deepEqual(resultTexts("drop", result({})), ["No message was dropped: none is there any more."]);
  const texts = resultTexts("release", result({ without_origin: [message(), message()], unread: 7 }));
  assert.deepEqual(texts.map((text) => text.slice(0, 20)), ["0 messages were rele", "2 messages stay: no ", "7 messages were not "]);
});

test("an entry of the audit log leads to its run or its module", () => {
  const entry = (action: string, subject?: string): AuditEntry => ({ at: "2026-01-01T00:00:00Z", caller: "ci", peer: "127.0.0.1:1", action, subject, status: 200 });
  assert.deepEqual(shownSubject(entry("cancel", "r")), { kind: "run", id: "r" });
  assert.deepEqual(shownSubject(entry("push", "sha256:ab")), { kind: "module", id: "sha256:ab" });
  for (const other of [entry("push", "a-tag"), entry("create-token", "reader"), entry("cancel")]) assert.equal(shownSubject(other), null);
  assert.deepEqual([200, 403, 500].map(statusLook), ["success", "rolling-back", "failure"]);
});
