// What would happen if a task of the run failed now: a slider over the tasks, the graph of each case, and the case in words.

import { useEffect, useMemo, useState } from "preact/hooks";

import { runPath } from "../../api/client.ts";
import type { Rehearsal, RehearsedCase, Run, StubbedValue } from "../../api/types.ts";
import {
  caseEnd,
  caseOf,
  caseTitle,
  describe,
  failureKey,
  failureName,
  marks,
  originText,
  positions,
  positionText,
  valueText,
  type Mark,
  type Part,
  type Position,
} from "../../model/rehearsal.ts";
import { isFinal } from "../../model/states.ts";
import { count, cut, oneLine } from "../../model/text.ts";
import { setQuery, usePlace } from "../../router.ts";
import { useLoaded } from "../../ui/hooks.ts";
import { StateBadge, Trouble, Waiting } from "../../ui/parts.tsx";
import { Line, Text } from "../../ui/text.tsx";
import { GraphView } from "./graph-view.tsx";
import type { NodeView, RunData } from "./use-run.ts";

/** The pause after a movement of the slider before the address has its place, in milliseconds: browsers refuse many changes at once. */
const BEFORE_ADDRESS = 250;

/** The greatest number of names or sentences in a part of the words. */
const ITEMS = 100;

export function RehearsalView({ data }: { data: RunData }) {
  const { run } = data;
  return run ? <Rehearsed data={data} run={run} /> : <Waiting />;
}

function Rehearsed({ data, run }: { data: RunData; run: Run }) {
  const { query } = usePlace();
  const hasEnded = isFinal(run.state);
  const isNew = hasEnded || query.get("from") === "start";
  const path = `${runPath(data.id, "rehearsal")}${isNew ? "?from_start=true" : ""}`;
  const { data: rehearsal, error, isLoading, refresh } = useLoaded<Rehearsal>(path, () => path, { once: true });
  const all = useMemo(() => (rehearsal ? positions(rehearsal) : []), [rehearsal]);
  // The run as it was when the rehearsal arrived.
  const [seen, setSeen] = useState("");
  useEffect(() => setSeen(rehearsal ? run.changed_at : ""), [rehearsal]);
  const isOld = !isNew && seen !== "" && seen !== run.changed_at;
  return (
    <div class="rehearsal">
      <p class="quiet">
        No guest is called, and nothing changes: stubs stand in place of results.{" "}
        {hasEnded ? "The run has ended, so each case is a new run of its flow." : null}
      </p>
      <div class="list-tools">
        {hasEnded ? null : (
          <label class="filter">
            <span>Each case</span>
            <select value={isNew ? "start" : "now"} onChange={(event) => setQuery({ from: event.currentTarget.value === "start" ? "start" : "" }, "replace")}>
              <option value="now">goes on from the state of the run</option>
              <option value="start">is a new run of the flow</option>
            </select>
          </label>
        )}
        <button type="button" onClick={refresh}>
          Rehearse again
        </button>
        <span class="quiet" role="status">
          {isLoading && rehearsal ? "Rehearsing…" : isOld ? "The run has changed since." : ""}
        </span>
      </div>
      <Trouble error={error} onRetry={refresh} />
      {rehearsal?.omitted ? (
        <p class="notice info">
          <span>
            At least {count(rehearsal.omitted, "more case is", "more cases are")} left out, since those before took as much as a rehearsal may. <code>waft rehearse --against RUN --node TASK</code> selects a task.
          </span>
        </p>
      ) : null}
      {rehearsal && all.length ? <Slider data={data} rehearsal={rehearsal} all={all} /> : null}
      {!rehearsal && isLoading ? <Waiting /> : null}
    </div>
  );
}

/** The slider, and the case at its position. */
function Slider({ data, rehearsal, all }: { data: RunData; rehearsal: Rehearsal; all: Position[] }) {
  const { query } = usePlace();
  // The task at which the slider is, until the address has it.
  const [moved, setMoved] = useState<string | null>(null);
  useEffect(() => {
    if (moved === null) return undefined;
    const timer = setTimeout(() => {
      setQuery({ node: moved, case: "" }, "replace");
      setMoved(null);
    }, BEFORE_ADDRESS);
    return () => clearTimeout(timer);
  }, [moved]);
  const named = query.get("node") ?? "";
  const wanted = moved ?? named;
  const index = Math.max(0, all.findIndex(({ node }) => node === wanted));
  const position = all[index];
  const one = position ? caseOf(position, moved === null ? (query.get("case") ?? "") : "") : null;
  const marked = useMemo(() => (one ? marks(one) : new Map<string, Mark>()), [one]);
  if (!position || !one) return null;
  const choose = (name: string) => {
    if (all.some(({ node }) => node === name)) setMoved(name);
  };
  const chooseCase = (key: string) => {
    setMoved(null);
    setQuery({ node: position.node, case: key === "apply" ? "" : key }, "replace");
  };
  const rehearsed: RunData = { ...data, run: null, node: (name, graphNode) => nodeView(marked.get(name), graphNode?.kind === "flow") };
  return (
    <>
      <div class="rehearsal-slider">
        <label>
          <span>Task that fails</span>
          <input
            type="range"
            min={0}
            max={all.length - 1}
            step={1}
            value={index}
            disabled={all.length === 1}
            aria-valuetext={oneLine(positionText(all, index, one))}
            onInput={(event) => choose(all[event.currentTarget.valueAsNumber]?.node ?? "")}
          />
        </label>
        <span class="rehearsal-place number quiet" aria-hidden="true">
          {index === 0 ? "none" : `${index} of ${all.length - 1}`}
        </span>
      </div>
      {wanted && wanted !== position.node ? (
        <p class="notice info">
          <span>
            No case of <Line text={wanted} /> is here.
          </span>
        </p>
      ) : null}
      {position.cases.length > 1 ? (
        <div class="chips" role="group" aria-label="What fails of the task">
          {position.cases.map((other) => (
            <button key={failureKey(other)} type="button" class="chip" aria-pressed={other === one} onClick={() => chooseCase(failureKey(other))}>
              {failureName(other)}
            </button>
          ))}
        </div>
      ) : null}
      <div class="rehearsal-body">
        <div class="rehearsal-graph">
          {data.graph ? (
            <GraphView data={rehearsed} graph={data.graph} selected={position.node} onSelect={choose} />
          ) : data.graphError ? (
            <Trouble error={data.graphError} />
          ) : (
            <Waiting />
          )}
        </div>
        <Words one={one} marked={marked} stubs={rehearsal.stubs} />
      </div>
    </>
  );
}

/** A node as the graph shows it. A flow without a retry controller has nothing that happens to itself. */
function nodeView(mark: Mark | undefined, isFlow: boolean): NodeView {
  const none = { attempt: null, elements: null, retryIn: null, run: null };
  if (!mark) {
    const words = isFlow ? "without a retry" : "not rehearsed";
    return { ...none, state: words, look: isFlow ? "pending" : "unknown", mark: { short: words, order: "" } };
  }
  return { ...none, state: mark.words, look: mark.look, mark: { short: mark.short, order: mark.order } };
}

/** A case in words. */
function Words({ one, marked, stubs }: { one: RehearsedCase; marked: Map<string, Mark>; stubs: StubbedValue[] }) {
  const parts = useMemo(() => describe(one), [one]);
  const untouched = [...marked].filter(([, mark]) => mark.isUntouched).map(([name, mark]) => (mark.words === "untouched" ? name : `${name}: ${mark.words}`));
  const end = caseEnd(one);
  return (
    <section class="rehearsal-words" aria-label="What happens">
      <h2>
        <Text text={cut(caseTitle(one), 400).text} />
      </h2>
      <p>
        {one.reached ? "The run " : "The task "}
        <StateBadge state={end.words} as={end.look} />
      </p>
      {parts.map((part) => (
        <Items key={part.title} part={part} />
      ))}
      {untouched.length ? <Items part={{ title: "Untouched", items: untouched }} /> : null}
      {stubs.length ? (
        <details>
          <summary>{count(stubs.length, "stubbed result")}</summary>
          <Items part={{ title: "In place of results", items: stubs.map((stub) => `${stub.task}.${stub.name}: ${valueText(stub)} (${originText(stub)})`) }} />
        </details>
      ) : null}
    </section>
  );
}

function Items({ part }: { part: Part }) {
  const items = part.items.slice(0, ITEMS).map((item, index) => (
    <li key={index}>
      <Text text={cut(item, 600).text} />
    </li>
  ));
  const more = part.items.length - items.length;
  return (
    <div class={`rehearsal-part ${part.needsPerson ? "needs-person" : ""}`}>
      <h3>{part.title}</h3>
      {part.isOrdered ? <ol>{items}</ol> : <ul>{items}</ul>}
      {more > 0 ? <p class="quiet">and {more.toLocaleString("en-US")} more</p> : null}
      {part.needsPerson ? (
        <p class="quiet">
          <code>waft retry RUN</code> tries again, and <code>waft skip RUN TASK --reason TEXT</code> goes on after a rollback by hand.
        </p>
      ) : null}
    </div>
  );
}
