// The flows that have runs: how many runs are in which state, and the latest of them.

import { useEffect, useMemo, useState } from "preact/hooks";

import { serverNow } from "../api/session.ts";
import type { RunCounts, Runs } from "../api/types.ts";
import { fromQuery, isEmpty, toApi, toQuery, toSelection, type RunFilter } from "../model/filters.ts";
import { flowRows, type FlowRow } from "../model/flows.ts";
import { look } from "../model/states.ts";
import { count, oneLine } from "../model/text.ts";
import { address, runAddress, setQuery, usePlace } from "../router.ts";
import { PeriodFilter, TextFilter } from "../ui/filters.tsx";
import { useLoaded } from "../ui/hooks.ts";
import { StateIcon } from "../ui/icons.tsx";
import { Empty, Opener, ScreenHead, StateBadge, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Line } from "../ui/text.tsx";
import { Ago } from "../ui/time.tsx";

/** The pause between two requests, in milliseconds. The server counts all runs each time. */
const INTERVAL = 10_000;

/** The number of runs that are shown of a flow. */
const LATEST = 10;

/** The number of flows that are shown at first. */
const FIRST = 200;

export function FlowsScreen() {
  const { query } = usePlace();
  // The conditions of the list of runs select runs here, too: only those are counted.
  const filter = { ...fromQuery(query), flow: "", after: "" };
  const text = query.get("name") ?? "";
  const open = query.get("open") ?? "";
  const key = toQuery(filter).toString();
  const { data, error, isLoading, refresh } = useLoaded<RunCounts>(
    `flows?${key}`,
    () => `/v1/runs/counts?${toSelection(filter, serverNow())}`,
    { every: INTERVAL },
  );
  useEffect(() => {
    document.title = "Flows · waft";
  }, []);
  const rows = useMemo(() => (data ? flowRows(data, text) : []), [data, text]);
  const [most, setMost] = useState(FIRST);
  return (
    <>
      <ScreenHead title="Flows">
        {data ? (
          <p class="quiet">
            {count(data.flows.length, "flow")}, {count(data.total, "run")}
          </p>
        ) : null}
      </ScreenHead>
      <div class="filters" role="group" aria-label="Filters">
        <TextFilter label="Name" value={text} placeholder="part of the name" onChange={(name) => setQuery({ name })} />
        <TextFilter label="Namespace" value={filter.namespace} onChange={(namespace) => setQuery({ namespace })} />
        <PeriodFilter value={filter.since} onChange={(since) => setQuery({ since })} />
        {isEmpty(filter) && !text ? null : (
          <a class="clear" href="/ui/flows">
            Clear
          </a>
        )}
      </div>
      <Trouble error={error} onRetry={refresh} />
      {data?.more ? <p class="notice info">These are the first 1,000 flows, or there are more runs than the server counts. Filters select fewer.</p> : null}
      {rows.length ? (
        <TableBox label="Flows">
          <table class="table" aria-label="Flows">
            <thead>
              <tr>
                <th scope="col">Flow</th>
                <th scope="col" class="end">Runs</th>
                <th scope="col">By state</th>
              </tr>
            </thead>
            <tbody>
              {rows.slice(0, most).map((row) => (
                <Flow key={row.flow} row={row} filter={filter} isOpen={row.flow === open} />
              ))}
            </tbody>
          </table>
        </TableBox>
      ) : null}
      {rows.length > most ? (
        <button type="button" onClick={() => setMost(most * 5)}>
          Show more of {rows.length}
        </button>
      ) : null}
      {data && !rows.length ? (
        isEmpty(filter) && !text ? (
          <Empty title="No flow has a run yet">
            <code>waft submit flow.toml</code> starts one.
          </Empty>
        ) : (
          <Empty title="No flow matches">
            <a href="/ui/flows">Show all flows</a>
          </Empty>
        )
      ) : null}
      {!data && isLoading ? <Waiting /> : null}
    </>
  );
}

/** The address of the runs of a flow that a filter selects, in a state or in all. */
function runsAddress(filter: RunFilter, flow: string, state = ""): string {
  return address("/ui/runs", toQuery({ ...filter, flow, ...(state ? { states: [state] } : {}) }));
}

function Flow({ row, filter, isOpen }: { row: FlowRow; filter: RunFilter; isOpen: boolean }) {
  const { flow, total, states } = row;
  return (
    <>
      <tr>
        <td class="wide-cell">
          <Opener name={flow} isOpen={isOpen} onToggle={() => setQuery({ open: isOpen ? "" : flow }, "replace")}>
            <Line text={flow} />
          </Opener>
        </td>
        <td class="end number">
          <a href={runsAddress(filter, flow)} aria-label={`${count(total, "run")} of ${oneLine(flow)}`}>
            {total.toLocaleString("en-US")}
          </a>
        </td>
        <td>
          <ul class="state-counts">
            {states.map(({ state, count }) => (
              <li key={state}>
                <a class={`state ${look(state)}`} href={runsAddress(filter, flow, state)}>
                  <StateIcon look={look(state)} />
                  {count.toLocaleString("en-US")} {oneLine(state)}
                </a>
              </li>
            ))}
          </ul>
        </td>
      </tr>
      {isOpen ? (
        <tr class="detail-row">
          <td colSpan={3}>
            <LatestRuns filter={{ ...filter, flow }} />
          </td>
        </tr>
      ) : null}
    </>
  );
}

function LatestRuns({ filter }: { filter: RunFilter }) {
  const { data, error, isLoading, refresh } = useLoaded<Runs>(
    `latest?${toQuery(filter)}`,
    () => `/v1/runs?${toApi(filter, serverNow(), LATEST)}`,
    { every: INTERVAL },
  );
  return (
    <div class="details">
      <Trouble error={error} onRetry={refresh} />
      {isLoading && !data ? <Waiting /> : null}
      {data ? (
        <ul class="latest-runs" aria-label="Latest runs">
          {data.runs.map((run) => (
            <li key={run.run}>
              <StateBadge state={run.state} />
              <a class="run-link mono" href={runAddress(run.run)}>
                <Line text={run.run} />
              </a>
              <Ago time={run.started_at} />
            </li>
          ))}
        </ul>
      ) : null}
      {data?.next ? <a href={runsAddress(filter, filter.flow)}>All runs of the flow</a> : null}
    </div>
  );
}
