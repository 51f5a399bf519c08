// The workers that answer, what they do and whether they take jobs; and the engines with their shards.

import { useEffect, useState } from "preact/hooks";

import type { Worker, Workers } from "../api/types.ts";
import { panelTask } from "../model/events.ts";
import { count } from "../model/text.ts";
import { duration } from "../model/time.ts";
import { otherCallsText, workerCommands, workerLook, type WorkerCommand } from "../model/workers.ts";
import { runAddress, setQuery, usePlace } from "../router.ts";
import { useLoaded } from "../ui/hooks.ts";
import { Empty, Fact, Facts, Opener, ScreenHead, StateBadge, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Line } from "../ui/text.tsx";
import { WorkerDialog } from "./workers/command.tsx";
import { AllEngines } from "./workers/engines.tsx";

/** The pause between two questions, in milliseconds. */
const INTERVAL = 5000;

/** The number of workers that are shown at first. */
const FIRST = 200;

/** The greatest number of queues that are shown of a worker. */
const QUEUES = 20;

/** What somebody wants to tell a worker. */
type Act = { worker: Worker; command: WorkerCommand };

export function WorkersScreen() {
  const { query } = usePlace();
  const { data, error, isLoading, refresh } = useLoaded<Workers>("workers", () => "/v1/workers", { every: INTERVAL });
  useEffect(() => {
    document.title = "Workers and engines · waft";
  }, []);
  const [most, setMost] = useState(FIRST);
  const [act, setAct] = useState<Act | null>(null);
  const open = query.get("open") ?? "";
  const workers = data?.workers ?? [];
  const slots = workers.reduce((sum, worker) => sum + worker.slots, 0);
  const busy = workers.reduce((sum, worker) => sum + worker.busy, 0);
  return (
    <>
      <ScreenHead title="Workers and engines">
        {workers.length ? (
          <p class="quiet">
            {count(workers.length, "worker")}, {count(busy, "call")} in progress, {count(slots, "slot")}
          </p>
        ) : null}
      </ScreenHead>
      <section class="screen-part" aria-labelledby="workers-head">
        <h2 id="workers-head">Workers</h2>
        <Trouble error={error} onRetry={refresh} />
        {workers.length ? (
          <TableBox label="Workers">
            <table class="table workers-table" aria-label="Workers">
              <thead>
                <tr>
                  <th scope="col">Worker</th>
                  <th scope="col">State</th>
                  <th scope="col">Busy</th>
                  <th scope="col">Queues</th>
                  <th scope="col">Machine</th>
                  <th scope="col" class="end">Process</th>
                  <th scope="col" class="end">Version</th>
                </tr>
              </thead>
              <tbody>
                {workers.slice(0, most).map((worker) => (
                  <WorkerRow key={worker.name} worker={worker} isOpen={worker.name === open} tell={(command) => setAct({ worker, command })} />
                ))}
              </tbody>
            </table>
          </TableBox>
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
      </section>
      <AllEngines open={query.get("engine") ?? ""} />
      {act ? <WorkerDialog worker={act.worker} command={act.command} onClose={() => setAct(null)} onDone={refresh} /> : null}
    </>
  );
}

function WorkerRow({ worker, isOpen, tell }: { worker: Worker; isOpen: boolean; tell: (command: WorkerCommand) => void }) {
  return (
    <>
      <tr>
        <td class="wide-cell mono">
          <Opener name={worker.name} isOpen={isOpen} onToggle={() => setQuery({ open: isOpen ? "" : worker.name }, "replace")}>
            <Line text={worker.name} />
          </Opener>
        </td>
        <td>{worker.state ? <StateBadge state={worker.state} as={workerLook(worker.state)} /> : "–"}</td>
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
      {isOpen ? (
        <tr class="detail-row">
          <td colSpan={7}>
            <WorkerDetails worker={worker} tell={tell} />
          </td>
        </tr>
      ) : null}
    </>
  );
}

const BUTTONS: { [command in WorkerCommand]: string } = { drain: "Drain…", resume: "Resume…", exit: "Drain and exit…" };

function WorkerDetails({ worker, tell }: { worker: Worker; tell: (command: WorkerCommand) => void }) {
  const calls = worker.calls ?? [];
  const ownSlots = Object.entries(worker.own_slots ?? {});
  const others = otherCallsText(worker);
  const commands = workerCommands(worker.state);
  return (
    <div class="details">
      {ownSlots.length ? (
        <Facts>
          <Fact name="Own slots of queues">
            <ul class="tags">
              {ownSlots.map(([queue, slots]) => (
                <li key={queue}>
                  <Line text={`${queue}: ${slots}`} />
                </li>
              ))}
            </ul>
          </Fact>
        </Facts>
      ) : null}
      {calls.length ? (
        <ul class="calls" aria-label="Calls">
          {calls.map(({ flow, run, task, firing, attempt, call, seconds }) => (
            <li key={`${run} ${task} ${firing} ${attempt} ${call}`}>
              <a class="mono" href={runAddress(run, { task: panelTask(task) })}>
                <Line text={run} most={120} />
              </a>
              <span>
                <Line text={`${call} of ${task} in ${flow}`} most={200} />
              </span>
              <span class="quiet">
                attempt {attempt}
                {firing > 1 ? `, firing ${firing}` : ""}, for {duration(seconds * 1000)}
              </span>
            </li>
          ))}
        </ul>
      ) : (
        <p class="quiet">{worker.busy ? "Its calls are not listed." : "It makes no call."}</p>
      )}
      {others ? <p class="quiet">It also has {others}.</p> : null}
      {commands.length ? (
        <div class="detail-actions">
          {commands.map((command) => (
            <button key={command} type="button" class={command === "exit" ? "danger" : ""} onClick={() => tell(command)}>
              {BUTTONS[command]}
            </button>
          ))}
        </div>
      ) : null}
    </div>
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
