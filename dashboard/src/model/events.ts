// Folds the events of a run into the states of its tasks, and keeps the last ones to show.

import type { EventPayload, Failure } from "../api/types.ts";
import { cut } from "./text.ts";

/** An event with its number among those that were received. */
export type SeenEvent = { number: number; id: string; event: EventPayload };

/** The last state of a task, a retry controller or an element. */
export type NodeNow = {
  state: string;
  attempt: number;
  firing: number;
  at: string;
  retryIn: number | null;
  worker: string | null;
  /** Whether its last call was a rollback. */
  isRollback: boolean;
  /** The number of the event that says so. */
  event: number;
};

/** The greatest number of events that are kept to show. */
export const MAX_EVENTS = 5000;

/** The longest message of a failure that is kept with an event, in characters. */
const MAX_MESSAGE = 1000;

/** What the events of a run say. */
export class RunEvents {
  /** The last events, in their order. */
  readonly last: SeenEvent[] = [];
  /** The number of all events. */
  total = 0;
  /** The number of records that were deleted before the first event. */
  trimmed = 0;
  /** The last state of the run. */
  state: string | null = null;
  readonly nodes = new Map<string, NodeNow>();
  /** The numbers of the elements that have succeeded, by the task of their list. A list may have a million. */
  readonly elements = new Map<string, Set<number>>();

  add(id: string, event: EventPayload): void {
    this.total += 1;
    this.last.push({ number: this.total, id, event: brief(event) });
    // Half a list at once: removing one at a time would move all others each time.
    if (this.last.length > MAX_EVENTS * 1.5) this.last.splice(0, this.last.length - MAX_EVENTS);
    switch (event.event) {
      case "run":
        this.state = event.state;
        break;
      case "state": {
        const element = elementOf(event.name);
        if (element) this.addElement(element.task, element.number, event.state);
        else {
          const { state, attempt, firing, at } = event;
          const worker = event.worker ?? null;
          const isRollback = state === "rolling-back" || (state === "failure" && (this.nodes.get(event.name)?.isRollback ?? false));
          this.nodes.set(event.name, { state, attempt, firing, at, retryIn: event.retry_in ?? null, worker, isRollback, event: this.total });
          if (state === "pending") this.elements.delete(event.name);
        }
        break;
      }
      case "trimmed":
        this.trimmed += event.records;
        break;
      default:
        break;
    }
  }

  private addElement(task: string, number: number, state: string): void {
    let succeeded = this.elements.get(task);
    if (!succeeded) {
      succeeded = new Set();
      this.elements.set(task, succeeded);
    }
    if (state === "success") succeeded.add(number);
    else succeeded.delete(number);
  }
}

type Long = { provides?: unknown; inputs?: unknown; failures?: unknown; failure?: Failure | null };

/** An event without its values, and with the beginning of its failure: thousands of events may each have a megabyte of them, and the run
 * has those that count. */
function brief(event: EventPayload): EventPayload {
  const { provides, inputs, failures, failure, ...rest } = event as EventPayload & Long;
  if (provides === undefined && inputs === undefined && failures === undefined && !failure) return event;
  const shown = failure ? { failure: { kind: failure.kind, message: beginning(failure.message) } } : {};
  return { ...rest, ...shown } as unknown as EventPayload;
}

/** The beginning of a text, without the memory of the rest: a part of a text is otherwise a view of the whole. */
function beginning(text: string): string {
  const { text: part, isCut } = cut(text, MAX_MESSAGE);
  return isCut ? `${JSON.parse(JSON.stringify(part)) as string}…` : text;
}

/** The task and the number of an element, if a name is that of one: `task[number]`. */
export function elementOf(name: string): { task: string; number: number } | null {
  const match = /^(.*)\[(\d+)\]$/s.exec(name);
  return match ? { task: match[1] as string, number: Number(match[2]) } : null;
}

/** The task whose panel shows a call: that of the list for an element. */
export function panelTask(name: string): string {
  return elementOf(name)?.task ?? name;
}

/** What an event says, for the list of events. */
export function describe(event: EventPayload): { subject: string; state: string; detail: string; at: string | null } {
  switch (event.event) {
    case "run":
      return { subject: "run", state: event.state, detail: "", at: event.at ?? null };
    case "firing":
      return { subject: `firing ${event.firing}`, state: event.state, detail: "", at: event.at };
    case "trimmed":
      return { subject: "run", state: "", detail: `${event.records} old records were deleted`, at: null };
    case "state": {
      const details: string[] = [];
      if (event.attempt > 1) details.push(`attempt ${event.attempt}`);
      if (event.firing > 1) details.push(`firing ${event.firing}`);
      if (event.failure) details.push(`${event.failure.kind}: ${event.failure.message}`);
      if (event.retry_in != null) details.push(`again in ${event.retry_in.toFixed(1)}s`);
      if (event.worker) details.push(event.worker);
      if (event.computed_by) details.push(`remembered from ${event.computed_by.run}`);
      return { subject: event.name, state: event.state, detail: details.join(" · "), at: event.at };
    }
    default:
      return { subject: "", state: "", detail: "an event that this page does not know", at: null };
  }
}
