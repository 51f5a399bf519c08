// The events of a run, the newest first.

import { useMemo, useState } from "preact/hooks";

import { describe, MAX_EVENTS } from "../../model/events.ts";
import { count } from "../../model/text.ts";
import { Empty, Rows, StateBadge, Trouble } from "../../ui/parts.tsx";
import { Line } from "../../ui/text.tsx";
import { At } from "../../ui/time.tsx";
import { StreamNote } from "./stream-note.tsx";
import type { RunData } from "./use-run.ts";

export function EventsView({ data, onTask }: { data: RunData; onTask: (name: string) => void }) {
  const [text, setText] = useState("");
  const wanted = text.trim().toLowerCase();
  const { events, version } = data;
  const shown = useMemo(() => {
    const all = events.last.map((seen) => ({ ...seen, ...describe(seen.event) })).reverse();
    if (!wanted) return all;
    return all.filter(({ subject, state, detail }) => `${subject} ${state} ${detail}`.toLowerCase().includes(wanted));
  }, [events, version, wanted]);
  return (
    <div class="events">
      <div class="list-tools">
        <label class="filter">
          <span>Find</span>
          <input type="search" spellcheck={false} placeholder="task, state or message" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <span class="quiet">
          {count(events.total, "event")}
          {events.total > events.last.length ? `, the last ${MAX_EVENTS.toLocaleString("en-US")} here` : ""}
          {events.trimmed ? `; ${count(events.trimmed, "older record was", "older records were")} deleted` : ""}
        </span>
        <StreamNote state={data.stream} />
      </div>
      <Trouble error={data.streamError} />
      {shown.length ? (
        <Rows
          items={shown}
          height={30}
          label="Events, the newest first"
          keyOf={(event) => event.number}
          row={({ event, subject, state, detail, at }) => (
            <div class="event-line">
              <span class="event-time quiet">{at ? <At time={at} precise /> : null}</span>
              <span class="event-subject">
                {event.event === "state" ? (
                  <button type="button" class="link" onClick={() => onTask(event.name.replace(/\[\d+\]$/, ""))}>
                    <Line text={subject} />
                  </button>
                ) : (
                  <Line text={subject} />
                )}
              </span>
              <span class="event-state">{state ? <StateBadge state={state} /> : null}</span>
              <span class="event-detail quiet">
                <Line text={detail} />
              </span>
            </div>
          )}
        />
      ) : (
        <Empty title={wanted ? "No event matches" : "No event yet"} />
      )}
    </div>
  );
}
