// Reads JSON without changing its numbers, and shows values with their sizes.

/** A number that JavaScript cannot hold exactly, as it was written. */
export class ExactNumber {
  constructor(readonly text: string) {}
}

/** Any value of JSON. */
export type Json = null | boolean | number | string | ExactNumber | Json[] | { [name: string]: Json };

/** Numbers that may lose digits in JavaScript. */
const RISKY = /\d{16}|\d\.\d{15}|\d[eE]/;

/** Reads JSON. Numbers that would change are kept as they were written.
 * @throws SyntaxError when the text is no JSON. */
export function parseJson(text: string): Json {
  return RISKY.test(text) ? new Reader(text).document() : (JSON.parse(text) as Json);
}

const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/** The deepest nesting that is read: deeper values would exhaust the stack. */
const MAX_DEPTH = 1000;

class Reader {
  private at = 0;
  constructor(private readonly text: string) {}

  document(): Json {
    const value = this.value(0);
    this.space();
    if (this.at < this.text.length) this.fail();
    return value;
  }

  private value(depth: number): Json {
    if (depth > MAX_DEPTH) throw new SyntaxError(`JSON is nested deeper than ${MAX_DEPTH}`);
    this.space();
    switch (this.text[this.at]) {
      case "{":
        return this.object(depth);
      case "[":
        return this.array(depth);
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  private object(depth: number): Json {
    const found = Object.create(null) as { [name: string]: Json };
    this.at += 1;
    this.space();
    if (this.take("}")) return found;
    for (;;) {
      this.space();
      const name = this.string();
      this.space();
      if (!this.take(":")) this.fail();
      found[name] = this.value(depth + 1);
      this.space();
      if (this.take("}")) return found;
      if (!this.take(",")) this.fail();
    }
  }

  private array(depth: number): Json {
    const found: Json[] = [];
    this.at += 1;
    this.space();
    if (this.take("]")) return found;
    for (;;) {
      found.push(this.value(depth + 1));
      this.space();
      if (this.take("]")) return found;
      if (!this.take(",")) this.fail();
    }
  }

  private string(): string {
    return JSON.parse(this.match(STRING)) as string;
  }

  private number(): Json {
    const text = this.match(NUMBER);
    const value = Number(text);
    return isExact(text, value) ? value : new ExactNumber(text);
  }

  private word<Value>(word: string, value: Value): Value {
    if (!this.text.startsWith(word, this.at)) this.fail();
    this.at += word.length;
    return value;
  }

  private match(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const match = pattern.exec(this.text);
    if (!match) this.fail();
    this.at += match[0].length;
    return match[0];
  }

  private take(character: string): boolean {
    if (this.text[this.at] !== character) return false;
    this.at += 1;
    return true;
  }

  private space(): void {
    while (this.at < this.text.length && " \t\n\r".includes(this.text[this.at] as string)) this.at += 1;
  }

  private fail(): never {
    throw new SyntaxError(`unexpected character at ${this.at} of JSON`);
  }
}

/** Whether a number reads the same when it is shown. */
function isExact(text: string, value: number): boolean {
  if (!Number.isFinite(value)) return false;
  return String(value) === text || digits(String(value)) === digits(text);
}

/** The significant digits and the exponent of a number. */
function digits(text: string): string {
  const [mantissa = "", exponent = "0"] = text.toLowerCase().replace("-", "").split("e", 2);
  const [whole = "", fraction = ""] = mantissa.split(".", 2);
  const all = `${whole}${fraction}`.replace(/^0+/, "");
  const significant = all.replace(/0+$/, "");
  const power = significant === "" ? 0 : Number(exponent) - fraction.length + (all.length - significant.length);
  return `${significant}e${power}`;
}

/** A value as JSON text. */
export function toText(value: Json, indent = 0): string {
  const pad = indent ? "\n" : "";
  const write = (value: Json, depth: number): string => {
    if (value instanceof ExactNumber) return value.text;
    const inner = indent ? " ".repeat(indent * (depth + 1)) : "";
    const outer = indent ? " ".repeat(indent * depth) : "";
    if (Array.isArray(value)) {
      if (value.length === 0) return "[]";
      return `[${pad}${value.map((item) => inner + write(item, depth + 1)).join(`,${pad}`)}${pad}${outer}]`;
    }
    if (value !== null && typeof value === "object") {
      const entries = Object.entries(value);
      if (entries.length === 0) return "{}";
      const space = indent ? " " : "";
      const lines = entries.map(([name, item]) => `${inner}${JSON.stringify(name)}:${space}${write(item, depth + 1)}`);
      return `{${pad}${lines.join(`,${pad}`)}${pad}${outer}}`;
    }
    return JSON.stringify(value);
  };
  return write(value, 0);
}

/** Whether a value has others in it. */
export function isContainer(value: Json): value is Json[] | { [name: string]: Json } {
  return value !== null && typeof value === "object" && !(value instanceof ExactNumber);
}

/** The value of a run, as the API gives it. */
export type RunValue =
  | { name: string; kind: "json"; value: Json }
  | { name: string; kind: "bytes"; size: number; base64: string }
  | { name: string; kind: "stored"; size: number; digest: string; form: string };

/** The values of a run in the order of their names; bytes and references to the store are under names that no value has. */
export function runValues(object: { [name: string]: unknown } | null | undefined): RunValue[] {
  const found: RunValue[] = [];
  for (const [name, value] of Object.entries(object ?? {})) {
    if (name === "$bytes") {
      for (const [name, base64] of Object.entries((value ?? {}) as Record<string, string>)) {
        found.push({ name, kind: "bytes", size: bytesOf(base64), base64 });
      }
    } else if (name === "$stored") {
      for (const [name, stored] of Object.entries((value ?? {}) as Record<string, { digest: string; size: number; form: string }>)) {
        found.push({ name, kind: "stored", size: stored.size, digest: stored.digest, form: stored.form });
      }
    } else {
      found.push({ name, kind: "json", value: value as Json });
    }
  }
  return found.sort((one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0));
}

/** The number of bytes that base64 stands for. */
export function bytesOf(base64: string): number {
  const padding = base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0;
  return Math.max(0, (base64.length / 4) * 3 - padding);
}

/** What a person typed as a value: JSON if it is JSON, else text, as `waft notify --set` takes it. */
export function typed(text: string): { json: string; isText: boolean } {
  const trimmed = text.trim();
  try {
    parseJson(trimmed);
    return { json: trimmed, isText: false };
  } catch {
    return { json: JSON.stringify(text), isText: true };
  }
}
