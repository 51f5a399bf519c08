// The schedules of runs: what they have not fired, in words.

import type { Schedule, SkippedTriggers } from "../api/types.ts";

/** What the reason of skipped triggers means. */
export function skippedText({ reason, count }: SkippedTriggers): string {
  const times = count === 1 ? "once" : `${count.toLocaleString("en-US")} times`;
  switch (reason) {
    case "missed":
      return `${times}: missed, no engine drove the run`;
    case "overlap":
      return `${times}: an earlier firing was under way`;
    case "full":
      return `${times}: too many firings were open`;
    default:
      return `${times}: ${reason}`;
  }
}

/** Whether a schedule fires at its next time, as far as is known. */
export function isHeld({ state }: Schedule): boolean {
  return state === "suspended" || state === "suspending";
}
