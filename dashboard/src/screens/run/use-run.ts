// Everything that the views of a run show: the run, its graph and its events, kept up to date.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";

import { runPath, type ApiError } from "../../api/client.ts";
import { EventStream, type StreamState } from "../../api/stream.ts";
import type { EventPayload, GraphNode, Run, RunGraph, RunNode } from "../../api/types.ts";
import { RunEvents } from "../../model/events.ts";
import { parseJson } from "../../model/json.ts";
import { isFinal, look, type Look } from "../../model/states.ts";
import { useLoaded } from "../../ui/hooks.ts";

/** The pause between two reads of a run without events, in milliseconds: what is not an event changes too, such as heartbeats. */
const INTERVAL = 5000;

/** The same for a run that has ended: somebody may retry it. */
const ENDED_INTERVAL = 15_000;

/** The pause between an event and the read that shows the rest, in milliseconds. */
const AFTER_EVENT = 600;

/** The pause between an event and the next drawing, in milliseconds; a large run takes longer to draw. */
const BEFORE_DRAWING = 60;
const BEFORE_LARGE_DRAWING = 500;

/** The number of tasks from which a run is large. */
const LARGE = 2000;

/** A node as the views show it. */
export type NodeView = {
  state: string;
  look: Look;
  attempt: number | null;
  /** Elements of its list: how many there are, and how many succeeded. */
  elements: { count: number; succeeded: number } | null;
  retryIn: number | null;
  run: RunNode | null;
  /** What a rehearsal says of it: a few words, and its places in the order of the rollback. */
  mark?: { short: string; order: string };
};

export type RunData = {
  id: string;
  run: Run | null;
  error: ApiError | null;
  graph: RunGraph | null;
  graphError: ApiError | null;
  events: RunEvents;
  /** Changes with each change of the events. */
  version: number;
  stream: StreamState;
  streamError: ApiError | null;
  /** The node of the graph or of the run with this name, as it is now. */
  node: (name: string, graphNode?: GraphNode) => NodeView;
  refresh: () => void;
};

export function useRun(id: string): RunData {
  const events = useRef(new RunEvents());
  const [version, setVersion] = useState(0);
  const [stream, setStream] = useState<{ state: StreamState; error: ApiError | null }>({ state: "connecting", error: null });
  const following = useRef<EventStream | null>(null);
  const [interval, setPollInterval] = useState(INTERVAL);
  // The events that were known when the run was last asked for: later ones are newer than the answer.
  const asked = useRef(0);
  const known = useRef(0);
  const loaded = useLoaded<Run>(
    `run ${id}`,
    () => {
      asked.current = events.current.total;
      return runPath(id);
    },
    { every: interval },
  );
  const graph = useLoaded<RunGraph>(`graph ${id}`, () => runPath(id, "graph"));
  const { refresh } = loaded;

  useEffect(() => {
    let frame: ReturnType<typeof setTimeout> | undefined;
    let reading: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      frame = undefined;
      setVersion((version) => version + 1);
    };
    const own = new EventStream(runPath(id, "events"), {
      onEvents: (received) => {
        for (const { id, data } of received) {
          const event = readEvent(data);
          if (event) events.current.add(id, event);
        }
        frame ??= setTimeout(draw, events.current.nodes.size > LARGE ? BEFORE_LARGE_DRAWING : BEFORE_DRAWING);
        reading ??= setTimeout(() => {
          reading = undefined;
          refresh();
        }, AFTER_EVENT);
      },
      onState: (state, error) => {
        setStream({ state, error });
        if (state === "ended") refresh();
      },
    });
    following.current = own;
    return () => {
      clearTimeout(frame);
      clearTimeout(reading);
      own.close();
    };
  }, [id, refresh]);

  const run = loaded.data;
  useEffect(() => {
    known.current = asked.current;
  }, [run]);
  useEffect(() => {
    if (!run) return;
    setPollInterval(isFinal(run.state) ? ENDED_INTERVAL : INTERVAL);
    // The stream ends when the server stops, and a run that has ended may go on. Each answer is newer than the end.
    if (!isFinal(run.state) || stream.state === "refused") following.current?.resume();
  }, [run]);
  const shown = graph.data;
  useEffect(() => {
    if (run && shown && run.revision > shown.last_revision) graph.refresh();
  }, [run, shown, graph.refresh]);

  const tasks = useMemo(() => new Map((run?.tasks ?? []).map((node) => [node.name, node])), [run]);
  const node = useCallback(
    (name: string, graphNode?: GraphNode): NodeView => {
      const ofRun = tasks.get(name) ?? null;
      const event = events.current.nodes.get(name);
      const isNewer = event !== undefined && (event.event > known.current || !ofRun);
      const state = (isNewer ? event.state : ofRun?.state) ?? graphNode?.state ?? "pending";
      const attempt = (isNewer ? event.attempt : ofRun?.attempt) ?? null;
      const progress = ofRun?.elements ?? graphNode?.elements ?? null;
      const seen = events.current.elements.get(name);
      const elements = progress && {
        count: progress.count,
        succeeded: seen && isNewer && !events.current.trimmed ? Math.min(progress.count, seen.size) : progress.succeeded,
      };
      const isWaiting = state === "running" && (graphNode?.kind === "wait" || ofRun?.awaits != null);
      const retryIn = isNewer ? event.retryIn : (ofRun?.retry_in ?? null);
      const shown = isWaiting ? "waiting" : state;
      // A failure that is tried again is no failure yet.
      return { state: shown, look: state === "failure" && retryIn !== null ? (event?.isRollback ? "rolling-back" : "retrying") : look(shown), attempt, elements, retryIn, run: ofRun };
    },
    // The events change in place.
    [tasks, version],
  );
  const refreshAll = useCallback(() => {
    refresh();
    following.current?.resume();
  }, [refresh]);
  return {
    id,
    run,
    error: loaded.error,
    graph: shown,
    graphError: graph.error,
    events: events.current,
    version,
    stream: shownState(stream.state, run),
    streamError: stream.error,
    node,
    refresh: refreshAll,
  };
}

/** The state of a stream, as it is shown: one that has ended before its run is connected again soon. */
export function shownState(state: StreamState, run: Run | null): StreamState {
  return state === "ended" && run && !isFinal(run.state) ? "connecting" : state;
}

function readEvent(data: string): EventPayload | null {
  try {
    return parseJson(data) as unknown as EventPayload;
  } catch {
    return null;
  }
}
