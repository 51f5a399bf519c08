// The tasks of a run as a list, for large graphs, narrow screens and readers of the screen.

import { useMemo, useState } from "preact/hooks";

import type { RunGraph } from "../../api/types.ts";
import { outline } from "../../model/graph.ts";
import { count } from "../../model/text.ts";
import { Rows, StateBadge } from "../../ui/parts.tsx";
import { Line } from "../../ui/text.tsx";
import { Lasted } from "../../ui/time.tsx";
import { isCalled } from "../../model/states.ts";
import type { RunData } from "./use-run.ts";

export function OutlineView(props: { data: RunData; graph: RunGraph; selected: string; onSelect: (name: string) => void }) {
  const { data, graph, selected, onSelect } = props;
  const [text, setText] = useState("");
  const [state, setState] = useState("");
  const all = useMemo(() => outline(graph.nodes), [graph]);
  const states = new Map<string, number>();
  for (const { node } of all) {
    if (node.kind === "flow") continue;
    const now = data.node(node.name, node).state;
    states.set(now, (states.get(now) ?? 0) + 1);
  }
  const wanted = text.trim().toLowerCase();
  const shown = all.filter(({ node }) => {
    if (wanted && !node.name.toLowerCase().includes(wanted)) return false;
    return !state || (node.kind !== "flow" && data.node(node.name, node).state === state);
  });
  return (
    <div class="outline">
      <div class="list-tools">
        <label class="filter">
          <span>Task</span>
          <input type="search" placeholder="any" spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <label class="filter">
          <span>State</span>
          <select value={state} onChange={(event) => setState(event.currentTarget.value)}>
            <option value="">any</option>
            {[...states].map(([name, number]) => (
              <option key={name} value={name}>
                {name} ({number})
              </option>
            ))}
          </select>
        </label>
        <span class="quiet">{count(shown.length, "node")}</span>
      </div>
      <Rows
        items={shown}
        height={34}
        label="Tasks of the run"
        keyOf={({ node }) => node.name}
        row={({ node, depth }) => {
          const now = data.node(node.name, node);
          const { run } = now;
          const indent = { paddingLeft: `${12 + (wanted || state ? 0 : depth * 20)}px` };
          if (node.kind === "flow") {
            return (
              <div class="outline-flow" style={indent}>
                <Line text={node.name} />
                {node.retry ? <span class="quiet"><Line text={node.retry} /></span> : null}
              </div>
            );
          }
          return (
            <button
              type="button"
              class={`outline-task ${now.look}`}
              style={indent}
              aria-current={node.name === selected ? "true" : undefined}
              onClick={() => onSelect(node.name)}
            >
              <span class="outline-name">
                <Line text={node.name} />
              </span>
              <StateBadge state={now.state} as={now.look} />
              <span class="outline-more quiet number">
                {now.elements ? `${now.elements.succeeded} of ${now.elements.count}` : now.attempt && now.attempt > 1 ? `#${now.attempt}` : ""}
              </span>
              <span class="outline-time">
                {run?.started_at ? <Lasted from={run.started_at} until={isCalled(now.state) || now.state === "waiting" ? null : (run.at ?? null)} /> : null}
              </span>
            </button>
          );
        }}
      />
    </div>
  );
}
