// Starts the flow of a run once more, with inputs that a person may have changed.

import { toText, typed, type RunValue } from "./json.ts";

/** The largest input that the page sends again, in bytes. */
export const MAX_INPUT = 8 << 20;

/** An input as it is sent. */
export type Given = { name: string; json: string } | { name: string; base64: string };

/** The text with which the field of an input begins. That of a value which is no short JSON is empty: nobody edits it here. */
export function fieldOf(value: RunValue): string {
  return value.kind === "json" ? toText(value.value, 2) : "";
}

/** An input after a person has had its field, if the field or the run says all of it; `null` if the value has to be read from the store. */
export function given(value: RunValue, text: string): Given | null {
  if (text !== fieldOf(value)) return { name: value.name, json: typed(text).json };
  switch (value.kind) {
    case "json":
      return { name: value.name, json: toText(value.value) };
    case "bytes":
      return { name: value.name, base64: value.base64 };
    case "stored":
      return null;
  }
}

/** The body of the request that starts a run. Numbers are sent as they were written. */
export function submissionBody(submission: { run: string; flow: string; labels: { [name: string]: string }; inputs: Given[] }): string {
  const [values, bytes]: [string[], string[]] = [[], []];
  for (const input of submission.inputs) {
    const name = JSON.stringify(input.name);
    if ("json" in input) values.push(`${name}:${input.json}`);
    else bytes.push(`${name}:${JSON.stringify(input.base64)}`);
  }
  if (bytes.length) values.push(`"$bytes":{${bytes.join(",")}}`);
  const { run, flow, labels } = submission;
  return `{"run":${JSON.stringify(run)},"flow":${JSON.stringify(flow)},"labels":${JSON.stringify(labels)},"inputs":{${values.join(",")}}}`;
}

/** The longest id of a run, in characters: those of an id are ASCII. */
const MAX_ID = 100;

/** An id for the next run of the same: `order-1` is followed by `order-1-again`, and that by `order-1-again-2`. */
export function nextId(run: string): string {
  const match = /^(.*)-again(?:-(\d{1,6}))?$/.exec(run);
  const end = match ? `-again-${Number(match[2] ?? 1) + 1}` : "-again";
  return `${(match?.[1] ?? run).slice(0, MAX_ID - end.length)}${end}`;
}

/** Bytes as base64. */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  // An argument list that is too long would exhaust the stack.
  for (let start = 0; start < bytes.length; start += 0x8000) binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  return btoa(binary);
}
