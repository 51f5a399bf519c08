// The filters of the list of runs, as they stand in the address of the page.

import { parsePeriod } from "./time.ts";

export type RunFilter = {
  states: string[];
  flow: string;
  namespace: string;
  /** Labels that a run has to have: `team=shop`, or `team` for any value. */
  labels: string[];
  /** The beginning of an id, or the value of a label or of an input. */
  text: string;
  /** A period before now, as `24h`, or a time. */
  since: string;
  until: string;
  /** The position in the list. */
  after: string;
};

/** The filter in the query of an address. */
export function fromQuery(query: URLSearchParams): RunFilter {
  const text = (name: string) => query.get(name)?.trim() ?? "";
  return {
    states: text("state").split(",").filter(Boolean),
    flow: text("flow"),
    namespace: text("namespace"),
    labels: [...new Set(query.getAll("label").map((label) => label.trim()).filter(Boolean))],
    text: text("text"),
    since: text("since"),
    until: text("until"),
    after: text("after"),
  };
}

/** The filter as the query of an address, without what selects everything. */
export function toQuery(filter: RunFilter): URLSearchParams {
  const query = new URLSearchParams();
  if (filter.states.length) query.set("state", filter.states.join(","));
  for (const label of filter.labels) query.append("label", label);
  for (const name of ["flow", "namespace", "text", "since", "until", "after"] as const) {
    if (filter[name]) query.set(name, filter[name]);
  }
  return query;
}

/** The labels of a run as texts: `team=shop`. */
export function labelTexts(labels: { [name: string]: string } | null | undefined): string[] {
  return Object.entries(labels ?? {}).map(([name, value]) => `${name}=${value}`);
}

/** The query of the list of all runs with a label. */
export function ofLabel(label: string): URLSearchParams {
  return new URLSearchParams({ label });
}

/** The beginning of a filter's time as the API takes it, at a time: a period before now becomes the time at which it began. */
export function sinceTime(since: string, now: number): string {
  const period = parsePeriod(since);
  // Whole seconds: a shorter text, and the same for requests at almost the same time.
  return period === null ? since : new Date(Math.floor((now - period) / 1000) * 1000).toISOString();
}

/** The query of the API that selects the runs of a filter, at a time: those of all pages. */
export function toSelection(filter: RunFilter, now: number): URLSearchParams {
  return toQuery({ ...filter, since: sinceTime(filter.since, now), after: "" });
}

/** The query of the API for a page of the runs of a filter, at a time. */
export function toApi(filter: RunFilter, now: number, limit: number): URLSearchParams {
  const query = toSelection(filter, now);
  if (filter.after) query.set("after", filter.after);
  query.set("limit", String(limit));
  return query;
}

/** Whether a filter selects everything. */
export function isEmpty(filter: RunFilter): boolean {
  const { states, labels, flow, namespace, text, since, until } = filter;
  return !states.length && !labels.length && !flow && !namespace && !text && !since && !until;
}

/** A time for the field of a form, in the reader's zone; empty if the text is no time. */
export function toField(text: string): string {
  const time = Date.parse(text);
  if (!text || Number.isNaN(time) || parsePeriod(text) !== null) return "";
  const date = new Date(time);
  return new Date(time - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** The time of the field of a form, as the API takes it. */
export function fromField(text: string): string {
  const time = Date.parse(text);
  return Number.isNaN(time) ? "" : new Date(time).toISOString().replace(/\.\d{3}Z$/, "Z");
}
