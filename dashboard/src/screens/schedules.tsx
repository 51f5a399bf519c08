// The schedules of runs that have not ended: when each fires next, and what it has missed.

import { useEffect } from "preact/hooks";

import type { Schedule, Schedules } from "../api/types.ts";
import { isHeld, skippedText } from "../model/schedules.ts";
import { count } from "../model/text.ts";
import { address, runAddress, setQuery, usePlace } from "../router.ts";
import { TextFilter } from "../ui/filters.tsx";
import { useLoaded } from "../ui/hooks.ts";
import { Empty, Pages, ScreenHead, StateBadge, TableBox, Trouble, Waiting } from "../ui/parts.tsx";
import { Line } from "../ui/text.tsx";
import { Ago, At } from "../ui/time.tsx";

/** The pause between two requests, in milliseconds. The server reads up to a hundred runs for each. */
const INTERVAL = 15_000;

/** The number of runs that a page looks into. */
const PAGE = 100;

/** The greatest number of corrupt runs that are named. */
const UNREADABLE = 20;

export function SchedulesScreen() {
  const { query } = usePlace();
  const flow = query.get("flow")?.trim() ?? "";
  const namespace = query.get("namespace")?.trim() ?? "";
  const after = query.get("after") ?? "";
  const filter = new URLSearchParams();
  if (flow) filter.set("flow", flow);
  if (namespace) filter.set("namespace", namespace);
  const page = (after: string) => address("/ui/schedules", new URLSearchParams([...filter, ...(after ? [["after", after]] : [])]));
  const request = new URLSearchParams([...filter, ["limit", String(PAGE)], ...(after ? [["after", after]] : [])]);
  const { data, error, isLoading, refresh } = useLoaded<Schedules>(`schedules?${request}`, () => `/v1/schedules?${request}`, { every: INTERVAL });
  useEffect(() => {
    document.title = "Schedules · waft";
  }, []);
  const schedules = data?.schedules ?? [];
  const unreadable = data?.unreadable ?? [];
  return (
    <>
      <ScreenHead title="Schedules">{data ? <p class="quiet">{count(schedules.length, "schedule")} on this page</p> : null}</ScreenHead>
      <div class="filters" role="group" aria-label="Filters">
        <TextFilter label="Flow" value={flow} onChange={(flow) => setQuery({ flow, after: "" })} />
        <TextFilter label="Namespace" value={namespace} onChange={(namespace) => setQuery({ namespace, after: "" })} />
        {flow || namespace ? (
          <a class="clear" href="/ui/schedules">
            Clear
          </a>
        ) : null}
      </div>
      <Trouble error={error} onRetry={refresh} />
      {unreadable.length ? (
        <div class="notice warn">
          <p>{count(unreadable.length, "run", "runs")} cannot be read now, or have corrupt records, so their schedules are missing:</p>
          <ul class="tags">
            {unreadable.slice(0, UNREADABLE).map((run) => (
              <li key={run}>
                <a href={runAddress(run)}>
                  <Line text={run} />
                </a>
              </li>
            ))}
            {unreadable.length > UNREADABLE ? <li>and {unreadable.length - UNREADABLE} more</li> : null}
          </ul>
        </div>
      ) : null}
      {schedules.length ? <ScheduleTable schedules={schedules} /> : null}
      {data && !schedules.length ? (
        data.next || after ? (
          <Empty title="No run of this page has a schedule">A page looks into {PAGE} runs that have not ended, the newest first.</Empty>
        ) : (
          <Empty title={flow || namespace ? "No schedule matches" : "No schedules"}>
            A persistent flow with <code>[[schedule]]</code> fires by the clock while its run is open.
          </Empty>
        )
      ) : null}
      {!data && isLoading ? <Waiting /> : null}
      <Pages
        label="Pages"
        first={data && after ? page("") : null}
        firstName="Newest runs"
        next={data?.next ? page(data.next) : null}
        nextName="Older runs"
      />
    </>
  );
}

function ScheduleTable({ schedules }: { schedules: Schedule[] }) {
  return (
    <TableBox label="Schedules">
      <table class="table" aria-label="Schedules">
        <thead>
          <tr>
            <th scope="col">Task</th>
            <th scope="col">Times</th>
            <th scope="col">Next</th>
            <th scope="col">Not fired</th>
            <th scope="col">Run</th>
          </tr>
        </thead>
        <tbody>
          {schedules.map((schedule, index) => (
            // A task may have several schedules with the same line.
            <tr key={`${schedule.run} ${schedule.task} ${index}`}>
              <td>
                <div class="stack">
                  <strong>
                    <Line text={schedule.task} />
                  </strong>
                  <span class="quiet">
                    <Line text={schedule.flow} />
                  </span>
                </div>
              </td>
              <td>
                <div class="stack">
                  <code>
                    <Line text={schedule.cron} />
                  </code>
                  <span class="quiet">
                    <Line text={schedule.zone} />
                  </span>
                </div>
              </td>
              <td>
                <Next schedule={schedule} />
              </td>
              <td>
                <NotFired schedule={schedule} />
              </td>
              <td>
                <div class="stack">
                  <a class="run-link mono" href={runAddress(schedule.run, { task: schedule.task })}>
                    <Line text={schedule.run} />
                  </a>
                  <StateBadge state={schedule.state} />
                </div>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </TableBox>
  );
}

function Next({ schedule }: { schedule: Schedule }) {
  if (isHeld(schedule)) return <span class="quiet">not while the run is suspended</span>;
  if (!schedule.next) return <span class="quiet">no time is known</span>;
  return (
    <div class="stack">
      <Ago time={schedule.next} />
      <span class="quiet">
        <At time={schedule.next} />
      </span>
    </div>
  );
}

/** The times that fired nothing, and those that will still fire late. */
function NotFired({ schedule }: { schedule: Schedule }) {
  const skipped = schedule.skipped ?? [];
  const { backlog } = schedule;
  if (!skipped.length && !backlog) return <span class="quiet">–</span>;
  return (
    <ul class="plain">
      {backlog ? (
        <li>
          missed times since <At time={backlog.next} /> still fire
        </li>
      ) : null}
      {skipped.map((skipped) => (
        <li key={skipped.reason}>
          <Line text={skippedText(skipped)} />{" "}
          <span class="quiet">
            last <Ago time={skipped.last_at} />
          </span>
        </li>
      ))}
    </ul>
  );
}
