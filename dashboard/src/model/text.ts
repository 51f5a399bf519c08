// Makes text from outside harmless and readable: guests, people and other processes supply it.

/** Characters that a reader cannot see, or that change the order in which text is read. */
const HIDDEN =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[\u{e0000}-\u{e007f}]/gu;

/** A part of a text: as it is, or the name of a character that cannot be seen. */
export type Part = { text: string; hidden: boolean };

/** The name of a character, as the `waft` commands write it. */
export function escape(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

/** The parts of a text; the parts that cannot be seen have their names. */
export function parts(text: string): Part[] {
  const found: Part[] = [];
  let start = 0;
  for (const match of text.matchAll(HIDDEN)) {
    const at = match.index;
    if (at > start) found.push({ text: text.slice(start, at), hidden: false });
    found.push({ text: escape(match[0]), hidden: true });
    start = at + match[0].length;
  }
  if (start < text.length) found.push({ text: text.slice(start), hidden: false });
  return found;
}

/** A text with the names of characters that cannot be seen, and without line ends. */
export function oneLine(text: string): string {
  return parts(text.trimEnd().replace(/\r?\n/g, " ⏎ ").replace(/\t/g, " "))
    .map((part) => part.text)
    .join("");
}

/** The beginning of a text, at most this many characters, never half of one; and whether something is missing. */
export function cut(text: string, most: number): { text: string; isCut: boolean } {
  if (text.length <= most) return { text, isCut: false };
  let end = most;
  const last = text.charCodeAt(end - 1);
  if (last >= 0xd800 && last <= 0xdbff) end -= 1;
  return { text: text.slice(0, end), isCut: true };
}

/** A name that is cut in its middle: beginnings and ends tell names apart. */
export function shortName(name: string, most: number): string {
  const clean = oneLine(name);
  const characters = Array.from(clean);
  if (characters.length <= most) return clean;
  const head = Math.ceil((most - 1) * 0.6);
  const tail = most - 1 - head;
  return `${characters.slice(0, head).join("")}…${tail > 0 ? characters.slice(-tail).join("") : ""}`;
}

/** A digest as people tell digests apart: `sha256:` and twelve digits. */
export function shortDigest(digest: string): string {
  return digest.startsWith("sha256:") ? digest.slice(0, 19) : cut(digest, 19).text;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A number of bytes for people. */
export function size(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, "")} ${UNITS[unit]}`;
}

/** `1 task`, `2 tasks`. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en-US")} ${number === 1 ? one : many}`;
}
