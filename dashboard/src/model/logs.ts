// The lines that guests wrote, as the log of a run shows them.

import type { LogEvent } from "../api/types.ts";
import { elementOf } from "./events.ts";

export type LogLine = {
  number: number;
  task: string;
  /** Which attempt wrote it: `apply #1`. */
  attempt: string;
  /** A level, `stdout` or `stderr`; `note` for what waft says about the log. */
  level: string;
  text: string;
};

/** The greatest number of lines that are kept, and of their characters. */
export const MAX_LINES = 20_000;
export const MAX_CHARACTERS = 20_000_000;

/** The greatest number of lines of running attempts that are recognised when they come again. */
export const MAX_KNOWN = 100_000;

/** The sources of the lines of an attempt. Each numbers its lines. */
const SOURCES = ["log", "stdout", "stderr"];

type Attempt = { task: string; call: string; firing: number; attempt: number };

/** The lines of a run's log. */
export class LogBook {
  lines: LogLine[] = [];
  /** The number of lines that were received. */
  total = 0;
  /** The number of lines that were received and are not kept. */
  dropped = 0;
  /** The tasks with lines; that of a list for the lines of its elements. */
  readonly tasks = new Set<string>();
  private characters = 0;
  /** The lines of attempts that have not ended, by attempt: after a reconnect they may come again. Each place has a mark of its line. */
  private readonly known = new Map<string, Map<number, number>>();
  private countOfKnown = 0;

  add(event: LogEvent): void {
    switch (event.event) {
      case "log":
        if (this.isNew(event)) this.push(event, event.level, event.text);
        break;
      case "log-missing":
        this.push(event, "note", `${event.lines} lines are not here yet: they follow when the attempt ends`);
        break;
      case "log-cut":
        this.push(event, "note", "the attempt wrote more than is stored");
        break;
      case "log-end":
        this.forget(keyOf(event));
        break;
      default:
        break;
    }
  }

  /** Whether a line did not come before. A line that was missing comes later than its followers. */
  private isNew(line: Extract<LogEvent, { event: "log" }>): boolean {
    const key = keyOf(line);
    let lines = this.known.get(key);
    if (!lines) {
      lines = new Map();
      this.known.set(key, lines);
    }
    const place = line.number * SOURCES.length + Math.max(0, SOURCES.indexOf(line.level));
    const mark = markOf(`${line.level} ${line.text}`);
    const before = lines.get(place);
    lines.set(place, mark);
    if (before === undefined) {
      this.countOfKnown += 1;
      this.forgetOldest();
    }
    return before !== mark;
  }

  private forgetOldest(): void {
    for (const key of this.known.keys()) {
      if (this.countOfKnown <= MAX_KNOWN || this.known.size === 1) return;
      this.forget(key);
    }
  }

  private forget(key: string): void {
    this.countOfKnown -= this.known.get(key)?.size ?? 0;
    this.known.delete(key);
  }

  private push(attempt: Attempt, level: string, text: string): void {
    this.total += 1;
    this.tasks.add(elementOf(attempt.task)?.task ?? attempt.task);
    const firing = attempt.firing > 1 ? ` in firing ${attempt.firing}` : "";
    this.lines.push({ number: this.total, task: attempt.task, attempt: `${attempt.call} #${attempt.attempt}${firing}`, level, text });
    this.characters += text.length;
    if (this.lines.length <= MAX_LINES * 1.25 && this.characters <= MAX_CHARACTERS) return;
    let first = Math.max(0, this.lines.length - MAX_LINES);
    let left = this.lines.slice(first).reduce((sum, line) => sum + line.text.length, 0);
    while (left > MAX_CHARACTERS * 0.8 && first < this.lines.length - 1) {
      left -= this.lines[first]?.text.length ?? 0;
      first += 1;
    }
    this.lines = this.lines.slice(first);
    this.dropped += first;
    this.characters = left;
  }
}

function keyOf({ task, call, firing, attempt }: Attempt): string {
  return `${task} ${call} ${firing} ${attempt}`;
}

/** A number that differs for different texts, nearly always. */
function markOf(text: string): number {
  let mark = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) mark = Math.imul(mark ^ text.charCodeAt(at), 0x01000193);
  return mark;
}

/** The lines that match a search. A task selects its elements too. */
export function select(lines: LogLine[], filter: { task: string; levels: string; text: string }): LogLine[] {
  const wanted = filter.text.toLowerCase();
  const isWanted = LEVELS.get(filter.levels) ?? (() => true);
  if (!filter.task && !wanted && !filter.levels) return lines;
  return lines.filter(
    (line) =>
      (!filter.task || line.task === filter.task || line.task.startsWith(`${filter.task}[`)) &&
      (line.level === "note" || isWanted(line.level)) &&
      (!wanted || line.text.toLowerCase().includes(wanted)),
  );
}

const ORDER = ["trace", "debug", "info", "warn", "error"];
const atLeast = (least: string) => (level: string) => ORDER.indexOf(level) >= ORDER.indexOf(least) || level === "stderr";

/** The choices of levels, and which lines each shows. */
export const LEVELS = new Map<string, (level: string) => boolean>([
  ["info", atLeast("info")],
  ["warn", atLeast("warn")],
  ["error", (level) => level === "error"],
  ["printed", (level) => level === "stdout" || level === "stderr"],
]);
