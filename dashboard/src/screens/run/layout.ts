// Lays the graph of a run out in a worker, and remembers the result.

import { useEffect, useMemo, useState } from "preact/hooks";

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

/** A graph with its layout. */
export type Drawable = { graph: RunGraph; layout: Layout };

/** The layout of a graph; `null` until it is there. A graph that has changed is drawn as it was before until its new layout is there. */
export function useLayout(graph: RunGraph, direction: Direction): { drawable: Drawable | null; error: string | null } {
  const [done, setDone] = useState<{ structure: string; graph: RunGraph; layout: Layout | null; error: string | null } | null>(null);
  // A graph that was read again has mostly the same nodes and links.
  const structure = useMemo(() => JSON.stringify(layoutInput(graph.nodes, graph.links, direction)), [graph, direction]);
  useEffect(() => {
    let isCurrent = true;
    layOut(JSON.parse(structure) as LayoutInput).then(
      (layout) => isCurrent && setDone({ structure, graph, layout, error: null }),
      (error: unknown) => isCurrent && setDone({ structure, graph, layout: null, error: String(error) }),
    );
    return () => {
      isCurrent = false;
    };
  }, [structure]);
  if (!done) return { drawable: null, error: null };
  const shown = done.structure === structure ? graph : done.graph;
  return { drawable: done.layout && { graph: shown, layout: done.layout }, error: done.error };
}
