// Commands to all runs of a filter: first asked for without doing anything, then done page by page.

import type { BulkAction, BulkRefusal, BulkRequest, BulkResult, RunSelection } from "../api/types.ts";
import { isEmpty, sinceTime, toQuery, type RunFilter } from "./filters.ts";
import { commands, RUN_STATES } from "./states.ts";
import { count } from "./text.ts";

/** The commands, in the order of the choice. */
const ACTIONS: BulkAction[] = ["suspend", "resume", "retry", "cancel"];

/** The number of runs up to which the API counts. */
const COUNTED = 1_000_000;

/** The greatest number of refusals that are kept. */
const REFUSALS = 100;

/** How far the page's clock may be behind the server's, in milliseconds: a run that is on the screen is not left out. */
const CLOCK_MARGIN = 5_000;

/** The commands that some runs in these states take; no state stands for all of them. */
export function bulkActions(states: string[]): BulkAction[] {
  const wanted: readonly string[] = states.length ? states : RUN_STATES;
  const taken = new Set<string>(wanted.flatMap((state) => commands(state, false)));
  return ACTIONS.filter((action) => taken.has(action));
}

/** The conditions of a filter, for people. */
export function conditions(filter: RunFilter): string[] {
  return [...toQuery({ ...filter, after: "" })].map(([name, value]) => `${name}: ${name === "state" ? value.replaceAll(",", ", ") : value}`);
}

/** The request that only asks which runs would get a command. Its times are fixed: runs that start later do not get it, and do not change the
 * number. */
export function previewRequest(action: BulkAction, filter: RunFilter, now: number): BulkRequest {
  const { states, labels, flow, namespace, text, since, until } = filter;
  const where: RunSelection = {};
  if (states.length) where.state = states.join(",");
  if (labels.length) where.label = labels;
  if (flow) where.flow = flow;
  if (namespace) where.namespace = namespace;
  if (text) where.text = text;
  if (since) where.since = sinceTime(since, now);
  where.until = until || new Date(now + CLOCK_MARGIN).toISOString();
  // The dialog says that these are all runs, and asks whether they are meant.
  return { action, where, dry_run: true, ...(isEmpty(filter) ? { all: true } : {}) };
}

/** The request that does what was previewed. It is refused if another number of runs is selected by now. */
export function firstRequest(preview: BulkRequest, matched: number): BulkRequest {
  return { ...preview, dry_run: false, expect: matched };
}

/** The request that does what was previewed, for as many of its runs as are in a state for the command by now. */
export function anyNumberRequest(preview: BulkRequest): BulkRequest {
  return { ...preview, dry_run: false };
}

/** The request for the runs that an answer has left. */
export function nextRequest(preview: BulkRequest, after: string): BulkRequest {
  return { ...preview, dry_run: false, after };
}

/** The number of runs that a preview selects, for people. */
export function matchedText(matched: number): string {
  return `${matched >= COUNTED ? "at least " : ""}${count(matched, "run")}`;
}

/** What the requests of a command did so far. */
export type BulkTotal = { done: number; refused: number; refusals: BulkRefusal[] };

export const NOTHING_DONE: BulkTotal = { done: 0, refused: 0, refusals: [] };

/** The total with the answer to another request. */
export function addResult(total: BulkTotal, result: BulkResult): BulkTotal {
  return {
    done: total.done + result.done,
    refused: total.refused + result.refused,
    refusals: [...total.refusals, ...(result.refusals ?? [])].slice(0, REFUSALS),
  };
}
