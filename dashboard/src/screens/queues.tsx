// The queues of jobs, and the tasks whose calls hold permits or wait for them.

import { useEffect } from "preact/hooks";

import type { JobQueue, JobQueues, PermitCall, Permits, TaskPermits } from "../api/types.ts";
import { panelTask } from "../model/events.ts";
import { givenText, noPermitsText, permitKey, queueNote } from "../model/queues.ts";
import { count } from "../model/text.ts";
import { address, runAddress, setQuery, usePlace } from "../router.ts";
import { TextFilter } from "../ui/filters.tsx";
import { useLoaded } from "../ui/hooks.ts";
import { StateIcon } from "../ui/icons.tsx";
import { Empty, Opener, Pages, ScreenHead, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Line } from "../ui/text.tsx";

/** The pause between two requests, in milliseconds. The server asks the broker, the workers and all engines. */
const INTERVAL = 5000;

export function QueuesScreen() {
  const { query } = usePlace();
  const namespace = query.get("namespace")?.trim() ?? "";
  useEffect(() => {
    document.title = "Queues and permits · waft";
  }, []);
  return (
    <>
      <ScreenHead title="Queues and permits" />
      <div class="filters" role="group" aria-label="Filters">
        <TextFilter label="Namespace" value={namespace} onChange={(namespace) => setQuery({ namespace, queues: "", permits: "" })} />
        {namespace ? (
          <a class="clear" href="/ui/queues">
            Clear
          </a>
        ) : null}
      </div>
      <Queues namespace={namespace} after={query.get("queues") ?? ""} />
      <AllPermits namespace={namespace} after={query.get("permits") ?? ""} open={query.get("open") ?? ""} />
    </>
  );
}

/** The address of the screen with a page of one of its lists: the other list stays where it is. */
function page(list: "queues" | "permits", after: string): string {
  const query = new URLSearchParams(location.search);
  if (after) query.set(list, after);
  else query.delete(list);
  return address("/ui/queues", query);
}

/** The path of a list of the API. */
function path(list: "queues" | "permits", namespace: string, after: string): string {
  const query = new URLSearchParams();
  if (namespace) query.set("namespace", namespace);
  if (after) query.set("after", after);
  return address(`/v1/${list}`, query);
}

function Queues({ namespace, after }: { namespace: string; after: string }) {
  const from = path("queues", namespace, after);
  const { data, error, isLoading, refresh } = useLoaded<JobQueues>(from, () => from, { every: INTERVAL });
  return (
    <section class="screen-part" aria-labelledby="queues-head">
      <h2 id="queues-head">Queues of jobs</h2>
      <p class="quiet">A broker does not tell how old its messages are. A run shows since when each of its calls waits.</p>
      <Trouble error={error} onRetry={refresh} />
      {data?.queues.length ? (
        <TableBox label="Queues of jobs">
          <table class="table queues-table" aria-label="Queues of jobs">
            <thead>
              <tr>
                <th scope="col">Queue</th>
                <th scope="col" class="end">Waiting jobs</th>
                <th scope="col" class="end">Consumers</th>
                <th scope="col" class="end">Workers</th>
                <th scope="col">State</th>
              </tr>
            </thead>
            <tbody>
              {data.queues.map((queue) => (
                <Queue key={queue.queue} queue={queue} />
              ))}
            </tbody>
          </table>
        </TableBox>
      ) : null}
      {data && !data.queues.length ? <Empty title="No queue is known" /> : null}
      {!data && isLoading ? <Waiting /> : null}
      <Pages
        label="Pages of queues"
        first={data && after ? page("queues", "") : null}
        firstName="First queues"
        next={data?.next ? page("queues", data.next) : null}
        nextName="More queues"
      />
    </section>
  );
}

function Queue({ queue }: { queue: JobQueue }) {
  const { look, text } = queueNote(queue);
  return (
    <tr>
      <td>
        <strong class="mono">
          <Line text={queue.queue} most={120} />
        </strong>
      </td>
      <td class="end number">{queue.messages?.toLocaleString("en-US") ?? "–"}</td>
      <td class="end number">{queue.consumers?.toLocaleString("en-US") ?? "–"}</td>
      <td class="end number">{queue.workers.toLocaleString("en-US")}</td>
      <td>
        <span class={`state ${look}`}>
          <StateIcon look={look} />
          <Line text={text} most={80} />
        </span>
      </td>
    </tr>
  );
}

function AllPermits({ namespace, after, open }: { namespace: string; after: string; open: string }) {
  const from = path("permits", namespace, after);
  const { data, error, isLoading, refresh } = useLoaded<Permits>(from, () => from, { every: INTERVAL });
  const unanswered = data?.unanswered ?? [];
  return (
    <section class="screen-part" aria-labelledby="permits-head">
      <h2 id="permits-head">Permits</h2>
      <p class="quiet">
        The calls of tasks with <code>max_running</code> or <code>rate</code> need permits.
      </p>
      <Trouble error={error} onRetry={refresh} />
      {unanswered.length ? (
        <p class="notice warn">No engine has answered for {count(unanswered.length, "shard")}: the calls of their runs are missing here.</p>
      ) : null}
      {data?.tasks.length ? (
        <TableBox label="Permits of tasks">
          <table class="table" aria-label="Permits of tasks">
            <thead>
              <tr>
                <th scope="col">Task</th>
                <th scope="col">Flow</th>
                <th scope="col" class="end">Given</th>
                <th scope="col" class="end">Waiting</th>
                <th scope="col" class="end">Rate</th>
              </tr>
            </thead>
            <tbody>
              {data.tasks.map((task) => (
                <TaskRow key={permitKey(task)} task={task} isOpen={permitKey(task) === open} />
              ))}
            </tbody>
          </table>
        </TableBox>
      ) : null}
      {data && !data.tasks.length ? <Empty title={noPermitsText(data, after)} /> : null}
      {!data && isLoading ? <Waiting /> : null}
      <Pages
        label="Pages of permits"
        first={data && after ? page("permits", "") : null}
        firstName="First tasks"
        next={data?.next ? page("permits", data.next) : null}
        nextName="More tasks"
      />
    </section>
  );
}

function TaskRow({ task, isOpen }: { task: TaskPermits; isOpen: boolean }) {
  return (
    <>
      <tr>
        <td>
          <Opener name={task.task} isOpen={isOpen} onToggle={() => setQuery({ open: isOpen ? "" : permitKey(task) }, "replace")}>
            <Line text={task.task} most={80} />
          </Opener>
        </td>
        <td>
          <a href={address("/ui/runs", new URLSearchParams({ flow: task.flow }))}>
            <Line text={task.flow} most={80} />
          </a>
        </td>
        <td class="end number">{givenText(task)}</td>
        <td class="end number">{task.waiting.toLocaleString("en-US")}</td>
        <td class="end">{task.rate ? <Line text={task.rate} /> : "–"}</td>
      </tr>
      {isOpen ? (
        <tr class="detail-row">
          <td colSpan={5}>
            <div class="details">
              <Calls title="Calls with a permit" calls={task.holders ?? []} total={task.given} />
              <Calls title="Calls that wait" calls={task.next ?? []} total={task.waiting} />
            </div>
          </td>
        </tr>
      ) : null}
    </>
  );
}

function Calls({ title, calls, total }: { title: string; calls: PermitCall[]; total: number }) {
  if (!calls.length) return null;
  return (
    <section>
      <h3>{title}</h3>
      <ul class="calls" aria-label={title}>
        {calls.map(({ run, task, firing, attempt, call }) => (
          <li key={`${run} ${task} ${firing} ${attempt} ${call}`}>
            <a class="mono" href={runAddress(run, { task: panelTask(task) })}>
              <Line text={run} most={120} />
            </a>
            <span>
              <Line text={`${call} of ${task}`} most={160} />
            </span>
            <span class="quiet">
              attempt {attempt}
              {firing > 1 ? `, firing ${firing}` : ""}
            </span>
          </li>
        ))}
        {total > calls.length ? <li class="quiet">and {(total - calls.length).toLocaleString("en-US")} more</li> : null}
      </ul>
    </section>
  );
}
