// The list of runs: live, with its filters in the address.

import { useEffect, useState } from "preact/hooks";

import { serverNow } from "../api/session.ts";
import type { Runs, RunSummary } from "../api/types.ts";
import { fromField, fromQuery, isEmpty, labelTexts, toApi, toField, toQuery, type RunFilter } from "../model/filters.ts";
import { isFinal, look, RUN_STATES } from "../model/states.ts";
import { count, oneLine } from "../model/text.ts";
import { parsePeriod } from "../model/time.ts";
import { address, go, runAddress, usePlace } from "../router.ts";
import { PERIODS, TextFilter } from "../ui/filters.tsx";
import { useLoaded } from "../ui/hooks.ts";
import { Icon, StateIcon } from "../ui/icons.tsx";
import { Empty, Pages, ScreenHead, StateBadge, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Line } from "../ui/text.tsx";
import { Ago, Lasted } from "../ui/time.tsx";
import { BulkDialog } from "./runs/bulk-dialog.tsx";

/** The pause between two requests, in milliseconds. */
const INTERVAL = 3000;

/** The number of runs on a page. */
const PAGE = 50;

/** The greatest number of labels that the list shows of a run. */
const LABELS = 4;

export function RunsScreen() {
  const { query } = usePlace();
  const filter = fromQuery(query);
  const key = toQuery(filter).toString();
  const { data, error, isLoading, refresh } = useLoaded<Runs>(
    `runs?${key}`,
    () => `/v1/runs?${toApi(filter, serverNow(), PAGE)}`,
    { every: INTERVAL },
  );
  // The filter of the runs that somebody wants to command.
  const [commanded, setCommanded] = useState<RunFilter | null>(null);
  useEffect(() => {
    document.title = "Runs · waft";
  }, []);
  const change = (changes: Partial<RunFilter>) => {
    go(address("/ui/runs", toQuery({ ...filter, after: "", ...changes })));
  };
  const runs = data?.runs ?? [];
  return (
    <>
      <ScreenHead title="Runs">
        <button type="button" onClick={() => setCommanded(filter)}>
          Command these runs…
        </button>
        <OpenRun />
      </ScreenHead>
      <Filters filter={filter} change={change} />
      <Trouble error={error} onRetry={refresh} />
      {runs.length ? <RunTable runs={runs} /> : null}
      {data && !runs.length ? (
        isEmpty(filter) && !filter.after ? (
          <Empty title="No runs yet">
            <code>waft submit flow.toml</code> starts one.
          </Empty>
        ) : (
          <Empty title="No run matches">
            <a href="/ui/runs">Show all runs</a>
          </Empty>
        )
      ) : null}
      {!data && isLoading ? <Waiting /> : null}
      <Pages
        label="Pages"
        first={data && filter.after ? address("/ui/runs", toQuery({ ...filter, after: "" })) : null}
        firstName="Newest"
        next={data?.next ? address("/ui/runs", toQuery({ ...filter, after: data.next })) : null}
        nextName="Older"
      >
        {count(runs.length, "run")} on this page
      </Pages>
      {commanded ? <BulkDialog filter={commanded} onClose={() => setCommanded(null)} onDone={refresh} /> : null}
    </>
  );
}

function RunTable({ runs }: { runs: RunSummary[] }) {
  return (
    <TableBox label="Runs">
      <table class="table runs-table">
        <thead>
          <tr>
            <th scope="col">State</th>
            <th scope="col">Flow</th>
            <th scope="col">Run</th>
            <th scope="col" class="end">Started</th>
            <th scope="col" class="end">Lasted</th>
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.run} onClick={(event) => openRow(event, run.run)}>
              <td>
                <StateBadge state={run.state} />
              </td>
              <td class="wide-cell">
                <Line text={run.flow} />
                <Labels labels={labelTexts(run.labels)} />
              </td>
              <td class="wide-cell">
                <a class="run-link mono" href={runAddress(run.run)}>
                  <Line text={run.run} />
                </a>
              </td>
              <td class="end">
                <Ago time={run.started_at} />
              </td>
              <td class="end">
                <Lasted from={run.started_at} until={isFinal(run.state) ? run.changed_at : null} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableBox>
  );
}

function Labels({ labels }: { labels: string[] }) {
  if (!labels.length) return null;
  return (
    <ul class="tags labels" aria-label="Labels">
      {labels.slice(0, LABELS).map((label) => (
        <li key={label}>
          <Line text={label} most={40} />
        </li>
      ))}
      {labels.length > LABELS ? <li>and {labels.length - LABELS} more</li> : null}
    </ul>
  );
}

/** A click anywhere on a row opens its run, unless it selects text. */
function openRow(event: MouseEvent, run: string): void {
  const isLink = event.target instanceof Element && event.target.closest("a") !== null;
  if (!isLink && !getSelection()?.toString()) go(runAddress(run));
}

/** Opens a run whose id is known. */
function OpenRun() {
  const [id, setId] = useState("");
  return (
    <form
      class="open-run"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        if (id.trim()) go(runAddress(id.trim()));
      }}
    >
      <Icon name="search" />
      <input
        type="text"
        aria-label="Open a run by its id"
        placeholder="Open a run by its id"
        spellcheck={false}
        autocomplete="off"
        value={id}
        onInput={(event) => setId(event.currentTarget.value)}
      />
    </form>
  );
}

function Filters({ filter, change }: { filter: RunFilter; change: (changes: Partial<RunFilter>) => void }) {
  const toggle = (state: string) => {
    const states = filter.states.includes(state) ? filter.states.filter((other) => other !== state) : [...filter.states, state];
    change({ states });
  };
  const isPeriod = filter.since === "" || parsePeriod(filter.since) !== null;
  const [wantsTimes, setWantsTimes] = useState(!isPeriod || filter.until !== "");
  const hasTimes = wantsTimes || !isPeriod || filter.until !== "";
  const isListed = PERIODS.some((period) => period.value === filter.since);
  return (
    <div class="filters" role="group" aria-label="Filters">
      <div class="chips" role="group" aria-label="State">
        {RUN_STATES.map((state) => (
          <button
            key={state}
            type="button"
            class={`chip state ${look(state)}`}
            aria-pressed={filter.states.includes(state)}
            onClick={() => toggle(state)}
          >
            <StateIcon look={look(state)} />
            {state}
          </button>
        ))}
      </div>
      <TextFilter label="Flow" value={filter.flow} onChange={(flow) => change({ flow })} />
      <TextFilter label="Namespace" value={filter.namespace} onChange={(namespace) => change({ namespace })} />
      <LabelFilter labels={filter.labels} onChange={(labels) => change({ labels })} />
      <TextFilter label="Text" value={filter.text} placeholder="id, label or input" onChange={(text) => change({ text })} />
      <label class="filter">
        <span>Started</span>
        <select
          value={hasTimes ? "times" : filter.since}
          onChange={(event) => {
            const { value } = event.currentTarget;
            setWantsTimes(value === "times");
            if (value !== "times") change({ since: value, until: "" });
          }}
        >
          {PERIODS.map((period) => (
            <option key={period.value} value={period.value}>
              {period.name}
            </option>
          ))}
          {isPeriod && !isListed ? <option value={filter.since}>Last {filter.since}</option> : null}
          <option value="times">Between times…</option>
        </select>
      </label>
      {hasTimes ? (
        <>
          <TimeFilter label="From" value={filter.since} onChange={(since) => change({ since })} />
          <TimeFilter label="Until" value={filter.until} onChange={(until) => change({ until })} />
        </>
      ) : null}
      {isEmpty(filter) ? null : (
        <a class="clear" href="/ui/runs" onClick={() => setWantsTimes(false)}>
          Clear
        </a>
      )}
    </div>
  );
}

/** The labels that runs have to have: each is added by itself, since its value may have spaces. */
function LabelFilter({ labels, onChange }: { labels: string[]; onChange: (labels: string[]) => void }) {
  return (
    <>
      <TextFilter
        label="Label"
        value=""
        isAdded
        placeholder="team=shop"
        onChange={(label) => {
          if (!labels.includes(label)) onChange([...labels, label]);
        }}
      />
      {labels.map((label) => (
        <button
          key={label}
          type="button"
          class="chip label-chip"
          aria-label={`Remove the label ${oneLine(label)}`}
          onClick={() => onChange(labels.filter((other) => other !== label))}
        >
          <Line text={label} most={60} />
          <Icon name="close" />
        </button>
      ))}
    </>
  );
}

function TimeFilter({ label, value, onChange }: { label: string; value: string; onChange: (value: string) => void }) {
  return (
    <label class="filter">
      <span>{label}</span>
      <input type="datetime-local" value={toField(value)} onChange={(event) => onChange(fromField(event.currentTarget.value))} />
    </label>
  );
}
