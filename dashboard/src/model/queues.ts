// The queues of jobs, and the permits of tasks.

import type { JobQueue, Permits, TaskPermits } from "../api/types.ts";
import type { Look } from "./states.ts";

/** What is to say about a queue. */
export function queueNote({ state, messages, consumers, workers }: JobQueue): { look: Look; text: string } {
  switch (state) {
    case "exists":
      if (!messages) return { look: "success", text: "nothing waits" };
      if (consumers) return { look: "running", text: "workers take jobs" };
      // A worker without a free slot consumes nothing, and neither does a drained one.
      if (workers) return { look: "waiting", text: "its workers are busy or drained" };
      return { look: "failure", text: "no worker consumes it" };
    case "missing":
      return { look: "pending", text: "not there yet: the first job makes it" };
    case "unanswered":
      return { look: "rolling-back", text: "the broker has not answered" };
    case "refused":
      return { look: "failure", text: "the broker has refused the question" };
    default:
      return { look: "unknown", text: state };
  }
}

/** The number of calls with a permit, and the greatest number if there is one: `1 of 2`. */
export function givenText({ given, max_running }: TaskPermits): string {
  return max_running == null ? String(given) : `${given} of ${max_running}`;
}

/** The name of a task with permits in an address. */
export function permitKey({ flow, task }: { flow: string; task: string }): string {
  return `${flow}:${task}`;
}

/** What a page without a task says, behind a position. It may have none while other pages have some. */
export function noPermitsText({ next }: Permits, after: string): string {
  return next || after ? "No call of the tasks on this page holds a permit or waits for one" : "No call holds a permit or waits for one";
}
