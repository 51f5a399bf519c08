// The flows that have runs, with the numbers of their runs by state.

import type { RunCounts } from "../api/types.ts";
import { RUN_STATES } from "./states.ts";

export type FlowRow = {
  flow: string;
  total: number;
  /** The states that some of its runs have, in the order of the filter of runs. */
  states: { state: string; count: number }[];
};

const ORDER: readonly string[] = RUN_STATES;

/** The place of a state; those that this page does not know come last. */
function place(state: string): number {
  const at = ORDER.indexOf(state);
  return at < 0 ? ORDER.length : at;
}

/** The flows whose name contains a text, in the order of the answer. */
export function flowRows(counts: RunCounts, text: string): FlowRow[] {
  const wanted = text.toLowerCase();
  return counts.flows
    .filter(({ flow }) => flow.toLowerCase().includes(wanted))
    .map(({ flow, states }) => {
      const found = Object.entries(states).map(([state, count]) => ({ state, count }));
      found.sort((one, other) => place(one.state) - place(other.state));
      return { flow, total: found.reduce((sum, { count }) => sum + count, 0), states: found };
    });
}
