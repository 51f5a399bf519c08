// What is known about one task of a run.

import { useEffect, useRef, useState } from "preact/hooks";

import { runPath } from "../../api/client.ts";
import type { Elements, GraphNode, RunNode } from "../../api/types.ts";
import { runValues } from "../../model/json.ts";
import { isCalled } from "../../model/states.ts";
import { count, oneLine, size } from "../../model/text.ts";
import { runAddress } from "../../router.ts";
import { useLoaded, useRefreshAfter } from "../../ui/hooks.ts";
import { IconButton } from "../../ui/icons.tsx";
import { Fact, Facts, StateBadge, Trouble } from "../../ui/parts.tsx";
import { Digest, Line, LongText } from "../../ui/text.tsx";
import { Ago, At, Lasted } from "../../ui/time.tsx";
import { FailureChain } from "./failure.tsx";
import { ValueList } from "./values-view.tsx";
import type { Act } from "./actions.tsx";
import type { RunData } from "./use-run.ts";

/** The number of elements that are shown at first, and the greatest number: the API gives no longer page. */
const FIRST_ELEMENTS = 50;
const MOST_ELEMENTS = 1000;

/** The pause between an event and the read that shows the elements, in milliseconds. */
const AFTER_EVENT = 1000;

export function TaskPanel({ data, name, onClose, act }: { data: RunData; name: string; onClose: () => void; act: (act: Act) => void }) {
  const node = data.graph?.nodes.find((node) => node.name === name);
  const now = data.node(name, node);
  const run = now.run;
  const heading = useRef<HTMLHeadingElement>(null);
  // Whoever closes the panel by a key goes on where it was opened.
  useEffect(() => {
    const before = document.activeElement;
    return () => {
      const now = document.activeElement;
      if (before instanceof HTMLElement && before.isConnected && (now === null || now === document.body)) before.focus({ preventScroll: true });
    };
  }, []);
  useEffect(() => heading.current?.focus({ preventScroll: true }), [name]);
  const isKnown = node !== undefined || run !== null;
  return (
    <aside
      class="panel"
      aria-label={`Task ${oneLine(name)}`}
      onKeyDown={(event) => {
        if (event.key === "Escape") onClose();
      }}
    >
      <div class="panel-head">
        <h2 ref={heading} tabIndex={-1}>
          <Line text={name} />
        </h2>
        <IconButton name="close" label="Close the task" onClick={onClose} />
      </div>
      {isKnown ? null : <p class="quiet">{data.run ? "The run has no such task." : ""}</p>}
      {isKnown ? (
        <>
          <p class="panel-state">
            <StateBadge state={now.state} as={now.look} strong />
            {now.attempt && now.attempt > 1 ? <span class="quiet">attempt {now.attempt}</span> : null}
            {now.state === "failure" && now.retryIn !== null ? <span class="quiet">again in {now.retryIn.toFixed(1)}s</span> : null}
          </p>
          {run?.awaits ? (
            <div class="notice info">
              <p>
                Waits for <Line text={run.awaits.word} />
                {run.awaits.values.length ? (
                  <>
                    , with <Line text={run.awaits.values.join(", ")} />
                  </>
                ) : null}
                {run.awaits.until ? (
                  <>
                    , until <At time={run.awaits.until} />
                  </>
                ) : null}
              </p>
              <button type="button" class="primary" onClick={() => act({ kind: "notify", task: name })}>
                Notify…
              </button>
            </div>
          ) : null}
          {run?.failure ? <FailureChain failure={run.failure} /> : null}
          {now.state === "rollback-failure" ? (
            <p>
              <button type="button" onClick={() => act({ kind: "skip", task: name })}>
                Skip this rollback…
              </button>
            </p>
          ) : null}
          <TaskFacts data={data} name={name} node={node} run={run} state={now.state} />
          {now.elements ? <ElementList key={name} run={data.id} task={name} version={data.version} elements={now.elements} /> : null}
          {run?.provides ? (
            <section>
              <h3>Provided</h3>
              <ValueList run={data.id} values={runValues(run.provides)} />
            </section>
          ) : null}
          <p class="panel-links">
            <a href={runAddress(data.id, { view: "logs", of: name })}>Logs of this task</a>
            <a href={runAddress(data.id, { view: "timeline", of: name })}>Timeline of this task</a>
          </p>
        </>
      ) : null}
    </aside>
  );
}

function TaskFacts(props: { data: RunData; name: string; node: GraphNode | undefined; run: RunNode | null; state: string }) {
  const { data, name, node, run } = props;
  const usage = run?.last_usage?.usage;
  const incoming = data.graph?.links.filter((link) => link.to === name) ?? [];
  return (
    <Facts>
      {run?.started_at ? (
        <Fact name="Started">
          <Ago time={run.started_at} />
        </Fact>
      ) : null}
      {run?.started_at ? (
        <Fact name="Lasted">
          <Lasted from={run.started_at} until={isCalled(props.state) || props.state === "waiting" ? null : (run.at ?? null)} />
        </Fact>
      ) : null}
      {run?.firing && run.firing > 1 ? <Fact name="Firing">{run.firing}</Fact> : null}
      {run?.out ? (
        <Fact name="Call">
          {run.out.worker ? (
            <>
              called by <Line text={run.out.worker} /> since <At time={run.out.since} />
              {run.out.silent_for != null ? `, whose heartbeats stopped ${run.out.silent_for.toFixed(0)}s ago` : ""}
            </>
          ) : (
            <>
              {run.out.unserved ? "waiting for a worker on queue " : "on queue "}
              <Line text={run.out.queue} /> since <At time={run.out.since} />
            </>
          )}
        </Fact>
      ) : null}
      {run?.worker ? (
        <Fact name="Worker">
          <span class="mono">
            <Line text={run.worker} />
          </span>
        </Fact>
      ) : null}
      {run?.lost?.length ? (
        <Fact name="Lost">
          {run.lost.length === 1 ? "once" : `${run.lost.length} times`}, with{" "}
          <Line text={run.lost.map((lost) => lost.worker ?? "an unknown worker").join(", ")} />
        </Fact>
      ) : null}
      {run?.computed_by ? (
        <Fact name="Remembered">
          from <a href={runAddress(run.computed_by.run, { task: run.computed_by.task })}><Line text={run.computed_by.run} /></a>
        </Fact>
      ) : null}
      {usage ? (
        <Fact name="Used">
          {usage.wall_seconds.toFixed(1)}s, {usage.cpu_seconds.toFixed(1)}s CPU, {size(usage.memory_bytes)}
          {usage.http_requests ? `, ${count(usage.http_requests, "request")}` : ""}
        </Fact>
      ) : null}
      {run?.queue ? (
        <Fact name="Queue">
          <Line text={run.queue} />
        </Fact>
      ) : null}
      {run?.digest ? (
        <Fact name="Module">
          <Digest digest={run.digest} />
        </Fact>
      ) : null}
      {run?.rollback_skipped ? (
        <Fact name="Skipped">
          <LongText text={run.rollback_skipped} most={400} />
        </Fact>
      ) : null}
      {node?.triggers?.length ? (
        <Fact name="Fires">
          <LongText text={node.triggers.join("\n")} most={600} />
        </Fact>
      ) : null}
      {incoming.length ? (
        <Fact name="After">
          <ul class="plain">
            {incoming.slice(0, 20).map((link) => (
              <li key={link.from}>
                <Line text={link.from} />
                <span class="quiet">
                  {link.back ? " back edge" : ""}
                  {(link.conditions ?? []).map(({ on, when }) => (
                    <>
                      {on === "success" ? "" : ` on ${oneLine(on)}`}
                      {when ? (
                        <>
                          {" when "}
                          <Line text={when} />
                        </>
                      ) : null}
                    </>
                  ))}
                </span>
              </li>
            ))}
            {incoming.length > 20 ? <li class="quiet">and {incoming.length - 20} more</li> : null}
          </ul>
        </Fact>
      ) : null}
    </Facts>
  );
}

/** The elements of a task's list: a page of them, as it is now. */
function ElementList(props: { run: string; task: string; version: number; elements: { count: number; succeeded: number } }) {
  const { run, task, version, elements } = props;
  const [shows, setShows] = useState({ state: "", limit: FIRST_ELEMENTS, after: "" });
  const query = new URLSearchParams({ limit: String(shows.limit) });
  if (shows.state) query.set("state", shows.state);
  if (shows.after) query.set("after", shows.after);
  const path = `${runPath(run, "elements", task)}?${query}`;
  const { data, error, refresh } = useLoaded<Elements>(path, () => path);
  useRefreshAfter(version, refresh, AFTER_EVENT);
  // What was there stays until the next page is.
  const last = useRef<Elements | null>(null);
  if (data) last.current = data;
  const page = data ?? last.current;
  const next = page?.next ?? null;
  return (
    <section>
      <div class="section-head">
        <h3>
          {elements.succeeded} of {count(elements.count, "element")}
        </h3>
        <select
          aria-label="State of the elements"
          value={shows.state}
          onChange={(event) => setShows({ state: event.currentTarget.value, limit: FIRST_ELEMENTS, after: "" })}
        >
          <option value="">all</option>
          <option value="failure,rollback-failure">failed</option>
          <option value="running,rolling-back">in progress</option>
          <option value="pending">pending</option>
          <option value="success">success</option>
          <option value="rolled-back">rolled back</option>
        </select>
      </div>
      <Trouble error={error} />
      <ul class="elements">
        {(page?.elements ?? []).map((element) => (
          <li key={element.number}>
            <span class="number quiet">{element.number}</span>
            <StateBadge state={element.state} />
            {element.attempt && element.attempt > 1 ? <span class="quiet">#{element.attempt}</span> : null}
            {element.failure ? <Line text={`${element.failure.kind}: ${element.failure.message}`} /> : null}
          </li>
        ))}
      </ul>
      {page && !page.elements.length ? <p class="quiet">No element is in this state.</p> : null}
      {shows.after ? (
        <button type="button" onClick={() => setShows({ ...shows, after: "" })}>
          From the start
        </button>
      ) : null}{" "}
      {next === null ? null : shows.limit < MOST_ELEMENTS ? (
        <button type="button" onClick={() => setShows({ ...shows, limit: Math.min(MOST_ELEMENTS, shows.limit * 5) })}>
          Show more
        </button>
      ) : (
        <button type="button" onClick={() => setShows({ ...shows, after: String(next) })}>
          The next ones
        </button>
      )}
    </section>
  );
}
