import assert from "node:assert/strict";
import { test } from "node:test";

import { ExactNumber, bytesOf, parseJson, runValues, toText, typed } from "../src/model/json.ts";

test("numbers stay as they were written", () => {
  for (const text of ["9007199254740993", "12345678901234567890", "0.1234567890123456789", "1e400", "-1e-400", "1E5", "3.14", "0"]) {
    const value = parseJson(`{"n":${text}}`) as { n: unknown };
    const shown = value.n instanceof ExactNumber ? value.n.text : String(value.n);
    assert.equal(Number(shown), Number(text), text);
    if (text.length > 15) assert.equal(shown, text);
  }
  assert.equal(toText(parseJson("[9007199254740993,1.0,2]")), "[9007199254740993,1,2]");
});

test("the careful reader reads what the usual one reads", () => {
  const texts = [
    '{"a":[1,2,{"b":null}],"c":"\\u00e9\\n\\"","d":true,"e":false,"f":{},"g":[]}',
    '  [ -0.5e3 , "x" , [ ] ]  ',
    '"text"',
  ];
  for (const text of texts) {
    const careful = parseJson(`[1234567890123456789,${text}]`) as unknown[];
    assert.deepEqual(JSON.parse(toText(careful[1] as never)), JSON.parse(text));
  }
  for (const bad of ["[1234567890123456789", "[1234567890123456789,]", "{1234567890123456789:1}", "1234567890123456789 1", "[01234567890123456]", '["\u0001",1234567890123456789]']) {
    assert.throws(() => parseJson(bad), SyntaxError, bad);
  }
  assert.throws(() => parseJson(`1234567890123456789${"[".repeat(3)}`), SyntaxError);
  assert.throws(() => parseJson(`${"[".repeat(5000)}1234567890123456789${"]".repeat(5000)}`), SyntaxError);
});

test("a name of a value changes no prototype", () => {
  const value = parseJson('{"__proto__":{"polluted":12345678901234567}}') as { [name: string]: unknown };
  assert.equal(({} as { polluted?: unknown }).polluted, undefined);
  assert.deepEqual(Object.keys(value), ["__proto__"]);
});

test("the values of a run have their kinds and sizes", () => {
  const values = runValues({
    z: [1],
    $bytes: { photo: "AAECAw==" },
    $stored: { big: { digest: "sha256:1", size: 99, form: "json" } },
  });
  assert.deepEqual(values, [
    { name: "big", kind: "stored", size: 99, digest: "sha256:1", form: "json" },
    { name: "photo", kind: "bytes", size: 4, base64: "AAECAw==" },
    { name: "z", kind: "json", value: [1] },
  ]);
  assert.deepEqual(runValues(undefined), []);
  assert.deepEqual(["", "AA==", "AAA=", "AAAA"].map(bytesOf), [0, 1, 2, 3]);
});

test("what a person types is JSON if it is JSON, else text", () => {
  assert.deepEqual(typed("200"), { json: "200", isText: false });
  assert.deepEqual(typed(" [1, 2] "), { json: "[1, 2]", isText: false });
  assert.deepEqual(typed("12345678901234567890"), { json: "12345678901234567890", isText: false });
  assert.deepEqual(typed("eve"), { json: '"eve"', isText: true });
  assert.deepEqual(typed(""), { json: '""', isText: true });
});
