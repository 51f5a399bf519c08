// Workers and engines: what they do, and what they can be told.

import type { Engine, Worker } from "../api/types.ts";
import type { Look } from "./states.ts";
import { count } from "./text.ts";

/** What a worker can be told. */
export type WorkerCommand = "drain" | "exit" | "resume";

/** The commands that a worker takes in its state. One of an earlier version names none, and takes none. */
export function workerCommands(state: string | null | undefined): WorkerCommand[] {
  switch (state) {
    case "active":
      return ["drain", "exit"];
    case "draining":
      return ["resume", "exit"];
    default:
      return [];
  }
}

const LOOKS = new Map<string, Look>([
  ["active", "success"],
  ["draining", "suspended"],
  ["exiting", "rolling-back"],
]);

/** How the state of a worker looks. */
export function workerLook(state: string): Look {
  return LOOKS.get(state) ?? "unknown";
}

/** The number of runs that an engine has in memory. */
export function runsInMemory(engine: Engine): number {
  return engine.shards.reduce((sum, shard) => sum + shard.runs, 0);
}

/** The calls of a worker that its list leaves out, in words; empty if there are none. */
export function otherCallsText({ more_calls = 0, other_calls = 0 }: Worker): string {
  const parts: string[] = [];
  if (more_calls) parts.push(count(more_calls, "more call"));
  if (other_calls) parts.push(count(other_calls, "call of other namespaces", "calls of other namespaces"));
  return parts.join(", and ");
}
