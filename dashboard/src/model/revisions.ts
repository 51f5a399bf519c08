// What differs between two revisions of a flow: in its graph, and in its text.

import type { GraphLink, GraphNode, RunGraph } from "../api/types.ts";

/** What became of a part of a flow. */
export type Mark = "added" | "removed" | "changed";

/** One difference, for people. */
export type Difference = {
  mark: Mark;
  kind: "task" | "flow" | "link";
  /** The name of a task or nested flow, or the two ends of a link. */
  name: string;
  /** What has changed about it. */
  details: string[];
};

/** The differences between two graphs, and a graph with the parts of both. */
export type GraphDifference = {
  graph: RunGraph;
  nodes: ReadonlyMap<string, Mark>;
  /** By `linkKey`. */
  links: ReadonlyMap<string, Mark>;
  list: Difference[];
};

/** What tells links of one graph apart. */
export function linkKey(link: GraphLink): string {
  return JSON.stringify([link.from, link.to, link.back ?? false]);
}

/** The tasks that edits change without a change of the graph, with what the edits do. Edits are in the words of the API. */
export function touched(edits: readonly string[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const edit of edits) {
    const match = /^(use|set|require) (\S+) ([^]+)$/.exec(edit);
    if (!match) continue;
    const [, kind = "", task = "", rest = ""] = match;
    const words = kind === "use" ? `calls ${rest}` : kind === "set" ? `has another constant: ${rest}` : `takes ${rest}`;
    found.set(task, [...(found.get(task) ?? []), words]);
  }
  return found;
}

/** Compares two graphs. The edits between them say what a graph does not show. */
export function diffGraphs(before: RunGraph, after: RunGraph, edits: readonly string[]): GraphDifference {
  const nodes = new Map<string, Mark>();
  const links = new Map<string, Mark>();
  const list: Difference[] = [];
  const changed = touched(edits);
  const known = new Map(before.nodes.map((node) => [node.name, node]));
  const names = new Set(after.nodes.map((node) => node.name));
  const noteNode = (node: GraphNode, mark: Mark, details: string[]) => {
    nodes.set(node.name, mark);
    list.push({ mark, kind: node.kind === "flow" ? "flow" : "task", name: node.name, details });
  };
  for (const node of after.nodes) {
    const old = known.get(node.name);
    if (!old || (old.removed && !node.removed)) noteNode(node, "added", node.within ? [`in ${node.within}`] : []);
    else if (node.removed && !old.removed) noteNode(node, "removed", ["it stays for its rollback"]);
    else {
      const details = [...nodeChanges(old, node), ...(changed.get(node.name) ?? [])];
      if (details.length) noteNode(node, "changed", details);
    }
  }
  const goneNodes = before.nodes.filter((node) => !names.has(node.name));
  for (const node of goneNodes) noteNode(node, "removed", []);
  const knownLinks = new Map(before.links.map((link) => [linkKey(link), link]));
  const linkKeys = new Set(after.links.map(linkKey));
  const noteLink = (link: GraphLink, mark: Mark, details: string[]) => {
    links.set(linkKey(link), mark);
    list.push({ mark, kind: "link", name: `${link.from} → ${link.to}`, details });
  };
  for (const link of after.links) {
    const old = knownLinks.get(linkKey(link));
    if (!old) noteLink(link, "added", [...conditions(link), ...carried(link.values ?? [])]);
    else {
      const details = linkChanges(old, link);
      if (details.length) noteLink(link, "changed", details);
    }
  }
  const goneLinks = before.links.filter((link) => !linkKeys.has(linkKey(link)));
  for (const link of goneLinks) noteLink(link, "removed", []);
  const all = [...after.nodes, ...goneNodes].map((node) => ({ ...node, removed: !nodes.has(node.name) && (node.removed ?? false) }));
  return { graph: { ...after, nodes: all, links: [...after.links, ...goneLinks] }, nodes, links, list };
}

function nodeChanges(before: GraphNode, after: GraphNode): string[] {
  const found: string[] = [];
  if (before.kind !== after.kind) found.push(`was of the kind ${before.kind}, and is of the kind ${after.kind}`);
  if ((before.within ?? "") !== (after.within ?? "")) found.push(`was in ${before.within ?? "the whole flow"}, and is in ${after.within ?? "the whole flow"}`);
  if ((before.retry ?? "") !== (after.retry ?? "")) found.push(`retry: ${before.retry ?? "none"}, now ${after.retry ?? "none"}`);
  if ((before.is_failure_handler ?? false) !== (after.is_failure_handler ?? false)) {
    found.push(after.is_failure_handler ? "handles failures now" : "handles failures no more");
  }
  const [old, now] = [new Set(before.triggers ?? []), new Set(after.triggers ?? [])];
  for (const trigger of now) if (!old.has(trigger)) found.push(`fires ${trigger}`);
  for (const trigger of old) if (!now.has(trigger)) found.push(`no longer fires ${trigger}`);
  return found;
}

function conditions(link: GraphLink): string[] {
  return (link.conditions ?? []).map(({ on, when }) => [`on ${on}`, ...(when ? [`when ${when}`] : [])].join(" "));
}

function carried(values: string[]): string[] {
  return values.length ? [`carries ${values.join(", ")}`] : [];
}

function linkChanges(before: GraphLink, after: GraphLink): string[] {
  const found: string[] = [];
  const [old, now] = [conditions(before).join(", "), conditions(after).join(", ")];
  if (old !== now) found.push(`${old || "on success"}, now ${now || "on success"}`);
  const [had, has] = [new Set(before.values ?? []), new Set(after.values ?? [])];
  found.push(...carried([...has].filter((value) => !had.has(value))));
  const lost = [...had].filter((value) => !has.has(value));
  if (lost.length) found.push(`no longer carries ${lost.join(", ")}`);
  return found;
}

/** A line of the difference between two texts. Its numbers are those of the line in each text, from 1. */
export type DiffLine = { kind: "same" | "added" | "removed"; text: string; before: number | null; after: number | null };

/** The greatest number of changed lines for which the shortest difference is looked for. */
const MAX_CHANGES = 500;

/** Compares two texts line by line. Texts with very many differences are compared as a whole. */
export function diffLines(before: string, after: string): DiffLine[] {
  const [old, now] = [lines(before), lines(after)];
  let head = 0;
  while (head < old.length && head < now.length && old[head] === now[head]) head += 1;
  let tail = 0;
  while (tail < old.length - head && tail < now.length - head && old[old.length - 1 - tail] === now[now.length - 1 - tail]) tail += 1;
  const found: DiffLine[] = [];
  let [at, to] = [0, 0];
  const same = (count: number) => {
    for (let number = 0; number < count; number += 1) found.push({ kind: "same", text: now[to] ?? "", before: (at += 1), after: (to += 1) });
  };
  const remove = () => found.push({ kind: "removed", text: old[at] ?? "", before: (at += 1), after: null });
  const add = () => found.push({ kind: "added", text: now[to] ?? "", before: null, after: (to += 1) });
  same(head);
  const [oldEnd, nowEnd] = [old.length - tail, now.length - tail];
  for (const step of steps(old.slice(head, oldEnd), now.slice(head, nowEnd))) {
    if (step === "same") same(1);
    else if (step === "removed") remove();
    else add();
  }
  while (at < oldEnd) remove();
  while (to < nowEnd) add();
  same(tail);
  return found;
}

function lines(text: string): string[] {
  const found = text.split(/\r?\n/);
  if (found.at(-1) === "") found.pop();
  return found;
}

/** The steps from one list to another, with the fewest changes, after Myers; no steps if there are too many changes. */
function steps(old: string[], now: string[]): DiffLine["kind"][] {
  const [n, m] = [old.length, now.length];
  const limit = Math.min(n + m, MAX_CHANGES);
  const middle = limit + 1;
  // The farthest place in the old list on each diagonal, and its states before each change.
  const farthest = new Int32Array(2 * limit + 3);
  const history: Int32Array[] = [];
  const place = (index: number) => farthest[index] ?? 0;
  for (let changes = 0; changes <= limit; changes += 1) {
    history.push(farthest.slice());
    for (let diagonal = -changes; diagonal <= changes; diagonal += 2) {
      const isDown = diagonal === -changes || (diagonal !== changes && place(middle + diagonal - 1) < place(middle + diagonal + 1));
      let x = isDown ? place(middle + diagonal + 1) : place(middle + diagonal - 1) + 1;
      while (x < n && x - diagonal < m && old[x] === now[x - diagonal]) x += 1;
      farthest[middle + diagonal] = x;
      if (x >= n && x - diagonal >= m) return backwards(history, middle, n, m);
    }
  }
  return [];
}

function backwards(history: Int32Array[], middle: number, n: number, m: number): DiffLine["kind"][] {
  const found: DiffLine["kind"][] = [];
  let [x, y] = [n, m];
  for (let changes = history.length - 1; changes >= 0; changes -= 1) {
    const farthest = history[changes];
    const place = (index: number) => farthest?.[index] ?? 0;
    const diagonal = x - y;
    const isDown = diagonal === -changes || (diagonal !== changes && place(middle + diagonal - 1) < place(middle + diagonal + 1));
    const from = changes === 0 ? 0 : isDown ? place(middle + diagonal + 1) : place(middle + diagonal - 1);
    const fromY = changes === 0 ? 0 : from - (isDown ? diagonal + 1 : diagonal - 1);
    while (x > from && y > fromY) {
      found.push("same");
      x -= 1;
      y -= 1;
    }
    if (changes > 0) found.push(isDown ? "added" : "removed");
    [x, y] = [from, fromY];
  }
  return found.reverse();
}

/** A part of a difference: lines that are shown, or the number of equal lines that are left out. */
export type Hunk = { lines: DiffLine[] } | { hidden: number };

/** The changed lines with some lines around them. */
export function hunks(all: DiffLine[], around = 3): Hunk[] {
  const found: Hunk[] = [];
  let start = 0;
  while (start < all.length) {
    const isChanged = all[start]?.kind !== "same";
    let end = start;
    while (end < all.length && (all[end]?.kind !== "same") === isChanged) end += 1;
    const part = all.slice(start, end);
    if (isChanged) append(found, part);
    else {
      const first = start === 0 ? 0 : around;
      const last = end === all.length ? 0 : around;
      if (part.length <= first + last + 1) append(found, part);
      else {
        append(found, part.slice(0, first));
        found.push({ hidden: part.length - first - last });
        append(found, part.slice(part.length - last));
      }
    }
    start = end;
  }
  return found;
}

function append(found: Hunk[], part: DiffLine[]): void {
  if (!part.length) return;
  const last = found.at(-1);
  if (last && "lines" in last) for (const line of part) last.lines.push(line);
  else found.push({ lines: part });
}

/** The revisions to compare, as the address of the page names them; `null` if the flow has only one. */
export function compared(from: string | null, to: string | null, last: number): { from: number; to: number } | null {
  if (last < 2) return null;
  const parsed = (text: string | null) => (text !== null && /^\d{1,9}$/.test(text) ? Math.min(Math.max(Number(text), 1), last) : null);
  const end = parsed(to) ?? last;
  const start = parsed(from) ?? Math.max(1, end - 1);
  return { from: Math.min(start, end), to: Math.max(start, end) };
}

/** The place of a line in a text, without the spaces at its start; `null` if the text has no such line. */
export function lineAt(text: string, line: number): { start: number; end: number; text: string } | null {
  let start = 0;
  for (let number = 1; number < line; number += 1) {
    const end = text.indexOf("\n", start);
    if (end < 0) return null;
    start = end + 1;
  }
  if (line < 1) return null;
  const end = text.indexOf("\n", start);
  const found = text.slice(start, end < 0 ? text.length : end);
  const indent = found.length - found.trimStart().length;
  return { start: start + indent, end: start + found.length, text: found.trim() };
}
