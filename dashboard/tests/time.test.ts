import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, exact, local, marks, parse, parsePeriod, relative } from "../src/model/time.ts";

test("a duration has the digits that matter", () => {
  const shown = [0, 42, 99, 100, 1234, 59_999, 60_000, 245_000, 3_600_000, 11_520_000, 187_200_000].map(duration);
  assert.deepEqual(shown, ["0ms", "42ms", "99ms", "0.1s", "1.2s", "59.9s", "1m 00s", "4m 05s", "1h 00m", "3h 12m", "2d 4h"]);
});

test("a relative time says how far away it is", () => {
  const now = Date.parse("2026-03-01T12:00:00Z");
  const at = (seconds: number) => relative(now + seconds * 1000, now);
  assert.deepEqual([0, -1, -5, -59, -60, -3600, -90_000, -400_000, 30, 7200].map(at), [
    "now", "now", "5s ago", "59s ago", "1m ago", "1h ago", "25h ago", "4d ago", "in 30s", "in 2h",
  ]);
});

test("a time is shown in the zone of the reader, and exactly", () => {
  const now = Date.parse("2026-03-01T12:00:00Z");
  const shown = (time: string, zone: string) => local(Date.parse(time), now, "en-US", zone);
  assert.equal(shown("2026-03-01T11:05:09Z", "UTC"), "11:05:09");
  assert.equal(shown("2026-03-01T11:05:09Z", "Asia/Tokyo"), "20:05:09");
  assert.equal(shown("2026-02-27T11:05:09Z", "UTC"), "Feb 27, 11:05:09");
  assert.equal(shown("2025-12-31T23:30:00Z", "UTC"), "Dec 31, 2025, 23:30:00");
  assert.equal(exact("2026-03-01T11:05:09.123456Z"), "2026-03-01 11:05:09.123456 UTC");
});

test("only times and periods are taken", () => {
  assert.equal(parse("no time"), null);
  assert.equal(parse(null), null);
  assert.deepEqual(["15m", "24h", "7d", "0h", "h", "1w", "-1h", "1.5h", "2026-01-01"].map(parsePeriod), [
    900_000, 86_400_000, 604_800_000, null, null, null, null, null, null,
  ]);
});

test("an axis has few marks at round times", () => {
  assert.deepEqual(marks(10_000, 5), [0, 2000, 4000, 6000, 8000, 10_000]);
  for (const span of [1, 7, 999, 61_000, 86_400_000 * 400]) assert.ok(marks(span, 8).length <= 9, `${span}`);
});
