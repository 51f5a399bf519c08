// The lines that guests wrote, as the log of a run shows them.

import type { LogEvent } from "../api/types.ts";

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

/** The lines of a run's log. */
export class LogBook {
  lines: LogLine[] = [];
  /** The number of lines that were received. */
  total = 0;
  /** The number of lines that were received and are not kept. */
  dropped = 0;
  /** The tasks with lines. */
  readonly tasks = new Set<string>();
  private characters = 0;
  /** The last number of each source of an attempt: a line may come again after a reconnect. */
  private readonly last = new Map<string, number>();

  add(event: LogEvent): void {
    switch (event.event) {
      case "log": {
        const source = event.level === "stdout" || event.level === "stderr" ? event.level : "log";
        const key = JSON.stringify([event.task, event.call, event.firing, event.attempt, event.worker ?? "", source]);
        if (event.number <= (this.last.get(key) ?? 0)) return;
        this.last.set(key, event.number);
        this.push(event, event.level, event.text);
        break;
      }
      case "log-missing":
        this.push(event, "note", `${event.lines} lines are not here yet: they follow when the attempt ends`);
        break;
      case "log-cut":
        this.push(event, "note", "the attempt wrote more than is stored");
        break;
      default:
        break;
    }
  }

  private push(attempt: { task: string; call: string; firing: number; attempt: number }, level: string, text: string): void {
    this.total += 1;
    this.tasks.add(attempt.task);
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
