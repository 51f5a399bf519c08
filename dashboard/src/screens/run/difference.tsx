// The difference between two revisions of a flow: as words, in the graph, and in the text.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { runPath, type ApiError } from "../../api/client.ts";
import type { FlowText, RunGraph } from "../../api/types.ts";
import { diffGraphs, diffLines, hunks, type Difference, type DiffLine, type GraphDifference } from "../../model/revisions.ts";
import { count, cut } from "../../model/text.ts";
import { useLoaded } from "../../ui/hooks.ts";
import { Trouble, Waiting } from "../../ui/parts.tsx";
import { Line, Text } from "../../ui/text.tsx";
import { GraphView, type GraphData } from "./graph-view.tsx";

/** The number of differences and of lines that are shown at first. */
const FIRST_DIFFERENCES = 100;
const FIRST_LINES = 1000;

/** The longest line that is shown whole, in characters. */
const LINE = 2000;

/** The number of nodes up to which a graph is drawn at once. */
const DRAWN_NODES = 2000;

/** A flow at one of its revisions, as far as it is loaded. */
export type Version = { graph: RunGraph | null; text: string | null; graphError: ApiError | null; textError: ApiError | null };

/** The flow of a run at a revision; `null` reads nothing. A revision never changes. */
export function useRevision(run: string, revision: number | null): Version {
  const key = (kind: string) => (revision === null ? null : `${kind} of revision ${revision} of ${run}`);
  const graph = useLoaded<RunGraph>(key("graph"), () => `${runPath(run, "graph")}?revision=${revision}`);
  const text = useLoaded<FlowText>(key("text"), () => `${runPath(run, "flow")}?revision=${revision}&written=true`);
  return { graph: graph.data, text: text.data?.text ?? null, graphError: graph.error, textError: text.error };
}

export function DifferenceView(props: {
  before: Version;
  after: Version;
  /** The edits between both, in words. */
  edits: string[];
  selected: string;
  onSelect: (name: string) => void;
}) {
  const { before, after, edits } = props;
  const edited = edits.join("\n");
  const graphs = useMemo(
    () => (before.graph && after.graph ? diffGraphs(before.graph, after.graph, edits) : null),
    // The words of the edits are the same while the run is read again.
    [before.graph, after.graph, edited],
  );
  const lines = useMemo(() => (before.text !== null && after.text !== null ? diffLines(before.text, after.text) : null), [before.text, after.text]);
  return (
    <>
      <section class="revision-part" aria-label="Tasks and links">
        <h3>Tasks and links</h3>
        <Trouble error={before.graphError ?? after.graphError} />
        {graphs ? (
          <>
            <DifferenceList list={graphs.list} />
            <MarkedGraph graphs={graphs} selected={props.selected} onSelect={props.onSelect} />
          </>
        ) : before.graphError || after.graphError ? null : (
          <Waiting />
        )}
      </section>
      <section class="revision-part" aria-label="Text of the flow">
        <h3>Text of the flow</h3>
        <Trouble error={before.textError ?? after.textError} />
        {lines ? <TextDifference lines={lines} /> : before.textError || after.textError ? null : <Waiting />}
      </section>
    </>
  );
}

const SIGNS = { added: "+", removed: "−", changed: "~" } as const;

function DifferenceList({ list }: { list: Difference[] }) {
  const [most, setMost] = useState(FIRST_DIFFERENCES);
  if (!list.length) return <p class="quiet">The tasks and links are the same.</p>;
  return (
    <>
      <ul class="differences">
        {list.slice(0, most).map(({ mark, kind, name, details }) => (
          <li key={`${kind} ${mark} ${name}`} class={`mark-${mark}`}>
            <span class="difference-mark">
              <span aria-hidden="true">{SIGNS[mark]} </span>
              {mark}
            </span>
            <span>
              {kind} <Line text={name} />
              {details.map((detail) => (
                <span key={detail} class="quiet">
                  {" · "}
                  <Line text={detail} />
                </span>
              ))}
            </span>
          </li>
        ))}
      </ul>
      {list.length > most ? (
        <button type="button" onClick={() => setMost(most * 10)}>
          Show more of {count(list.length, "difference")}
        </button>
      ) : null}
    </>
  );
}

function MarkedGraph(props: { graphs: GraphDifference; selected: string; onSelect: (name: string) => void }) {
  const { graphs, selected, onSelect } = props;
  const [drawsAll, setDrawsAll] = useState(false);
  const { nodes } = graphs;
  const data: GraphData = useMemo(
    () => ({
      run: null,
      node: (name) => ({ state: nodes.get(name) ?? "unchanged", look: "pending", attempt: null, elements: null, retryIn: null, run: null }),
    }),
    [nodes],
  );
  if (graphs.graph.nodes.length > DRAWN_NODES && !drawsAll) {
    return (
      <p class="notice info large-graph">
        <span>Both flows together have {count(graphs.graph.nodes.length, "node")}.</span>
        <button type="button" onClick={() => setDrawsAll(true)}>
          Draw the graph
        </button>
      </p>
    );
  }
  return (
    <div class="revision-graph">
      <GraphView data={data} graph={graphs.graph} marks={graphs} selected={selected} onSelect={onSelect} label="Graph of the differences" />
    </div>
  );
}

function TextDifference({ lines }: { lines: DiffLine[] }) {
  const [most, setMost] = useState(FIRST_LINES);
  const box = useRef<HTMLDivElement>(null);
  const [isCut, setIsCut] = useState(false);
  const parts = useMemo(() => hunks(lines), [lines]);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setIsCut(element.scrollHeight > element.clientHeight || element.scrollWidth > element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, [parts, most]);
  const total = parts.reduce((sum, part) => sum + ("lines" in part ? part.lines.length : 0), 0);
  if (lines.every(({ kind }) => kind === "same")) return <p class="quiet">The texts are the same.</p>;
  let left = most;
  return (
    <>
      {/* A reader without a mouse scrolls it with the arrow keys. */}
      <div ref={box} class="diff mono" role={isCut ? "group" : undefined} aria-label={isCut ? "Difference of the texts" : undefined} tabIndex={isCut ? 0 : undefined}>
        {parts.map((part, index) => {
          if (left <= 0) return null;
          if ("hidden" in part) {
            return (
              <p key={index} class="diff-hidden quiet">
                {count(part.hidden, "equal line")}
              </p>
            );
          }
          const shown = part.lines.slice(0, left);
          left -= shown.length;
          return (
            <div key={index}>
              {shown.map((line) => (
                <ShownLine key={`${line.before} ${line.after}`} line={line} />
              ))}
            </div>
          );
        })}
      </div>
      {total > most ? (
        <button type="button" onClick={() => setMost(most * 10)}>
          Show more of {count(total, "line")}
        </button>
      ) : null}
    </>
  );
}

function ShownLine({ line }: { line: DiffLine }) {
  const { text, isCut } = cut(line.text, LINE);
  const content = (
    <>
      <Text text={text} />
      {isCut ? "…" : ""}
    </>
  );
  switch (line.kind) {
    case "same":
      return (
        <div class="diff-line">
          <span class="diff-sign"> </span>
          <span class="diff-text">{content}</span>
        </div>
      );
    case "added":
      return (
        <div class="diff-line mark-added">
          <span class="diff-sign">+</span>
          <ins class="diff-text">{content}</ins>
        </div>
      );
    case "removed":
      return (
        <div class="diff-line mark-removed">
          <span class="diff-sign">−</span>
          <del class="diff-text">{content}</del>
        </div>
      );
  }
}
