// The workers that answer, and what they do.

import { useEffect, useState } from "preact/hooks";

import type { Worker, Workers } from "../api/types.ts";
import { count } from "../model/text.ts";
import { useLoaded } from "../ui/hooks.ts";
import { Empty, ScreenHead, Trouble, Waiting } from "../ui/parts.tsx";
import { Line } from "../ui/text.tsx";

/** The pause between two questions, in milliseconds. */
const INTERVAL = 5000;

/** The number of workers that are shown at first. */
const FIRST = 200;

/** The greatest number of queues that are shown of a worker. */
const QUEUES = 20;

export function WorkersScreen() {
  const { data, error, isLoading, refresh } = useLoaded<Workers>("workers", () => "/v1/workers", { every: INTERVAL });
  useEffect(() => {
    document.title = "Workers · waft";
  }, []);
  const [most, setMost] = useState(FIRST);
  const workers = data?.workers ?? [];
  const slots = workers.reduce((sum, worker) => sum + worker.slots, 0);
  const busy = workers.reduce((sum, worker) => sum + worker.busy, 0);
  return (
    <>
      <ScreenHead title="Workers">
        {workers.length ? (
          <p class="quiet">
            {count(workers.length, "worker")}, {count(busy, "call")} in progress, {count(slots, "slot")}
          </p>
        ) : null}
      </ScreenHead>
      <Trouble error={error} onRetry={refresh} />
      {workers.length ? (
        <div class="table-box">
          <table class="table">
            <thead>
              <tr>
                <th scope="col">Worker</th>
                <th scope="col">Busy</th>
                <th scope="col">Queues</th>
                <th scope="col">Machine</th>
                <th scope="col" class="end">Process</th>
                <th scope="col" class="end">Version</th>
              </tr>
            </thead>
            <tbody>
              {workers.slice(0, most).map((worker) => (
                <tr key={worker.name}>
                  <td class="wide-cell mono">
                    <Line text={worker.name} />
                  </td>
                  <td>
                    <Busy worker={worker} />
                  </td>
                  <td>
                    <ul class="tags">
                      {worker.queues.slice(0, QUEUES).map((queue) => (
                        <li key={queue}>
                          <Line text={queue} />
                        </li>
                      ))}
                      {worker.queues.length > QUEUES ? <li>and {worker.queues.length - QUEUES} more</li> : null}
                    </ul>
                  </td>
                  <td>
                    <Line text={worker.host ?? "–"} />
                  </td>
                  <td class="end number">{worker.process ?? "–"}</td>
                  <td class="end mono">
                    <Line text={worker.version} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
      {workers.length > most ? (
        <button type="button" onClick={() => setMost(most * 5)}>
          Show more of {workers.length}
        </button>
      ) : null}
      {data && !workers.length ? (
        <Empty title="No worker answers">
          <code>waft worker</code> starts one. Calls wait in their queues until then.
        </Empty>
      ) : null}
      {!data && isLoading ? <Waiting /> : null}
    </>
  );
}

/** How many calls a worker makes, of how many that compute at once. Waiting calls may need no slot. */
function Busy({ worker }: { worker: Worker }) {
  const { busy, slots } = worker;
  const share = slots ? Math.min(1, busy / slots) : 0;
  const title = busy > slots ? `${busy} calls in progress; some wait without one of the ${slots} slots` : `${busy} of ${slots} slots`;
  return (
    <span class="busy" title={title}>
      <span class={`bar ${busy > slots ? "over" : ""}`} aria-hidden="true">
        <span style={{ width: `${share * 100}%` }} />
      </span>
      <span class="number">
        {busy} <span class="quiet">of {slots}</span>
      </span>
    </span>
  );
}
