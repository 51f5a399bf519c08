// Lays the graph of a run out in a worker, and remembers the result.

import { useEffect, useState } from "preact/hooks";

import type { RunGraph } from "../../api/types.ts";
import { layoutInput, type Direction, type Layout, type LayoutInput } from "../../model/graph.ts";

const SCRIPT = "/assets/layout.js";

type TrustedTypes = { createPolicy: (name: string, rules: { createScriptURL: () => string }) => { createScriptURL: (url: string) => string } };

/** The address of the worker, as the policy of the page wants it. */
let script: string | null = null;

function workerScript(): string {
  const trusted = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
  // The policy gives one address only, whatever it is asked.
  script ??= trusted?.createPolicy("waft-worker", { createScriptURL: () => SCRIPT }).createScriptURL(SCRIPT) ?? SCRIPT;
  return script;
}

let worker: Worker | null = null;
let requests = 0;
const waiting = new Map<number, (answer: Answer) => void>();

type Answer = { layout: Layout } | { error: string };

function layOut(input: LayoutInput): Promise<Layout> {
  if (!worker) {
    worker = new Worker(workerScript(), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<{ number: number } & Answer>) => {
      waiting.get(data.number)?.(data);
      waiting.delete(data.number);
    };
    worker.onerror = (event) => {
      for (const answer of waiting.values()) answer({ error: event.message || "the layout failed" });
      waiting.clear();
      worker?.terminate();
      worker = null;
    };
  }
  requests += 1;
  const number = requests;
  return new Promise((resolve, reject) => {
    waiting.set(number, (answer) => {
      if ("layout" in answer) resolve(answer.layout);
      else reject(new Error(answer.error));
    });
    worker?.postMessage({ number, input });
  });
}

/** The layout of a graph; `null` until it is there. */
export function useLayout(graph: RunGraph | null, direction: Direction): { layout: Layout | null; error: string | null } {
  const [state, setState] = useState<{ graph: RunGraph; direction: Direction; layout: Layout | null; error: string | null } | null>(null);
  useEffect(() => {
    if (!graph) return undefined;
    let isCurrent = true;
    layOut(layoutInput(graph.nodes, graph.links, direction)).then(
      (layout) => isCurrent && setState({ graph, direction, layout, error: null }),
      (error: unknown) => isCurrent && setState({ graph, direction, layout: null, error: String(error) }),
    );
    return () => {
      isCurrent = false;
    };
  }, [graph, direction]);
  // The layout of another graph has other nodes.
  if (!state || state.graph !== graph) return { layout: null, error: null };
  return { layout: state.layout, error: state.error };
}
