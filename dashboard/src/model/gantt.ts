// The timeline of a run: rows of tasks, with bars for attempts and the pauses between them.

import type { TimelineAttempt } from "../api/types.ts";
import { elementOf } from "./events.ts";
import { cut, oneLine } from "./text.ts";
import { duration, parse } from "./time.ts";

export type Bar = {
  from: number;
  to: number;
  /** What the bar stands for. */
  kind: "queued" | "call" | "wait" | "pause";
  /** The outcome of the attempt, or `running`. */
  outcome: string;
  isRollback: boolean;
  isOpen: boolean;
  attempt: TimelineAttempt;
};

export type Row = { task: string; element: number | null; bars: Bar[]; first: number };

export type Gantt = { rows: Row[]; from: number; to: number };

/** Makes the rows of a timeline. Tasks that wait for a notification are in `waits`. */
export function gantt(attempts: TimelineAttempt[], now: number, waits: ReadonlySet<string>): Gantt {
  const rows = new Map<string, Row>();
  let from = Infinity;
  let to = -Infinity;
  for (const attempt of attempts) {
    const started = parse(attempt.started_at);
    if (started === null) continue;
    const element = elementOf(attempt.task);
    const isOpen = !attempt.ended_at;
    const ended = parse(attempt.ended_at) ?? Math.max(now, started);
    let row = rows.get(attempt.task);
    if (!row) {
      row = { task: attempt.task, element: element?.number ?? null, bars: [], first: started };
      rows.set(attempt.task, row);
    }
    const isRollback = attempt.call === "rollback";
    const bar = (kind: Bar["kind"], from: number, to: number): Bar => ({
      kind,
      from,
      to,
      outcome: attempt.outcome ?? "running",
      isRollback,
      isOpen: isOpen && kind !== "queued",
      attempt,
    });
    const leased = parse(attempt.leased_at);
    if (waits.has(element?.task ?? attempt.task) && !isRollback) {
      row.bars.push(bar("wait", started, ended));
    } else if (leased !== null && leased > started && leased < ended) {
      row.bars.push(bar("queued", started, leased), bar("call", leased, ended));
    } else {
      row.bars.push(bar("call", started, ended));
    }
    if (attempt.retry_in != null && !isOpen) {
      const again = ended + attempt.retry_in * 1000;
      row.bars.push(bar("pause", ended, again));
      to = Math.max(to, Math.min(again, Math.max(now, ended)));
    }
    from = Math.min(from, started);
    to = Math.max(to, ended);
    row.first = Math.min(row.first, started);
  }
  if (from === Infinity) return { rows: [], from: 0, to: 0 };
  const sorted = [...rows.values()].sort((one, other) => one.first - other.first);
  return { rows: sorted, from, to: Math.max(to, from + 1) };
}

/** The address of the trace that a bar opens. Each attempt has one such bar: a pause and the wait for a worker open none, and a wait for a
 * notification is no call. */
export function traceOf({ kind, attempt }: Bar): string | null {
  return kind === "call" ? (attempt.trace_url ?? null) : null;
}

/** What tells an attempt from all others of its run. */
export function attemptKey({ task, firing, attempt, call, started_at }: TimelineAttempt): string {
  return `${task} ${firing} ${attempt} ${call} ${started_at}`;
}

/** Attempts that were read before and attempts that were read later, each once and as it was read last, in the order of their start. Of too
 * many, the ones that started last. */
export function joinAttempts(before: TimelineAttempt[], later: TimelineAttempt[], most: number): TimelineAttempt[] {
  const all = new Map<string, TimelineAttempt>();
  for (const attempt of before) all.set(attemptKey(attempt), attempt);
  for (const attempt of later) all.set(attemptKey(attempt), attempt);
  // All times of the API have the same length.
  const order = (one: TimelineAttempt, other: TimelineAttempt) => (one.started_at < other.started_at ? -1 : one.started_at > other.started_at ? 1 : 0);
  return [...all.values()].sort(order).slice(-most);
}

/** The next time after a time of the API, which has microseconds. */
export function justAfter(time: string): string {
  const match = /^(.*)\.(\d{6})Z$/.exec(time);
  if (!match) return time;
  const micros = Number(match[2]) + 1;
  if (micros < 1_000_000) return `${match[1]}.${String(micros).padStart(6, "0")}Z`;
  return `${new Date(Date.parse(`${match[1]}Z`) + 1000).toISOString().slice(0, 19)}.000000Z`;
}

/** The bars of a row that can be told from each other, where `x` gives the place of a time on the screen. A task may have thousands of short
 * attempts in one pixel. */
export function distinctBars(bars: Bar[], x: (time: number) => number): Bar[] {
  const taken = new Set<string>();
  return bars.filter((bar) => {
    if (x(bar.to) - x(bar.from) >= 1) return true;
    const place = `${Math.round(x(bar.from))} ${bar.kind} ${bar.outcome} ${bar.isRollback}`;
    if (taken.has(place)) return false;
    taken.add(place);
    return true;
  });
}

/** What an attempt did, and why it failed: the text of a tooltip. */
export function attemptTitle(attempt: TimelineAttempt, now: number): string {
  const { failure } = attempt;
  return failure ? `${attemptText(attempt, now)}\n${oneLine(failure.kind)}: ${oneLine(cut(failure.message, 300).text)}` : attemptText(attempt, now);
}

/** What an attempt did, in words. */
export function attemptText(attempt: TimelineAttempt, now: number): string {
  const started = parse(attempt.started_at) ?? now;
  const ended = parse(attempt.ended_at);
  const words = [attempt.call === "rollback" ? "rollback" : "apply", `attempt ${attempt.attempt}`];
  if (attempt.firing > 1) words.push(`firing ${attempt.firing}`);
  words.push(attempt.outcome ?? "running");
  words.push(`${ended === null ? "for" : "after"} ${duration((ended ?? now) - started)}`);
  if (attempt.worker) words.push(`on ${oneLine(attempt.worker)}`);
  if (attempt.retry_in != null) words.push(`again in ${attempt.retry_in.toFixed(1)}s`);
  return words.join(", ");
}
