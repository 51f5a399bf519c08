// The timeline of a run: its attempts, retries, waits and rollbacks over time.

import { useEffect, useMemo, useState } from "preact/hooks";

import { ApiError, get, runPath } from "../../api/client.ts";
import { serverNow } from "../../api/session.ts";
import type { Timeline, TimelineAttempt } from "../../api/types.ts";
import { attemptKey, attemptText, attemptTitle, distinctBars, gantt, joinAttempts, justAfter, traceOf, type Bar, type Row } from "../../model/gantt.ts";
import { isFinal } from "../../model/states.ts";
import { count } from "../../model/text.ts";
import { duration, exact, marks } from "../../model/time.ts";
import { useLoaded, useNow, useRefreshAfter, useSize } from "../../ui/hooks.ts";
import { IconButton } from "../../ui/icons.tsx";
import { Empty, Rows, Trouble, Waiting } from "../../ui/parts.tsx";
import { Line } from "../../ui/text.tsx";
import type { RunData } from "./use-run.ts";

/** The greatest number of attempts that are kept, and that a server answers with. */
const MOST = 10_000;

/** The number of earlier attempts that are read at once. */
const PAGE = 1_000;

/** The pause between an event and the read that shows its attempt, in milliseconds. */
const AFTER_EVENT = 700;

/** The height of a row, in pixels. */
const ROW = 28;

export function TimelineView({ data, of, onTask, onFilter }: { data: RunData; of: string; onTask: (name: string) => void; onFilter: (of: string) => void }) {
  const query = new URLSearchParams(of ? { task: of } : {});
  const key = `timeline ${data.id} ${of}`;
  const { data: timeline, error, isLoading, refresh } = useLoaded<Timeline>(key, () => `${runPath(data.id, "timeline")}?${query}`);
  const [held, setHeld] = useState<{ key: string; attempts: TimelineAttempt[] } | null>(null);
  const [problem, setProblem] = useState<ApiError | null>(null);
  // Attempts begin and end with events.
  useRefreshAfter(data.version, refresh, AFTER_EVENT);
  // Once somebody has asked for earlier attempts, those that are no longer among the latest ones stay.
  useEffect(() => {
    if (!timeline) return;
    setHeld((before) => (before?.key === key ? { key, attempts: joinAttempts(before.attempts, timeline.attempts, MOST) } : null));
  }, [timeline, key]);
  const older = held?.key === key ? held : null;
  const attempts = useMemo(() => {
    const latest = timeline?.attempts ?? [];
    return older ? joinAttempts(older.attempts, latest, MOST) : latest;
  }, [timeline, older]);
  const isMoving = attempts.some((attempt) => !attempt.ended_at) && !isFinal(data.run?.state ?? "");
  const now = useNow(isMoving ? 500 : 0);
  const waits = useMemo(() => new Set((data.graph?.nodes ?? []).filter((node) => node.kind === "wait").map((node) => node.name)), [data.graph]);
  const shown = useMemo(() => gantt(attempts, isMoving ? now : serverNow(), waits), [attempts, now, waits, isMoving]);
  const [zoom, setZoom] = useState(1);
  const left = timeline ? Math.max(0, timeline.earlier + timeline.attempts.length - attempts.length) : 0;
  const readEarlier = async () => {
    const first = attempts[0];
    if (!first) return;
    const known = new Set(attempts.map(attemptKey));
    // Others may have started at the same time, as the elements of a list do, and are not here. Of these the answer has the last ones first.
    const same = attempts.filter(({ started_at }) => started_at === first.started_at).length;
    const limit = String(Math.min(MOST, PAGE + same));
    const before = (time: string) =>
      get<Timeline>(`${runPath(data.id, "timeline")}?${new URLSearchParams([...query, ["before", time], ["limit", limit]])}`);
    try {
      let page = await before(justAfter(first.started_at));
      if (page.attempts.every((attempt) => known.has(attemptKey(attempt)))) page = await before(first.started_at);
      const found = page.attempts;
      setHeld((held) => ({ key, attempts: joinAttempts(found, joinAttempts(held?.key === key ? held.attempts : [], attempts, MOST), MOST) }));
      setProblem(null);
    } catch (error) {
      setProblem(error instanceof ApiError ? error : new ApiError(0, String(error), null, "unexpected"));
    }
  };
  return (
    <div class="timeline">
      <div class="list-tools">
        {of ? (
          <span>
            Only <Line text={of} />{" "}
            <button type="button" class="link" onClick={() => onFilter("")}>
              show all
            </button>
          </span>
        ) : null}
        <Legend />
        <div class="gantt-tools" role="group" aria-label="Zoom">
          <IconButton name="plus" label="Zoom in" onClick={() => setZoom(Math.min(200, zoom * 2))} />
          <IconButton name="minus" label="Zoom out" onClick={() => setZoom(Math.max(1, zoom / 2))} />
          <IconButton name="fit" label="Show everything" onClick={() => setZoom(1)} />
        </div>
      </div>
      <Trouble error={error ?? problem} onRetry={refresh} />
      {timeline?.trimmed_records ? <p class="quiet">{count(timeline.trimmed_records, "old record was", "old records were")} deleted with their attempts.</p> : null}
      {left && attempts.length < MOST ? (
        <p>
          <button type="button" onClick={() => void readEarlier()}>
            Show earlier attempts ({left.toLocaleString("en-US")})
          </button>
        </p>
      ) : left ? (
        <p class="quiet">{count(left, "earlier attempt")} not shown here.</p>
      ) : null}
      {shown.rows.length ? <Chart rows={shown.rows} from={shown.from} to={shown.to} now={now} zoom={zoom} onTask={onTask} /> : null}
      {timeline && !shown.rows.length ? <Empty title="No attempt yet" /> : null}
      {!timeline && isLoading ? <Waiting /> : null}
    </div>
  );
}

function Legend() {
  const kinds = [
    ["success", "apply"],
    ["running", "in progress"],
    ["queued", "before its worker reported"],
    ["failure", "failed"],
    ["rollback", "rollback"],
    ["wait", "waits"],
    ["pause", "pause before a retry"],
  ];
  return (
    <ul class="legend" aria-label="Colours">
      {kinds.map(([kind, name]) => (
        <li key={kind}>
          <span class={`legend-mark ${kind}`} aria-hidden="true" />
          {name}
        </li>
      ))}
    </ul>
  );
}

function Chart(props: { rows: Row[]; from: number; to: number; now: number; zoom: number; onTask: (name: string) => void }) {
  const { rows, from, to, now, zoom, onTask } = props;
  const [attach, size] = useSize<HTMLDivElement>();
  const span = Math.max(1, (to - from) * 1.02);
  const names = size.width < 620 ? 110 : 220;
  const width = Math.max(100, size.width - names - 18) * zoom;
  const x = (time: number) => ((time - from) / span) * width;
  const ticks = marks(span, Math.max(2, Math.floor(width / 90)));
  return (
    <div class="gantt" ref={attach}>
      {size.width ? (
        <div class="gantt-scroll" tabIndex={0} role="region" aria-label="Timeline">
          <div class="gantt-inner" style={{ width: `${names + width}px` }}>
            <div class="gantt-axis" aria-hidden="true" style={{ marginLeft: `${names}px` }}>
              {ticks.map((tick) => (
                <span key={tick} style={{ left: `${(tick / span) * width}px` }}>
                  {tick === 0 ? "0" : `+${duration(tick).replace(".0s", "s").replace(/m 00s$/, "m").replace(/h 00m$/, "h")}`}
                </span>
              ))}
            </div>
            <Rows
              items={rows}
              height={ROW}
              label="Attempts by task"
              class="gantt-rows"
              keyOf={(row) => row.task}
              row={(row) => (
                <>
                  <button type="button" class="gantt-name" style={{ width: `${names}px` }} onClick={() => onTask(row.task.replace(/\[\d+\]$/, ""))}>
                    <Line text={row.task} />
                  </button>
                  <div class="gantt-bars" style={{ left: `${names}px`, width: `${width}px` }}>
                    {distinctBars(row.bars, x).map((bar, index) => (
                      <GanttBar key={index} bar={bar} x={x} now={now} />
                    ))}
                  </div>
                </>
              )}
            />
          </div>
        </div>
      ) : null}
    </div>
  );
}

function GanttBar({ bar, x, now }: { bar: Bar; x: (time: number) => number; now: number }) {
  const left = x(bar.from);
  const width = Math.max(bar.kind === "pause" ? 1 : 3, x(bar.to) - left);
  const classes = ["gantt-bar", bar.kind, bar.isRollback ? "rollback" : "", `outcome-${bar.outcome}`, bar.isOpen ? "open" : ""];
  const { attempt } = bar;
  const title = `${attemptTitle(attempt, now)}\nfrom ${exact(attempt.started_at)}`;
  const style = { left: `${left}px`, width: `${width}px` };
  const trace = traceOf(bar);
  if (trace) {
    return (
      <a class={classes.join(" ")} style={style} title={`${title}\nopens its trace`} href={trace} target="_blank" rel="noopener noreferrer">
        <span class="visually-hidden">Trace of {attemptText(attempt, now)}</span>
      </a>
    );
  }
  return (
    <div class={classes.join(" ")} style={style} title={title}>
      {bar.kind === "pause" || bar.kind === "queued" ? null : <span class="visually-hidden">{attemptText(attempt, now)}</span>}
    </div>
  );
}
