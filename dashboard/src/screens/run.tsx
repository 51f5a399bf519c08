// One run: its state, what it waits for or why it failed, and views of it.

import { useEffect, useState } from "preact/hooks";

import type { Run } from "../api/types.ts";
import { labelTexts, ofLabel } from "../model/filters.ts";
import { isFinal } from "../model/states.ts";
import { count, oneLine } from "../model/text.ts";
import { address, runAddress, setQuery, usePlace } from "../router.ts";
import { Fact, Facts, StateBadge, Trouble, Views, Waiting } from "../ui/parts.tsx";
import { Copyable, Line } from "../ui/text.tsx";
import { Ago, Lasted } from "../ui/time.tsx";
import { ActDialog, ActionButtons, type Act } from "./run/actions.tsx";
import { EventsView } from "./run/events-view.tsx";
import { Notices } from "./run/failure.tsx";
import { GraphView } from "./run/graph-view.tsx";
import { LogsView } from "./run/logs-view.tsx";
import { OutlineView } from "./run/outline-view.tsx";
import { RehearsalView } from "./run/rehearsal-view.tsx";
import { RevisionsView } from "./run/revisions-view.tsx";
import { TaskPanel } from "./run/task-panel.tsx";
import { TimelineView } from "./run/timeline-view.tsx";
import { useRun, type RunData } from "./run/use-run.ts";
import { ValuesView } from "./run/values-view.tsx";

/** The number of nodes up to which a graph is drawn at once. */
const DRAWN_NODES = 2000;

const VIEWS = [
  { key: "graph", name: "Graph" },
  { key: "list", name: "List" },
  { key: "timeline", name: "Timeline" },
  { key: "events", name: "Events" },
  { key: "logs", name: "Logs" },
  { key: "values", name: "Values" },
  { key: "rehearsal", name: "Rehearsal" },
  { key: "revisions", name: "Revisions" },
] as const;

export function RunScreen({ id }: { id: string }) {
  const data = useRun(id);
  const { query } = usePlace();
  const [act, setAct] = useState<Act | null>(null);
  const { run } = data;
  const view = VIEWS.find(({ key }) => key === query.get("view"))?.key ?? "graph";
  const task = query.get("task") ?? "";
  // A rehearsal says itself what happens to a task.
  const panel = view === "rehearsal" ? "" : task;
  const of = query.get("of") ?? "";
  const flow = run?.flow ?? data.graph?.flow ?? "";
  useEffect(() => {
    document.title = `${oneLine(flow || id)} · waft`;
  }, [flow, id]);
  const select = (name: string) => setQuery({ task: name === task ? "" : name }, "replace");
  const close = () => setQuery({ task: "" }, "replace");
  const views = VIEWS.map(({ key, name }) => ({
    key,
    name,
    address: runAddress(id, { ...(key === "graph" ? {} : { view: key }), ...(task ? { task } : {}) }),
  }));
  const notThere = data.error && !run && data.error.status >= 400 && data.error.status < 500 && data.error.status !== 401;
  return (
    <div class="run-screen">
      <div class="run-head">
        <nav class="crumbs" aria-label="Path">
          <a href="/ui/runs">Runs</a>
          {flow ? (
            <>
              <span aria-hidden="true">/</span>
              <a href={`/ui/runs?${new URLSearchParams({ flow })}`}>
                <Line text={flow} />
              </a>
            </>
          ) : null}
        </nav>
        <div class="run-title">
          <h1 tabIndex={-1}>
            <Line text={flow || id} />
          </h1>
          <span role="status">{run ? <StateBadge state={run.cancelling ? "cancelling" : run.state} strong /> : null}</span>
          <div class="screen-actions">{run ? <ActionButtons run={run} act={setAct} /> : null}</div>
        </div>
        {run ? <RunFacts run={run} /> : null}
      </div>
      <Trouble error={data.error} onRetry={data.refresh} />
      {notThere ? null : (
        <>
          {run ? <Notices run={run} act={setAct} onTask={(name) => setQuery({ task: name }, "replace")} /> : null}
          <Views label="Views of the run" views={views} current={view} />
          <div class={`run-body ${panel ? "with-panel" : ""}`}>
            <div class="run-view">
              {view === "graph" || view === "list" ? <Tasks data={data} asList={view === "list"} selected={task} onSelect={select} /> : null}
              {view === "timeline" ? (
                <TimelineView data={data} of={of} onTask={(name) => setQuery({ task: name }, "replace")} onFilter={(of) => setQuery({ of }, "replace")} />
              ) : null}
              {view === "events" ? <EventsView data={data} onTask={(name) => setQuery({ task: name }, "replace")} /> : null}
              {view === "logs" ? <LogsView data={data} of={of} onFilter={(of) => setQuery({ of }, "replace")} /> : null}
              {view === "revisions" ? <RevisionsView data={data} selected={task} onSelect={select} /> : null}
              {view === "values" ? run ? <ValuesView run={run} /> : <Waiting /> : null}
              {view === "rehearsal" ? <RehearsalView data={data} /> : null}
            </div>
            {panel ? <TaskPanel data={data} name={panel} onClose={close} act={setAct} /> : null}
          </div>
        </>
      )}
      {run && act ? <ActDialog run={run} act={act} onClose={() => setAct(null)} onDone={data.refresh} /> : null}
    </div>
  );
}

function RunFacts({ run }: { run: Run }) {
  const ended = isFinal(run.state);
  const labels = labelTexts(run.labels);
  return (
    <Facts>
      <Fact name="Run">
        <Copyable text={run.run} label="the run id" />
      </Fact>
      <Fact name="Started">
        <Ago time={run.started_at} />
      </Fact>
      <Fact name={ended ? "Ended" : "Last changed"}>
        <Ago time={run.changed_at} />
      </Fact>
      <Fact name="Lasted">
        <Lasted from={run.started_at} until={ended ? run.changed_at : null} />
      </Fact>
      {labels.length ? (
        <Fact name="Labels">
          <ul class="tags">
            {labels.map((label) => (
              <li key={label}>
                <a href={address("/ui/runs", ofLabel(label))}>
                  <Line text={label} />
                </a>
              </li>
            ))}
          </ul>
        </Fact>
      ) : null}
      <Fact name="Revision">
        {run.revisions?.length ? (
          <a href={runAddress(run.run, { view: "revisions" })}>
            {run.revision}, with {count(run.revisions.length, "change")}
          </a>
        ) : (
          run.revision
        )}
      </Fact>
      {run.trace_url ? (
        <Fact name="Trace">
          <a href={run.trace_url} target="_blank" rel="noopener noreferrer">
            Show the trace
          </a>
        </Fact>
      ) : null}
      {run.fired != null ? (
        <Fact name="Fired">
          {run.fired === 1 ? "once" : `${run.fired} times`}
          {(run.firings ?? []).slice(0, 5).map(({ firing, state }) => `, firing ${firing} ${oneLine(state)}`)}
        </Fact>
      ) : null}
      {(run.schedules ?? []).slice(0, 5).map(({ task, at }) => (
        <Fact key={task} name="Fires next">
          <Line text={task} /> <Ago time={at} />
        </Fact>
      ))}
    </Facts>
  );
}

function Tasks(props: { data: RunData; asList: boolean; selected: string; onSelect: (name: string) => void }) {
  const { data, asList, selected, onSelect } = props;
  const [drawsAll, setDrawsAll] = useState(false);
  const { graph } = data;
  if (!graph) return data.graphError ? <Trouble error={data.graphError} /> : <Waiting />;
  const isLarge = graph.nodes.length > DRAWN_NODES && !drawsAll;
  if (asList || isLarge) {
    return (
      <>
        {isLarge && !asList ? (
          <p class="notice info large-graph">
            <span>This flow has {count(graph.nodes.length, "node")}: it is shown as a list first.</span>
            <button type="button" onClick={() => setDrawsAll(true)}>
              Draw the graph
            </button>
          </p>
        ) : null}
        <OutlineView data={data} graph={graph} selected={selected} onSelect={onSelect} />
      </>
    );
  }
  return <GraphView data={data} graph={graph} selected={selected} onSelect={onSelect} />;
}
