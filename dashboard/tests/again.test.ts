import assert from "node:assert/strict";
import { test } from "node:test";

import { fieldOf, given, nextId, submissionBody, toBase64 } from "../src/model/again.ts";
import { parseJson, runValues, type Json } from "../src/model/json.ts";

const values = (json: string) => runValues(parseJson(json) as { [name: string]: Json });

test("inputs that nobody changes are sent as they were", () => {
  const inputs = values('{"big":12345678901234567890,"list":[1.10,"ä"],"text":"12","$bytes":{"photo":"/wA="}}');
  const all = inputs.map((input) => given(input, fieldOf(input))!);
  const body = submissionBody({ run: "r", flow: 'name = "f"\n', labels: { team: "shop" }, inputs: all });
  assert.equal(body, '{"run":"r","flow":"name = \\"f\\"\\n","labels":{"team":"shop"},"inputs":{"big":12345678901234567890,"list":[1.1,"ä"],"text":"12","$bytes":{"photo":"/wA="}}}');
});

test("a changed input is JSON, or text", () => {
  const [input] = values('{"name":"example"}');
  assert.equal(fieldOf(input!), '"example"');
  assert.deepEqual(given(input!, '"other"'), { name: "name", json: '"other"' });
  assert.deepEqual(given(input!, "other one"), { name: "name", json: '"other one"' });
  assert.deepEqual(given(input!, "1.50"), { name: "name", json: "1.50" });
  assert.deepEqual(given(input!, ""), { name: "name", json: '""' });
});

test("a value in the store is read, unless another one is entered", () => {
  const [stored] = values('{"$stored":{"page":{"digest":"sha256:00","size":9,"form":"json"}}}');
  assert.equal(given(stored!, fieldOf(stored!)), null);
  assert.deepEqual(given(stored!, "[1]"), { name: "page", json: "[1]" });
  const [bytes] = values('{"$bytes":{"photo":"/wA="}}');
  assert.deepEqual(given(bytes!, "7"), { name: "photo", json: "7" });
});

test("each run has an id of its own", () => {
  assert.equal(nextId("order-1"), "order-1-again");
  assert.equal(nextId("order-1-again"), "order-1-again-2");
  assert.equal(nextId("order-1-again-2"), "order-1-again-3");
  assert.equal(nextId("again"), "again-again");
  const longest = "x".repeat(100);
  assert.equal(nextId(longest), `${"x".repeat(94)}-again`);
  assert.equal(nextId(nextId(longest)), `${"x".repeat(92)}-again-2`);
});

test("bytes are base64", () => {
  assert.equal(toBase64(new Uint8Array([255, 0])), "/wA=");
  assert.equal(toBase64(new Uint8Array(100_000)).length, 133_336);
});
