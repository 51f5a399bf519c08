// A value of JSON as a tree. Only what is opened is drawn.

import { useMemo, useState } from "preact/hooks";

import { ExactNumber, isContainer, toText, type Json } from "../model/json.ts";
import { count, cut } from "../model/text.ts";
import { Text } from "./text.tsx";

/** The number of entries that are shown at first, and with each wish for more. */
const ENTRIES = 100;

/** The longest text that is shown at first, in characters. */
const TEXT = 300;

export function JsonTree({ value, open = true }: { value: Json; open?: boolean }) {
  return (
    <div class="json">
      <JsonNode name={null} value={value} open={open} />
    </div>
  );
}

function JsonNode({ name, value, open }: { name: string | null; value: Json; open: boolean }) {
  const size = useMemo(() => (isContainer(value) ? sizeOf(value) : 0), [value]);
  const [isOpen, setOpen] = useState(open && isContainer(value) && size <= ENTRIES);
  const [most, setMost] = useState(ENTRIES);
  const label = name === null ? null : <JsonName name={name} />;
  if (!isContainer(value)) {
    return (
      <div class="json-line">
        {label}
        <Scalar value={value} />
      </div>
    );
  }
  const isList = Array.isArray(value);
  const summary = isList ? count(size, "element") : count(size, "key");
  if (!size) {
    return (
      <div class="json-line">
        {label}
        <span class="json-empty">{isList ? "[ ]" : "{ }"}</span>
      </div>
    );
  }
  return (
    <div class="json-group">
      <button type="button" class="json-line json-toggle" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        <span class="json-mark" aria-hidden="true">
          {isOpen ? "▾" : "▸"}
        </span>
        {label}
        <span class="json-summary">
          {isList ? "[…]" : "{…}"} {summary}
        </span>
        {isOpen ? null : <Preview value={value} />}
      </button>
      {isOpen ? (
        <div class="json-inner">
          {firstEntries(value, most).map(([name, inner]) => (
            <JsonNode key={name} name={name} value={inner} open={false} />
          ))}
          {size > most ? (
            <button type="button" class="link" onClick={() => setMost(most + ENTRIES * 10)}>
              Show {Math.min(size - most, ENTRIES * 10)} more of {size}
            </button>
          ) : null}
        </div>
      ) : null}
    </div>
  );
}

function JsonName({ name }: { name: string }) {
  return (
    <span class="json-name">
      <Text text={cut(name, 120).text} />
    </span>
  );
}

type Container = Json[] | { [name: string]: Json };

function sizeOf(value: Container): number {
  return Array.isArray(value) ? value.length : Object.keys(value).length;
}

/** The first entries of a value, which may have millions. */
function firstEntries(value: Container, most: number): [string, Json][] {
  if (Array.isArray(value)) return value.slice(0, most).map((item, index): [string, Json] => [String(index), item]);
  return Object.keys(value)
    .slice(0, most)
    .map((name): [string, Json] => [name, value[name] as Json]);
}

/** The beginning of a closed value. Only small values have one: to write a large one takes long. */
function Preview({ value }: { value: Container }) {
  const flat = firstEntries(value, 6).map(([name, inner]) => {
    const text = isContainer(inner) ? (Array.isArray(inner) ? "[…]" : "{…}") : cut(scalarText(inner), 24).text;
    return Array.isArray(value) ? text : `${name}: ${text}`;
  });
  return (
    <span class="json-preview">
      <Text text={cut(flat.join(", "), 90).text} />
    </span>
  );
}

function scalarText(value: Json): string {
  return value instanceof ExactNumber ? value.text : toText(value);
}

function Scalar({ value }: { value: Json }) {
  const [most, setMost] = useState(TEXT);
  if (typeof value === "string") {
    const part = cut(value, most);
    return (
      <span class="json-text">
        "<Text text={part.text} />
        {part.isCut ? "…" : '"'}
        {part.isCut ? (
          <button type="button" class="link" onClick={() => setMost(most * 30)}>
            {" "}
            Show more of {count(value.length, "character")}
          </button>
        ) : null}
      </span>
    );
  }
  const kind = value === null ? "null" : typeof value === "boolean" ? "word" : "number";
  return <span class={`json-${kind}`}>{cut(scalarText(value), 400).text}</span>;
}
